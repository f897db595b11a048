//! What an operator may say, merged and checked once.
//!
//! One name has three spellings: `[room] sleep_after` in `dormouse.toml`,
//! `DORMOUSE_ROOM_SLEEP_AFTER`, `--room-sleep-after`. Default < file < environment < flag.
//! What was said stays text ([`said`]) until all of it is known; then one fallible step makes a
//! [`Config`] of real types, or one [`Error`] that says which value, where it came from and
//! what would be right.
//!
//! - What `[room]` may say, `[rooms."game-*"]` may say for rooms of such names; see
//!   [`pattern`](crate::protocol::pattern).
//! - Every setting stands in one table ([`settings`]); flags, `--help` and the example file
//!   are made from it.
//! - An unknown name is an error: a typing mistake must not be a silent default.
//! - Each module owns its settings; this one only fills them in. A few are taken over by a gateway
//!   that runs when all are read again ([`gateway::reload`](crate::gateway)).

mod error;
mod reader;
pub mod said;
pub mod settings;
pub mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};

use crate::clock::Clock;
use crate::protocol::{Kinds, Pattern};
use crate::{keeper, server, session, store};
use reader::Reader;
use said::Said;
use settings::SETTINGS;

pub use error::Error;

/// The configuration file that is read when it exists and no other is named.
pub const DEFAULT_FILE: &str = "dormouse.toml";

/// The folder that keeps the development certificate when it exists.
const CERTS_FOLDER: &str = "certs";

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
    /// And those of rooms whose names match a pattern.
    pub kinds: Vec<(Pattern, keeper::Settings)>,
    /// How many rooms may be awake.
    pub rooms_awake: usize,
    /// How many may be falling asleep.
    pub rooms_hibernating: usize,
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
    /// What time it is; no operator has a say in that.
    pub clock: Clock,
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
        let arg = Arg::new(setting.key)
            .long(setting.flag())
            .value_name(value_name)
            .help(format!("{}{default}", setting.help))
            .action(action)
            .global(true);
        match setting.section() {
            Some(section) => arg.help_heading(format!("[{section}]")),
            None => arg,
        }
    });
    std::iter::once(file).chain(settings)
}

impl Config {
    /// Reads file, environment and flags, the later over the earlier.
    pub fn load(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        Self::new(&Said::read(matches, environment)?)
    }

    /// The one step from text to meaning.
    pub fn new(said: &Said) -> Result<Self, Error> {
        let read = Reader::new(said);
        let data_dir: PathBuf = read.text("data_dir").into();
        let mut config = Self {
            listen: read.addresses("listen")?,
            operator_listen: read.address("operator_listen")?,
            certs_dir: certs_dir(read.path("certs_dir"), &data_dir),
            data_dir,
            certificate: read.certificate()?,
            keeper: read.keeper()?,
            kinds: Vec::new(),
            rooms_awake: read.count("gateway.rooms_awake")?,
            rooms_hibernating: read.count("gateway.rooms_hibernating")?,
            session: read.session()?,
            store: read.store()?,
            server: read.server()?,
            quic: server::QuicSettings {
                handshake: server::websocket::HANDSHAKE,
                keep_alive: read.duration("quic.keep_alive")?,
                idle_timeout: read.duration("quic.idle_timeout")?,
                stream_window: read.size("quic.stream_window")?,
                send_window: read.size("quic.send_window")?,
            },
            drain_spread: read.duration("gateway.drain_spread")?,
            clock: Clock::default(),
        };
        read.check_what_needs_each_other()?;
        config.read_kinds(said)?;
        Ok(config)
    }

    /// Reads what is said for each kind of rooms as if it were said for all, so that a kind can
    /// change whatever `[room]` can, and is held to the same rules.
    fn read_kinds(&mut self, said: &Said) -> Result<(), Error> {
        let (mut in_store, mut responses) = (Vec::new(), Vec::new());
        for (pattern, said) in said.kinds() {
            let read = Reader::new(&said);
            self.kinds.push((pattern.clone(), read.keeper()?));
            in_store.push((pattern.clone(), Some(read.store_of_rooms()?)));
            responses.push((pattern.clone(), read.auto_responses()?));
            read.check_what_needs_each_other()?;
        }
        self.store.kinds = Kinds::new(None, in_store);
        let usual = Reader::new(said).auto_responses()?;
        self.session.auto_responses = Arc::new(Kinds::new(usual, responses));
        Ok(())
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

#[cfg(test)]
mod tests;
