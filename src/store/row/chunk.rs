//! Chunks, what a room's history consists of, and the row of keys beside each.
//!
//! A chunk holds neighbouring messages, compressed together. The newest one is *open*: it is
//! written again with more messages until it is full.

use serde::{Deserialize, Serialize};

use super::super::Message;
use super::entry::{BODY_BYTES, MessageV1};
use super::{DecodeError, as_bytes, packing, seal, unseal};
use crate::protocol::{KeyHash, Timestamp};

/// The most messages of a chunk. With as many keys, 17 bytes each, the row beside it stays
/// under 2 KiB; from there on it would take a whole page of 4 KiB.
pub const CHUNK_MESSAGES: usize = 112;

/// The most uncompressed bytes of a chunk, unless one message alone is larger.
const CHUNK_BYTES: usize = 64 << 10;

/// The most that unpacking a chunk may take: one message, with what surrounds its body.
const UNPACKED_BYTES: usize = BODY_BYTES + 1024;

/// A chunk as it lies in its row.
#[derive(Serialize, Deserialize)]
pub struct Chunk<'a> {
    /// The second half of the epoch it was written in.
    pub deletion: u64,
    count: u32,
    /// Its newest message's time, for its age: never later than the clock was when it was moved.
    pub newest_time: Timestamp,
    unpacked: u32,
    #[serde(serialize_with = "as_bytes")]
    packed: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads all but the messages.
    pub fn decode(sealed: &'a [u8]) -> Result<Self, DecodeError> {
        unseal(sealed)
    }

    /// Reads the messages, the first of which is `first`.
    pub fn messages(&self, first: u64) -> Result<Vec<Message>, DecodeError> {
        let unpacked = self.unpack()?;
        let mut rest = &unpacked[..];
        let mut messages = Vec::new();
        for seq in (first..).take(self.count as usize) {
            let (message, after) =
                postcard::take_from_bytes::<MessageV1<'_>>(rest).map_err(|_| DecodeError::Body)?;
            if message.seq != seq {
                return Err(DecodeError::Body);
            }
            messages.push(message.into());
            rest = after;
        }
        if rest.is_empty() { Ok(messages) } else { Err(DecodeError::Body) }
    }

    /// Pretends to unpack to something else.
    #[cfg(test)]
    pub fn claim(&mut self, unpacked: u32) {
        self.unpacked = unpacked;
    }

    fn unpack(&self) -> Result<Vec<u8>, DecodeError> {
        let size = self.unpacked as usize;
        if size > UNPACKED_BYTES || self.count as usize > CHUNK_MESSAGES {
            return Err(DecodeError::Body);
        }
        let unpacked = packing::unpack(self.packed, size).map_err(|_| DecodeError::Body)?;
        if unpacked.len() == size { Ok(unpacked) } else { Err(DecodeError::Body) }
    }
}

/// The keys among a chunk's messages. Outlives the chunk.
pub struct Keys;

#[derive(Serialize, Deserialize)]
struct KeysV1 {
    deletion: u64,
    /// How far behind the chunk's first message, and which key.
    keys: Vec<(u8, KeyHash)>,
}

impl Keys {
    /// Reads the keys beside the chunk that begins with `first`, of epoch `deletion`.
    pub fn decode(
        sealed: &[u8],
        first: u64,
        deletion: u64,
    ) -> Result<Vec<(KeyHash, u64)>, DecodeError> {
        let row: KeysV1 = unseal(sealed)?;
        if row.deletion != deletion {
            return Ok(Vec::new());
        }
        let at = |(behind, key)| Some((key, first.checked_add(u64::from(behind))?));
        row.keys.into_iter().map(at).collect::<Option<_>>().ok_or(DecodeError::Body)
    }
}

/// A chunk that takes more messages.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenChunk {
    /// Its first message.
    pub first: u64,
    /// The keys among its messages, oldest first.
    pub keys: Vec<(KeyHash, u64)>,
    count: u32,
    newest_time: Timestamp,
    unpacked: Vec<u8>,
}

impl OpenChunk {
    /// An empty chunk whose first message will be `first`.
    pub fn new(first: u64) -> Self {
        let newest_time = Timestamp::default();
        Self { first, keys: Vec::new(), count: 0, newest_time, unpacked: Vec::new() }
    }

    /// The chunk at `first` again, to go on with, if it ends just before `next`.
    pub fn resume(
        first: u64,
        next: u64,
        chunk: &Chunk<'_>,
        keys: Vec<(KeyHash, u64)>,
    ) -> Result<Self, DecodeError> {
        if first.checked_add(u64::from(chunk.count)) != Some(next) {
            return Err(DecodeError::Body);
        }
        let Chunk { count, newest_time, .. } = *chunk;
        Ok(Self { first, keys, count, newest_time, unpacked: chunk.unpack()? })
    }

    /// Takes the next message, moved at `now`, unless it has to go into a new chunk.
    pub fn push(&mut self, message: &Message, now: Timestamp) -> bool {
        if self.count as usize == CHUNK_MESSAGES {
            return false;
        }
        let before = self.unpacked.len();
        self.unpacked =
            postcard::to_extend(&MessageV1::from(message), std::mem::take(&mut self.unpacked))
                .expect("memory takes every byte, and no message refuses");
        if before > 0 && self.unpacked.len() > CHUNK_BYTES {
            self.unpacked.truncate(before);
            return false;
        }
        self.count += 1;
        self.newest_time = message.time.min(now); // time stands still after a jump back
        self.keys.extend(message.key.map(|key| (key, message.seq)));
        true
    }

    /// The chunk's row.
    pub fn encode(&self, deletion: u64) -> Vec<u8> {
        let packed = packing::pack(&self.unpacked)
            .expect("compressing in memory into room enough cannot fail");
        let unpacked = self.unpacked.len() as u32;
        let Self { count, newest_time, .. } = *self;
        seal(&Chunk { deletion, count, newest_time, unpacked, packed: &packed })
    }

    /// The row of keys beside it; none when no message has one.
    pub fn encode_keys(&self, deletion: u64) -> Option<Vec<u8>> {
        let behind = |seq| u8::try_from(seq - self.first).expect("a chunk's messages are few");
        let keys = self.keys.iter().map(|&(key, seq)| (behind(seq), key));
        (!self.keys.is_empty()).then(|| seal(&KeysV1 { deletion, keys: keys.collect() }))
    }
}
