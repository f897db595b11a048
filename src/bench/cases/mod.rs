//! What can be measured.

mod fanout;

use super::arguments::Asked;
use super::dialect::Dialect;
use super::figures::Report;
use super::subject::Subject;
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
    /// Everybody coming back at once.
    Storm,
    /// Members that do not read.
    Slow,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Fanout, Self::Rooms, Self::Connect, Self::Idle, Self::Wake, Self::Storm, Self::Slow];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Rooms => "rooms",
            Self::Connect => "connect",
            Self::Idle => "idle",
            Self::Wake => "wake",
            Self::Storm => "storm",
            Self::Slow => "slow",
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
            Self::Storm => "Clients that come back all at once for what they missed",
            Self::Slow => "A room in which one member in ten reads nothing",
        }
    }

    /// Rooms, members, a count, a rate and messages in flight; 0: it has no such number.
    pub(super) fn defaults(self) -> (usize, usize, usize, usize, usize) {
        match self {
            Self::Fanout | Self::Slow => (0, 1_000, 0, 0, 16),
            Self::Rooms => (500, 20, 0, 0, 64),
            Self::Connect | Self::Idle => (0, 0, 1_000, 0, 0),
            Self::Wake => (100, 10, 0, 1, 0),
            Self::Storm => (500, 20, 100, 1, 0),
        }
    }

    /// Whether how messages are sent can be chosen.
    pub(super) fn publishes(self) -> bool {
        self.defaults().4 > 0
    }

    /// Finds or starts the server.
    pub(super) fn subject(self, asked: &Asked, said: &mut Vec<String>) -> Result<Subject, Error> {
        let members = asked.members.max(10_000).to_string();
        Subject::open(asked, &[("room-members", &members)], said)
    }

    /// Does it.
    pub(super) async fn measure(
        self,
        asked: &Asked,
        subject: &Subject,
        report: &mut Report,
    ) -> Result<(), Error> {
        match self {
            Self::Fanout | Self::Rooms => fanout::measure(asked, subject, report).await,
            _ => Err(Error::Nonsense("not yet")),
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
