//! What can be wrong with what was said, each one sentence with everything needed in it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::said::{self, Origin, Value};
use super::settings::Setting;
use crate::protocol::pattern::BadPattern;
use crate::server::hosts::BadEntry;

/// What is wrong with what was said. Only a file that cannot be read and a
/// pattern that is none have a cause below it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that cannot be read.
    #[error("{key} is {:?}, expected {expected} ({})", .said.text, .said.origin)]
    Invalid {
        /// The setting.
        key: &'static str,
        /// What was said.
        said: Value,
        /// What would do.
        expected: String,
    },
    /// An entry of a list that nothing could ever match.
    #[error("{key} has {bad}; expected {expected} ({origin})")]
    Entry {
        /// The setting.
        key: &'static str,
        /// The entry, and what is wrong with it.
        bad: BadEntry,
        /// What would do.
        expected: &'static str,
        /// Who said it.
        origin: Origin,
    },
    /// A value beyond its bounds.
    #[error("{key} is {:?}, expected {least} to {most} ({})", .said.text, .said.origin)]
    OutOfBounds {
        /// The setting.
        key: &'static str,
        /// What was said.
        said: Value,
        /// The least it may be.
        least: &'static str,
        /// The most it may be.
        most: &'static str,
    },
    /// Two values that do not go together.
    #[error("{key} is {}, but {rule} {other}, which is {}", .said[0], .said[1])]
    Conflict {
        /// The first setting.
        key: &'static str,
        /// What must hold between the two.
        rule: &'static str,
        /// The second setting.
        other: &'static str,
        /// What was said of the first and of the second.
        said: Box<[Value; 2]>,
    },
    /// A list of addresses of which one leaves no room for another.
    #[error("listen is {said}, but {} and {} cannot both be listened to", .both[0], .both[1])]
    Overlap {
        /// What was said.
        said: Value,
        /// The two addresses, the earlier first.
        both: Box<[SocketAddr; 2]>,
    },
    /// One half of a pair.
    #[error("{key} is given ({origin}) without {missing}; a certificate needs both")]
    Half {
        /// The half that is there.
        key: &'static str,
        /// Who said it.
        origin: Origin,
        /// The half that is not.
        missing: &'static str,
    },
    /// A name that means nothing.
    #[error("there is no setting {name}{hint} ({origin})")]
    Unknown {
        /// What was said.
        name: String,
        /// `, did you mean …?` or nothing.
        hint: String,
        /// Who said it.
        origin: Origin,
    },
    /// A section for rooms whose names no room can have.
    #[error("[rooms.{name:?}] is for no room ({origin})")]
    Pattern {
        /// What was said.
        name: String,
        /// Who said it.
        origin: Origin,
        /// What would do.
        #[source]
        source: BadPattern,
    },
    /// More sections for rooms than there may be.
    #[error("there are more than {most} sections [rooms.…] ({origin})")]
    TooManyPatterns {
        /// How many there may be.
        most: usize,
        /// The first that is too many.
        origin: Origin,
    },
    /// A file that is no TOML.
    #[error("{message} ({origin})")]
    Syntax {
        /// What the parser said.
        message: String,
        /// Where.
        origin: Origin,
    },
    /// A file that cannot be read.
    #[error("cannot read the configuration file {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it, where the sentence does not say.
    pub fn hint(&self) -> Option<&'static str> {
        let is_of_two = matches!(self, Self::Conflict { .. } | Self::Overlap { .. });
        is_of_two.then_some("change one of the two")
    }

    pub(super) fn invalid(setting: &Setting, said: Value) -> Self {
        let or_off = if setting.off { " or \"off\"" } else { "" };
        let expected = format!("{}{or_off}", setting.kind.expected());
        Self::Invalid { key: setting.key, said, expected }
    }

    /// An unknown name, with the setting it was perhaps meant to be.
    pub(super) fn unknown(name: String, origin: Origin) -> Self {
        let meant = said::meant(name.trim_start_matches("DORMOUSE_"));
        let hint = meant.map_or(String::new(), |setting| match &origin {
            Origin::Variable(_) => format!(", did you mean {}?", setting.variable()),
            _ => format!(", did you mean {}?", setting.key),
        });
        Self::Unknown { name, hint, origin }
    }
}
