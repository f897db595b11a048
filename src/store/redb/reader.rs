//! Reading a room: its rows and what has not been moved, as one.
//!
//! A [`View`] is a moment of a room. Its three parts, a copy of the index, a transaction of the
//! journal, one of the rooms, are taken while the index is locked, and that is why a reader never
//! sees a hole, and nothing twice, while records move:
//!
//! - The mover commits a room's rows before it takes the entries out of the index. So an entry
//!   that is not in the copy was in the rows before the lock, hence in the view of the rooms.
//! - Entries are trimmed only after they have left the index. So an entry that is in the copy is
//!   in the view of the journal.
//! - An entry may be in both, between the mover's two steps. The row says which entries it
//!   includes, and these are skipped. A row that the mover has deleted says nothing: then every
//!   entry that led there is still in the copy, and all together they come to nothing again.
//! - If the first entry in the copy is the room's deletion, rows of before it are void: they are of
//!   an older epoch. Rows of its own epoch were written after the copy was taken, and count.

use std::collections::VecDeque;

use redb::{ReadTransaction, ReadableTable};

use super::super::row::{self, Alarms, Chunk, Entry, Keys, RoomRow};
use super::super::standing::Standing;
use super::super::{KEYS_KEPT, Message, Opened, Slice};
use super::file::{ALARMS, CHUNKS, JOURNAL, KEYS, ROOMS, SEATS, Trouble, damaged};
use super::index::{Unmoved, Unread};
use crate::protocol::{Epoch, KeyHash, RoomName, Timestamp};

/// A room at one moment.
pub struct View<'a> {
    room: &'a RoomName,
    row: RoomRow,
    row_bytes: u64,
    /// The newest message among the unmoved, and the bytes they take.
    unmoved_newest: u64,
    unmoved_bytes: u64,
    unmoved: VecDeque<Unread>,
    journal: ReadTransaction,
    rooms: ReadTransaction,
    /// Whether the rooms' rows are this room's: not those of one that was deleted.
    has_rows: bool,
    alarm: Option<Option<Timestamp>>,
}

impl<'a> View<'a> {
    /// A view from its three parts. `deletion` is the newest one of any room.
    pub fn new(
        room: &'a RoomName,
        unmoved: Option<Unmoved>,
        deletion: u64,
        journal: ReadTransaction,
        rooms: ReadTransaction,
    ) -> Result<Self, Trouble> {
        let stored = rooms.open_table(ROOMS)?;
        let stored = ReadableTable::get(&stored, room.as_str())?;
        let deletion = unmoved.as_ref().map_or(deletion, |unmoved| unmoved.deletion);
        let deleted = unmoved.as_ref().and_then(Unmoved::barrier);
        let row = match &stored {
            Some(stored) => current(room, stored.value(), deleted)?,
            None => None,
        };
        let has_rows = row.is_some();
        let row = row.unwrap_or_else(|| RoomRow::new(deletion));
        let row_bytes = stored.filter(|_| has_rows).map_or(0, |stored| stored.value().len() as u64);
        let (unmoved_newest, unmoved_bytes, alarm, mut unmoved) = match unmoved {
            Some(unmoved) => (unmoved.newest, unmoved.bytes, unmoved.alarm, unmoved.entries),
            None => Default::default(),
        };
        unmoved.retain(|entry| entry.key > row.moved);
        Ok(Self {
            room,
            row,
            row_bytes,
            unmoved_newest,
            unmoved_bytes,
            unmoved,
            journal,
            rooms,
            has_rows,
            alarm,
        })
    }

    /// The room as a keeper opens it.
    pub fn open(&self, store: u64) -> Result<Opened, Trouble> {
        let mut bytes = self.row_bytes + self.row.chunk_bytes + self.row.keys * KEY_BYTES;
        let mut standing = Standing {
            newest: self.row.newest,
            newest_time: self.row.newest_time,
            rules: self.row.rules.clone(),
            ..Standing::default()
        };
        let seats = self.rooms.open_table(SEATS)?;
        let rows = ReadableTable::range(&seats, rows_of(self.room))?;
        for seat in rows.take_while(|_| self.has_rows) {
            let (key, seat) = seat?;
            let what = || format!("seat {} of room {}", key.value().1, self.room);
            let seat = {
                bytes += seat.value().len() as u64;
                row::decode_seat(seat.value()).map_err(damaged(what))?
            };
            standing.seats.insert(seat.sid, seat);
        }
        let journal = self.journal.open_table(JOURNAL)?;
        for unread in self.unmoved.iter().filter(|entry| !entry.deletes) {
            for record in read_entry(&journal, unread.key)?.records {
                standing.apply(record).map_err(|_| gap(self.room, unread.key))?;
            }
        }
        Ok(Opened {
            epoch: Epoch { store, deletion: self.row.deletion },
            newest: standing.newest,
            newest_time: standing.newest_time,
            oldest: self.row.oldest,
            seats: standing.seats.into_values().collect(),
            rules: standing.rules,
            alarm: self.alarm()?,
            bytes: bytes + self.unmoved_bytes,
        })
    }

    /// When the rules want to be woken: entries know better than rows.
    fn alarm(&self) -> Result<Option<Timestamp>, Trouble> {
        match self.alarm {
            Some(alarm) => Ok(alarm),
            None if self.has_rows => {
                let alarms = self.rooms.open_table(ALARMS)?;
                let stored = ReadableTable::get(&alarms, self.room.as_str())?;
                let what = || format!("the alarms of room {}", self.room);
                let stored = stored.map(|row| Alarms::decode(row.value()));
                Ok(stored.transpose().map_err(damaged(what))?.unwrap_or_default().rules)
            }
            None => Ok(None),
        }
    }

    /// A piece of the log.
    pub fn read(
        &self,
        store: u64,
        from: u64,
        messages: usize,
        bytes: usize,
    ) -> Result<Slice, Trouble> {
        let from = from.max(self.row.oldest);
        let mut page = Page { messages: Vec::new(), next: from, room_for: messages, bytes };
        if page.next <= self.row.newest {
            self.read_chunks(&mut page)?;
        }
        let journal = self.journal.open_table(JOURNAL)?;
        for unread in self.unmoved.iter().filter(|entry| entry.count > 0) {
            if page.is_full() {
                break;
            }
            if unread.first + u64::from(unread.count) <= page.next {
                continue;
            }
            let messages = read_entry(&journal, unread.key)?.into_messages();
            page.take(messages).map_err(|_| gap(self.room, unread.key))?;
        }
        Ok(Slice {
            messages: page.messages,
            oldest: self.row.oldest,
            newest: self.row.newest.max(self.unmoved_newest),
            epoch: Epoch { store, deletion: self.row.deletion },
        })
    }

    fn read_chunks(&self, page: &mut Page) -> Result<(), Trouble> {
        let chunks = self.rooms.open_table(CHUNKS)?;
        let name = self.room.as_str();
        let begin = ReadableTable::range(&chunks, (name, 0)..=(name, page.next))?.next_back();
        let begin = match begin {
            Some(chunk) => chunk?.0.value().1,
            None => page.next,
        };
        for chunk in ReadableTable::range(&chunks, (name, begin)..=(name, u64::MAX))? {
            if page.is_full() {
                return Ok(());
            }
            let (key, chunk) = chunk?;
            let first = key.value().1;
            let what = || format!("chunk {first} of room {}", self.room);
            let chunk = Chunk::decode(chunk.value()).map_err(damaged(what))?;
            if chunk.deletion != self.row.deletion {
                continue;
            }
            let messages = chunk.messages(first).map_err(damaged(what))?;
            page.take(messages).map_err(|_| gap(self.room, first))?;
        }
        // Whatever is left of the page must come from the journal.
        if page.is_full() || page.next > self.row.newest {
            return Ok(());
        }
        Err(Trouble::corrupt(format!("the log of room {} after {}", self.room, page.next - 1)))
    }

    /// The last keyed publishes.
    pub fn keys(&self) -> Result<Vec<(KeyHash, u64)>, Trouble> {
        let mut kept = VecDeque::new();
        let rows = self.rooms.open_table(KEYS)?;
        let rows = ReadableTable::range(&rows, rows_of(self.room))?;
        for keys in rows.take_while(|_| self.has_rows) {
            let (key, keys) = keys?;
            let first = key.value().1;
            let what = || format!("keys {first} of room {}", self.room);
            let keys =
                Keys::decode(keys.value(), first, self.row.deletion).map_err(damaged(what))?;
            kept.extend(keys);
        }
        let journal = self.journal.open_table(JOURNAL)?;
        for unread in self.unmoved.iter().filter(|entry| entry.count > 0) {
            let messages = read_entry(&journal, unread.key)?.into_messages();
            kept.extend(messages.filter_map(|message| Some((message.key?, message.seq))));
            let surplus = kept.len().saturating_sub(KEYS_KEPT);
            kept.drain(..surplus);
        }
        let surplus = kept.len().saturating_sub(KEYS_KEPT);
        Ok(kept.into_iter().skip(surplus).collect())
    }
}

/// About what a key takes on disk.
const KEY_BYTES: u64 = 17;

/// A slice that is being filled.
struct Page {
    messages: Vec<Message>,
    next: u64,
    room_for: usize,
    bytes: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        self.room_for == 0 || (self.bytes == 0 && !self.messages.is_empty())
    }

    /// Takes the messages from `next` on that still fit. They must not begin later than that.
    fn take(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), ()> {
        for message in messages {
            if message.seq < self.next {
                continue;
            }
            if message.seq > self.next {
                return Err(());
            }
            if self.is_full() {
                return Ok(());
            }
            self.next += 1;
            self.room_for -= 1;
            self.bytes = self.bytes.saturating_sub(message.body.len());
            self.messages.push(message);
        }
        Ok(())
    }
}

/// All rows of a room in a table with many.
pub fn rows_of(room: &RoomName) -> std::ops::RangeInclusive<(&str, u64)> {
    (room.as_str(), 0)..=(room.as_str(), u64::MAX)
}

/// A room from its row, unless that is of the room of this name before the deletion `deleted`.
pub fn current(
    room: &RoomName,
    stored: &[u8],
    deleted: Option<u64>,
) -> Result<Option<RoomRow>, Trouble> {
    match (decode_row(room, stored), deleted) {
        (Ok(row), Some(deleted)) if row.deletion < deleted => Ok(None),
        (Err(Trouble::Ours(_)), Some(_)) => Ok(None), // damaged, and gone with its room
        (row, _) => row.map(Some),
    }
}

/// A room from its row.
pub fn decode_row(room: &RoomName, row: &[u8]) -> Result<RoomRow, Trouble> {
    RoomRow::decode(row).map_err(damaged(|| format!("the row of room {room}")))
}

/// An entry that the index knows of.
pub fn read_entry(
    journal: &impl ReadableTable<u64, &'static [u8]>,
    key: u64,
) -> Result<Entry, Trouble> {
    let missing = || Trouble::corrupt(format!("journal entry {key} (missing)"));
    let entry = journal.get(key)?.ok_or_else(missing)?;
    Entry::decode(entry.value()).map_err(damaged(|| format!("journal entry {key}")))
}

/// Messages that do not follow each other.
pub fn gap(room: &RoomName, at: u64) -> Trouble {
    Trouble::corrupt(format!("the log of room {room} (a gap at {at})"))
}
