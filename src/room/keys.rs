//! The idempotency keys a room remembers.

use std::collections::{BTreeMap, VecDeque};

use crate::protocol::KeyHash;

/// How many keyed publishes a room remembers, at least and here exactly.
pub const KEPT: usize = 4_096;

/// The newest keyed publishes and where they stand in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    seqs: BTreeMap<KeyHash, u64>,
    oldest_first: VecDeque<KeyHash>,
}

impl Keys {
    /// Where the publish with this key stands.
    pub fn get(&self, key: KeyHash) -> Option<u64> {
        self.seqs.get(&key).copied()
    }

    /// Remembers one more; beyond [`KEPT`] the oldest is forgotten.
    pub fn insert(&mut self, key: KeyHash, seq: u64) {
        if self.seqs.insert(key, seq).is_none() {
            self.oldest_first.push_back(key);
        }
        if self.oldest_first.len() > KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.seqs.remove(&oldest);
        }
    }
}

impl FromIterator<(KeyHash, u64)> for Keys {
    fn from_iter<I: IntoIterator<Item = (KeyHash, u64)>>(keys: I) -> Self {
        let mut kept = Self::default();
        keys.into_iter().for_each(|(key, seq)| kept.insert(key, seq));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> KeyHash {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        KeyHash(bytes)
    }

    #[test]
    fn exactly_the_newest_keys_are_kept() {
        let keys: Keys = (0..=KEPT as u64).map(|n| (key(n), n)).collect();
        assert_eq!(keys.get(key(0)), None);
        assert_eq!(keys.get(key(1)), Some(1));
        assert_eq!(keys.get(key(KEPT as u64)), Some(KEPT as u64));
    }
}
