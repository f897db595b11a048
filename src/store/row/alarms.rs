//! When something is due in a room that sleeps.

use serde::{Deserialize, Serialize};

use super::{DecodeError, seal, unseal};
use crate::protocol::Timestamp;

/// A room's due times. Each stands in the table of due times as well, which is in their order;
/// this row is how its entries there are found when they change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarms {
    /// When the rules want to be woken.
    pub rules: Option<Timestamp>,
    /// When its oldest chunk will be too old.
    pub trim: Option<Timestamp>,
    /// When it will have been without seats and events for too long.
    pub idle: Option<Timestamp>,
}

impl Alarms {
    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        seal(self)
    }

    /// Due times from their row.
    pub fn decode(sealed: &[u8]) -> Result<Self, DecodeError> {
        unseal(sealed)
    }

    /// Each time that is set, as the table of due times numbers them.
    pub fn times(&self) -> impl Iterator<Item = (u8, Timestamp)> + use<> {
        let times = [(TRIM, self.trim), (RULES, self.rules), (IDLE, self.idle)];
        times.into_iter().filter_map(|(what, at)| Some((what, at?)))
    }
}

/// The numbers of what may be due. They are on disk: none ever changes.
pub const TRIM: u8 = 1;
/// See [`Alarms::rules`].
pub const RULES: u8 = 2;
/// See [`Alarms::idle`].
pub const IDLE: u8 = 3;
