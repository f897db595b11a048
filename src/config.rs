//! What an operator may say, merged and checked once.
//!
//! One name has three spellings: `[room] sleep_after` in `dormouse.toml`,
//! `DORMOUSE_ROOM_SLEEP_AFTER`, `--room-sleep-after`. Default < file < environment < flag.
//! What was said stays text ([`said`]) until all of it is known; then one fallible step makes a
//! [`Config`] of real types, or one [`Error`] that says which value, where it came from and
//! what would be right.
//!
//! - Every setting stands in one table ([`settings`]); flags, `--help` and the example file
//!   are made from it.
//! - An unknown name is an error: a typing mistake must not be a silent default.
//! - Each module owns its settings; this one only fills them in. Nothing here is read again
//!   while the gateway runs.

pub mod said;
pub mod settings;
pub mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};

use crate::{keeper, outbox, room, server, session, store};
use said::{Origin, Said, Value};
use settings::{SETTINGS, Setting};

/// The configuration file that is read when it exists and no other is named.
pub const DEFAULT_FILE: &str = "dormouse.toml";

/// The folder that keeps the development certificate when it exists.
const CERTS_FOLDER: &str = "certs";

/// A tag's limit is fixed: it is counted by `session.tags`.
const TAG_BYTES: usize = 256;

/// Everything decided before the gateway starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where browsers come in, TCP and UDP.
    pub listen: Vec<SocketAddr>,
    /// Where operators come in.
    pub operator_listen: Option<SocketAddr>,
    /// Where the store lies.
    pub data_dir: PathBuf,
    /// The operator's own certificate.
    pub certificate: Option<server::tls::Files>,
    /// Where the development certificate is kept.
    pub certs_dir: PathBuf,
    /// The rooms' keepers, and with them the rooms and outboxes.
    pub keeper: keeper::Settings,
    /// The sessions.
    pub session: session::Settings,
    /// The store.
    pub store: store::Settings,
    /// The doors.
    pub server: server::Settings,
    /// QUIC's own.
    pub quic: server::QuicSettings,
    /// The longest over which a drain spreads the clients' return.
    pub drain_spread: Duration,
}

/// What is wrong with what was said. Everything needed is in the sentence; only a file that
/// cannot be read has a cause below it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that cannot be read.
    #[error("{key} is {text:?}, expected {expected} ({origin})")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// What was said.
        text: String,
        /// What would do.
        expected: String,
        /// Who said it.
        origin: Origin,
    },
    /// A value beyond its bounds.
    #[error("{key} is {text:?}, expected {least} to {most} ({origin})")]
    OutOfBounds {
        /// The setting.
        key: &'static str,
        /// What was said.
        text: String,
        /// The least it may be.
        least: &'static str,
        /// The most it may be.
        most: &'static str,
        /// Who said it.
        origin: Origin,
    },
    /// Two values that do not go together.
    #[error("{key} is {text:?} ({origin}), but {rule}, which is {other:?} ({other_origin})")]
    Conflict {
        /// The first setting.
        key: &'static str,
        /// Its value.
        text: String,
        /// Who said it.
        origin: Origin,
        /// What must hold, ending in the other setting's name.
        rule: String,
        /// The other's value.
        other: String,
        /// Who said that.
        other_origin: Origin,
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
    fn invalid(setting: &Setting, value: Value) -> Self {
        let or_off = if setting.off { " or \"off\"" } else { "" };
        Self::Invalid {
            key: setting.key,
            text: value.text,
            expected: format!("{}{or_off}", setting.kind.expected()),
            origin: value.origin,
        }
    }

    /// An unknown name, with the setting that has the same last words, if one has.
    fn unknown(name: String, origin: Origin) -> Self {
        let plain = |text: &str| text.to_lowercase().replace(['-', '_', '.'], "");
        let said = plain(name.trim_start_matches("DORMOUSE_"));
        let near = SETTINGS.iter().find(|setting| {
            let (key, short) = (plain(setting.key), plain(setting.name()));
            said == key || said == short || said.ends_with(&short)
        });
        let hint = near.map_or(String::new(), |setting| match &origin {
            Origin::Variable(_) => format!(", did you mean {}?", setting.variable()),
            _ => format!(", did you mean {}?", setting.key),
        });
        Self::Unknown { name, hint, origin }
    }
}

/// The flags, made from the table, for a [`clap::Command`].
pub fn flags() -> impl Iterator<Item = Arg> {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("The configuration file; ./dormouse.toml if it exists")
        .global(true);
    let settings = SETTINGS.iter().map(|setting| {
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let action = if setting.kind.is_list() { ArgAction::Append } else { ArgAction::Set };
        let value_name = format!("{:?}", setting.kind).to_uppercase();
        Arg::new(setting.key)
            .long(setting.flag())
            .value_name(value_name)
            .help(format!("{}{default}", setting.help))
            .help_heading(setting.section().map_or("Options".into(), |name| format!("[{name}]")))
            .action(action)
            .global(true)
    });
    std::iter::once(file).chain(settings)
}

impl Config {
    /// Reads file, environment and flags, the later over the earlier.
    pub fn load(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut said = Said::default();
        let named = matches.get_one::<String>("config").map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        match std::fs::read_to_string(&path) {
            Ok(text) => said.add_file(&path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {}
            Err(source) => return Err(Error::Unreadable { path, source }),
        }
        said.add_environment(environment)?;
        said.add_flags(matches);
        Self::new(&said)
    }

    /// The one step from text to meaning.
    pub fn new(said: &Said) -> Result<Self, Error> {
        let read = Reader { said };
        let data_dir: PathBuf = read.text("data_dir").into();
        let config = Self {
            listen: read.addresses("listen")?,
            operator_listen: read.address("operator_listen")?,
            certs_dir: certs_dir(read.path("certs_dir"), &data_dir),
            data_dir,
            certificate: read.certificate()?,
            keeper: read.keeper()?,
            session: read.session()?,
            store: read.store()?,
            server: server::Settings {
                send_buffer: read.size("session.send_buffer")?,
                connections: read.count("gateway.connections")?,
                origins: read.origins("gateway.origins")?,
                demo: read.flag("demo")?,
            },
            quic: server::QuicSettings {
                keep_alive: read.duration("quic.keep_alive")?,
                idle_timeout: read.duration("quic.idle_timeout")?,
                stream_window: read.size("quic.stream_window")?,
                send_window: read.size("quic.send_window")?,
            },
            drain_spread: read.duration("gateway.drain_spread")?,
        };
        read.check_what_needs_each_other()?;
        Ok(config)
    }
}

impl Default for Config {
    /// What holds when nothing is said.
    fn default() -> Self {
        Self::new(&Said::default()).expect("the table's defaults are valid; a test reads them")
    }
}

fn certs_dir(said: Option<PathBuf>, data_dir: &Path) -> PathBuf {
    said.unwrap_or_else(|| match Path::new(CERTS_FOLDER).is_dir() {
        true => CERTS_FOLDER.into(),
        false => data_dir.to_owned(),
    })
}

/// Reads typed values out of what was said.
struct Reader<'a> {
    said: &'a Said,
}

impl Reader<'_> {
    fn keeper(&self) -> Result<keeper::Settings, Error> {
        Ok(keeper::Settings {
            sleep_after: self.duration("room.sleep_after")?,
            mailbox_events: self.count("room.mailbox_events")?,
            waking_bytes: self.size("room.waking_bytes")?,
            grace: self.duration("session.grace")?,
            resume_window: self.duration("session.resume_window")?,
            limits: self.limits()?,
            outbox: outbox::Policy {
                ring_bytes: self.size("room.ring_bytes")?,
                ring_age: self.duration("room.ring_age")?,
                outbox_bytes: self.size("session.outbox_bytes")?,
                page_bytes: self.size("room.page_bytes")?,
            },
        })
    }

    fn session(&self) -> Result<session::Settings, Error> {
        Ok(session::Settings {
            message_bytes: self.size("session.message_bytes")?,
            publishes_in_flight: self.count("session.publishes_in_flight")?,
            stalled_after: self.duration("session.stalled_after")?,
            hello_timeout: self.duration("session.hello_timeout")?,
            heartbeat: self.duration("session.heartbeat")?,
            ping_every: self.duration("session.ping_every")?,
            pong_timeout: self.duration("session.pong_timeout")?,
            close_linger: self.duration("session.close_linger")?,
            author_window: self.duration("session.author_window")?,
            limits: self.limits()?,
        })
    }

    fn limits(&self) -> Result<room::Limits, Error> {
        Ok(room::Limits {
            members: self.count("room.members")?,
            tags: self.count("session.tags")?,
            tag_bytes: TAG_BYTES,
            name_chars: self.count("session.name_chars")?,
            attachment_bytes: self.size("session.attachment_bytes")?,
            key_bytes: self.count("session.key_bytes")?,
        })
    }

    fn store(&self) -> Result<store::Settings, Error> {
        Ok(store::Settings {
            journal_bytes: self.size("room.journal_bytes")? as u64,
            journal_total_bytes: self.size("store.journal_total_bytes")? as u64,
            journal_age: self.duration("store.journal_age")?,
            journal_cache: self.size("store.journal_cache")?,
            rooms_cache: self.size("store.rooms_cache")?,
            retention: store::Retention {
                messages: self.amount("room.history_messages", units::count)?.unwrap_or(u64::MAX),
                age: self.amount("room.history_age", units::duration)?.unwrap_or(units::NO_AGE),
                bytes: self.amount("room.history_bytes", units::size)?.unwrap_or(u64::MAX),
            },
        })
    }

    /// Limits that are each fine and together are not.
    fn check_what_needs_each_other(&self) -> Result<(), Error> {
        self.check_durations(
            "session.pong_timeout",
            "must be shorter than",
            "session.ping_every",
            |a, b| a < b,
        )?;
        self.check_durations(
            "session.resume_window",
            "must be at least",
            "session.grace",
            |a, b| a >= b,
        )?;
        self.check_durations(
            "session.author_window",
            "must be at least",
            "session.resume_window",
            |a, b| a >= b,
        )?;
        self.check_durations(
            "quic.keep_alive",
            "must be shorter than",
            "quic.idle_timeout",
            |a, b| a < b,
        )?;
        self.check_sizes(
            "room.ring_bytes",
            "must hold 4 times",
            "session.message_bytes",
            |a, b| a >= b * 4,
        )?;
        for holder in ["room.waking_bytes", "session.outbox_bytes", "quic.stream_window"] {
            self.check_sizes(holder, "must be at least", "session.message_bytes", |a, b| a >= b)?;
        }
        // A hello carries it, and a hello is a frame.
        self.check_sizes(
            "session.attachment_bytes",
            "must be less than",
            "session.message_bytes",
            |a, b| a < b,
        )?;
        self.check_sizes(
            "room.journal_bytes",
            "must be at most",
            "store.journal_total_bytes",
            |a, b| a <= b,
        )
    }

    fn check_sizes(
        &self,
        key: &'static str,
        rule: &str,
        other: &'static str,
        holds: fn(usize, usize) -> bool,
    ) -> Result<(), Error> {
        self.conflict(holds(self.size(key)?, self.size(other)?), key, rule, other)
    }

    fn check_durations(
        &self,
        key: &'static str,
        rule: &str,
        other: &'static str,
        holds: fn(Duration, Duration) -> bool,
    ) -> Result<(), Error> {
        self.conflict(holds(self.duration(key)?, self.duration(other)?), key, rule, other)
    }

    fn conflict(
        &self,
        holds: bool,
        key: &'static str,
        rule: &str,
        other: &'static str,
    ) -> Result<(), Error> {
        if holds {
            return Ok(());
        }
        let ((_, value), (_, second)) = (self.value(key), self.value(other));
        Err(Error::Conflict {
            key,
            text: value.text,
            origin: value.origin,
            rule: format!("{rule} {other}"),
            other: second.text,
            other_origin: second.origin,
        })
    }

    fn value(&self, key: &str) -> (&'static Setting, Value) {
        let setting = settings::find(key).expect("only settings of the table are read");
        let mut value = self.said.of(setting);
        value.text = value.text.trim().to_owned();
        (setting, value)
    }

    fn text(&self, key: &str) -> String {
        self.value(key).1.text
    }

    /// An amount within its bounds; `None` for `off`.
    fn amount<T: PartialOrd>(
        &self,
        key: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let (setting, value) = self.value(key);
        if setting.off && value.text == "off" {
            return Ok(None);
        }
        let Some(amount) = parse(&value.text) else { return Err(Error::invalid(setting, value)) };
        let (least, most) = setting.bounds;
        let bound = |text| parse(text).expect("the table's bounds are valid; a test reads them");
        if amount < bound(least) || amount > bound(most) {
            let Value { text, origin } = value;
            return Err(Error::OutOfBounds { key: setting.key, text, least, most, origin });
        }
        Ok(Some(amount))
    }

    fn duration(&self, key: &str) -> Result<Duration, Error> {
        let amount = self.amount(key, units::duration)?;
        Ok(amount.expect("settings that may be off are read with amount"))
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        let amount = self.amount(key, units::size)?;
        Ok(amount.expect("settings that may be off are read with amount") as usize)
    }

    fn count(&self, key: &str) -> Result<usize, Error> {
        let amount = self.amount(key, units::count)?;
        Ok(amount.expect("settings that may be off are read with amount") as usize)
    }

    fn flag(&self, key: &str) -> Result<bool, Error> {
        let (setting, value) = self.value(key);
        value.text.parse().map_err(|_| Error::invalid(setting, value))
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    fn address(&self, key: &str) -> Result<Option<SocketAddr>, Error> {
        let (setting, value) = self.value(key);
        match value.text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) if setting.off && value.text == "off" => Ok(None),
            Err(_) => Err(Error::invalid(setting, value)),
        }
    }

    fn addresses(&self, key: &str) -> Result<Vec<SocketAddr>, Error> {
        let (setting, value) = self.value(key);
        let items = value.text.split(',').map(|item| item.trim().parse());
        items.collect::<Result<_, _>>().map_err(|_| Error::invalid(setting, value))
    }

    /// Origins as browsers write them: scheme, host, perhaps a port, nothing after.
    fn origins(&self, key: &str) -> Result<Vec<String>, Error> {
        let (setting, value) = self.value(key);
        let items = value.text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let origins: Vec<_> = items.map(str::to_ascii_lowercase).collect();
        let is_origin = |origin: &String| match origin.split_once("://") {
            Some((scheme, host)) => {
                !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#'])
            }
            None => origin == "*" || origin == "null",
        };
        match origins.iter().all(is_origin) {
            true => Ok(origins),
            false => Err(Error::invalid(setting, value)),
        }
    }

    fn certificate(&self) -> Result<Option<server::tls::Files>, Error> {
        let half = |key: &'static str, missing| {
            Err(Error::Half { key, origin: self.value(key).1.origin, missing })
        };
        match (self.path("tls_cert"), self.path("tls_key")) {
            (Some(cert), Some(key)) => Ok(Some(server::tls::Files { cert, key })),
            (Some(_), None) => half("tls_cert", "tls_key"),
            (None, Some(_)) => half("tls_key", "tls_cert"),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
