//! Moving one room: from journal entries to a snapshot, seats, chunks and keys.
//!
//! The same for a room that has nothing to move and whose oldest history is due to go, and for one
//! that was deleted: then all its rows go, and what came after its deletion is a room of its own.
//!
//! First everything is read and decided, then it is written, so that a damaged row leaves the
//! transaction, which other rooms share, as it was.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use super::super::row::{self, Alarms, Chunk, Keys, OpenChunk, RoomRow};
use super::super::{KEYS_KEPT, Message, Record, Retention, SeatRow};
use super::file::{ALARMS, CHUNKS, DUE, DueKey, KEYS, META, ROOMS, SEATS, Trouble, damaged};
use super::index::Unmoved;
use super::reader::{current, gap, read_entry, rows_of};
use crate::clock::Ages;
use crate::protocol::{RoomName, Sid, Timestamp};

/// The tables of `rooms.redb`, open for one commit.
pub struct Tables<'t> {
    rooms: Table<'t, &'static str, &'static [u8]>,
    seats: Table<'t, (&'static str, u64), &'static [u8]>,
    chunks: Table<'t, (&'static str, u64), &'static [u8]>,
    keys: Table<'t, (&'static str, u64), &'static [u8]>,
    alarms: Table<'t, &'static str, &'static [u8]>,
    pub due: Table<'t, DueKey, &'static [u8]>,
    pub meta: Table<'t, &'static str, &'static [u8]>,
}

/// A room to move.
pub struct Move<'a> {
    pub room: &'a RoomName,
    /// What is unmoved of it, if anything is.
    pub unmoved: Option<Unmoved>,
    /// The rules' state, if it is told.
    pub rules: Option<Bytes>,
    /// Whether its history, or its time to be idle, is to be looked at whatever is unmoved.
    pub look: Look,
}

/// What brings the mover to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What is unmoved of it.
    Moving,
    /// The age of its history, or limits that have changed.
    Trimming,
    /// Somebody uses it.
    Touched,
}

/// What was decided.
struct Plan {
    row: RoomRow,
    /// Seats as they are now; `None` has ended.
    seats: BTreeMap<Sid, Option<SeatRow>>,
    /// Chunks that are new or have grown, with the bytes their row had.
    chunks: Vec<(OpenChunk, u64)>,
    /// The due times of before, if they can be read, and the rules' alarm as it is now.
    alarms: Option<Alarms>,
    rules_alarm: Option<Timestamp>,
    /// Whether the rows that are there belong to a room that was deleted.
    erases: bool,
    /// Whether something happened in the room.
    is_event: bool,
}

impl<'t> Tables<'t> {
    /// Opens the tables, making those that are missing.
    pub fn open(txn: &'t WriteTransaction) -> Result<Self, Trouble> {
        Ok(Self {
            rooms: txn.open_table(ROOMS)?,
            seats: txn.open_table(SEATS)?,
            chunks: txn.open_table(CHUNKS)?,
            keys: txn.open_table(KEYS)?,
            alarms: txn.open_table(ALARMS)?,
            due: txn.open_table(DUE)?,
            meta: txn.open_table(META)?,
        })
    }

    /// Moves a room; says whether there was anything to write.
    pub fn move_room(
        &mut self,
        it: Move<'_>,
        journal: &impl ReadableTable<u64, &'static [u8]>,
        retention: &Retention,
        ages: &Ages,
    ) -> Result<bool, Trouble> {
        let room = it.room;
        match self.plan(it, journal, ages.now())? {
            Some(plan) => self.write(room, plan, retention, ages).map(|()| true),
            None => Ok(false),
        }
    }

    fn plan(
        &self,
        it: Move<'_>,
        journal: &impl ReadableTable<u64, &'static [u8]>,
        now: Timestamp,
    ) -> Result<Option<Plan>, Trouble> {
        let (deletion, barrier, entries) = match &it.unmoved {
            Some(unmoved) => (unmoved.deletion, unmoved.barrier(), &unmoved.entries),
            None => (0, None, &VecDeque::new()),
        };
        let stored = self.rooms.get(it.room.as_str())?;
        let row = match &stored {
            Some(stored) => current(it.room, stored.value(), barrier)?,
            None => None,
        };
        let erases = row.is_none() && barrier.is_some();
        let is_new = row.is_none();
        let alarms = match self.alarms_of(it.room) {
            Err(Trouble::Ours(_)) if erases => None, // they go with their room all the same
            alarms => Some(alarms?),
        };
        let mut plan = Plan {
            row: row.unwrap_or_else(|| RoomRow::new(deletion)),
            seats: BTreeMap::new(),
            chunks: Vec::new(),
            alarms,
            rules_alarm: alarms.and_then(|alarms| alarms.rules).filter(|_| !erases),
            erases,
            is_event: it.look == Look::Touched,
        };
        let before = plan.row.clone();
        for unread in entries.iter().filter(|entry| entry.key > before.moved) {
            plan.row.moved = unread.key;
            if unread.deletes {
                continue;
            }
            plan.is_event = true;
            for record in read_entry(journal, unread.key)?.records {
                match record {
                    Record::Message(message) => {
                        if message.seq != plan.row.newest + 1 {
                            return Err(gap(it.room, unread.key));
                        }
                        self.log(it.room, &mut plan, message, now)?;
                    }
                    Record::Seat(seat) => _ = plan.seats.insert(seat.sid, Some(seat)),
                    Record::SeatLeft(sid) => self.leave(it.room, &mut plan, sid)?,
                    Record::SeatEnded(sid) => _ = plan.seats.insert(sid, None),
                    Record::Alarm(when) => plan.rules_alarm = when,
                    Record::State(state) => plan.row.rules = state,
                    Record::Deleted => return Err(gap(it.room, unread.key)), // it would be last
                }
            }
        }
        if let Some(rules) = it.rules {
            plan.row.rules = rules;
        }
        // Rules' state alone is no room: without a record there is nothing to write it beside.
        let is_no_room = is_new && plan.row.moved == 0;
        let is_same = plan.row == before && it.look == Look::Moving && !erases;
        Ok((!is_no_room && !is_same).then_some(plan))
    }

    fn log(
        &self,
        room: &RoomName,
        plan: &mut Plan,
        message: Message,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let seq = message.seq;
        if plan.chunks.is_empty() && plan.row.open != 0 {
            plan.chunks.extend(self.open_chunk(room, &plan.row)?);
        }
        let open = plan.chunks.last_mut();
        if !open.is_some_and(|(chunk, _)| chunk.push(&message, now)) {
            let mut chunk = OpenChunk::new(seq);
            chunk.push(&message, now);
            plan.row.open = seq;
            plan.chunks.push((chunk, 0));
        }
        plan.row.newest = seq;
        plan.row.newest_time = message.time;
        plan.row.keys += u64::from(message.key.is_some());
        Ok(())
    }

    /// The chunk that takes more, with the bytes of its row. A damaged one is left as it is, to
    /// be told of when it is read, and history goes on in the next.
    fn open_chunk(
        &self,
        room: &RoomName,
        row: &RoomRow,
    ) -> Result<Option<(OpenChunk, u64)>, Trouble> {
        let first = row.open;
        let chunk = self.chunks.get((room.as_str(), first))?;
        let keys = self.keys.get((room.as_str(), first))?;
        let resume = || {
            let keys = match &keys {
                Some(keys) => Keys::decode(keys.value(), first, row.deletion)?,
                None => Vec::new(),
            };
            let Some(chunk) = &chunk else { return Err(row::DecodeError::Short) };
            let bytes = chunk.value().len() as u64;
            let chunk = Chunk::decode(chunk.value())?;
            Ok((OpenChunk::resume(first, row.newest + 1, &chunk, keys)?, bytes))
        };
        let resumed = resume();
        if let Err(why) = &resumed {
            tracing::error!(%room, first, %why, "a chunk is damaged, the next messages begin a new one");
        }
        Ok(resumed.ok())
    }

    fn leave(&self, room: &RoomName, plan: &mut Plan, sid: Sid) -> Result<(), Trouble> {
        let seat = match plan.seats.remove(&sid) {
            Some(planned) => planned,
            None => {
                let what = || format!("seat {} of room {room}", sid.0);
                let stored = self.seats.get((room.as_str(), sid.0))?;
                let decode = |row: redb::AccessGuard<'_, _>| row::decode_seat(row.value());
                stored.map(decode).transpose().map_err(damaged(what))?
            }
        };
        plan.seats.insert(sid, seat.map(|seat| SeatRow { left: true, ..seat }));
        Ok(())
    }

    fn write(
        &mut self,
        room: &RoomName,
        plan: Plan,
        retention: &Retention,
        ages: &Ages,
    ) -> Result<(), Trouble> {
        let Plan { mut row, seats, chunks, alarms, rules_alarm: rules, erases, is_event } = plan;
        let name = room.as_str();
        if erases {
            self.erase(room, alarms)?;
        }
        let before = alarms.filter(|_| !erases).unwrap_or_default();
        for (sid, seat) in seats {
            match seat {
                Some(seat) => {
                    _ = self.seats.insert((name, sid.0), row::encode_seat(&seat).as_slice())?
                }
                None => _ = self.seats.remove((name, sid.0))?,
            }
        }
        for (chunk, bytes_before) in chunks {
            let sealed = chunk.encode(row.deletion);
            row.chunk_bytes = row.chunk_bytes.saturating_sub(bytes_before) + sealed.len() as u64;
            self.chunks.insert((name, chunk.first), sealed.as_slice())?;
            if let Some(keys) = chunk.encode_keys(row.deletion) {
                self.keys.insert((name, chunk.first), keys.as_slice())?;
            }
        }
        let trim = self.trim_chunks(room, &mut row, retention, ages)?;
        self.trim_keys(room, &mut row)?;
        let is_seated = self.seats.range(rows_of(room))?.next().is_some();
        if row.newest == 0 && !is_seated && rules.is_none() {
            // Never a message, no seat left: nothing is worth keeping, and nothing stays.
            self.rooms.remove(name)?;
            return self.set_alarms(room, before, Alarms::default());
        }
        let idle = retention
            .idle_delete
            .filter(|_| !is_seated)
            .map(|idle| before.idle.filter(|_| !is_event).unwrap_or(ages.now().plus_ms(ms(idle))));
        self.rooms.insert(name, row.encode().as_slice())?;
        self.set_alarms(room, before, Alarms { rules, trim, idle })
    }

    /// Removes every row of a room.
    fn erase(&mut self, room: &RoomName, alarms: Option<Alarms>) -> Result<(), Trouble> {
        self.rooms.remove(room.as_str())?;
        for table in [&mut self.seats, &mut self.chunks, &mut self.keys] {
            table.retain_in(rows_of(room), |_, _| false)?;
        }
        match alarms {
            Some(alarms) => self.set_alarms(room, alarms, Alarms::default()),
            None => {
                // Nobody knows any more which times were its own: they are looked for.
                self.alarms.remove(room.as_str())?;
                Ok(self.due.retain(|(_, _, name), _| name != room.as_str())?)
            }
        }
    }

    fn alarms_of(&self, room: &RoomName) -> Result<Alarms, Trouble> {
        let stored = self.alarms.get(room.as_str())?.map(|row| Alarms::decode(row.value()));
        let what = || format!("the alarms of room {room}");
        Ok(stored.transpose().map_err(damaged(what))?.unwrap_or_default())
    }

    fn set_alarms(&mut self, room: &RoomName, before: Alarms, now: Alarms) -> Result<(), Trouble> {
        let name = room.as_str();
        if before == now {
            return Ok(());
        }
        for (what, at) in before.times() {
            self.due.remove((what, at.0, name))?;
        }
        for (what, at) in now.times() {
            self.due.insert((what, at.0, name), [].as_slice())?;
        }
        match now == Alarms::default() {
            true => _ = self.alarms.remove(name)?,
            false => _ = self.alarms.insert(name, now.encode().as_slice())?,
        }
        Ok(())
    }

    /// Lets go of the oldest chunks while the room has more than is kept. Says when the next one
    /// will be too old.
    fn trim_chunks(
        &mut self,
        room: &RoomName,
        row: &mut RoomRow,
        retention: &Retention,
        ages: &Ages,
    ) -> Result<Option<Timestamp>, Trouble> {
        let age = ms(retention.age);
        loop {
            let mut oldest = self.chunks.range(rows_of(room))?;
            let Some(chunk) = oldest.next() else { return Ok(None) };
            let (key, chunk) = chunk?;
            let first = key.value().1;
            let after = match oldest.next() {
                Some(next) => next?.0.value().1,
                None => row.newest + 1,
            };
            drop(oldest);
            let bytes = chunk.value().len() as u64;
            let newest_time = Chunk::decode(chunk.value()).map(|chunk| chunk.newest_time);
            drop((key, chunk));
            // A damaged one is at most as old as what comes behind it, and stays as long: it is told
            // of when it is read.
            let newest_time = match newest_time {
                Ok(at) => Some(at),
                Err(_) => self.next_time(room, after)?,
            };
            let surplus = row.newest + 1 - after >= retention.messages
                || newest_time.is_some_and(|at| ages.of(at) > age)
                || row.chunk_bytes > retention.bytes;
            if !surplus {
                let due = newest_time.map(|at| ages.when(at, age.saturating_add(1)));
                return Ok(due.filter(|due| due.0 < u64::MAX));
            }
            self.chunks.remove((room.as_str(), first))?;
            row.chunk_bytes = row.chunk_bytes.saturating_sub(bytes);
            row.oldest = after;
            if row.open == first {
                row.open = 0;
            }
        }
    }

    /// When the newest message was said of the first chunk from `first` on that can be read.
    fn next_time(&self, room: &RoomName, first: u64) -> Result<Option<Timestamp>, Trouble> {
        for chunk in self.chunks.range((room.as_str(), first)..=(room.as_str(), u64::MAX))? {
            if let Ok(chunk) = Chunk::decode(chunk?.1.value()) {
                return Ok(Some(chunk.newest_time));
            }
        }
        Ok(None)
    }

    /// Lets go of the oldest keys beyond those that are promised.
    fn trim_keys(&mut self, room: &RoomName, row: &mut RoomRow) -> Result<(), Trouble> {
        while row.keys > KEYS_KEPT as u64 {
            let mut oldest = self.keys.range(rows_of(room))?;
            let Some(keys) = oldest.next() else { break };
            drop(oldest);
            let (key, keys) = keys?;
            let first = key.value().1;
            let count = match Keys::decode(keys.value(), first, row.deletion) {
                Ok(keys) => keys.len(),
                Err(why) => {
                    // How many went with it nobody knows. It stays, and is told of when it is read.
                    tracing::error!(%room, first, %why, "keys are damaged, and are kept");
                    break;
                }
            };
            drop((key, keys));
            let left = row.keys.saturating_sub(count as u64);
            if left < KEYS_KEPT as u64 {
                break;
            }
            self.keys.remove((room.as_str(), first))?;
            row.keys = left;
        }
        Ok(())
    }
}

/// Whole milliseconds.
pub fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
