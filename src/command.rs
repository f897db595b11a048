//! What is asked from a terminal: `dormouse rooms` and `dormouse history ROOM`.
//!
//! A running gateway is asked at its operator listener; with `--data-dir`, a store that no gateway
//! holds is read instead. Either way the same questions get the same answers, for people as
//! lines and with `--json` for programs, and nothing wakes or changes.

mod show;
mod source;

use std::io::{self, Write};
use std::net::SocketAddr;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::Config;
use crate::dispatcher::STATES;
use crate::protocol::v1::PageFrom;
use crate::protocol::{BadRoomName, RoomName};
use crate::store;
use source::Source;

/// The commands here.
pub const NAMES: [&str; 2] = ["rooms", "history"];

/// The most messages of one page, and how many there are if nobody says.
const MESSAGES_MOST: u64 = 256;
const MESSAGES: u64 = 100;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error("no gateway answers at {address}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no address to ask at.
    #[error("operator_listen is off: there is no gateway to ask")]
    NoListener,
    /// The gateway says no.
    #[error("the gateway at {address} answers {status}: {detail}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// The status.
        status: u16,
        /// In its words.
        detail: String,
    },
    /// Somebody else is there.
    #[error("what answers at {address} is no dormouse")]
    Stranger {
        /// Where.
        address: SocketAddr,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No such room.
    #[error("there is no room {0}")]
    NoRoom(RoomName),
    /// Nor can there be.
    #[error(transparent)]
    BadName(#[from] BadRoomName),
    /// The answer cannot be written.
    #[error("cannot write the answer")]
    Unwritten(#[source] io::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } | Self::NoListener | Self::Stranger { .. } => Some(
                "--operator-listen says where a gateway answers operators; --data-dir reads a \
                 store that no gateway holds",
            ),
            Self::Store(store::Error::InUse { .. }) => {
                Some("a gateway has it: leave out --data-dir, and the gateway is asked")
            }
            Self::Store(store::Error::Denied { .. }) => Some("check that this user may read there"),
            Self::Store(store::Error::Corrupt { .. } | store::Error::Unwell { .. }) => {
                Some("dormouse check --data-dir says what is wrong; put back a copy")
            }
            _ => None,
        }
    }
}

/// The commands as they are typed.
pub fn subcommands() -> [Command; 2] {
    let json = || {
        let help = "For programs: JSON, one object a line";
        Arg::new("json").long("json").action(ArgAction::SetTrue).help(help)
    };
    let number = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).value_parser(value_parser!(u64)).help(help)
    };
    let where_from = "Asks the gateway at --operator-listen, or reads the store in --data-dir \
                      that no gateway holds. Nothing wakes.";
    [
        Command::new("rooms")
            .about("List all rooms, and why each is awake")
            .after_help(where_from)
            .args([
                Arg::new("state")
                    .long("state")
                    .value_parser(STATES)
                    .help("Only rooms in this state"),
                json(),
            ]),
        Command::new("history").about("Show messages of a room").after_help(where_from).args([
            Arg::new("room").value_name("ROOM").required(true).help("The room"),
            number("before", "SEQ", "Those before this message").conflicts_with("after"),
            number("after", "SEQ", "Those after this message"),
            number("limit", "COUNT", "How many at most: 256 [default: 100]"),
            json(),
        ]),
    ]
}

/// Asks what was typed, and writes the answer.
pub fn run(
    name: &str,
    said: &ArgMatches,
    config: &Config,
    of_a_store: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let source = match (of_a_store, config.operator_listen) {
        (true, _) => Source::Store(Box::new(store::look(&config.data_dir, &config.store)?)),
        (false, Some(address)) => Source::gateway(address),
        (false, None) => return Err(Error::NoListener),
    };
    let json = said.get_flag("json");
    match name {
        "history" => history(said, config, &source, json, out),
        _ => rooms(said, &source, json, out),
    }
}

fn rooms(
    said: &ArgMatches,
    source: &Source,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let state = said.get_one::<String>("state").map(String::as_str);
    let mut after = None;
    if !json && !written(writeln!(out, "{}", show::HEAD))? {
        return Ok(());
    }
    loop {
        let page = source.rooms(state, after.as_deref())?;
        for room in page["rooms"].as_array().into_iter().flatten() {
            let line = if json { room.to_string() } else { show::room(room) };
            if !written(writeln!(out, "{line}"))? {
                return Ok(());
            }
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return written(out.flush()).map(drop),
        }
    }
}

fn history(
    said: &ArgMatches,
    config: &Config,
    source: &Source,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let number = |name| said.get_one::<u64>(name).copied();
    let room: RoomName = said.get_one::<String>("room").map_or("", String::as_str).parse()?;
    let from = match (number("before"), number("after")) {
        (Some(before), _) => PageFrom::Before(before),
        (None, Some(after)) => PageFrom::After(after),
        (None, None) => PageFrom::Newest,
    };
    let limit = number("limit").unwrap_or(MESSAGES).min(MESSAGES_MOST) as usize;
    let page = source.messages(&room, from, limit, config.keeper.outbox.page_bytes)?;
    if json {
        return written(writeln!(out, "{page}")).map(drop);
    }
    for line in show::page(&page, from) {
        if !written(writeln!(out, "{line}"))? {
            break;
        }
    }
    Ok(())
}

/// Whether it was written. Who reads no further, as `head` does, has what they wanted.
fn written(wrote: io::Result<()>) -> Result<bool, Error> {
    match wrote {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Unwritten(error)),
    }
}
