//! What happens in a room, as its application is told.

use std::time::Duration;

use serde_json::Value;

use super::data::{Data, Member, Message};
use super::error::Error;
use super::frames::{Change, RoomState, Welcome};
use super::wire::Transport;

/// What happens in a room.
#[derive(Debug, Clone)]
pub enum Event {
    /// There is a connection, and a seat. Messages that were missed follow, then [`Event::Live`].
    Connected(Connected),
    /// A message of the log: in order, each once, whatever happens to the connection.
    Message(Message),
    /// Everything from before has been told; what follows happens now.
    Live,
    /// The log does not go on where it was left: messages between are not to be had.
    Gap(Gap),
    /// A message for a few, this seat among them. It is in no log.
    Direct(Message),
    /// Who is here.
    Presence(Presence),
    /// Somebody's newest of a kind that may be dropped.
    Ephemeral {
        /// Which of that member's ephemerals.
        key: String,
        /// The seat.
        from: String,
        /// What it says.
        data: Data,
    },
    /// How the room is.
    Room(RoomState),
    /// The connection is gone. It is tried again by itself.
    Disconnected {
        /// Why.
        error: Error,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// So many direct messages came while nobody took events, and are lost.
    Missed {
        /// How many.
        direct: u64,
    },
    /// The last: it is not tried again.
    Ended(Error),
}

/// A new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// What it runs over.
    pub transport: Transport,
    /// The seat.
    pub sid: String,
    /// Whether the seat is the one from before, with its attachment and tags.
    pub is_seat_kept: bool,
    /// Whether the log goes on where it was left.
    pub is_resumed: bool,
    /// How many are here.
    pub count: u64,
}

/// Why the log does not go on where it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// `epoch`: it is another log. `retention`: what followed is no longer kept.
    pub why: String,
    /// Where the log begins now.
    pub oldest: Option<u64>,
}

/// Who is here.
#[derive(Debug, Clone, PartialEq)]
pub enum Presence {
    /// Everything that was known is void; this is who is here. Of very many, only the first are listed.
    Whole {
        /// The members, oneself included.
        members: Vec<Member>,
        /// How many there are.
        count: u64,
    },
    /// Somebody came, left, or changed.
    Changed {
        /// Who came; somebody known is replaced.
        joined: Vec<Member>,
        /// Who left, by `sid`.
        left: Vec<String>,
        /// Who changed.
        updated: Vec<Member>,
        /// How many there are, if the gateway says.
        count: Option<u64>,
    },
    /// So many, and it is not told who.
    Count(u64),
}

impl From<&Welcome> for Presence {
    fn from(welcome: &Welcome) -> Self {
        match &welcome.members {
            Some(members) => Self::Whole { members: members.clone(), count: welcome.count },
            None => Self::Count(welcome.count),
        }
    }
}

impl From<Change> for Presence {
    fn from(change: Change) -> Self {
        let is_silent =
            change.join.is_empty() && change.leave.is_empty() && change.update.is_empty();
        match (change.members, change.count) {
            (Some(members), count) if change.reset => {
                Self::Whole { count: count.unwrap_or(members.len() as u64), members }
            }
            (_, Some(count)) if is_silent => Self::Count(count),
            (_, count) => Self::Changed {
                joined: change.join,
                left: change.leave,
                updated: change.update,
                count,
            },
        }
    }
}

impl Event {
    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        64 + match self {
            Self::Message(message) | Self::Direct(message) => message.data.size(),
            Self::Ephemeral { data, .. } => data.size(),
            Self::Presence(Presence::Whole { members, .. }) => {
                members.iter().map(Member::size).sum()
            }
            Self::Presence(Presence::Changed { joined, updated, .. }) => {
                joined.iter().chain(updated).map(Member::size).sum()
            }
            _ => 64,
        }
    }
}

impl Member {
    fn size(&self) -> usize {
        96 + self.tags.iter().map(String::len).sum::<usize>() + json_size(&self.attachment)
    }
}

impl Data {
    fn size(&self) -> usize {
        match self {
            Self::Json(value) => json_size(value),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

fn json_size(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(json_size).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + json_size(value)).sum()
        }
        _ => 0,
    }
}
