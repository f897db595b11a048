//! Space on the disk, before there is none.
//!
//! A full disk is the one failure that can be seen coming, and one that redb cannot get out of by
//! itself: writing copies pages, so that even trimming needs free blocks. Hence two measures:
//!
//! - A *reserve*: a file of noise in the data directory. It is deleted before a file that failed on
//!   a full disk is opened again, so that what was begun can be ended; and written anew when as
//!   much is free twice over.
//! - A *limit*: while less than the reserve's size is free besides it, or the reserve is spent,
//!   nothing is appended. Reading, moving and trimming go on.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::Error;
use super::lock;
use super::system::System;

/// The file's name in the data directory.
pub const RESERVE: &str = "dormouse.reserve";

/// The pause after the reserve could not be written: each attempt writes all of it.
const ATTEMPTS: Duration = Duration::from_secs(10);

/// The space of a data directory.
pub struct Space {
    directory: PathBuf,
    file: PathBuf,
    /// The reserve's size; `None` if nothing is kept back.
    reserve: Option<u64>,
    /// When writing it was tried in vain, and whether it was for want of space.
    tried: Mutex<Option<(Instant, bool)>>,
    system: Arc<dyn System>,
}

impl Space {
    /// The space of this directory. A reserve that is no longer wanted is let go.
    pub fn new(directory: &Path, reserve: Option<u64>, system: Arc<dyn System>) -> Self {
        let (directory, file) = (directory.into(), directory.join(RESERVE));
        let space = Self { directory, file, reserve, tried: Mutex::default(), system };
        if reserve.is_none() {
            space.release();
        }
        space
    }

    /// Whether there is enough for appends. Puts the reserve in its place when it can.
    pub fn look(&self) -> Result<(), Error> {
        let (Some(reserve), Some(free)) = (self.reserve, self.free()) else { return Ok(()) };
        let held = fs::metadata(&self.file).map_or(0, |file| file.len());
        if held == reserve && free >= reserve {
            return Ok(());
        }
        let nearly_full = Error::NearlyFull { free, least: reserve };
        if held == reserve || free.saturating_add(held) < reserve.saturating_mul(2) {
            return Err(nearly_full);
        }
        let lately = lock(&self.tried).filter(|(at, _)| at.elapsed() < ATTEMPTS);
        let for_space = match lately {
            Some((_, for_space)) => for_space,
            None => {
                let Err(error) = self.write(reserve) else { return Ok(()) };
                self.release();
                tracing::warn!(%error, "the reserve cannot be written");
                let kind = error.kind();
                let for_space = matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
                *lock(&self.tried) = Some((Instant::now(), for_space));
                for_space
            }
        };
        // Files of that size are not allowed here, perhaps: the store works without.
        if for_space { Err(nearly_full) } else { Ok(()) }
    }

    /// Gives the reserve back to the disk if it is needed.
    pub fn relieve(&self) {
        if let (Some(reserve), Some(free)) = (self.reserve, self.free())
            && free < reserve
            && self.release()
        {
            tracing::warn!(free, "the disk is full, the reserve is spent");
        }
    }

    /// Deletes the reserve; says whether there was one.
    fn release(&self) -> bool {
        fs::remove_file(&self.file).is_ok()
    }

    /// The bytes that we may still write; `None` where nobody can tell.
    fn free(&self) -> Option<u64> {
        self.system.free(&self.directory)
    }

    /// Writes all of it, in bytes that no file-system stores as less.
    fn write(&self, reserve: u64) -> io::Result<()> {
        let mut file = File::create(&self.file)?;
        let (mut left, mut state) = (reserve, 0x9e37_79b9_7f4a_7c15_u64);
        while left > 0 {
            let mut noise = [0; 64 << 10];
            for word in noise.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            let some = left.min(noise.len() as u64);
            file.write_all(&noise[..some as usize])?;
            left -= some;
        }
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::super::system::Ours;
    use super::*;
    use crate::store::redb::tests::files::Told;

    /// A size that is there twice over on any machine that can run the tests.
    const SMALL: u64 = 100_000;

    #[test]
    fn the_reserve_is_really_written_and_given_back_only_when_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(RESERVE);
        let space = Space::new(dir.path(), Some(SMALL), Arc::new(Ours));
        space.look().unwrap();
        let written = fs::read(&file).unwrap();
        assert_eq!(written.len() as u64, SMALL);
        assert!(zstd::bulk::compress(&written, 1).unwrap().len() as u64 > SMALL / 10 * 9);
        space.relieve();
        assert!(file.exists(), "there is space");

        // Another size is wanted from now on.
        Space::new(dir.path(), Some(SMALL / 2), Arc::new(Ours)).look().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), SMALL / 2);
        Space::new(dir.path(), None, Arc::new(Ours)).look().unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn where_it_may_not_be_written_the_store_works_without() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(RESERVE)).unwrap();
        let space = Space::new(dir.path(), Some(SMALL), Arc::new(Ours));
        space.look().unwrap();
        fs::remove_dir(dir.path().join(RESERVE)).unwrap();
        space.look().unwrap();
        assert!(!dir.path().join(RESERVE).exists(), "it is not tried all the time");
    }

    #[test]
    fn a_disk_with_less_than_the_reserve_is_nearly_full() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path(), Some(u64::MAX / 4), Arc::new(Ours));
        assert!(matches!(space.look(), Err(Error::NearlyFull { .. })));
        assert!(!dir.path().join(RESERVE).exists(), "not even begun");
        fs::write(dir.path().join(RESERVE), "something").unwrap();
        space.relieve();
        assert!(!dir.path().join(RESERVE).exists(), "given back");
    }

    /// "Nearly full" came with the first write that failed: appends of then were lost.
    #[test]
    fn as_much_as_the_reserve_must_be_free_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let system = Arc::new(Told::default());
        let space = Space::new(dir.path(), Some(SMALL), system.clone());
        let look_with = |free| {
            system.set_free(free);
            space.look()
        };
        let is_nearly_full = |free| match look_with(free) {
            Err(Error::NearlyFull { free: told, least }) => (told, least) == (free, SMALL),
            other => panic!("{other:?}"),
        };
        assert!(is_nearly_full(2 * SMALL - 1), "there is no reserve yet, nor space for it");
        look_with(2 * SMALL).unwrap();
        assert!(dir.path().join(RESERVE).exists());
        look_with(SMALL).unwrap();
        assert!(is_nearly_full(SMALL - 1));
        look_with(SMALL).unwrap();

        space.relieve();
        assert!(dir.path().join(RESERVE).exists(), "enough is free");
        system.set_free(SMALL - 1);
        space.relieve();
        assert!(!dir.path().join(RESERVE).exists(), "it is spent");
        assert!(is_nearly_full(2 * SMALL - 1), "it could not be written anew");
        look_with(2 * SMALL).unwrap();
    }
}
