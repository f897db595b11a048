//! A store that nobody has open, to look at: everything can be read, and the files do not change.
//!
//! It is the engine itself over files whose writes stay in memory ([`Overlay`]), told to move
//! nothing unasked.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use redb::{Database, DatabaseError, StorageBackend as _, StorageError};

use super::super::{Error, Settings};
use super::file::{Disk, Name, is_denied};
use super::overlay::Overlay;
use super::{Redb, lock};

/// The cache of each file.
const CACHE: usize = 16 << 20;

/// Opens the store in `dir` for looking at it. Nobody else can open it meanwhile.
pub fn look(dir: &Path, settings: &Settings) -> Result<Redb, Error> {
    let (rooms, journal) = (
        overlay(dir, Name::Rooms, "open the store")?,
        overlay(dir, Name::Journal, "open the store")?,
    );
    let files = Mutex::new((Some(rooms), Some(journal)));
    let settings = Settings {
        journal_bytes: u64::MAX,
        journal_total_bytes: u64::MAX,
        journal_age: Duration::MAX,
        reserve: None,
        kinds: Default::default(),
        clock: Default::default(),
        supervisor: Default::default(),
        ..settings.clone()
    };
    Redb::open_on(Looked { dir: dir.to_owned(), files }, settings)
}

/// A file of a store that is not to be changed.
pub(super) fn overlay(dir: &Path, name: Name, doing: &'static str) -> Result<Overlay, Error> {
    match Overlay::open(&dir.join(name.as_str())) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(Error::InUse { dir: dir.display().to_string() }),
        Err(error) => {
            let why = format!("{}: {error}", name.as_str());
            Err(match error.kind() {
                ErrorKind::NotFound => {
                    let why = format!("{} has no {}", dir.display(), name.as_str());
                    Error::Unwell { doing, why }
                }
                kind if is_denied(kind) => Error::Denied { doing, why },
                _ => Error::Unwell { doing, why },
            })
        }
    }
}

/// The two files, until each is opened. None is opened twice: what one was given up for is in it.
struct Looked {
    dir: PathBuf,
    files: Mutex<(Option<Overlay>, Option<Overlay>)>,
}

impl Disk for Looked {
    fn open(&self, file: Name) -> Result<Database, DatabaseError> {
        let mut files = lock(&self.files);
        let overlay = match file {
            Name::Rooms => files.0.take(),
            Name::Journal => files.1.take(),
        };
        drop(files);
        let refused = |why: String| {
            let error = io::Error::new(ErrorKind::InvalidData, why);
            DatabaseError::Storage(StorageError::Io(error))
        };
        match overlay {
            Some(overlay) if overlay.len().is_ok_and(|len| len > 0) => {
                Database::builder().set_cache_size(CACHE).create_with_backend(overlay)
            }
            Some(_) => Err(refused(format!("{} is empty", file.as_str()))),
            None => Err(refused(format!("{} cannot be read", file.as_str()))),
        }
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }
}
