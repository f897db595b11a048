//! A store in memory that does what a test tells it, and tells what it was asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::Dispatcher;
use crate::keeper::Letter;
use crate::keeper::state::{Join, Mail};
use crate::outbox::{Filled, Outbox, Reader, Tally};
use crate::protocol::{Author, Framing, KeyHash, Payload, Profile, RoomName, Sid, Timestamp};
use crate::room::Connection;
use crate::store::{
    Cause, Done, Due, Engine, Error, Identity, Memory, Moved, Opened, Record, Slice,
};

/// The store.
pub(crate) struct Scripted {
    memory: Arc<Memory>,
    script: Script,
}

/// What it is to do, and what it was asked. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Told>>);

#[derive(Default)]
pub(crate) struct Told {
    /// The next append panics; it is held.
    pub panics_at_append: bool,
    /// Appends with messages are held until they are [let go](Self::let_go).
    pub holds_messages: bool,
    pub held: Vec<Held>,
    /// How many looks for what is due fail.
    pub failing_looks: usize,
    /// When it was asked what is due.
    pub looks: Vec<Instant>,
    pub opened: usize,
    /// Rooms that nobody has used for long, until they are touched.
    pub idle: Vec<RoomName>,
    pub touched: Vec<RoomName>,
    memory: Option<Arc<Memory>>,
}

/// An append that was not done.
pub(crate) struct Held {
    room: RoomName,
    records: Vec<Record>,
    pub done: Done,
}

impl Scripted {
    pub(crate) fn new() -> (Self, Script) {
        let (memory, script) = (Arc::new(Memory::new(1)), Script::default());
        script.lock().memory = Some(memory.clone());
        (Self { memory, script: script.clone() }, script)
    }
}

/// The only client there is.
const CLIENT: Connection = Connection(1);

/// The client asks for a seat, and says what it found when it was answered.
pub(super) async fn join(dispatcher: &Dispatcher, room: &RoomName) -> Filled {
    let outbox = Outbox::new(Framing::V1WebSocket, &dispatcher.settings().outbox);
    let mut reader = Reader::new(outbox.clone());
    let join = Join::new(CLIENT, Profile::V1, Sid(1), Author(1));
    dispatcher.deliver(room, Letter::Mail(Mail::Join(Box::new(join)), Some(outbox))).await;
    reader.changed().await;
    reader.fill(&mut Default::default(), &mut Tally::default())
}

/// A letter in which it says something.
pub(super) fn publish() -> Letter {
    let (connection, payload) = (CLIENT, Payload::Json("1".into()));
    Letter::Mail(Mail::Publish { connection, id: Some(1), key: None, to: None, payload }, None)
}

impl Script {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Does the appends that are held; the next are held again.
    pub(crate) fn let_go(&mut self) {
        let memory = self.memory.as_ref().expect("it is told at the beginning");
        for Held { room, records, done } in self.held.drain(..) {
            memory.append(&room, records, done);
        }
    }
}

impl Engine for Scripted {
    fn identity(&self) -> &Identity {
        self.memory.identity()
    }
    fn append(&self, room: &RoomName, records: Vec<Record>, done: Done) {
        let mut told = self.script.lock();
        let panics = std::mem::take(&mut told.panics_at_append);
        let is_message = |record: &Record| matches!(record, Record::Message(_));
        if panics || (told.holds_messages && records.iter().any(is_message)) {
            told.held.push(Held { room: room.clone(), records, done });
            drop(told);
            assert!(!panics, "the fault that was planted");
            return;
        }
        drop(told);
        self.memory.append(room, records, done);
    }
    fn open(&self, room: &RoomName) -> Result<Opened, Error> {
        self.script.lock().opened += 1;
        self.memory.open(room)
    }
    fn read(&self, room: &RoomName, from: u64, n: usize, bytes: usize) -> Result<Slice, Error> {
        self.memory.read(room, from, n, bytes)
    }
    fn keys(&self, room: &RoomName) -> Result<Vec<(KeyHash, u64)>, Error> {
        self.memory.keys(room)
    }
    fn move_room(&self, room: &RoomName, rules: Option<Bytes>, moved: Moved) {
        self.memory.move_room(room, rules, moved);
    }
    fn seated(&self) -> Result<Vec<RoomName>, Error> {
        self.memory.seated()
    }
    fn rooms(&self, after: Option<&RoomName>, limit: usize) -> Result<Vec<RoomName>, Error> {
        self.memory.rooms(after, limit)
    }
    fn due(&self, now: Timestamp, skip: &BTreeSet<RoomName>, limit: usize) -> Result<Due, Error> {
        let mut told = self.script.lock();
        told.looks.push(Instant::now());
        if told.failing_looks > 0 {
            told.failing_looks -= 1;
            return Err(Error::Busy);
        }
        let mut due = self.memory.due(now, skip, limit)?;
        let is_idle = |room: &&RoomName| !skip.contains(room) && !told.touched.contains(room);
        let idle = told.idle.iter().filter(is_idle);
        due.rooms.extend(idle.map(|room| (now, room.clone(), Cause::Idle)));
        Ok(due)
    }
    fn touch(&self, room: &RoomName) -> Result<(), Error> {
        self.script.lock().touched.push(room.clone());
        self.memory.touch(room)
    }
    fn take_drain_spread_ms(&self) -> Result<u64, Error> {
        self.memory.take_drain_spread_ms()
    }
    fn close(&self, drain_spread_ms: u64) -> Result<(), Error> {
        self.memory.close(drain_spread_ms)
    }
}
