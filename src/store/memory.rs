//! The engine for simulation: everything in ordered maps, nothing on a disk.
//!
//! It answers an append before `append` returns, and does the same for the same calls in the same
//! order. It keeps moved and unmoved records apart as the real one does, so that hibernating
//! means something, and it fails when it is told to.
//!
//! Unlike the embedded engine it keeps idle rooms, and all history unless told to
//! [`trim`](Memory::trim); and it panics over an append that does not follow the log: whoever did
//! that has a bug.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::row::{RoomRow, encode_entry, encode_seat};
use super::standing::Standing;
use super::{
    Cause, Done, Due, Engine, Error, Identity, KEYS_KEPT, Message, Moved, Opened, Record, SeatRow,
    Slice,
};
use crate::protocol::{Epoch, KeyHash, RoomName, Timestamp};

/// A store in memory.
pub struct Memory {
    identity: Identity,
    seated: Vec<RoomName>,
    inner: Mutex<Inner>,
}

#[derive(Default, Clone)]
struct Inner {
    rooms: BTreeMap<RoomName, Room>,
    /// How many appends there were: what the embedded engine's journal keys are.
    appends: u64,
    /// The newest deletion of any room.
    deletion: u64,
    drain_spread_ms: u64,
    fail_append: Option<bool>,
    fail_open: bool,
    fail_read: bool,
    fail_hibernate: bool,
    closed: bool,
}

/// A room's rows, and what is not in them.
#[derive(Default, Clone)]
struct Room {
    /// The second half of its epoch.
    deletion: u64,
    moved: Standing,
    log: Vec<Message>,
    trimmed: u64,
    keys: Vec<(KeyHash, u64)>,
    unmoved: Vec<Record>,
}

impl Memory {
    /// An empty store with this id, and a secret that follows from it.
    pub fn new(store_id: u64) -> Self {
        Self::with(store_id, Inner::default())
    }

    fn with(store_id: u64, inner: Inner) -> Self {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&store_id.to_le_bytes());
        let seated = inner.rooms.iter().filter(|(_, room)| !room.now().seats.is_empty());
        let seated = seated.map(|(name, _)| name.clone()).collect();
        Self {
            identity: Identity { store: store_id, secret },
            seated,
            inner: Mutex::new(Inner { closed: false, ..inner }),
        }
    }

    /// The store as a new process would find it: what was appended is there, faults are not.
    pub fn reopen(&self) -> Self {
        let inner = self.lock().clone();
        let (fail_append, fail_open, fail_read, fail_hibernate) = (None, false, false, false);
        let inner = Inner { fail_append, fail_open, fail_read, fail_hibernate, ..inner };
        Self::with(self.identity.store, inner)
    }

    /// The next append is answered with an error; if `kept`, its records are there all the same.
    pub fn fail_next_append(&self, kept: bool) {
        self.lock().fail_append = Some(kept);
    }

    /// The next opening of a room fails.
    pub fn fail_next_open(&self) {
        self.lock().fail_open = true;
    }

    /// The next reading of a log or of keys fails.
    pub fn fail_next_read(&self) {
        self.lock().fail_read = true;
    }

    /// The next hibernation fails, and moves nothing.
    pub fn fail_next_hibernate(&self) {
        self.lock().fail_hibernate = true;
    }

    /// Lets go of a room's messages before `oldest`, as retention would. Their keys stay.
    pub fn trim(&self, room: &RoomName, oldest: u64) {
        let mut inner = self.lock();
        if let Some(room) = inner.rooms.get_mut(room) {
            let before = room.log.len();
            room.log.retain(|message| message.seq >= oldest);
            room.trimmed += (before - room.log.len()) as u64;
        }
    }

    /// A room's rows as bytes, without what is unmoved: the same state gives the same bytes.
    pub fn snapshot_bytes(&self, name: &RoomName) -> Option<Vec<u8>> {
        let inner = self.lock();
        let room = inner.rooms.get(name).filter(|room| room.has_rows())?;
        let row = RoomRow {
            newest: room.moved.newest,
            newest_time: room.moved.newest_time,
            oldest: room.trimmed + 1,
            keys: room.keys.len() as u64,
            rules: room.moved.rules.clone(),
            ..RoomRow::new(room.deletion)
        };
        let mut bytes = row.encode();
        room.moved.seats.values().for_each(|seat| bytes.extend(encode_seat(seat)));
        let log = room.log.iter().cloned().map(Record::Message).collect::<Vec<_>>();
        bytes.extend(encode_entry(name, 0, &log));
        Some(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn epoch(&self, room: &Room) -> Epoch {
        Epoch { store: self.identity.store, deletion: room.deletion }
    }

    /// Looks at a room, unless the fault that `fault` points at was asked for.
    fn look<T>(
        &self,
        doing: &'static str,
        room: &RoomName,
        fault: impl FnOnce(&mut Inner) -> &mut bool,
        what: impl FnOnce(&Room) -> T,
    ) -> Result<T, Error> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Error::Closed);
        }
        if std::mem::take(fault(&mut inner)) {
            return Err(asked_for(doing));
        }
        Ok(match inner.rooms.get(room) {
            Some(room) => what(room),
            None => what(&Room { deletion: inner.deletion, ..Room::default() }),
        })
    }
}

fn asked_for(doing: &'static str) -> Error {
    Error::Unwell { doing, why: "it was asked to fail".into() }
}

impl Room {
    /// Rows and unmoved records as one.
    fn now(&self) -> Standing {
        let mut standing = self.moved.clone();
        for record in &self.unmoved {
            standing.apply(record.clone()).expect("an append that leaves a gap is refused");
        }
        standing
    }

    fn messages(&self) -> impl Iterator<Item = &Message> {
        let unmoved = self.unmoved.iter().filter_map(|record| match record {
            Record::Message(message) => Some(message),
            _ => None,
        });
        self.log.iter().chain(unmoved)
    }

    fn keys(&self) -> Vec<(KeyHash, u64)> {
        let unmoved = self.messages().skip(self.log.len());
        let unmoved = unmoved.filter_map(|message| Some((message.key?, message.seq)));
        let mut keys = self.keys.iter().copied().chain(unmoved).collect::<Vec<_>>();
        keys.drain(..keys.len().saturating_sub(KEYS_KEPT));
        keys
    }

    fn has_rows(&self) -> bool {
        self.moved.newest > 0 || !self.moved.seats.is_empty() || self.moved.alarm.is_some()
    }

    fn hibernate(&mut self, rules: Option<Bytes>) {
        self.moved = self.now();
        self.keys = self.keys();
        for record in std::mem::take(&mut self.unmoved) {
            if let Record::Message(message) = record {
                self.log.push(message);
            }
        }
        self.moved.rules = rules.unwrap_or(std::mem::take(&mut self.moved.rules));
    }
}

impl Inner {
    fn hibernate(&mut self, name: &RoomName, rules: Option<Bytes>) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        if std::mem::take(&mut self.fail_hibernate) {
            return Err(asked_for("move rooms"));
        }
        if let Some(room) = self.rooms.get_mut(name) {
            room.hibernate(rules);
            if !room.has_rows() {
                self.rooms.remove(name);
            }
        }
        Ok(())
    }
}

impl Engine for Memory {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn append(&self, room: &RoomName, records: Vec<Record>, done: Done) {
        let mut inner = self.lock();
        let fault = inner.fail_append.take();
        let result = match fault {
            _ if inner.closed => Err(Error::Closed),
            Some(_) => Err(asked_for("append to the journal")),
            None => Ok(()),
        };
        let mut deletion = inner.rooms.get(room).map_or(inner.deletion, |room| room.deletion);
        if !inner.closed && fault != Some(false) {
            inner.appends += 1;
            if let Some(Record::Deleted) = records.last() {
                deletion = inner.appends;
                inner.deletion = deletion;
                inner.rooms.remove(room);
            } else if !records.is_empty() {
                let fresh = || Room { deletion, ..Room::default() };
                let room = inner.rooms.entry(room.clone()).or_insert_with(fresh);
                room.unmoved.extend(records);
                room.now();
                deletion = room.deletion;
            }
        }
        let result = result.map(|()| Epoch { store: self.identity.store, deletion });
        drop(inner);
        done(result);
    }

    fn open(&self, room: &RoomName) -> Result<Opened, Error> {
        self.look(
            "open a room",
            room,
            |inner| &mut inner.fail_open,
            |room| {
                let Standing { newest, newest_time, seats, alarm, rules } = room.now();
                Opened {
                    epoch: self.epoch(room),
                    newest,
                    newest_time,
                    oldest: room.trimmed + 1,
                    seats: seats.into_values().collect::<Vec<SeatRow>>(),
                    rules,
                    alarm,
                    bytes: room.messages().map(|message| message.body.len() as u64).sum(),
                }
            },
        )
    }

    fn read(
        &self,
        room: &RoomName,
        from: u64,
        messages: usize,
        bytes: usize,
    ) -> Result<Slice, Error> {
        self.look(
            "read a room's log",
            room,
            |inner| &mut inner.fail_read,
            |room| {
                let mut read = 0;
                let fits = |message: &&Message| {
                    let fits = read == 0 || read < bytes;
                    read += message.body.len().max(1);
                    fits
                };
                let from = room.messages().skip_while(|message| message.seq < from);
                Slice {
                    messages: from.take(messages).take_while(fits).cloned().collect(),
                    oldest: room.trimmed + 1,
                    newest: room.now().newest,
                    epoch: self.epoch(room),
                }
            },
        )
    }

    fn keys(&self, room: &RoomName) -> Result<Vec<(KeyHash, u64)>, Error> {
        self.look("read a room's keys", room, |inner| &mut inner.fail_read, Room::keys)
    }

    fn move_room(&self, name: &RoomName, rules: Option<Bytes>, moved: Moved) {
        let result = self.lock().hibernate(name, rules);
        moved(result);
    }

    fn seated(&self) -> Result<Vec<RoomName>, Error> {
        Ok(self.seated.clone())
    }

    fn rooms(&self, after: Option<&RoomName>, limit: usize) -> Result<Vec<RoomName>, Error> {
        let inner = self.lock();
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = inner.rooms.range::<RoomName, _>((after, Bound::Unbounded));
        Ok(names.take(limit).map(|(name, _)| name.clone()).collect())
    }

    fn due(&self, now: Timestamp, skip: &BTreeSet<RoomName>, limit: usize) -> Result<Due, Error> {
        let inner = self.lock();
        let alarm_of = |(name, room): (&RoomName, &Room)| Some((room.now().alarm?, name.clone()));
        let mut alarms: Vec<_> = inner.rooms.iter().filter_map(alarm_of).collect();
        alarms.sort();
        let next = alarms.iter().map(|(at, _)| *at).find(|at| *at > now);
        let due = alarms.into_iter().filter(|(at, room)| *at <= now && !skip.contains(room));
        let rooms = due.take(limit).map(|(at, room)| (at, room, Cause::Alarm)).collect();
        Ok(Due { rooms, next })
    }

    fn touch(&self, _: &RoomName) -> Result<(), Error> {
        Ok(())
    }

    fn take_drain_spread_ms(&self) -> Result<u64, Error> {
        Ok(std::mem::take(&mut self.lock().drain_spread_ms))
    }

    fn close(&self, drain_spread_ms: u64) -> Result<(), Error> {
        let mut inner = self.lock();
        if !std::mem::replace(&mut inner.closed, true) {
            inner.drain_spread_ms = drain_spread_ms;
        }
        Ok(())
    }
}
