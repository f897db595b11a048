//! Cursors, "is typing": what may be dropped, as slots in which only the newest counts.
//!
//! One slot per author and key, for all members; a session's cursor is the number of the last
//! change it looked at. Who looks seldom sees only the newest of each, which is all there is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::budget::{self, Budget};
use crate::protocol::framing::wrap;
use crate::protocol::{BodyKind, Framing, Sid};
use crate::room::Ephemeral;

/// The most bytes of ephemerals that a room keeps; beyond it the oldest go.
const SLOTS_BYTES: usize = 256 * 1024;

/// The most bytes of them that a reader takes at once.
const TAKE_BYTES: usize = 32 * 1024;

/// How long an ephemeral is worth sending.
const WORTH: Duration = Duration::from_secs(1);

/// An ephemeral in its slot.
pub struct Slot {
    number: u64,
    since: Instant,
    ephemeral: Ephemeral,
    encoded: [OnceLock<Bytes>; Framing::COUNT],
}

impl Slot {
    /// Its author.
    pub fn from(&self) -> Sid {
        self.ephemeral.from
    }

    /// As it goes on a stream.
    pub fn frame(&self, framing: Framing) -> Bytes {
        let encode = || {
            let mut frame = BytesMut::new();
            wrap(framing, self.ephemeral.kind, &self.ephemeral.body, &mut frame);
            frame.freeze()
        };
        self.encoded[framing.index()].get_or_init(encode).clone()
    }

    /// As it goes in a datagram, which holds one JSON object and nothing else.
    pub fn datagram(&self) -> Option<Bytes> {
        (self.ephemeral.kind == BodyKind::Json).then(|| self.ephemeral.body.clone())
    }
}

/// All slots of a room.
#[derive(Default)]
pub(super) struct Slots {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// By number: oldest first.
    slots: BTreeMap<u64, Arc<Slot>>,
    bytes: usize,
    numbers: BTreeMap<(Sid, String), u64>,
}

impl Slots {
    /// Puts an ephemeral in its slot under a new number.
    pub(super) fn put(&self, number: u64, ephemeral: Ephemeral, now: Instant) {
        let mut table = self.table();
        let before = table.numbers.insert((ephemeral.from, ephemeral.key.clone()), number);
        if let Some(before) = before.and_then(|before| table.slots.remove(&before)) {
            table.bytes -= before.ephemeral.body.len();
        }
        table.bytes += ephemeral.body.len();
        while table.bytes > SLOTS_BYTES && table.drop_oldest() {}
        let slot = Slot { number, since: now, ephemeral, encoded: Default::default() };
        table.slots.insert(number, Arc::new(slot));
        drop(table);
        self.expire(now);
    }

    /// Forgets what is not worth sending any more; says when there will be something again.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut table = self.table();
        while let Some((_, oldest)) = table.slots.first_key_value() {
            let at = oldest.since + WORTH;
            if at > now {
                return Some(at);
            }
            table.drop_oldest();
        }
        *table = Table::default(); // an emptied tree has a node still
        None
    }

    /// What changed after `number`, oldest first, and no more than fits one write: says up to
    /// which number that is.
    pub(super) fn after(&self, number: u64, out: &mut VecDeque<Arc<Slot>>) -> u64 {
        let table = self.table();
        let (mut newest, mut bytes) = (number, 0);
        for slot in table.slots.range(number + 1..).map(|(_, slot)| slot) {
            newest = slot.number;
            bytes += slot.ephemeral.body.len();
            out.push_back(slot.clone());
            if bytes >= TAKE_BYTES {
                break;
            }
        }
        newest
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn drop_oldest(&mut self) -> bool {
        let Some((_, slot)) = self.slots.pop_first() else { return false };
        let key = (slot.ephemeral.from, slot.ephemeral.key.clone());
        self.bytes -= slot.ephemeral.body.len();
        self.numbers.remove(&key);
        true
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let there = || self.slots.values().map(|slot| slot.ephemeral.body.len()).sum();
        budget::check(Budget::EphemeralBytes, self.bytes, there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ephemeral(from: u64, key: &str, body: &'static str) -> Ephemeral {
        let kind = BodyKind::Json;
        Ephemeral {
            from: Sid(from),
            key: key.into(),
            kind,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn bodies(slots: &Slots, after: u64) -> Vec<String> {
        let mut out = VecDeque::new();
        slots.after(after, &mut out);
        out.iter().map(|slot| String::from_utf8(slot.ephemeral.body.to_vec()).unwrap()).collect()
    }

    #[test]
    fn of_one_author_and_key_only_the_newest_counts() {
        let (slots, now) = (Slots::default(), Instant::now());
        slots.put(1, ephemeral(1, "cursor", "a"), now);
        slots.put(2, ephemeral(2, "cursor", "b"), now);
        slots.put(3, ephemeral(1, "typing", "c"), now);
        slots.put(4, ephemeral(1, "cursor", "d"), now);
        assert_eq!(bodies(&slots, 0), ["b", "c", "d"]);
        assert_eq!(bodies(&slots, 3), ["d"]);
        assert_eq!(bodies(&slots, 4), [""; 0]);
    }

    #[test]
    fn a_full_table_lets_go_of_the_oldest_and_a_reader_takes_a_piece_at_a_time() {
        let (slots, now) = (Slots::default(), Instant::now());
        let body: Bytes = vec![b'x'; 8 * 1024].into();
        let kept = SLOTS_BYTES / body.len();
        for number in 1..=kept as u64 + 3 {
            let (key, kind) = (number.to_string(), BodyKind::Json);
            slots.put(number, Ephemeral { from: Sid(1), key, kind, body: body.clone() }, now);
        }
        let lengths = {
            let table = slots.table();
            (table.slots.len(), table.numbers.len())
        };
        assert_eq!(lengths, (kept, kept));
        let mut out = VecDeque::new();
        assert_eq!(slots.after(0, &mut out), 3 + TAKE_BYTES as u64 / 8_192, "the oldest left");
        slots.expire(now + WORTH);
        assert_eq!(slots.table().bytes, 0);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let (slots, now) = (Slots::default(), Instant::now());
        slots.put(1, ephemeral(1, "a", "a"), now);
        slots.put(2, ephemeral(1, "b", "b"), now + WORTH / 2);
        assert_eq!(slots.expire(now + WORTH), Some(now + WORTH / 2 + WORTH));
        assert_eq!(bodies(&slots, 0), ["b"]);
        assert_eq!(slots.expire(now + WORTH * 2), None);
        assert!(slots.table().numbers.is_empty());
    }
}
