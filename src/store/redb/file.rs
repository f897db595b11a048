//! The two files: their tables, how they are opened, and what a failure of one is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::super::row::DecodeError;
use super::super::{Error, MAKE_DIRECTORY, Settings};
use super::health::{Health, Part};
use super::space::Space;
use super::system::{Ours, System};
use crate::supervision::caught;

/// The journal: commit sequence → one room's records of that commit.
pub const JOURNAL: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("journal");
/// What a file says of itself, in both files.
pub const META: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
/// Room → its snapshot.
pub const ROOMS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("rooms");
/// Room and seat → the seat.
pub const SEATS: PerRoom = redb::TableDefinition::new("seats");
/// Room and first message → a chunk.
pub const CHUNKS: PerRoom = redb::TableDefinition::new("chunks");
/// Room and first message → the keys of the chunk that begins there, or began there.
pub const KEYS: PerRoom = redb::TableDefinition::new("keys");
/// Room → its due times.
pub const ALARMS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("alarms");
/// What is due, when, and in which room; all is in the key.
pub const DUE: redb::TableDefinition<'_, DueKey, &[u8]> = redb::TableDefinition::new("due");

/// What ([`TRIM`](super::super::row::TRIM) and its neighbours), when in ms, and the room.
pub type DueKey = (u8, u64, &'static str);

/// A table with many rows per room, in order of a number.
pub type PerRoom = redb::TableDefinition<'static, (&'static str, u64), &'static [u8]>;

/// The waits between attempts to open a file that failed.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Journal,
    Rooms,
}

impl Name {
    /// The file's name in the data directory.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Journal => "journal.redb",
            Name::Rooms => "rooms.redb",
        }
    }
}

/// Where the files lie: a directory, or a test's idea of a bad day.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file, or makes it.
    fn open(&self, file: Name) -> Result<Database, DatabaseError>;

    /// Opens a file that has failed, having done what may make it work.
    fn reopen(&self, file: Name) -> Result<Database, DatabaseError> {
        self.open(file)
    }

    /// Whether there is space for appends.
    fn space(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Has an open file closed so that it lies there as if its process had been killed.
    fn cut_off(&self, _: Name, close: &mut dyn FnMut()) -> std::io::Result<()> {
        close();
        Ok(())
    }

    /// The place, in messages.
    fn place(&self) -> String;
}

/// The data directory.
pub struct Directory {
    path: PathBuf,
    journal_cache: usize,
    rooms_cache: usize,
    space: Space,
    system: Arc<dyn System>,
}

impl Directory {
    /// Makes the directory if it is not there. It holds a secret: nobody else may look into it.
    pub fn new(path: &Path, settings: &Settings) -> Result<Self, Error> {
        Self::on(path, settings, Arc::new(Ours))
    }

    /// The same on some operating system.
    pub fn on(path: &Path, settings: &Settings, system: Arc<dyn System>) -> Result<Self, Error> {
        make_directory(path, &*system).map_err(|error| {
            let (doing, why) = (MAKE_DIRECTORY, format!("{}: {error}", path.display()));
            match is_denied(error.kind()) {
                true => Error::Denied { doing, why },
                false => Error::Unwell { doing, why },
            }
        })?;
        let Settings { journal_cache, rooms_cache, reserve, .. } = *settings;
        let space = Space::new(path, reserve, system.clone());
        Ok(Self { path: path.into(), journal_cache, rooms_cache, space, system })
    }
}

/// Makes a directory and those above it, each with a durable name.
fn make_directory(path: &Path, system: &dyn System) -> std::io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|it| !is_there(it)).collect();
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    let above = missing.iter().filter_map(|made| made.parent());
    let synced = above.map(or_here).try_for_each(|above| system.sync(above));
    if synced.is_err() {
        // The next start is to make them again, or it would take their names for durable.
        missing.iter().for_each(|made| _ = std::fs::remove_dir(made));
    }
    synced
}

fn is_there(path: &Path) -> bool {
    or_here(path).is_dir()
}

/// A relative path of one name lies in the working directory.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl Directory {
    /// Makes a file under another name first: redb writes a new one in steps, and half of one
    /// could never be opened again.
    ///
    /// Whoever makes it has it locked until it has its name, so that two who begin at the same
    /// moment do not take it from each other.
    fn make(&self, builder: &redb::Builder, path: &Path) -> Result<Database, DatabaseError> {
        let unfinished = path.with_extension("redb.new");
        if let Ok(left) = std::fs::OpenOptions::new().write(true).open(&unfinished) {
            left.try_lock().map_err(|_| DatabaseError::DatabaseAlreadyOpen)?;
            left.set_len(0)?;
        }
        let db = builder.create(&unfinished)?;
        if path.exists() {
            drop(db);
            std::fs::remove_file(&unfinished)?;
            return builder.create(path);
        }
        std::fs::rename(&unfinished, path)?;
        self.system.sync(&self.path)?;
        Ok(db)
    }
}

impl Disk for Directory {
    fn open(&self, file: Name) -> Result<Database, DatabaseError> {
        let cache = match file {
            Name::Journal => self.journal_cache,
            Name::Rooms => self.rooms_cache,
        };
        let path = self.path.join(file.as_str());
        let mut builder = Database::builder();
        builder.set_cache_size(cache);
        if path.exists() { builder.create(path) } else { self.make(&builder, &path) }
    }

    fn reopen(&self, file: Name) -> Result<Database, DatabaseError> {
        self.space.relieve();
        self.system.sync(&self.path)?; // that may be what failed when it was made
        self.system.forget(&self.path.join(file.as_str()));
        self.open(file)
    }

    fn space(&self) -> Result<(), Error> {
        self.space.look()
    }

    /// Closing writes, and there is no other way to give back the lock: what was there before is
    /// put back.
    fn cut_off(&self, file: Name, close: &mut dyn FnMut()) -> std::io::Result<()> {
        let path = self.path.join(file.as_str());
        let before = path.with_extension("redb.cut");
        let copied = std::fs::copy(&path, &before);
        close();
        copied?;
        std::fs::rename(&before, &path)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// An open file, or why it is not open and when to try again. After any failed read or write
/// the database refuses everything until it has been dropped and opened again.
pub struct File {
    name: Name,
    health: Arc<Health>,
    db: Option<Database>,
    why: Error,
    wait: Duration,
    retry: Instant,
    healed: Option<Instant>,
}

impl File {
    /// A file that has just been opened.
    pub fn new(name: Name, db: Database, health: Arc<Health>) -> Self {
        let (db, why) = (Some(db), Error::Closed);
        Self { name, health, db, why, wait: FIRST_WAIT, retry: Instant::now(), healed: None }
    }

    /// The database itself.
    pub fn db(&self) -> Result<&Database, Trouble> {
        self.db.as_ref().ok_or_else(|| Trouble::Ours(self.why.clone()))
    }

    /// Begins to read what was committed last.
    pub fn read(&self) -> Result<ReadTransaction, Trouble> {
        Ok(self.db()?.begin_read()?)
    }

    /// Begins the next commit. Only one thread writes a file, so that this never waits.
    ///
    /// Quick-repair on every commit: without it, opening after a crash walks the whole file; and
    /// the two-phase commit that it brings is what a failing fsync cannot destroy the file with.
    pub fn write(&self) -> Result<WriteTransaction, Trouble> {
        let mut txn = self.db()?.begin_write()?;
        txn.set_quick_repair(true);
        Ok(txn)
    }

    /// Gives up the database after a failure; [`heal`](Self::heal) may put back another. One that
    /// opens and fails again at once is waited for as long as one that does not open.
    pub fn fail(&mut self, why: Error) -> Broken {
        tracing::error!(file = self.name.as_str(), error = %why, "the store is unwell");
        self.health.note(self.part(), false);
        self.why = why;
        let again = self.healed.is_some_and(|at| at.elapsed() < LONGEST_WAIT);
        self.wait = if again { (self.wait * 2).min(LONGEST_WAIT) } else { FIRST_WAIT };
        self.retry = Instant::now() + self.wait;
        Broken(self.db.take())
    }

    /// Closes the file for good.
    pub fn close(&mut self) -> Result<(), DatabaseError> {
        self.why = Error::Closed;
        self.db.take().map_or(Ok(()), Database::close)
    }

    /// Why the file is not open; `None` while it is.
    pub fn why(&self) -> Option<Error> {
        self.db.is_none().then(|| self.why.clone())
    }

    /// When to try to open the file again; `None` while it is open, and once it is closed.
    pub fn retry_at(&self) -> Option<Instant> {
        let failed = self.db.is_none() && !matches!(self.why, Error::Closed);
        failed.then_some(self.retry)
    }

    /// Puts back a file that was opened again.
    pub fn heal(&mut self, db: Database) {
        tracing::info!(file = self.name.as_str(), "the store is well again");
        self.health.note(self.part(), true);
        self.db = Some(db);
        self.healed = Some(Instant::now());
    }

    fn part(&self) -> Part {
        match self.name {
            Name::Journal => Part::Journal,
            Name::Rooms => Part::Rooms,
        }
    }

    /// Opening again has failed too: waits twice as long.
    pub fn still_failing(&mut self, why: Error) {
        tracing::warn!(file = self.name.as_str(), error = %why, "the store is still unwell");
        self.why = why;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.retry = Instant::now() + self.wait;
    }
}

/// A database that has failed, to be let go of when nothing is locked: closing may take a while,
/// and may panic once more.
#[must_use]
pub struct Broken(Option<Database>);

impl Broken {
    /// Closes the file as well as it still can be.
    pub fn discard(self) {
        _ = guarded(|| self.0.map_or(Ok(()), |db| Ok(db.close()?)));
    }
}

/// What goes wrong between here and the platter.
#[derive(Debug)]
pub enum Trouble {
    /// The database refused, or panicked: whether the file is still usable is uncertain.
    Redb(String),
    /// Something else, the file being well: a damaged row, a closed store.
    Ours(Error),
}

impl Trouble {
    /// As the caller of the store sees it.
    pub fn into_error(self, doing: &'static str) -> Error {
        match self {
            Trouble::Redb(why) => Error::Unwell { doing, why },
            Trouble::Ours(error) => error,
        }
    }

    fn unopened(error: &std::io::Error) -> Self {
        let (doing, why) = ("open the store", error.to_string());
        match error.kind() {
            kind if is_denied(kind) => Trouble::Ours(Error::Denied { doing, why }),
            kind if is_damage(kind) => Trouble::Redb(why),
            _ => Trouble::Ours(Error::Unwell { doing, why }),
        }
    }

    /// The trouble of opening a file for the first time: if it is the database's, the file is
    /// damaged.
    pub fn at_start(self, name: Name) -> Self {
        match self {
            Trouble::Redb(why) => Trouble::corrupt(format!("{} ({why})", name.as_str())),
            ours => ours,
        }
    }

    /// A row that is not what was written.
    pub fn corrupt(what: String) -> Self {
        Trouble::Ours(Error::Corrupt { what })
    }
}

/// Names the row that could not be decoded.
pub fn damaged(what: impl FnOnce() -> String) -> impl FnOnce(DecodeError) -> Trouble {
    move |error| Trouble::corrupt(format!("{} ({error})", what()))
}

macro_rules! trouble_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Trouble::Redb(error.to_string())
            }
        }
    )*};
}

trouble_from!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::CursorError
);

/// A file that cannot be opened: it is not ours to open, or not what we wrote.
impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Storage(redb::StorageError::Io(error)) => Self::unopened(&error),
            other => Trouble::Redb(other.to_string()),
        }
    }
}

/// Whether the file itself is to blame.
pub fn is_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::IsADirectory)
}

/// Whether the system has nothing against the file, only against us.
pub fn is_denied(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Does something with the database, turning a panic (a file damaged from outside) into an
/// error: the thread that meets it must live to answer.
pub fn guarded<T>(what: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    caught(what).unwrap_or_else(|panic| Err(Trouble::Redb(format!("a damaged file? {panic}"))))
}
