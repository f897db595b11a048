//! The words on the wire. No I/O: bytes in, values out, and back.
//!
//! - [`v1`] and [`seed`] are the two protocols, [`framing`] their wrapping per transport.
//! - A broadcast is encoded once per [`Framing`]; nothing here knows a receiver.
//! - [`pattern`] says which rooms are meant; it is for settings, and no client sees one.
//! - Whatever arrives is refused with a reason or read in full; nothing here panics or
//!   allocates beyond the frame it was given.

pub mod claim;
pub mod close;
pub mod framing;
pub mod ids;
pub mod json;
pub mod pattern;
pub mod profile;
pub mod seed;
pub mod v1;
mod verdict;

pub use claim::Claim;
pub use close::{Advice, CloseReason};
pub use ids::{Author, BadRoomName, Epoch, KeyHash, Position, RoomName, Sid, Timestamp};
pub use pattern::{Kinds, Pattern};
pub use profile::{BodyKind, Framing, Profile};
pub use verdict::Verdict;

/// What a client published: JSON as it came, or bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// JSON text, exactly as the client wrote it.
    Json(String),
    /// Bytes that came in a binary frame.
    Binary(bytes::Bytes),
}

impl Payload {
    /// Its size in bytes, for limits.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
