//! The words on the wire. No I/O: bytes in, values out, and back.

pub mod ids;
pub mod profile;
pub mod v1;

pub use ids::{Author, BadRoomName, Epoch, KeyHash, Position, RoomName, Sid, Timestamp};
pub use profile::Profile;
