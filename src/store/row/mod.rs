//! What our own values look like on disk, byte by byte.
//!
//! Every value is a version byte, a CRC-32 of what follows it, and a postcard body. The database
//! does not check its pages on ordinary reads, so a wrong byte is noticed here or not at all; and
//! postcard does not describe itself, so the version byte is what lets a format change later.
//! `docs/storage.md` draws each of them.
//!
//! - Decoding arbitrary bytes gives an error: never a panic, nor an allocation out of proportion.
//! - Enums only ever grow at their end; anything else is a new version. A golden test holds each.

mod alarms;
mod chunk;
mod entry;
mod meta;
mod packing;
mod room;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use alarms::{Alarms, IDLE, RULES, TRIM};
pub use chunk::{Chunk, Keys, OpenChunk};
pub use entry::{BODY_BYTES, Entry, encode_entry};
pub use meta::{ClockRow, IdentityRow, Marks, Sweep, decode_drain, encode_drain};
pub use room::RoomRow;

use super::SeatRow;

/// The only version there is, of every value so far.
const VERSION: u8 = 1;

/// Why bytes are not a value of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than a version and a checksum.
    #[error("too short")]
    Short,
    /// Written by a newer Dormouse, or not by Dormouse.
    #[error("of unknown version {0}")]
    Version(u8),
    /// Some byte is not the one that was written.
    #[error("its checksum is wrong")]
    Checksum,
    /// The checksum is right, but this is no value of the kind that was looked for.
    #[error("its contents make no sense")]
    Body,
}

/// A value ready for the disk.
fn seal(body: &impl Serialize) -> Vec<u8> {
    let sealed = postcard::to_extend(body, vec![VERSION, 0, 0, 0, 0]);
    let mut sealed = sealed.expect("memory takes every byte, and no body of ours refuses");
    let crc = crc32fast::hash(&sealed[5..]);
    sealed[1..5].copy_from_slice(&crc.to_le_bytes());
    sealed
}

/// The body of a value from the disk, all of it.
fn unseal<'a, T: Deserialize<'a>>(sealed: &'a [u8]) -> Result<T, DecodeError> {
    let (head, body) = sealed.split_first_chunk::<5>().ok_or(DecodeError::Short)?;
    let [version, crc @ ..] = *head;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    if crc32fast::hash(body) != u32::from_le_bytes(crc) {
        return Err(DecodeError::Checksum);
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(DecodeError::Body),
    }
}

/// A seat's row.
pub fn encode_seat(seat: &SeatRow) -> Vec<u8> {
    seal(seat)
}

/// A seat from its row.
pub fn decode_seat(sealed: &[u8]) -> Result<SeatRow, DecodeError> {
    unseal(sealed)
}

/// Bytes as postcard writes them anyway, but copied at once instead of one by one.
fn as_bytes<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

/// The same for bytes that are kept.
mod copied_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer};

    pub(super) fn serialize<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        super::as_bytes(bytes, to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        <&[u8]>::deserialize(from).map(Bytes::copy_from_slice)
    }
}
