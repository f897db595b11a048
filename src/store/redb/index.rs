//! Which journal entries have not been moved, in memory.
//!
//! Built from the journal when the store opens, then kept by two threads: the journal's adds what
//! it has committed, the mover takes away what it has committed. Everything else only looks.
//!
//! - An entry in the index is on disk in the journal: it was committed before it was added, and
//!   only what has left the index is trimmed.
//! - An entry that has left the index is on disk in the room's rows, or its room was deleted.
//! - A deletion is a *barrier*: it lets go of all entries of its room before it, and while it is in
//!   the index itself, the room's rows of before it are not read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, Range};
use std::time::Instant;

use super::super::{Record, Settings};
use crate::protocol::{RoomName, Timestamp};

/// The most entries that one transaction trims: about 2 ms of work.
pub const TRIM_ENTRIES: u64 = 10_000;

/// The most rooms, and about the most bytes, that are moved in one transaction.
const MOVE_ROOMS: usize = 500;
const MOVE_BYTES: u64 = 16 << 20;

/// One unmoved entry.
#[derive(Debug, Clone, Copy)]
pub struct Unread {
    /// Its key in the journal.
    pub key: u64,
    /// Its first message, and how many it has.
    pub first: u64,
    pub count: u32,
    /// Whether it ends with the room's deletion.
    pub deletes: bool,
    bytes: u32,
    /// How many bytes the journal had taken before it, since it was opened.
    at: u64,
}

/// What is unmoved of one room.
#[derive(Debug, Clone)]
pub struct Unmoved {
    /// The second half of the room's epoch.
    pub deletion: u64,
    /// The newest message among the entries; 0 when there is none.
    pub newest: u64,
    /// The bytes of the entries.
    pub bytes: u64,
    /// Oldest first. If the first is a deletion, rows of before it are void.
    pub entries: VecDeque<Unread>,
    /// What `bytes` may come to before the room is moved.
    most: u64,
    /// What the entries say of the room's alarm, if they say anything.
    pub alarm: Option<Option<Timestamp>>,
    since: Instant,
    /// Its rows are damaged: it is not moved unasked, and holds nothing up.
    aside: bool,
    /// Entries up to this key were held when they were last set aside: trimming may have passed over
    /// them, or be about to.
    held_until: Option<u64>,
}

impl Unmoved {
    /// The deletion before which all rows of the room are void, if there is one.
    pub fn barrier(&self) -> Option<u64> {
        self.entries.front().filter(|entry| entry.deletes).map(|entry| entry.key)
    }

    /// Whether trimming goes past an entry without taking it along: it has to go by itself.
    fn is_passed_over(&self, entry: &Unread) -> bool {
        self.held_until.is_some_and(|until| entry.key <= until)
    }
}

/// What the index needs to know of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub key: u64,
    pub deletion: u64,
    pub bytes: usize,
    pub first: u64,
    pub count: u32,
    /// Whether it ends with the room's deletion.
    pub deletes: bool,
    /// What it says of the room's alarm, if it says anything.
    pub alarm: Option<Option<Timestamp>>,
}

impl Arrival {
    /// An entry with these records.
    pub fn new(key: u64, deletion: u64, bytes: usize, records: &[Record]) -> Self {
        let seqs = || {
            records.iter().filter_map(|record| match record {
                Record::Message(message) => Some(message.seq),
                _ => None,
            })
        };
        let first = seqs().next().unwrap_or(0);
        let count = seqs().count() as u32;
        if let Some(Record::Deleted) = records.last() {
            let (deletes, alarm) = (true, Some(None));
            return Self { key, deletion, bytes, first: 0, count: 0, deletes, alarm };
        }
        let alarm = records.iter().rev().find_map(|record| match record {
            Record::Alarm(when) => Some(*when),
            _ => None,
        });
        Self { key, deletion, bytes, first, count, deletes: false, alarm }
    }
}

/// What one transaction trims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trim {
    /// These entries,
    pub range: Range<u64>,
    /// but for those, in order,
    pub held: Vec<u64>,
    /// and these before them.
    pub freed: Vec<u64>,
}

impl Trim {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty() && self.freed.is_empty()
    }
}

/// The index.
#[derive(Debug)]
pub struct Index {
    settings: Settings,
    rooms: BTreeMap<RoomName, Unmoved>,
    /// The rooms by their first entry, but for those set aside.
    oldest: BTreeMap<u64, RoomName>,
    /// The rooms with more than their share of bytes, but for those set aside.
    large: BTreeSet<RoomName>,
    /// The entries of rooms set aside.
    held: BTreeSet<u64>,
    /// Entries that trimming has passed over, and that are held no more.
    freed: BTreeSet<u64>,
    /// The alarms that entries speak of, in their order.
    alarms: BTreeSet<(Timestamp, RoomName)>,
    /// The key that the next entry gets.
    pub next: u64,
    /// The newest deletion of any room.
    pub deletion: u64,
    /// All entries before this key have been trimmed.
    low: u64,
    /// How many bytes the journal has taken since it was opened.
    end: u64,
}

impl Index {
    /// An empty index of a journal whose first entry is at `low`.
    pub fn new(settings: Settings, low: u64, next: u64, deletion: u64) -> Self {
        Self {
            settings,
            rooms: BTreeMap::new(),
            oldest: BTreeMap::new(),
            large: BTreeSet::new(),
            held: BTreeSet::new(),
            freed: BTreeSet::new(),
            alarms: BTreeSet::new(),
            next,
            deletion,
            low,
            end: 0,
        }
    }

    /// Adds an entry that is on disk.
    pub fn add(&mut self, room: &RoomName, arrival: Arrival, now: Instant) {
        let Arrival { key, deletion, bytes, first, count, deletes, alarm } = arrival;
        let entry = Unread { key, first, count, deletes, bytes: bytes as u32, at: self.end };
        self.end += bytes as u64;
        self.next = self.next.max(key + 1);
        if deletes {
            self.deletion = self.deletion.max(key);
            self.forget(room);
        }
        let unmoved = match self.rooms.get_mut(room) {
            Some(unmoved) => unmoved,
            None => {
                self.oldest.insert(key, room.clone());
                let fresh = Unmoved {
                    deletion,
                    newest: 0,
                    bytes: 0,
                    entries: VecDeque::with_capacity(1),
                    most: self.settings.journal_bytes_of(room),
                    alarm: None,
                    since: now,
                    aside: false,
                    held_until: None,
                };
                self.rooms.entry(room.clone()).or_insert(fresh)
            }
        };
        unmoved.entries.push_back(entry);
        unmoved.bytes += bytes as u64;
        if count > 0 {
            unmoved.newest = first + u64::from(count) - 1;
        }
        if unmoved.aside {
            self.held.insert(key);
            unmoved.held_until = Some(key);
        } else if unmoved.bytes > unmoved.most {
            self.large.insert(room.clone());
        }
        if let Some(alarm) = alarm {
            let before = unmoved.alarm.replace(alarm).flatten();
            before.map(|at| self.alarms.remove(&(at, room.clone())));
            alarm.map(|at| self.alarms.insert((at, room.clone())));
        }
    }

    /// Takes away a room's entries up to `key`: they are in its rows.
    pub fn moved(&mut self, room: &RoomName, key: u64, now: Instant) {
        let Some(unmoved) = self.rooms.get_mut(room) else { return };
        if let Some(first) = unmoved.entries.front() {
            self.oldest.remove(&first.key);
        }
        let was_aside = std::mem::take(&mut unmoved.aside);
        if was_aside {
            unmoved.entries.iter().for_each(|entry| _ = self.held.remove(&entry.key));
        }
        while let Some(entry) = unmoved.entries.pop_front_if(|entry| entry.key <= key) {
            unmoved.bytes -= u64::from(entry.bytes);
            if unmoved.is_passed_over(&entry) {
                self.freed.insert(entry.key);
            }
        }
        unmoved.since = now;
        match unmoved.bytes <= unmoved.most {
            true => _ = self.large.remove(room),
            false => _ = self.large.insert(room.clone()), // it may have been set aside
        }
        match unmoved.entries.front() {
            Some(first) => _ = self.oldest.insert(first.key, room.clone()),
            None => self.forget(room),
        }
    }

    /// Lets go of all that is known of a room.
    fn forget(&mut self, room: &RoomName) {
        let Some(unmoved) = self.rooms.remove(room) else { return };
        self.large.remove(room);
        if let Some(first) = unmoved.entries.front() {
            self.oldest.remove(&first.key);
        }
        for entry in &unmoved.entries {
            self.held.remove(&entry.key);
            if unmoved.is_passed_over(entry) {
                self.freed.insert(entry.key);
            }
        }
        if let Some(Some(at)) = unmoved.alarm {
            self.alarms.remove(&(at, room.clone()));
        }
    }

    /// Lets a room that cannot be moved no longer hold up the others. Its entries stay.
    pub fn set_aside(&mut self, room: &RoomName) {
        let Some(unmoved) = self.rooms.get_mut(room) else { return };
        unmoved.aside = true;
        unmoved.held_until = unmoved.entries.back().map(|entry| entry.key);
        self.held.extend(unmoved.entries.iter().map(|entry| entry.key));
        if let Some(first) = unmoved.entries.front() {
            self.oldest.remove(&first.key);
        }
        self.large.remove(room);
    }

    /// What is unmoved of a room.
    pub fn get(&self, room: &RoomName) -> Option<&Unmoved> {
        self.rooms.get(room)
    }

    /// The second half of a room's epoch; `None` if only its row can tell.
    pub fn deletion_of(&self, room: &RoomName) -> Option<u64> {
        let unmoved = || self.rooms.get(room).map(|unmoved| unmoved.deletion);
        if self.deletion == 0 { Some(0) } else { unmoved() }
    }

    /// The names of rooms with something unmoved, after `after`.
    pub fn names(&self, after: Option<&RoomName>) -> impl Iterator<Item = &RoomName> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rooms.range::<RoomName, _>((after, Bound::Unbounded)).map(|(name, _)| name)
    }

    /// The rooms that were deleted and have rows all the same, perhaps.
    pub fn deleted(&self) -> impl Iterator<Item = &RoomName> {
        let is_gone = |unmoved: &Unmoved| unmoved.barrier().is_some() && unmoved.entries.len() == 1;
        self.rooms.iter().filter(move |(_, unmoved)| is_gone(unmoved)).map(|(name, _)| name)
    }

    /// The bytes that the journal cannot let go of: all since the oldest unmoved entry.
    pub fn span(&self) -> u64 {
        self.oldest.values().next().map_or(0, |room| self.end - self.start_of(room))
    }

    fn start_of(&self, room: &RoomName) -> u64 {
        let first = self.rooms.get(room).and_then(|unmoved| unmoved.entries.front());
        first.expect("a room among the oldest has an entry").at
    }

    /// The entries to trim next, and those among them that must stay; and single ones, passed over
    /// before, that can go with them.
    pub fn trimmable(&self) -> Trim {
        let watermark = self.oldest.keys().next().copied().unwrap_or(self.next);
        let end = watermark.min(self.low.saturating_add(TRIM_ENTRIES));
        let range = self.low..end.max(self.low);
        let held = self.held.range(range.clone()).copied().collect();
        Trim { freed: self.freed.range(..range.start).copied().collect(), range, held }
    }

    /// What could be trimmed is gone.
    pub fn trimmed(&mut self, trim: &Trim) {
        self.low = self.low.max(trim.range.end);
        trim.freed.iter().for_each(|key| _ = self.freed.remove(key));
        // Others were within the range, and went with it unless they were held then.
        let stayed = |key: &u64| !trim.range.contains(key) || trim.held.binary_search(key).is_ok();
        self.freed.retain(stayed);
    }

    /// Whether entries say something newer of the room's alarm than its rows, or that it was
    /// deleted.
    pub fn says_alarm(&self, room: &RoomName) -> bool {
        self.rooms.get(room).is_some_and(|unmoved| unmoved.alarm.is_some())
    }

    /// The alarms that entries speak of, in order.
    pub fn alarms(&self) -> impl Iterator<Item = &(Timestamp, RoomName)> {
        self.alarms.iter()
    }

    /// Whether a room, or the journal, is over its limit of bytes.
    pub fn over(&self) -> bool {
        !self.large.is_empty() || self.span() > self.settings.journal_total_bytes
    }

    /// Whether the mover is so far behind that the journal must not grow.
    pub fn overfull(&self) -> bool {
        self.span() > self.settings.journal_total_bytes.saturating_mul(2)
    }

    /// The rooms to move now that nobody asked for: the large ones, and those that hold records
    /// too old, or too far back in the journal.
    pub fn due(&self, now: Instant) -> Vec<RoomName> {
        let too_long = |room: &RoomName| {
            let age = now.saturating_duration_since(self.rooms[room].since);
            let behind = self.end - self.start_of(room);
            age >= self.settings.journal_age || behind > self.settings.journal_total_bytes
        };
        let laggards = self.oldest.values().take_while(|room| too_long(room));
        let mut bytes = 0;
        let few_enough = |room: &&RoomName| {
            let before = bytes;
            bytes += self.rooms[*room].bytes;
            before < MOVE_BYTES
        };
        laggards.chain(&self.large).take_while(few_enough).take(MOVE_ROOMS).cloned().collect()
    }

    /// When the oldest unmoved record will have grown too old.
    pub fn next_due(&self) -> Option<Instant> {
        let room = self.oldest.values().next()?;
        self.rooms[room].since.checked_add(self.settings.journal_age)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::suite::{room, settings};
    use super::*;

    /// An index, and the journal that it speaks of.
    struct Model {
        index: Index,
        journal: BTreeSet<u64>,
        now: Instant,
    }

    impl Model {
        fn new() -> Self {
            let settings = Settings { journal_bytes: 100, ..settings() };
            let (journal, now) = (BTreeSet::new(), Instant::now());
            Self { index: Index::new(settings, 0, 0, 0), journal, now }
        }

        fn add(&mut self, name: &RoomName, bytes: usize) -> u64 {
            let key = self.index.next;
            let (first, count, deletes, alarm) = (key + 1, 1, false, None);
            let arrival = Arrival { key, deletion: 0, bytes, first, count, deletes, alarm };
            self.index.add(name, arrival, self.now);
            self.journal.insert(key);
            key
        }

        fn moved(&mut self, name: &RoomName, key: u64) {
            self.index.moved(name, key, self.now);
        }

        /// Trims as the journal's thread does; `meanwhile` the mover is at work.
        fn trim(&mut self, meanwhile: impl FnOnce(&mut Self)) {
            let trim = self.index.trimmable();
            meanwhile(self);
            let goes = |key: &u64| {
                (trim.range.contains(key) && !trim.held.contains(key)) || trim.freed.contains(key)
            };
            let gone: Vec<u64> = self.journal.iter().copied().filter(goes).collect();
            for key in gone {
                self.journal.remove(&key);
            }
            self.index.trimmed(&trim);
            self.check();
        }

        /// What the index says is unmoved lies in the journal, and its counts are those of that.
        fn check(&self) {
            for (name, unmoved) in &self.index.rooms {
                let bytes = unmoved.entries.iter().map(|entry| u64::from(entry.bytes)).sum::<u64>();
                assert_eq!(unmoved.bytes, bytes, "{name}");
                for entry in &unmoved.entries {
                    assert!(self.journal.contains(&entry.key), "{} of {name} is gone", entry.key);
                    assert_eq!(self.index.held.contains(&entry.key), unmoved.aside, "{name}");
                }
                let is_large = self.index.large.contains(name);
                assert_eq!(is_large, !unmoved.aside && bytes > unmoved.most, "{name}");
                let first = unmoved.entries.front().expect("else it is forgotten").key;
                assert_eq!(self.index.oldest.contains_key(&first), !unmoved.aside, "{name}");
            }
            for key in &self.index.freed {
                assert!(self.journal.contains(key), "{key} is freed and was gone");
            }
        }

        fn trim_all(&mut self) {
            while !self.index.trimmable().is_empty() {
                self.trim(|_| ());
            }
        }
    }

    /// They stayed in the journal for ever.
    #[test]
    fn entries_freed_while_they_are_passed_over_go_next() {
        let (a, b) = (room("a"), room("b"));
        // All at once, in two steps before the trim, and with the second step during it.
        for steps in 0..3 {
            let mut it = Model::new();
            let first = it.add(&a, 10);
            let second = it.add(&a, 10);
            let other = it.add(&b, 10);
            it.index.set_aside(&a);
            it.moved(&b, other);
            match steps {
                0 => {
                    it.trim(|_| ());
                    it.moved(&a, second);
                }
                1 => {
                    it.moved(&a, first);
                    it.trim(|it| it.moved(&a, second));
                }
                _ => it.trim(|it| {
                    it.moved(&a, first);
                    it.moved(&a, second);
                }),
            }
            it.trim_all();
            assert_eq!(it.journal, BTreeSet::new(), "{steps}");
        }
    }

    /// Whatever moves, is set aside and is deleted while the journal is trimmed: nothing that is
    /// unmoved goes, and in the end nothing stays.
    #[test]
    fn what_is_counted_is_what_lies_there() {
        let names: Vec<RoomName> = ["a", "b", "c", "d"].map(room).into();
        let mut dice = 7_u64;
        let mut throw = move |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        for _ in 0..500 {
            let mut it = Model::new();
            let mut act = |it: &mut Model| {
                let name = &names[throw(4) as usize];
                let keys = |it: &Model| -> Vec<u64> {
                    let unmoved = it.index.get(name).map(|unmoved| &unmoved.entries);
                    unmoved.into_iter().flatten().map(|entry| entry.key).collect()
                };
                match throw(8) {
                    0..4 => _ = it.add(name, 1 + throw(60) as usize),
                    4 | 5 => {
                        let keys = keys(it);
                        if !keys.is_empty() {
                            it.moved(name, keys[throw(keys.len() as u64) as usize]);
                        }
                    }
                    6 => it.index.set_aside(name),
                    _ => {
                        let (key, deletion) = (it.index.next, it.index.next);
                        let (bytes, first, count, alarm) = (5, 0, 0, Some(None));
                        let deletes = true;
                        let arrival =
                            Arrival { key, deletion, bytes, first, count, deletes, alarm };
                        it.index.add(name, arrival, it.now);
                        it.journal.insert(key);
                    }
                }
            };
            for _ in 0..30 {
                act(&mut it);
                it.check();
                it.trim(|it| {
                    act(it);
                    act(it);
                });
            }
            for name in &names {
                let newest = it.index.get(name).and_then(|it| it.entries.back()).map(|it| it.key);
                newest.into_iter().for_each(|key| it.moved(name, key));
            }
            it.trim_all();
            assert_eq!(it.journal, BTreeSet::new());
            assert_eq!((it.index.span(), it.index.over()), (0, false));
            assert!(it.index.rooms.is_empty() && it.index.held.is_empty());
            assert!(it.index.freed.is_empty() && it.index.large.is_empty());
        }
    }
}
