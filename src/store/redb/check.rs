//! Looking at a store that nobody has open: is everything there, and is it what was written?
//!
//! First the database verifies its own pages, then every row is read as a gateway would read it,
//! and each room's rows are held against each other: a log without a gap from its oldest message
//! to its newest, sums that are right, nothing that belongs to no room. The files are not changed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableError};

use super::super::row::{
    self, Alarms, Chunk, ClockRow, Entry, IdentityRow, Keys, Marks, RoomRow, Sweep,
};
use super::super::{Error, Record};
use super::file::{
    ALARMS, CHUNKS, DUE, DueKey, JOURNAL, KEYS, META, Name, ROOMS, SEATS, Trouble, guarded,
};
use super::journal::MARKS;
use super::look::overlay;
use super::overlay::Overlay;
use super::rounds::SWEEP;
use super::start::{CLOCK, DRAIN, IDENTITY};
use crate::protocol::{RoomName, Timestamp};

/// The most that is named; the rest is counted.
const NAMED: usize = 50;

/// The cache while a file is verified.
const CACHE: usize = 32 << 20;

/// What was found in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Rooms that left something on disk.
    pub rooms: u64,
    /// Messages, wherever they lie.
    pub messages: u64,
    /// Rows of seats.
    pub seats: u64,
    /// Keys in the rooms' rows.
    pub keys: u64,
    /// Entries of the journal.
    pub entries: u64,
    /// Those of them that are not in the rooms' rows.
    pub unmoved: u64,
    /// What is damaged, and how; the first of it.
    pub damaged: Vec<String>,
    /// How much more is.
    pub more_damaged: u64,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rooms, messages, seats, keys, entries, unmoved, .. } = self;
        writeln!(f, "{rooms} rooms, {messages} messages, {seats} seats and {keys} keys in rows")?;
        writeln!(f, "{entries} journal entries, {unmoved} of them not moved yet")?;
        if self.damaged.is_empty() {
            return write!(f, "nothing is damaged");
        }
        write!(f, "damaged:")?;
        self.damaged.iter().try_for_each(|what| write!(f, "\n  {what}"))?;
        match self.more_damaged {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Looks at the store in `dir`.
pub fn check(dir: &Path) -> Result<Findings, Error> {
    let open = |name| overlay(dir, name, "check the store");
    let (rooms, journal) = (open(Name::Rooms)?, open(Name::Journal)?);
    let mut found = Findings::default();
    let rooms = found.verify(Name::Rooms, rooms);
    let journal = found.verify(Name::Journal, journal);
    read(rooms.as_ref(), journal.as_ref(), &mut found);
    Ok(found)
}

/// Reads every row there is.
pub fn read(rooms: Option<&Database>, journal: Option<&Database>, found: &mut Findings) {
    let mut store = None;
    if let Some(rooms) = rooms {
        let read = guarded(|| Rows::open(&rooms.begin_read()?)?.check(found));
        store = found.unless_damaged(Name::Rooms, read).flatten();
    }
    if let Some(journal) = journal {
        let read = guarded(|| {
            let rooms = rooms.map(|rooms| Rows::open(&rooms.begin_read()?)).transpose()?;
            check_journal(&journal.begin_read()?, rooms.as_ref(), store, found)
        });
        found.unless_damaged(Name::Journal, read);
    }
}

impl Findings {
    fn damage(&mut self, what: impl Into<String>) {
        if self.damaged.len() < NAMED {
            self.damaged.push(what.into());
        } else {
            self.more_damaged += 1;
        }
    }

    fn unless_damaged<T>(&mut self, name: Name, result: Result<T, Trouble>) -> Option<T> {
        let failed = |trouble: Trouble| match trouble {
            Trouble::Redb(why) => format!("{} ({why})", name.as_str()),
            Trouble::Ours(error) => error.to_string(),
        };
        result.map_err(|trouble| self.damage(failed(trouble))).ok()
    }

    /// Lets the database verify its own pages.
    fn verify(&mut self, name: Name, file: Overlay) -> Option<Database> {
        if redb::StorageBackend::len(&file).is_ok_and(|len| len == 0) {
            self.damage(format!("{} (it is empty)", name.as_str()));
            return None;
        }
        let verified = guarded(|| {
            let mut db = Database::builder().set_cache_size(CACHE).create_with_backend(file)?;
            let is_whole = db.check_integrity()?;
            Ok((db, is_whole))
        });
        let (db, is_whole) = self.unless_damaged(name, verified)?;
        if !is_whole {
            self.damage(format!(
                "{} (pages of it are damaged; what follows is what could be repaired)",
                name.as_str()
            ));
        }
        Some(db)
    }
}

/// A room's row, to hold others against.
enum Head {
    Good(RoomRow),
    Damaged,
    Missing,
}

type PerRoom = ReadOnlyTable<(&'static str, u64), &'static [u8]>;

/// The tables of `rooms.redb`.
struct Rows {
    meta: ReadOnlyTable<&'static str, &'static [u8]>,
    rooms: ReadOnlyTable<&'static str, &'static [u8]>,
    seats: PerRoom,
    chunks: PerRoom,
    keys: PerRoom,
    /// Missing where no version that has them has opened the store.
    alarms: Option<(ReadOnlyTable<&'static str, &'static [u8]>, Due)>,
}

type Due = ReadOnlyTable<DueKey, &'static [u8]>;

impl Rows {
    fn open(txn: &ReadTransaction) -> Result<Self, Trouble> {
        Ok(Self {
            meta: txn.open_table(META)?,
            rooms: txn.open_table(ROOMS)?,
            seats: txn.open_table(SEATS)?,
            chunks: txn.open_table(CHUNKS)?,
            keys: txn.open_table(KEYS)?,
            alarms: match txn.open_table(ALARMS) {
                Err(TableError::TableDoesNotExist(_)) => None,
                alarms => Some((alarms?, txn.open_table(DUE)?)),
            },
        })
    }

    fn head(&self, room: &str) -> Result<Head, Trouble> {
        let row = ReadableTable::get(&self.rooms, room)?;
        let decoded = row.map(|row| RoomRow::decode(row.value()));
        Ok(match decoded {
            None => Head::Missing,
            Some(Ok(row)) => Head::Good(row),
            Some(Err(_)) => Head::Damaged, // told where the rows of rooms are read
        })
    }

    /// Reads every row. Says whose store it is.
    fn check(&self, found: &mut Findings) -> Result<Option<u64>, Trouble> {
        let identity = ReadableTable::get(&self.meta, IDENTITY)?;
        let identity = identity.map(|row| IdentityRow::decode(row.value()));
        let store = match identity {
            Some(Ok(identity)) => Some(identity.store),
            Some(Err(why)) => {
                found.damage(format!("rooms.redb: identity ({why})"));
                None
            }
            None => {
                found.damage("rooms.redb: identity (missing)");
                None
            }
        };
        let clock = ReadableTable::get(&self.meta, CLOCK)?;
        if let Some(Err(why)) = clock.map(|row| ClockRow::decode(row.value())) {
            found.damage(format!("rooms.redb: clock ({why})"));
        }
        let sweep = ReadableTable::get(&self.meta, SWEEP)?;
        if let Some(Err(why)) = sweep.map(|row| Sweep::decode(row.value())) {
            found.damage(format!("rooms.redb: sweep ({why})"));
        }
        for stored in ReadableTable::iter(&self.rooms)? {
            let (name, row) = stored?;
            let name = name.value();
            found.rooms += 1;
            if name.parse::<RoomName>().is_err() {
                found.damage(format!("the key of room {name:?}"));
            }
            match RoomRow::decode(row.value()) {
                Err(why) => found.damage(format!("the row of room {name} ({why})")),
                Ok(row) if row.oldest <= row.newest => {
                    if ReadableTable::get(&self.chunks, (name, row.oldest))?.is_none() {
                        found.damage(format!("chunk {} of room {name} (missing)", row.oldest));
                    }
                }
                Ok(_) => {}
            }
        }
        self.check_seats(found)?;
        self.check_chunks(found)?;
        self.check_keys(found)?;
        self.check_alarms(found)?;
        Ok(store)
    }

    /// Each due time stands in its room's row and in the table of due times.
    fn check_alarms(&self, found: &mut Findings) -> Result<(), Trouble> {
        let Some((alarms, due)) = &self.alarms else { return Ok(()) };
        for stored in ReadableTable::iter(alarms)? {
            let (name, row) = stored?;
            let name = name.value();
            if ReadableTable::get(&self.rooms, name)?.is_none() {
                found.damage(format!("the alarms of room {name} (there is no such room)"));
            }
            match Alarms::decode(row.value()) {
                Err(why) => found.damage(format!("the alarms of room {name} ({why})")),
                Ok(alarms) => {
                    for (what, at) in alarms.times() {
                        if ReadableTable::get(due, (what, at.0, name))?.is_none() {
                            found.damage(format!("a due time of room {name} (missing)"));
                        }
                    }
                }
            }
        }
        for stored in ReadableTable::iter(due)? {
            let key = stored?.0;
            let (what, at, name) = key.value();
            let stored = ReadableTable::get(alarms, name)?;
            let decoded = stored.map(|row| Alarms::decode(row.value()));
            let is_said = |alarms: Alarms| alarms.times().any(|time| time == (what, Timestamp(at)));
            match decoded {
                Some(Err(_)) => {} // told above
                Some(Ok(alarms)) if is_said(alarms) => {}
                _ => found.damage(format!("a due time of room {name} (nobody set it)")),
            }
        }
        Ok(())
    }

    fn check_seats(&self, found: &mut Findings) -> Result<(), Trouble> {
        self.each_room(&self.seats, found, |found, room, head, rows| {
            for (sid, value) in rows {
                found.seats += 1;
                match row::decode_seat(&value) {
                    Ok(seat) if seat.sid.0 == sid => {}
                    Ok(_) => found.damage(format!("seat {sid} of room {room} (it is another's)")),
                    Err(why) => found.damage(format!("seat {sid} of room {room} ({why})")),
                }
            }
            if let Head::Missing = head {
                found.damage(format!("the seats of room {room} (there is no such room)"));
            }
        })
    }

    fn check_chunks(&self, found: &mut Findings) -> Result<(), Trouble> {
        self.each_room(&self.chunks, found, |found, room, head, rows| {
            let row = match head {
                Head::Good(row) => Some(row),
                Head::Damaged => None,
                Head::Missing => {
                    return found.damage(format!("chunks of room {room} (there is no such room)"));
                }
            };
            let (mut next, mut bytes) = (None, 0);
            for (first, value) in rows {
                let read = Chunk::decode(&value)
                    .and_then(|chunk| Ok((chunk.deletion, chunk.messages(first)?.len() as u64)));
                let (deletion, count) = match read {
                    Ok(read) => read,
                    Err(why) => {
                        found.damage(format!("chunk {first} of room {room} ({why})"));
                        (next, bytes) = (None, bytes + value.len() as u64);
                        continue;
                    }
                };
                if row.as_ref().is_some_and(|row| row.deletion != deletion) {
                    continue; // of the room of that name before this one
                }
                if next.is_some_and(|next| next != first) {
                    found.damage(format!("the log of room {room} (a gap before {first})"));
                }
                found.messages += count;
                bytes += value.len() as u64;
                next = Some(first + count);
            }
            let Some(row) = row else { return };
            if next.is_some_and(|next| next != row.newest + 1) {
                let newest = row.newest;
                found.damage(format!("the log of room {room} (it does not end with {newest})"));
            }
            if bytes != row.chunk_bytes {
                found.damage(format!("the row of room {room} (its chunks have other sizes)"));
            }
        })
    }

    fn check_keys(&self, found: &mut Findings) -> Result<(), Trouble> {
        self.each_room(&self.keys, found, |found, room, head, rows| {
            let Head::Good(row) = head else {
                if let Head::Missing = head {
                    found.damage(format!("keys of room {room} (there is no such room)"));
                }
                return;
            };
            let (mut count, mut are_good) = (0, true);
            for (first, value) in rows {
                match Keys::decode(&value, first, row.deletion) {
                    Ok(keys) => count += keys.len() as u64,
                    Err(why) => {
                        are_good = false;
                        found.damage(format!("keys {first} of room {room} ({why})"));
                    }
                }
            }
            found.keys += count;
            if are_good && count != row.keys {
                found.damage(format!("the row of room {room} (it has another number of keys)"));
            }
        })
    }

    /// Shows the rows of a table room by room, read as they are asked for.
    fn each_room(
        &self,
        table: &PerRoom,
        found: &mut Findings,
        mut show: impl FnMut(&mut Findings, &str, Head, &mut dyn Iterator<Item = (u64, Vec<u8>)>),
    ) -> Result<(), Trouble> {
        let mut rows = ReadableTable::iter(table)?.peekable();
        loop {
            let room = match rows.peek() {
                None => return Ok(()),
                Some(Ok((key, _))) => key.value().0.to_owned(),
                Some(Err(_)) => String::new(), // taken below
            };
            let head = self.head(&room)?;
            let mut failed = None;
            let mut of_room = std::iter::from_fn(|| {
                let is_of_room = |row: &Result<(redb::AccessGuard<'_, (&str, u64)>, _), _>| {
                    row.as_ref().map_or(true, |(key, _)| key.value().0 == room)
                };
                match rows.next_if(is_of_room)? {
                    Ok((key, value)) => Some((key.value().1, value.value().to_vec())),
                    Err(error) => {
                        failed = Some(error);
                        None
                    }
                }
            });
            show(found, &room, head, &mut of_room);
            of_room.by_ref().for_each(drop);
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
    }
}

/// Reads every entry, and holds those that are not moved against the rooms' rows.
fn check_journal(
    journal: &ReadTransaction,
    rooms: Option<&Rows>,
    store: Option<u64>,
    found: &mut Findings,
) -> Result<(), Trouble> {
    let meta = journal.open_table(META)?;
    let marks = ReadableTable::get(&meta, MARKS)?.map(|row| Marks::decode(row.value()));
    match marks {
        None => found.damage("journal.redb: marks (missing)"),
        Some(Err(why)) => found.damage(format!("journal.redb: marks ({why})")),
        Some(Ok(marks)) if store.is_some_and(|store| store != marks.store) => {
            found.damage("journal.redb (it belongs to other rooms)");
        }
        Some(Ok(_)) => {}
    }
    let drain = ReadableTable::get(&meta, DRAIN)?.map(|row| row::decode_drain(row.value()));
    if let Some(Err(why)) = drain {
        found.damage(format!("journal.redb: drain ({why})"));
    }
    let entries = journal.open_table(JOURNAL)?;
    // What lies before a room's deletion is void, and may be half trimmed.
    let mut deleted = BTreeMap::<RoomName, u64>::new();
    for stored in ReadableTable::iter(&entries)? {
        let (key, stored) = stored?;
        if let Ok(Entry { room, records, .. }) = Entry::decode(stored.value())
            && let Some(Record::Deleted) = records.last()
        {
            deleted.insert(room, key.value());
        }
    }
    // Of each room met: the last entry its rows include, and the message that comes next.
    let mut logs = BTreeMap::<RoomName, Option<(u64, u64)>>::new();
    for stored in ReadableTable::iter(&entries)? {
        let (key, stored) = stored?;
        let key = key.value();
        found.entries += 1;
        let entry = match Entry::decode(stored.value()) {
            Ok(entry) => entry,
            Err(why) => {
                found.damage(format!("journal entry {key} ({why})"));
                continue;
            }
        };
        let room = entry.room.clone();
        if !logs.contains_key(&room) {
            let head = rooms.map(|rooms| rooms.head(room.as_str())).transpose()?;
            found.rooms += u64::from(matches!(head, Some(Head::Missing)));
            let barrier = deleted.get(&room).copied().unwrap_or(0);
            let log = match head {
                Some(Head::Good(row)) if row.moved < barrier => Some((barrier - 1, 1)),
                Some(Head::Missing) if barrier > 0 => Some((barrier - 1, 1)),
                Some(Head::Good(row)) => Some((row.moved, row.newest + 1)),
                Some(Head::Missing) => Some((0, 1)),
                Some(Head::Damaged) | None => None,
            };
            logs.insert(room.clone(), log);
        }
        let Some(Some((moved, next))) = logs.get_mut(&room) else { continue };
        if key <= *moved {
            continue;
        }
        found.unmoved += 1;
        if let Some(Record::Deleted) = entry.records.last() {
            continue;
        }
        for message in entry.into_messages() {
            if message.seq != *next {
                found.damage(format!("the log of room {room} (a gap at journal entry {key})"));
            }
            found.messages += 1;
            *next = message.seq + 1;
        }
    }
    Ok(())
}
