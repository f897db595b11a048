//! Everything that outlives the process, behind one small trait.
//!
//! A room's records go to the **journal** first, all rooms' records of a moment in one durable
//! commit. The *mover* brings them from there to the room's own rows: a snapshot, seats, chunks
//! of history, keys. Readers see both as one, and never a hole while records move.
//!
//! - An append is on disk when its answer says so, and not heard of before.
//! - An append that failed is *unknown*: it may be on disk. Whoever cares opens the room again.
//! - Journal keys are never used twice, so that a row can say which records it includes.
//!
//! [`Engine`] is the seam for a replicated log later. Its methods other than
//! [`append`](Engine::append) and [`move_room`](Engine::move_room) may wait for a disk: [`Store`]
//! calls them off the runtime.

mod memory;
mod record;
mod redb;
mod row;
mod standing;
#[cfg(test)]
mod suite;

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};

use bytes::Bytes;

use crate::clock::Clock;
use crate::protocol::{Epoch, KeyHash, Kinds, RoomName, Timestamp};
use crate::supervision::{self, Supervisor};

pub use memory::Memory;
pub use record::{BodyKind, Message, Record, SeatRow};
pub use redb::{Findings, Redb, check, look};

/// How many of a room's last keyed publishes are remembered, whatever retention trims.
pub const KEYS_KEPT: usize = 4096;

/// What [`Error::Unwell`] and [`Error::Denied`] say when there is not even a directory.
pub const MAKE_DIRECTORY: &str = "make the data directory";

/// What a store can fail with. The cause is the source.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process, or this one, has the data directory open.
    #[error("the data directory {dir} is in use by another dormouse")]
    InUse {
        /// The directory.
        dir: String,
    },
    /// The file-system or the database under it refused.
    #[error("cannot {doing}: {why}")]
    Unwell {
        /// The operation, as in "cannot open the journal".
        doing: &'static str,
        /// What the layer below said.
        why: String,
    },
    /// The system does not let this user do it.
    #[error("cannot {doing}: {why}")]
    Denied {
        /// The operation, as in "open rooms.redb".
        doing: &'static str,
        /// What the system said.
        why: String,
    },
    /// A row or a file that should be ours is not what we wrote.
    #[error("{what} is damaged")]
    Corrupt {
        /// Which row.
        what: String,
    },
    /// Too little of the disk is free; nothing was appended.
    #[error("the disk is nearly full: {free} bytes are free, {least} must be (store.reserve)")]
    NearlyFull {
        /// What is free.
        free: u64,
        /// What must be.
        least: u64,
    },
    /// The queue of the store's thread is full; nothing was appended.
    #[error("too many appends are waiting")]
    Busy,
    /// The store is closing; nothing was appended.
    #[error("the store is closed")]
    Closed,
}

/// How long a room's history is kept: the first limit reached wins.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Messages kept per room. Whole chunks are trimmed, so a few more may lie there.
    pub messages: u64,
    /// The age beyond which a message need not be kept.
    pub age: std::time::Duration,
    /// Compressed bytes kept per room.
    pub bytes: u64,
    /// How long a room without seats and events is kept at all; `None`: for ever.
    pub idle_delete: Option<std::time::Duration>,
}

/// What the store goes by for rooms of one kind.
#[derive(Debug, Clone)]
pub struct RoomSettings {
    /// As in [`Settings`].
    pub journal_bytes: u64,
    /// As in [`Settings`].
    pub retention: Retention,
}

/// The store's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most unmoved journal bytes of one room before the mover takes them.
    pub journal_bytes: u64,
    /// The most bytes of the journal, from its oldest unmoved record on.
    pub journal_total_bytes: u64,
    /// The oldest an unmoved record may grow.
    pub journal_age: std::time::Duration,
    /// redb's cache for the journal, in bytes.
    pub journal_cache: usize,
    /// redb's cache for the rooms, in bytes.
    pub rooms_cache: usize,
    /// Bytes of the disk kept back for when it is full, and as many that must be free besides;
    /// `None` if the disk is not looked at.
    pub reserve: Option<u64>,
    /// What history is kept of a room.
    pub retention: Retention,
    /// The kinds of rooms for which that and `journal_bytes` are otherwise.
    pub kinds: Kinds<Option<RoomSettings>>,
    /// What time it is, for the ages of messages and rooms.
    pub clock: Clock,
    /// Keeps the store's threads alive.
    pub supervisor: Supervisor,
}

impl Settings {
    /// The most unmoved journal bytes of a room.
    pub fn journal_bytes_of(&self, room: &RoomName) -> u64 {
        self.kinds.of(room).as_ref().as_ref().map_or(self.journal_bytes, |kind| kind.journal_bytes)
    }

    /// What limits history in all kinds of rooms, to be compared with what did before.
    pub(crate) fn limits(&self) -> impl std::fmt::Debug {
        (&self.retention, &self.kinds)
    }

    /// What history is kept of a room.
    pub fn retention_of(&self, room: &RoomName) -> &Retention {
        self.kinds.of(room).as_ref().as_ref().map_or(&self.retention, |kind| &kind.retention)
    }
}

/// What a store is: made once at its creation.
#[derive(Debug, Clone)]
pub struct Identity {
    /// A random number, the first part of every [`Epoch`].
    pub store: u64,
    /// The key that session tokens are signed with.
    pub secret: [u8; 32],
}

/// A room as it lies on disk, journal and rows together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The room's epoch; of a room without records, the one its first record would get.
    pub epoch: Epoch,
    /// The newest message's `seq`; 0 before the first.
    pub newest: u64,
    /// The newest message's time, also when retention has trimmed the message itself.
    pub newest_time: Timestamp,
    /// The oldest message still stored; `newest + 1` when there is none.
    pub oldest: u64,
    /// The seats that have not ended, ordered by `sid`.
    pub seats: Vec<SeatRow>,
    /// What the rules know; empty at first.
    pub rules: Bytes,
    /// When the rules want to be woken.
    pub alarm: Option<Timestamp>,
    /// Bytes the room takes on disk, about: its rows and what is unmoved in the journal.
    pub bytes: u64,
}

/// A piece of a room's log, oldest first and without a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The messages from the first one asked for on, or from `oldest` if that is later.
    pub messages: Vec<Message>,
    /// The oldest message stored at the moment of reading; `newest + 1` when there is none.
    pub oldest: u64,
    /// The newest message on disk at that moment.
    pub newest: u64,
    /// The epoch the log is in.
    pub epoch: Epoch,
}

/// Why the clock should look at a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its rules want to be woken.
    Alarm,
    /// It has had no seat and no event for as long as such rooms are kept.
    Idle,
}

/// What is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Rooms whose time has come, the longest due first of each cause.
    pub rooms: Vec<(Timestamp, RoomName, Cause)>,
    /// When the next one's comes, if that is known.
    pub next: Option<Timestamp>,
}

/// Told once how an append ended, on the store's thread: it must not wait for anything.
pub type Done = Box<dyn FnOnce(Result<Epoch, Error>) + Send>;

/// Told once how a move ended, likewise.
pub type Moved = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Asks for a move, and waits for it.
fn waited(ask: impl FnOnce(Moved)) -> Result<(), Error> {
    let (moved, answer) = mpsc::sync_channel(1);
    ask(Box::new(move |result| drop(moved.try_send(result)))); // it is told once, and listened to
    answer.recv().unwrap_or(Err(Error::Closed)) // whoever forgets it is closing
}

/// A place to keep rooms.
pub trait Engine: Send + Sync + 'static {
    /// Who this store is.
    fn identity(&self) -> &Identity;

    /// Puts a room's records on disk, in order, all or none, and says so through `done` with
    /// the room's epoch. One append per room is in flight at a time; never waits.
    fn append(&self, room: &RoomName, records: Vec<Record>, done: Done);

    /// Reads what there is of a room. A room without records opens empty.
    fn open(&self, room: &RoomName) -> Result<Opened, Error>;

    /// Reads messages `from` and later, at most `messages` of them, ending early once
    /// `bytes` of bodies are reached (but never before the first).
    fn read(
        &self,
        room: &RoomName,
        from: u64,
        messages: usize,
        bytes: usize,
    ) -> Result<Slice, Error>;

    /// The room's last keyed publishes, oldest first: 4,096 at least, if there were as many.
    fn keys(&self, room: &RoomName) -> Result<Vec<(KeyHash, u64)>, Error>;

    /// Moves everything unmoved of a room to its rows, with the rules' state as it is now
    /// (`None`: as it was), and says so through `moved`; never waits. Writes nothing when nothing
    /// is unmoved and the state is the same. Once it is moved, the room can be opened from its
    /// rows alone.
    fn move_room(&self, room: &RoomName, rules: Option<Bytes>, moved: Moved);

    /// The same for whoever can wait.
    fn hibernate(&self, room: &RoomName, rules: Option<Bytes>) -> Result<(), Error> {
        waited(|moved| self.move_room(room, rules, moved))
    }

    /// The rooms in which seats were found when the store was opened, ordered by name.
    fn seated(&self) -> Result<Vec<RoomName>, Error>;

    /// Rooms on disk, journal or rows, after `after` in order of name, at most `limit`.
    fn rooms(&self, after: Option<&RoomName>, limit: usize) -> Result<Vec<RoomName>, Error>;

    /// Rooms whose time has come at `now`, at most `limit` and none in `skip`: whatever lies in
    /// journal or rows, and however long the process was down. A room stays due until a record,
    /// or [`touch`](Self::touch), says otherwise; one may be named that no longer is.
    fn due(&self, now: Timestamp, skip: &BTreeSet<RoomName>, limit: usize) -> Result<Due, Error>;

    /// Somebody uses the room though it has no seat on disk: the time after which it would be
    /// deleted begins anew.
    fn touch(&self, room: &RoomName) -> Result<(), Error>;

    /// The spread that the last orderly shutdown announced, in ms, told once; else 0.
    fn take_drain_spread_ms(&self) -> Result<u64, Error>;

    /// The clock of the [`Settings`] has noticed a jump: what it knows is to be on disk, and rooms
    /// are looked at again. Never waits.
    fn note_clock(&self) {}

    /// What is wrong with the store now, in a few words. Never waits, and needs nobody to have
    /// asked for anything: a store that was unwell is well again as soon as it can be.
    fn trouble(&self) -> Option<&'static str> {
        None
    }

    /// Waits for the appends that were taken and ends the store's threads. What is appended
    /// afterwards is answered [`Error::Closed`].
    fn close(&self, drain_spread_ms: u64) -> Result<(), Error>;

    /// Ends at once and leaves everything as a process leaves it that is killed: what waits is not
    /// written and not answered, what was being written is there wholly or not at all, and no file
    /// is closed in order. For tests; an engine without files has nothing to leave.
    fn crash(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A shared engine, called without holding up the runtime.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
}

impl Store {
    /// Wraps an engine.
    pub fn new(engine: impl Engine) -> Self {
        Self { engine: Arc::new(engine) }
    }

    /// The engine itself, for what does not wait: [`Engine::identity`], [`Engine::append`].
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// Runs something that may wait for a disk on a thread that may.
    pub async fn run<T: Send + 'static>(
        &self,
        what: impl FnOnce(&dyn Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let engine = self.engine.clone();
        match tokio::task::spawn_blocking(move || what(&*engine)).await {
            Ok(result) => result,
            Err(ended) => Err(match ended.try_into_panic() {
                Ok(panic) => {
                    Error::Unwell { doing: "read the store", why: supervision::text_of(&*panic) }
                }
                Err(_) => Error::Closed, // the runtime ends
            }),
        }
    }
}
