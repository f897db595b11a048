//! What is asked of the operating system, and when.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::super::space::RESERVE;
use super::super::system::System;
use super::*;

/// A system that notes what it is asked.
#[derive(Default)]
pub(in super::super) struct Told {
    free: AtomicU64,
    /// Directories whose names were made durable, with the names that there were.
    synced: Mutex<Vec<(PathBuf, Vec<String>)>>,
    forgotten: Mutex<Vec<PathBuf>>,
    fails: std::sync::atomic::AtomicBool,
}

impl Told {
    pub(in super::super) fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::SeqCst);
    }

    /// Whether a name in a directory is durable.
    fn is_durable(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap().to_str().unwrap();
        let synced = lock(&self.synced);
        let mut there = synced.iter().filter(|(directory, _)| Some(&**directory) == path.parent());
        there.any(|(_, names)| names.iter().any(|it| it == name))
    }
}

impl System for Told {
    fn sync(&self, directory: &Path) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("asked for by a test"));
        }
        let entries = std::fs::read_dir(directory)?;
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        lock(&self.synced).push((directory.into(), names.collect()));
        Ok(())
    }

    fn forget(&self, file: &Path) {
        lock(&self.forgotten).push(file.into());
    }

    fn free(&self, _: &Path) -> Option<u64> {
        Some(self.free.load(Ordering::SeqCst))
    }
}

/// A store was gone after a power cut, or its directory, though it had said `ok`.
#[test]
fn what_a_start_makes_has_a_durable_name_before_the_store_is_open() {
    let (dir, told) = (dir(), Arc::new(Told::default()));
    let data = dir.path().join("var").join("dormouse");
    let disk = Directory::on(&data, &settings(), told.clone()).unwrap();
    let store = Redb::open_on(disk, settings()).unwrap();
    let made = [dir.path().join("var"), data.clone()];
    let files = [Name::Rooms, Name::Journal].map(|file| data.join(file.as_str()));
    for path in made.iter().chain(&files) {
        assert!(told.is_durable(path), "{}", path.display());
    }
    drop(store);

    // What was there is not made again, and a name that cannot be made durable is no store.
    let told = Arc::new(Told::default());
    drop(Redb::open_on(Directory::on(&data, &settings(), told.clone()).unwrap(), settings()));
    assert_eq!(lock(&told.synced).len(), 0);
    told.fails.store(true, Ordering::SeqCst);
    let other = dir.path().join("other").join("place");
    for _ in 0..2 {
        assert!(Directory::on(&other, &settings(), told.clone()).is_err());
    }
    std::fs::create_dir_all(&other).unwrap();
    let disk = Directory::on(&other, &settings(), told).unwrap();
    assert!(Redb::open_on(disk, settings()).is_err());
}

/// Writing copies pages: a file that failed on a full disk could not be opened again.
#[test]
fn the_reserve_is_spent_before_a_file_is_opened_on_a_full_disk() {
    const RESERVED: u64 = 100_000;
    let (dir, told) = (dir(), Arc::new(Told::default()));
    let settings = Settings { reserve: Some(RESERVED), ..settings() };
    let disk = Directory::on(dir.path(), &settings, told.clone()).unwrap();
    drop(disk.open(Name::Rooms).unwrap());
    told.set_free(RESERVED * 2);
    disk.space().unwrap();
    let reserve = dir.path().join(RESERVE);
    drop(disk.reopen(Name::Rooms).unwrap());
    assert!(reserve.exists(), "there is space enough");
    told.set_free(RESERVED - 1);
    drop(disk.reopen(Name::Rooms).unwrap());
    assert!(!reserve.exists(), "it is given back");
    assert!(matches!(disk.space(), Err(Error::NearlyFull { .. })));
    told.set_free(RESERVED * 2);
    disk.space().unwrap();
    assert!(reserve.exists(), "and is there again as soon as it can be");
}

/// After a failed fsync the page cache shows what never reached the disk.
#[test]
fn a_file_that_failed_is_read_from_the_disk() {
    let (dir, told) = (dir(), Arc::new(Told::default()));
    let disk = Directory::on(dir.path(), &settings(), told.clone()).unwrap();
    for file in [Name::Rooms, Name::Journal] {
        drop(disk.open(file).unwrap());
        assert_eq!(lock(&told.forgotten).len(), 0, "it is as it was written");
        drop(disk.reopen(file).unwrap());
        assert_eq!(*lock(&told.forgotten), [dir.path().join(file.as_str())]);
        lock(&told.forgotten).clear();
    }
}
