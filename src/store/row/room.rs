//! A room's snapshot: what is read to wake it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{DecodeError, copied_bytes, seal, unseal};
use crate::protocol::Timestamp;

/// The largest `seq` on the wire; no room gets there.
const SEQ_MAX: u64 = (1 << 53) - 1;

/// A room's row. With the built-in rules' state it takes well under 600 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// The second half of the room's epoch.
    pub deletion: u64,
    /// The newest message moved; 0 before the first.
    pub newest: u64,
    /// Its time.
    pub newest_time: Timestamp,
    /// The oldest message in a chunk; `newest + 1` when there is none.
    pub oldest: u64,
    /// The last journal entry that is in the rows: those after it are not.
    pub moved: u64,
    /// The first message of the chunk that takes more; 0 when the next one begins a chunk.
    pub open: u64,
    /// The bytes of all chunk rows.
    pub chunk_bytes: u64,
    /// How many keys all keys rows hold.
    pub keys: u64,
    /// The rules' own state.
    #[serde(with = "copied_bytes")]
    pub rules: Bytes,
}

impl RoomRow {
    /// A room before its first record was moved.
    pub fn new(deletion: u64) -> Self {
        Self {
            deletion,
            newest: 0,
            newest_time: Timestamp::default(),
            oldest: 1,
            moved: 0,
            open: 0,
            chunk_bytes: 0,
            keys: 0,
            rules: Bytes::new(),
        }
    }

    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        seal(self)
    }

    /// A room from its row.
    pub fn decode(sealed: &[u8]) -> Result<Self, DecodeError> {
        let row: Self = unseal(sealed)?;
        let sensible = (1..=row.newest.saturating_add(1)).contains(&row.oldest)
            && row.open <= row.newest
            && row.newest <= SEQ_MAX;
        if sensible { Ok(row) } else { Err(DecodeError::Body) }
    }
}
