//! What the journal takes: one room's records, in the order they happened.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::protocol::BodyKind;
use crate::protocol::{Author, KeyHash, Sid, Timestamp};

/// One entry of a room's history. Only a [`Message`] has a `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Something said in the room.
    Message(Message),
    /// A seat began, was taken back or was changed: the row as it is from now on.
    Seat(SeatRow),
    /// A seat's grace is over and its leaving announced; it can still be taken back.
    SeatLeft(Sid),
    /// A seat is gone.
    SeatEnded(Sid),
    /// When the rules want to be woken, from now on; `None`: not at all.
    Alarm(Option<Timestamp>),
    /// What the rules know, from now on.
    State(Bytes),
    /// The room is deleted: whatever came before is as if it never was. The last record of its
    /// append.
    Deleted,
}

/// A message as it is stored: ready to be sent, only the transport's framing is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place in the log: 1, 2, 3, … without a gap.
    pub seq: u64,
    /// When the gateway took it; never earlier than the message before it.
    pub time: Timestamp,
    /// The idempotency key it was published with.
    pub key: Option<KeyHash>,
    /// What `body` holds.
    pub kind: BodyKind,
    /// The frame of `dormouse.v1`, as it goes on the wire.
    pub body: Bytes,
}

/// What is durable of a seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatRow {
    /// The seat's id.
    pub sid: Sid,
    /// Whose keys its publishes use.
    pub author: Author,
    /// The user its token named.
    pub user: Option<String>,
    /// The name shown to others; may repeat.
    pub name: String,
    /// Labels that direct messages can address.
    pub tags: Vec<String>,
    /// The little that the room knows about it: JSON text.
    pub attachment: Option<String>,
    /// When the seat began.
    pub since: Timestamp,
    /// Whether its leaving has been announced.
    pub left: bool,
}
