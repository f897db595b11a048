//! A journal entry: the records of one commit for one room; and how a message is spelled in it
//! and in chunks.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::{BodyKind, Message, Record, SeatRow};
use super::{DecodeError, as_bytes, seal, unseal};
use crate::protocol::{KeyHash, RoomName, Sid, Timestamp};

/// The largest body that is stored. Four times the hard cap of a client's message, so it is never
/// met in life; it bounds what reading a damaged chunk may allocate.
pub const BODY_BYTES: usize = 4 << 20;

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose records these are.
    pub room: RoomName,
    /// The second half of the room's epoch.
    pub deletion: u64,
    /// What happened, in order.
    pub records: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct EntryV1<'a> {
    room: &'a str,
    deletion: u64,
    #[serde(borrow)]
    records: Vec<RecordV1<'a>>,
}

#[derive(Serialize, Deserialize)]
enum RecordV1<'a> {
    Message(#[serde(borrow)] MessageV1<'a>),
    Seat(Cow<'a, SeatRow>),
    SeatLeft(Sid),
    SeatEnded(Sid),
    Alarm(Option<Timestamp>),
    State(#[serde(borrow)] StateV1<'a>),
    Deleted,
}

#[derive(Serialize, Deserialize)]
struct StateV1<'a>(#[serde(serialize_with = "as_bytes")] &'a [u8]);

/// A message, borrowed; also what a chunk consists of.
#[derive(Serialize, Deserialize)]
pub(super) struct MessageV1<'a> {
    pub(super) seq: u64,
    time: Timestamp,
    pub(super) key: Option<KeyHash>,
    kind: BodyKind,
    #[serde(serialize_with = "as_bytes")]
    body: &'a [u8],
}

/// The records of one commit for one room, ready for the journal.
pub fn encode_entry(room: &RoomName, deletion: u64, records: &[Record]) -> Vec<u8> {
    let records = records.iter().map(|record| match record {
        Record::Message(message) => RecordV1::Message(message.into()),
        Record::Seat(seat) => RecordV1::Seat(Cow::Borrowed(seat)),
        Record::SeatLeft(sid) => RecordV1::SeatLeft(*sid),
        Record::SeatEnded(sid) => RecordV1::SeatEnded(*sid),
        Record::Alarm(when) => RecordV1::Alarm(*when),
        Record::State(state) => RecordV1::State(StateV1(state)),
        Record::Deleted => RecordV1::Deleted,
    });
    seal(&EntryV1 { room: room.as_str(), deletion, records: records.collect() })
}

impl Entry {
    /// An entry from the journal.
    pub fn decode(sealed: &[u8]) -> Result<Self, DecodeError> {
        let entry: EntryV1<'_> = unseal(sealed)?;
        let records = entry.records.into_iter().map(|record| match record {
            RecordV1::Message(message) => Record::Message(message.into()),
            RecordV1::Seat(seat) => Record::Seat(seat.into_owned()),
            RecordV1::SeatLeft(sid) => Record::SeatLeft(sid),
            RecordV1::SeatEnded(sid) => Record::SeatEnded(sid),
            RecordV1::Alarm(when) => Record::Alarm(when),
            RecordV1::State(StateV1(state)) => Record::State(Bytes::copy_from_slice(state)),
            RecordV1::Deleted => Record::Deleted,
        });
        Ok(Self {
            room: entry.room.parse().map_err(|_| DecodeError::Body)?,
            deletion: entry.deletion,
            records: records.collect(),
        })
    }

    /// The entry's messages.
    pub fn into_messages(self) -> impl Iterator<Item = Message> {
        self.records.into_iter().filter_map(|record| match record {
            Record::Message(message) => Some(message),
            _ => None,
        })
    }
}

impl<'a> From<&'a Message> for MessageV1<'a> {
    fn from(message: &'a Message) -> Self {
        let Message { seq, time, key, kind, ref body } = *message;
        Self { seq, time, key, kind, body }
    }
}

impl From<MessageV1<'_>> for Message {
    fn from(message: MessageV1<'_>) -> Self {
        let MessageV1 { seq, time, key, kind, body } = message;
        Self { seq, time, key, kind, body: Bytes::copy_from_slice(body) }
    }
}
