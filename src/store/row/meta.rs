//! What each file says of itself.

use serde::{Deserialize, Serialize};

use super::super::Identity;
use super::{DecodeError, seal, unseal};
use crate::clock::{Jump, Past};
use crate::protocol::Timestamp;

/// Who the store is: a row of `rooms.redb`, written once.
#[derive(Serialize, Deserialize)]
pub struct IdentityRow {
    store: u64,
    secret: [u8; 32],
}

impl IdentityRow {
    /// The row.
    pub fn encode(identity: &Identity) -> Vec<u8> {
        seal(&Self { store: identity.store, secret: identity.secret })
    }

    /// A store from its row.
    pub fn decode(sealed: &[u8]) -> Result<Identity, DecodeError> {
        unseal(sealed).map(|Self { store, secret }| Identity { store, secret })
    }
}

/// What the journal must remember when its entries are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The store that the journal belongs to.
    pub store: u64,
    /// No entry was ever written at this key or later, unless it is still there.
    pub next: u64,
    /// The key of the newest deletion of any room; 0 before the first.
    pub deletion: u64,
}

impl Marks {
    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        seal(self)
    }

    /// The marks from their row.
    pub fn decode(sealed: &[u8]) -> Result<Self, DecodeError> {
        unseal(sealed)
    }
}

/// What an orderly shutdown announced: how far its clients' returns are spread, in ms.
pub fn encode_drain(spread_ms: u64) -> Vec<u8> {
    seal(&spread_ms)
}

/// The announced spread from its row.
pub fn decode_drain(sealed: &[u8]) -> Result<u64, DecodeError> {
    unseal(sealed)
}

/// What is known of the wall clock: a row of `rooms.redb`.
#[derive(Serialize, Deserialize)]
pub struct ClockRow {
    seen: Timestamp,
    doubted: Option<Timestamp>,
    /// From, to, and until when it was doubted.
    jumps: Vec<(Timestamp, Timestamp, Option<Timestamp>)>,
}

impl ClockRow {
    /// The row.
    pub fn encode(past: &Past) -> Vec<u8> {
        let Past { seen, doubted, jumps } = past;
        let jumps = jumps.iter().map(|jump| (jump.from, jump.to, jump.doubted)).collect();
        seal(&Self { seen: *seen, doubted: *doubted, jumps })
    }

    /// What is known from its row.
    pub fn decode(sealed: &[u8]) -> Result<Past, DecodeError> {
        let Self { seen, doubted, jumps } = unseal(sealed)?;
        if jumps.len() > crate::clock::jumps::REMEMBERED {
            return Err(DecodeError::Body);
        }
        let jump = |(from, to, doubted)| Jump { from, to, doubted };
        Ok(Past { seen, doubted, jumps: jumps.into_iter().map(jump).collect() })
    }
}

/// How far the rooms have been gone through since what is kept of them was last changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// A checksum of the limits and the jumps.
    limits: u32,
    /// The last room that was looked at, or nothing before the first; `None`: all were.
    pub after: Option<String>,
}

impl Sweep {
    /// A sweep for these limits, and for these jumps of the clock back: each of them leaves due
    /// times that are too late.
    pub fn of<'a>(
        limits: &impl std::fmt::Debug,
        back: impl Iterator<Item = &'a Jump>,
        after: Option<String>,
    ) -> Self {
        let mut text = format!("{limits:?}");
        for jump in back {
            text += &format!("{jump:?}");
        }
        Self { limits: crc32fast::hash(text.as_bytes()), after }
    }

    /// Whether it is for the same limits and jumps.
    pub fn is_for(&self, other: &Self) -> bool {
        self.limits == other.limits
    }

    /// The row.
    pub fn encode(&self) -> Vec<u8> {
        seal(self)
    }

    /// A sweep from its row.
    pub fn decode(sealed: &[u8]) -> Result<Self, DecodeError> {
        unseal(sealed)
    }
}
