//! Moving one room: from journal entries to a snapshot, seats, chunks and keys.
//!
//! First everything is read and decided, then it is written, so that a damaged row leaves the
//! transaction, which other rooms share, as it was.

use std::collections::BTreeMap;

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use super::super::row::{self, Chunk, Keys, OpenChunk, RoomRow};
use super::super::{KEYS_KEPT, Message, Record, Retention, SeatRow};
use super::file::{CHUNKS, KEYS, ROOMS, SEATS, Trouble, damaged};
use super::index::Unread;
use super::reader::{decode_row, gap, read_entry, rows_of};
use crate::protocol::{RoomName, Sid, Timestamp};

/// The tables of `rooms.redb`, open for one commit.
pub struct Tables<'t> {
    rooms: Table<'t, &'static str, &'static [u8]>,
    seats: Table<'t, (&'static str, u64), &'static [u8]>,
    chunks: Table<'t, (&'static str, u64), &'static [u8]>,
    keys: Table<'t, (&'static str, u64), &'static [u8]>,
}

/// A room to move.
pub struct Move<'a> {
    pub room: &'a RoomName,
    /// The second half of its epoch, should it have no row.
    pub deletion: u64,
    /// Its unmoved entries, oldest first.
    pub entries: Vec<Unread>,
    /// The rules' state, if it is told.
    pub rules: Option<Bytes>,
}

/// What was decided.
struct Plan {
    row: RoomRow,
    /// Seats as they are now; `None` has ended.
    seats: BTreeMap<Sid, Option<SeatRow>>,
    /// Chunks that are new or have grown, with the bytes their row had.
    chunks: Vec<(OpenChunk, u64)>,
}

impl<'t> Tables<'t> {
    /// Opens the tables, making those that are missing.
    pub fn open(txn: &'t WriteTransaction) -> Result<Self, Trouble> {
        Ok(Self {
            rooms: txn.open_table(ROOMS)?,
            seats: txn.open_table(SEATS)?,
            chunks: txn.open_table(CHUNKS)?,
            keys: txn.open_table(KEYS)?,
        })
    }

    /// Moves a room; says whether there was anything to write.
    pub fn move_room(
        &mut self,
        it: Move<'_>,
        journal: &impl ReadableTable<u64, &'static [u8]>,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<bool, Trouble> {
        let room = it.room;
        match self.plan(it, journal)? {
            Some(plan) => self.write(room, plan, retention, now).map(|()| true),
            None => Ok(false),
        }
    }

    fn plan(
        &self,
        it: Move<'_>,
        journal: &impl ReadableTable<u64, &'static [u8]>,
    ) -> Result<Option<Plan>, Trouble> {
        let stored = self.rooms.get(it.room.as_str())?;
        let row = match &stored {
            Some(stored) => decode_row(it.room, stored.value())?,
            None => RoomRow::new(it.deletion),
        };
        let mut plan = Plan { row, seats: BTreeMap::new(), chunks: Vec::new() };
        let before = plan.row.clone();
        for unread in it.entries.iter().filter(|entry| entry.key > before.moved) {
            for record in read_entry(journal, unread.key)?.records {
                match record {
                    Record::Message(message) => {
                        if message.seq != plan.row.newest + 1 {
                            return Err(gap(it.room, unread.key));
                        }
                        self.log(it.room, &mut plan, message)?;
                    }
                    Record::Seat(seat) => _ = plan.seats.insert(seat.sid, Some(seat)),
                    Record::SeatLeft(sid) => self.leave(it.room, &mut plan, sid)?,
                    Record::SeatEnded(sid) => _ = plan.seats.insert(sid, None),
                }
            }
            plan.row.moved = unread.key;
        }
        if let Some(rules) = it.rules {
            plan.row.rules = rules;
        }
        // Rules' state alone is no room: without a record there is nothing to write it beside.
        let nothing = plan.row == before || (stored.is_none() && plan.row.moved == 0);
        Ok((!nothing).then_some(plan))
    }

    fn log(&self, room: &RoomName, plan: &mut Plan, message: Message) -> Result<(), Trouble> {
        let seq = message.seq;
        if plan.chunks.is_empty() && plan.row.open != 0 {
            plan.chunks.extend(self.open_chunk(room, &plan.row)?);
        }
        let open = plan.chunks.last_mut();
        if !open.is_some_and(|(chunk, _)| chunk.push(&message)) {
            let mut chunk = OpenChunk::new(seq);
            chunk.push(&message);
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
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let Plan { mut row, seats, chunks } = plan;
        let name = room.as_str();
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
        self.trim_chunks(room, &mut row, retention, now)?;
        self.trim_keys(room, &mut row)?;
        if row.newest == 0 && self.seats.range(rows_of(room))?.next().is_none() {
            // Never a message, no seat left: nothing is worth keeping, and nothing stays.
            self.rooms.remove(name)?;
        } else {
            self.rooms.insert(name, row.encode().as_slice())?;
        }
        Ok(())
    }

    /// Lets go of the oldest chunks while the room has more than is kept.
    fn trim_chunks(
        &mut self,
        room: &RoomName,
        row: &mut RoomRow,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let age = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
        loop {
            let mut oldest = self.chunks.range(rows_of(room))?;
            let Some(chunk) = oldest.next() else { break };
            let (key, chunk) = chunk?;
            let first = key.value().1;
            let after = match oldest.next() {
                Some(next) => next?.0.value().1,
                None => row.newest + 1,
            };
            drop(oldest);
            let bytes = chunk.value().len() as u64;
            // A damaged chunk has no age that could keep it.
            let newest_time = Chunk::decode(chunk.value()).map_or(Timestamp(0), |c| c.newest_time);
            drop((key, chunk));
            let surplus = row.newest + 1 - after >= retention.messages
                || now.since_ms(newest_time) > age
                || row.chunk_bytes > retention.bytes;
            if !surplus {
                break;
            }
            self.chunks.remove((room.as_str(), first))?;
            row.chunk_bytes = row.chunk_bytes.saturating_sub(bytes);
            row.oldest = after;
            if row.open == first {
                row.open = 0;
            }
        }
        Ok(())
    }

    /// Lets go of the oldest keys beyond those that are promised.
    fn trim_keys(&mut self, room: &RoomName, row: &mut RoomRow) -> Result<(), Trouble> {
        while row.keys > KEYS_KEPT as u64 {
            let mut oldest = self.keys.range(rows_of(room))?;
            let Some(keys) = oldest.next() else { break };
            drop(oldest);
            let (key, keys) = keys?;
            let first = key.value().1;
            let count = Keys::decode(keys.value(), first, row.deletion).map_or(0, |k| k.len());
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
