//! How a room stands after some of its records: what both engines make of a log when they open
//! a room.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Record, SeatRow};
use crate::protocol::{Sid, Timestamp};

/// Where a room's log ends and who is seated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The newest message; 0 before the first.
    pub newest: u64,
    /// Its time.
    pub newest_time: Timestamp,
    /// The seats that have not ended.
    pub seats: BTreeMap<Sid, SeatRow>,
    /// When the rules want to be woken.
    pub alarm: Option<Timestamp>,
    /// What the rules know.
    pub rules: Bytes,
}

/// A message that does not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap;

impl Standing {
    /// Lets one more record have happened.
    pub fn apply(&mut self, record: Record) -> Result<(), Gap> {
        match record {
            Record::Message(message) if message.seq == self.newest + 1 => {
                self.newest = message.seq;
                self.newest_time = message.time;
            }
            Record::Message(_) => return Err(Gap),
            Record::Seat(seat) => _ = self.seats.insert(seat.sid, seat),
            Record::SeatLeft(sid) => {
                if let Some(seat) = self.seats.get_mut(&sid) {
                    seat.left = true;
                }
            }
            Record::SeatEnded(sid) => _ = self.seats.remove(&sid),
            Record::Alarm(when) => self.alarm = when,
            Record::State(state) => self.rules = state,
            Record::Deleted => *self = Self::default(),
        }
        Ok(())
    }
}
