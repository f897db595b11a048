//! Two files in memory that fail on request, and what a power cut could leave of them.

use std::sync::{Arc, Mutex};

use redb::{Database, DatabaseError, StorageBackend};

use super::super::super::Error;
use super::super::file::{Disk, Name};
use super::lock;

/// What goes wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A read fails.
    Read,
    /// A write fails and has not happened.
    Write,
    /// A sync fails though everything is on the disk.
    SyncKept,
    /// A sync fails as it does on Linux: what was to be synced never gets to the platter, though
    /// it can be read as long as there is power.
    SyncLost,
    /// The code between panics on a write.
    Panic,
}

/// A disk with a bad day ahead.
#[derive(Clone)]
pub struct Faulty(Arc<Mutex<Inner>>);

struct Inner {
    files: [Contents; 2],
    armed: Option<(Name, Fault, usize)>,
    /// Operations until everything fails; the image is taken then.
    until_cut: Option<u64>,
    dead: bool,
    /// Nothing can be written.
    full: bool,
    /// The same, but for what the reserve gave back.
    tight: bool,
    /// Whether there is a reserve to give back.
    reserve: bool,
    operations: u64,
    bytes_read: u64,
    dice: u64,
}

#[derive(Default, Clone)]
struct Contents {
    /// What is on the platter, and what a reader sees.
    durable: Vec<u8>,
    live: Vec<u8>,
    pending: Vec<Op>,
    opened: u64,
    is_open: bool,
}

#[derive(Clone)]
enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

fn apply(op: &Op, to: &mut Vec<u8>) {
    match op {
        Op::SetLen(len) => to.resize(*len as usize, 0),
        Op::Write(at, data) => {
            let end = *at as usize + data.len();
            if to.len() < end {
                to.resize(end, 0);
            }
            to[*at as usize..end].copy_from_slice(data);
        }
    }
}

impl Default for Faulty {
    fn default() -> Self {
        Self::with_seed(1)
    }
}

impl Faulty {
    pub fn with_seed(seed: u64) -> Self {
        Self::with_files(Default::default(), seed)
    }

    fn with_files(files: [Contents; 2], dice: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            files,
            armed: None,
            until_cut: None,
            dead: false,
            full: false,
            tight: false,
            reserve: true,
            operations: 0,
            bytes_read: 0,
            dice,
        })))
    }

    /// Lets the fault happen on the file's operation of its kind after `after` others.
    pub fn fail(&self, file: Name, fault: Fault, after: usize) {
        lock(&self.0).armed = Some((file, fault, after));
    }

    /// From now on there is no space; or there is again.
    pub fn fill(&self, full: bool) {
        let mut inner = lock(&self.0);
        (inner.full, inner.tight) = (full, full);
    }

    /// Whether the reserve is in its place.
    pub fn has_reserve(&self) -> bool {
        lock(&self.0).reserve
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        lock(&self.0).bytes_read
    }

    /// Writes and syncs so far.
    pub fn operations(&self) -> u64 {
        lock(&self.0).operations
    }

    /// After as many writes and syncs more, nothing works.
    pub fn cut_after(&self, operations: u64) {
        lock(&self.0).until_cut = Some(operations);
    }

    /// Whether the power has gone.
    pub fn is_dead(&self) -> bool {
        lock(&self.0).dead
    }

    /// Lets the power come back, with all that was written there: as after kill -9.
    pub fn forget_power_cut(&self) {
        let mut inner = lock(&self.0);
        (inner.dead, inner.until_cut) = (false, None);
    }

    /// Takes the power away now.
    pub fn pull(&self) {
        lock(&self.0).dead = true;
    }

    /// A number below `sides`.
    pub fn dice(&self, sides: u64) -> u64 {
        lock(&self.0).roll(sides)
    }

    /// What is left after the power has gone.
    pub fn image(&self) -> Self {
        let mut inner = lock(&self.0);
        assert!(inner.dead, "the power is still on");
        let style = inner.roll(3);
        let files = inner.files.clone().map(|file| {
            let mut left = file.durable;
            let all = file.pending.len() as u64;
            let prefix = inner.roll(all + 1);
            for (at, op) in (0..).zip(file.pending) {
                match (style, op) {
                    (0, op) if at < prefix => apply(&op, &mut left),
                    (1, op) if inner.roll(2) == 0 => apply(&op, &mut left),
                    (2, Op::Write(at, data)) => {
                        for (at, sector) in (at..).step_by(512).zip(data.chunks(512)) {
                            if inner.roll(8) != 0 {
                                apply(&Op::Write(at, sector.into()), &mut left);
                            }
                        }
                    }
                    (2, op) => apply(&op, &mut left),
                    _ => {}
                }
            }
            Contents { durable: left.clone(), live: left, ..Contents::default() }
        });
        let seed = inner.roll(u64::MAX);
        Self::with_files(files, seed | 1)
    }
}

impl Inner {
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) % sides
    }

    /// Whether the armed fault happens at this operation.
    fn happens(&mut self, file: Name, kinds: &[Fault]) -> Option<Fault> {
        let (name, fault, after) = self.armed.as_mut()?;
        if *name != file || !kinds.contains(fault) {
            return None;
        }
        let fault = *fault;
        match after.checked_sub(1) {
            Some(left) => *after = left,
            None => self.armed = None,
        }
        self.armed.is_none().then_some(fault)
    }

    /// Counts a write or sync; says whether there is still power.
    fn powered(&mut self) -> std::io::Result<()> {
        self.operations += 1;
        if let Some(left) = &mut self.until_cut {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.dead = true,
            }
        }
        if self.dead { Err(std::io::Error::other("no power")) } else { Ok(()) }
    }
}

impl Disk for Faulty {
    fn open(&self, name: Name) -> Result<Database, DatabaseError> {
        let is_new = lock(&self.0).files[name as usize].live.is_empty();
        if is_new && !self.is_dead() {
            // A new file gets its name when it is whole.
            let scratch = Contents::default();
            let made = Self::with_files([scratch.clone(), scratch], 1);
            let handle = Handle { disk: made.clone(), name, opened: 1 };
            Database::builder().create_with_backend(handle)?.close()?;
            let bytes = lock(&made.0).files[name as usize].live.clone();
            let file = &mut lock(&self.0).files[name as usize];
            (file.live, file.durable) = (bytes.clone(), bytes);
        }
        let opened = {
            let mut inner = lock(&self.0);
            let file = &mut inner.files[name as usize];
            assert!(!file.is_open, "a file is opened before it was closed");
            file.is_open = true;
            file.opened += 1;
            file.opened
        };
        let handle = Handle { disk: self.clone(), name, opened };
        Database::builder().set_cache_size(1 << 20).create_with_backend(handle)
    }

    fn reopen(&self, name: Name) -> Result<Database, DatabaseError> {
        {
            let mut inner = lock(&self.0);
            let spent = inner.full && std::mem::take(&mut inner.reserve);
            inner.full &= !spent;
        }
        self.open(name)
    }

    fn space(&self) -> Result<(), Error> {
        let mut inner = lock(&self.0);
        if inner.full || (!inner.reserve && inner.tight) {
            return Err(Error::NearlyFull { free: 0, least: 1 });
        }
        inner.reserve = true;
        Ok(())
    }

    fn place(&self) -> String {
        "memory".into()
    }
}

/// One opening of a file.
struct Handle {
    disk: Faulty,
    name: Name,
    opened: u64,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} #{}", self.name, self.opened)
    }
}

impl Handle {
    /// Lets the file be opened again, as the end of a lock does.
    fn release(&self) {
        let file = &mut lock(&self.disk.0).files[self.name as usize];
        file.is_open &= file.opened != self.opened;
    }

    fn io<T>(
        &self,
        what: impl FnOnce(&mut Inner, usize) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        what(&mut lock(&self.disk.0), self.name as usize)
    }

    fn change(&self, op: Op) -> std::io::Result<()> {
        let fault = self.io(|inner, _| {
            inner.powered()?;
            if inner.full {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(inner.happens(self.name, &[Fault::Write, Fault::Panic]))
        })?;
        match fault {
            Some(Fault::Panic) => panic!("asked for by a test"),
            Some(_) => return Err(std::io::Error::other("a write fails")),
            None => {}
        }
        self.io(|inner, file| {
            let file = &mut inner.files[file];
            apply(&op, &mut file.live);
            file.pending.push(op);
            Ok(())
        })
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> std::io::Result<u64> {
        self.io(|inner, file| Ok(inner.files[file].live.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.io(|inner, file| {
            if inner.happens(self.name, &[Fault::Read]).is_some() {
                return Err(std::io::Error::other("a read fails"));
            }
            inner.bytes_read += out.len() as u64;
            let end = offset as usize + out.len();
            let data = inner.files[file].live.get(offset as usize..end);
            out.copy_from_slice(data.ok_or_else(|| std::io::Error::other("past the end"))?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.change(Op::SetLen(len))
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.io(|inner, file| {
            inner.powered()?;
            let fault = inner.happens(self.name, &[Fault::SyncKept, Fault::SyncLost]);
            let file = &mut inner.files[file];
            let pending = std::mem::take(&mut file.pending);
            if fault == Some(Fault::SyncLost) {
                return Err(std::io::Error::other("a sync fails"));
            }
            pending.iter().for_each(|op| apply(op, &mut file.durable));
            fault.map_or(Ok(()), |_| Err(std::io::Error::other("a sync fails")))
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.change(Op::Write(offset, data.into()))
    }

    fn close(&self) -> std::io::Result<()> {
        self.release();
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.release();
    }
}
