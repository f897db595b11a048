//! The embedded engine: two redb files and the two threads that write them.
//!
//! ```text
//!  append ─▶ queue ─▶ journal's thread ─▶ journal.redb ─┐ one commit for all rooms
//!                            │ adds                     │
//!                          index ◀─ looks ─ readers ◀───┤
//!                            │ takes away               │
//!  hibernate ──────▶ mover's thread ─────▶ rooms.redb ◀─┘ one commit for many rooms
//! ```
//!
//! All calls of redb are in this directory. The formats of what it stores are in
//! [`row`](super::row); `docs/storage.md` tells the whole of it.
//!
//! - One thread writes each file, so that beginning a commit never waits.
//! - The index and the rooms are locked for a look or a change, never while waiting for a disk
//!   that is well. The journal's lock comes first.
//! - A file that has failed is closed, and opened again by its thread, with growing pauses.

mod bell;
mod check;
mod due;
mod file;
mod health;
mod index;
mod journal;
mod look;
mod mover;
mod moving;
mod overlay;
mod queue;
mod reader;
mod rounds;
mod space;
mod start;
mod system;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use redb::{DatabaseError, ReadableTable};

use super::row::BODY_BYTES;
use super::{Done, Due, Engine, Error, Identity, Moved, Opened, Record, Settings, Slice, waited};
use crate::protocol::{KeyHash, RoomName, Timestamp};

pub use check::{Findings, check};
use file::{Directory, Disk, File, Name, ROOMS, Trouble, guarded, is_damage, is_denied};
use health::{Health, Part};
use index::Index;
pub use look::look;
use mover::{Asked, Mover};
use moving::Look;
use queue::{Append, Queue};
use reader::View;

/// A store in a directory.
pub struct Redb {
    shared: Arc<Shared>,
    seated: Vec<RoomName>,
    drain_spread_ms: AtomicU64,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    journal: Option<JoinHandle<()>>,
    mover: Option<JoinHandle<()>>,
}

/// What the threads and the callers share.
struct Shared {
    disk: Box<dyn Disk>,
    settings: Settings,
    identity: Identity,
    health: Arc<Health>,
    journal: Mutex<Journal>,
    rooms: Mutex<File>,
    queue: Queue,
    mover: Mover,
}

/// The journal's file and what is known of it: they change together.
struct Journal {
    file: File,
    index: Index,
}

impl Journal {
    /// The rooms to move now unasked: none while they could not be read.
    fn due(&self) -> Vec<RoomName> {
        if self.file.why().is_some() { Vec::new() } else { self.index.due(Instant::now()) }
    }

    /// When the next will be due by its age.
    fn next_due(&self) -> Option<Instant> {
        if self.file.why().is_some() { None } else { self.index.next_due() }
    }
}

impl Redb {
    /// Opens the store in `dir`, making what is missing.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, Error> {
        let directory = Directory::new(dir, &settings)?;
        Self::open_on(directory, settings)
    }

    fn open_on(disk: impl Disk, settings: Settings) -> Result<Self, Error> {
        let place = disk.place();
        let in_use = || Trouble::Ours(Error::InUse { dir: place.clone() });
        let open = |name: Name| {
            let opened = guarded(|| match disk.open(name) {
                Err(DatabaseError::DatabaseAlreadyOpen) => Err(in_use()),
                // After a crash opening writes, and on a full disk that needs the reserve.
                Err(DatabaseError::Storage(redb::StorageError::Io(error)))
                    if !is_damage(error.kind()) && !is_denied(error.kind()) =>
                {
                    Ok(disk.reopen(name)?)
                }
                opened => Ok(opened?),
            });
            opened.map_err(|trouble| trouble.at_start(name))
        };
        let (rooms, journal, identity) = guarded(|| {
            let rooms = open(Name::Rooms)?;
            let journal = open(Name::Journal)?;
            let identity = start::identify(&rooms, &journal, &settings)?;
            Ok((rooms, journal, identity))
        })
        .map_err(|trouble: Trouble| trouble.into_error("read the store"))?;

        let none = Index::new(settings.clone(), 0, 0, 0);
        let health = Arc::new(Health::default());
        let file = |name, db| File::new(name, db, health.clone());
        let shared = Shared {
            disk: Box::new(disk),
            settings,
            identity,
            journal: Mutex::new(Journal { file: file(Name::Journal, journal), index: none }),
            rooms: Mutex::new(file(Name::Rooms, rooms)),
            health,
            queue: Queue::default(),
            mover: Mover::default(),
        };
        let (seated, drain_spread_ms) =
            guarded(|| shared.start()).map_err(|trouble| trouble.into_error("read the store"))?;

        let full = shared.space().err();
        let shared = Arc::new(shared);
        // What an earlier run has moved but not trimmed can go now.
        shared.queue.trim();
        shared.mover.check();
        let store = Self {
            shared: shared.clone(),
            seated,
            drain_spread_ms: AtomicU64::new(drain_spread_ms),
            threads: Mutex::default(),
        };
        lock(&store.threads).journal =
            Some(spawn("journal", &shared, |it| journal::run(it, full))?);
        lock(&store.threads).mover = Some(spawn("mover", &shared, mover::run)?);
        Ok(store)
    }

    fn ask_mover(&self, room: &RoomName, rules: Option<Bytes>, look: Look, moved: Moved) {
        self.shared.mover.ask(Asked::new(room.clone(), rules, look, moved));
    }

    /// Between two commits of either file: the threads have ended, and nothing has been closed.
    fn cut_off(&self) -> Result<(), Error> {
        let mut threads = lock(&self.threads);
        self.shared.queue.abandon();
        self.shared.mover.abandon();
        join(threads.journal.take());
        join(threads.mover.take());
        let Shared { disk, journal, rooms, .. } = &*self.shared;
        let close_journal = &mut || _ = guarded(|| Ok(lock(journal).file.close()?));
        let close_rooms = &mut || _ = guarded(|| Ok(lock(rooms).close()?));
        let journal = disk.cut_off(Name::Journal, close_journal);
        let cut_off = disk.cut_off(Name::Rooms, close_rooms).and(journal);
        let failed = |error: std::io::Error| Error::Unwell {
            doing: "leave the files as they are",
            why: error.to_string(),
        };
        cut_off.map_err(failed)
    }

    fn end(&self, drain_spread_ms: Option<u64>) -> Result<(), Error> {
        let mut threads = lock(&self.threads);
        if threads.journal.is_none() {
            return Ok(());
        }
        self.shared.queue.close();
        join(threads.journal.take());
        self.shared.mover.close();
        join(threads.mover.take());
        let told = drain_spread_ms.filter(|ms| *ms > 0);
        let told = told.map_or(Ok(()), |ms| guarded(|| self.shared.announce(ms)));
        let closed = guarded(|| {
            lock(&self.shared.journal).file.close()?;
            lock(&self.shared.rooms).close()?;
            Ok(())
        });
        told.and(closed).map_err(|trouble| trouble.into_error("close the store"))
    }
}

impl Engine for Redb {
    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn append(&self, room: &RoomName, records: Vec<Record>, done: Done) {
        let large = |record: &Record| match record {
            Record::Message(message) => message.body.len() > BODY_BYTES,
            _ => false,
        };
        if records.iter().any(large) {
            let why = format!("a body is larger than {BODY_BYTES} bytes");
            return done(Err(Error::Unwell { doing: "append to the journal", why }));
        }
        self.shared.queue.push(Append::new(room.clone(), records, done));
    }

    fn open(&self, room: &RoomName) -> Result<Opened, Error> {
        self.shared.look("open a room", |shared| shared.view(room)?.open(shared.identity.store))
    }

    fn read(
        &self,
        room: &RoomName,
        from: u64,
        messages: usize,
        bytes: usize,
    ) -> Result<Slice, Error> {
        self.shared.look("read a room's log", |shared| {
            shared.view(room)?.read(shared.identity.store, from, messages, bytes)
        })
    }

    fn keys(&self, room: &RoomName) -> Result<Vec<(KeyHash, u64)>, Error> {
        self.shared.look("read a room's keys", |shared| shared.view(room)?.keys())
    }

    fn move_room(&self, room: &RoomName, rules: Option<Bytes>, moved: Moved) {
        self.ask_mover(room, rules, Look::Moving, moved);
    }

    fn seated(&self) -> Result<Vec<RoomName>, Error> {
        Ok(self.seated.clone())
    }

    fn rooms(&self, after: Option<&RoomName>, limit: usize) -> Result<Vec<RoomName>, Error> {
        self.shared.look("list the rooms", |shared| shared.names(after, limit))
    }

    fn due(&self, now: Timestamp, skip: &BTreeSet<RoomName>, limit: usize) -> Result<Due, Error> {
        self.shared.look("look for what is due", |shared| shared.due(now, skip, limit))
    }

    fn touch(&self, room: &RoomName) -> Result<(), Error> {
        waited(|moved| self.ask_mover(room, None, Look::Touched, moved))
    }

    fn take_drain_spread_ms(&self) -> Result<u64, Error> {
        Ok(self.drain_spread_ms.swap(0, Ordering::Relaxed))
    }

    fn note_clock(&self) {
        self.shared.mover.check();
    }

    fn trouble(&self) -> Option<&'static str> {
        self.shared.health.trouble()
    }

    fn close(&self, drain_spread_ms: u64) -> Result<(), Error> {
        self.end(Some(drain_spread_ms))
    }

    fn crash(&self) -> Result<(), Error> {
        self.cut_off()
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        if let Err(error) = self.end(None) {
            tracing::warn!(%error, "the store did not close well");
        }
    }
}

impl Shared {
    /// A room at this moment: see [`reader`] for why its parts are taken under the lock.
    fn view<'a>(&self, room: &'a RoomName) -> Result<View<'a>, Trouble> {
        let held = lock(&self.journal);
        let (unmoved, deletion) = (held.index.get(room).cloned(), held.index.deletion);
        let (journal, rooms) = (held.file.read()?, lock(&self.rooms).read()?);
        drop(held);
        View::new(room, unmoved, deletion, journal, rooms)
    }

    /// Whether there is space for appends.
    fn space(&self) -> Result<(), Error> {
        let looked = self.disk.space();
        self.health.note(Part::Space, looked.is_ok());
        looked
    }

    /// Reads something. If the database refuses, the files' threads are told to look.
    fn look<T>(
        &self,
        doing: &'static str,
        what: impl FnOnce(&Self) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        guarded(|| what(self)).map_err(|trouble| {
            if let Trouble::Redb(_) = trouble {
                self.queue.suspect();
                self.mover.suspect();
            }
            trouble.into_error(doing)
        })
    }

    fn names(&self, after: Option<&RoomName>, limit: usize) -> Result<Vec<RoomName>, Trouble> {
        let (mut names, deleted, rooms);
        {
            let held = lock(&self.journal);
            deleted = held.index.deleted().cloned().collect::<BTreeSet<_>>();
            let unmoved = held.index.names(after).filter(|room| !deleted.contains(*room));
            names = unmoved.take(limit).cloned().collect::<BTreeSet<_>>();
            rooms = lock(&self.rooms).read()?.open_table(ROOMS)?;
        }
        let after = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
        let mut found = 0;
        for row in ReadableTable::range::<&str>(&rooms, (after, Bound::Unbounded))? {
            let (name, _) = row?;
            let what = |_| Trouble::corrupt(format!("the key of room {:?}", name.value()));
            let name = name.value().parse().map_err(what)?;
            if deleted.contains(&name) {
                continue;
            }
            names.insert(name);
            found += 1;
            if found >= limit {
                break;
            }
        }
        Ok(names.into_iter().take(limit).collect())
    }
}

fn spawn(
    name: &'static str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Shared) + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let shared = shared.clone();
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&shared));
    thread.map_err(|error| Error::Unwell { doing: "start a thread", why: error.to_string() })
}

/// Waits for a thread, unless it is this one: an answer may hold the last handle of the store.
fn join(thread: Option<JoinHandle<()>>) {
    let Some(thread) = thread else { return };
    if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
        tracing::error!("a thread of the store has panicked");
    }
}

/// Locks, also after a panic elsewhere: what our locks hold is changed in whole steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
