//! What can be measured: a file for each, and here what it is called and what it takes.

mod connect;
mod fanout;
mod growth;
mod idle;
mod sleep;
mod slow;
mod storm;
mod wake;

use super::arguments::Asked;
use super::dialect::Dialect;
use super::figures::Report;
use super::subject::{Needs, Subject};
use super::wire::Transport;
use super::{Error, dialect};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// One room.
    Fanout,
    /// Many rooms.
    Rooms,
    /// Beginning.
    Connect,
    /// Doing nothing.
    Idle,
    /// Waking up.
    Wake,
    /// What it costs to be asleep, and to become so.
    Sleep,
    /// Everybody coming back at once.
    Storm,
    /// Members that do not read.
    Slow,
    /// More of everything.
    Growth,
}

/// A number that a case takes: its name, its default, what it is.
pub(super) type Number = (&'static str, u32, &'static str);

const SIZE: Number = ("size", 100, "Bytes of a message");

impl Case {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Fanout,
        Self::Rooms,
        Self::Connect,
        Self::Idle,
        Self::Wake,
        Self::Sleep,
        Self::Storm,
        Self::Slow,
        Self::Growth,
    ];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Rooms => "rooms",
            Self::Connect => "connect",
            Self::Idle => "idle",
            Self::Wake => "wake",
            Self::Sleep => "sleep",
            Self::Storm => "storm",
            Self::Slow => "slow",
            Self::Growth => "growth",
        }
    }

    /// What it is for.
    pub fn about(self) -> &'static str {
        match self {
            Self::Fanout => "One room: messages to all of its members",
            Self::Rooms => "Many rooms at once",
            Self::Connect => "Connections a second, and what one costs",
            Self::Idle => "Memory of a connection that does nothing",
            Self::Wake => "A message to a room that sleeps, beside one to a room that is awake",
            Self::Sleep => {
                "What sleeping rooms cost: on disk, in memory, woken, and falling asleep"
            }
            Self::Storm => "Clients that come back all at once for what they missed",
            Self::Slow => {
                "A room in which one member in ten reads nothing, beside one in which all do"
            }
            Self::Growth => {
                "What one of each costs as there are more: members, rooms, history, attachments"
            }
        }
    }

    /// The numbers it takes.
    pub(super) fn numbers(self) -> &'static [Number] {
        match self {
            Self::Fanout | Self::Slow => &[("members", 1_000, "Members of the room"), SIZE],
            Self::Rooms => &[("rooms", 500, "Rooms"), ("members", 20, "Members of each"), SIZE],
            Self::Connect => &[("count", 1_000, "Connections made for each figure")],
            Self::Idle => {
                &[("count", 1_000, "Connections"), ("members", 20, "How many of them share a room")]
            }
            Self::Wake => &[
                ("rooms", 100, "Rooms"),
                ("members", 10, "Members of each"),
                ("count", 100, "Messages in each room beforehand"),
                SIZE,
            ],
            Self::Sleep => &[
                ("rooms", 20_000, "Sleeping rooms of the store that is opened"),
                ("count", 2_000, "Rooms that fall asleep at once, and connections that rest"),
                SIZE,
            ],
            Self::Storm => &[
                ("rooms", 500, "Rooms that come back"),
                ("members", 20, "Members of each"),
                ("count", 100, "Messages that each of them missed"),
                SIZE,
            ],
            Self::Growth => &[
                ("members", 10_000, "Members of the largest room"),
                ("rooms", 10_000, "Rooms at most"),
                ("count", 1_000_000, "Messages of the longest history"),
                ("deliveries", 20_000, "Deliveries a second; in many rooms a tenth of it"),
                SIZE,
            ],
        }
    }

    /// The parts it has, where one may be measured alone.
    pub(super) fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Sleep => &sleep::PARTS,
            Self::Growth => &growth::PARTS,
            _ => &[],
        }
    }

    /// Messages in flight unless something else is said, where that can be said.
    pub(super) fn in_flight(self) -> Option<u64> {
        match self {
            Self::Fanout | Self::Slow => Some(16),
            Self::Rooms => Some(64),
            Self::Connect | Self::Idle | Self::Wake | Self::Sleep | Self::Storm | Self::Growth => {
                None
            }
        }
    }

    /// Finds or starts the server.
    fn subject(self, asked: &Asked, said: &mut Vec<String>) -> Result<Subject, Error> {
        let connections = asked.rooms.max(1) * asked.members + 3 * asked.count + 1_000;
        let mut needs = vec![
            ("room-members", asked.members.max(10_000).to_string()),
            ("gateway-connections", connections.to_string()),
        ];
        if self == Self::Wake {
            needs.push(("room-sleep-after", wake::SLEEP_AFTER.to_owned()));
        }
        Subject::open(asked, Needs { settings: &needs, ..Needs::default() }, said)
    }

    /// Does it.
    pub(super) async fn measure(self, asked: &Asked, report: &mut Report) -> Result<(), Error> {
        match self {
            // Each of their parts has a server.
            Self::Sleep => return sleep::measure(asked, report).await,
            Self::Growth => return growth::measure(asked, report).await,
            _ => {}
        }
        let subject = &self.subject(asked, &mut report.said)?;
        match self {
            Self::Fanout | Self::Rooms => fanout::measure(asked, subject, report).await,
            Self::Connect => connect::measure(asked, subject, report).await,
            Self::Idle => idle::measure(asked, subject, report).await,
            Self::Wake => wake::measure(asked, subject, report).await,
            Self::Sleep | Self::Growth => unreachable!("they were measured above"),
            Self::Storm => storm::measure(asked, subject, report).await,
            Self::Slow => slow::measure(asked, subject, report).await,
        }
    }
}

/// How the server that was asked for is spoken to.
fn dialect(asked: &Asked) -> Box<dyn Dialect> {
    match asked.transport {
        Transport::Datagram => Box::new(dialect::Ephemeral),
        _ => dialect::named(&asked.peer),
    }
}
