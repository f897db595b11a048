//! Opening a store of many sleeping rooms.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use dormouse::store::{Engine as _, Error, Redb};

use crate::{Options, Report, message, progress, room, settings};

/// Appends on their way at once.
const BATCH: usize = 4_096;
/// Threads that put rooms to sleep; each waits for the mover.
const SANDMEN: usize = 256;

pub fn measure(options: &Options, report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), options.rooms);
    let size = |file: &str| dir.path().join(file).metadata().unwrap().len() as f64 / 1e6;

    progress("opening");
    let (read_before, begun) = (bytes_read(), Instant::now());
    let engine = Redb::open(dir.path(), settings()).unwrap();
    let (took, read) = (begun.elapsed(), read_before.and_then(|b| Some(bytes_read()? - b)));
    let begun = Instant::now();
    let opened = engine.open(&room(options.rooms / 2)).unwrap();
    let woken = begun.elapsed();
    assert_eq!(opened.newest, 1, "the rooms are there");
    engine.close(0).unwrap();

    report.say("sleeping rooms", options.rooms as f64, "rooms", "one message each");
    report.say("rooms.redb", size("rooms.redb"), "MB", "");
    report.say("journal.redb", size("journal.redb"), "MB", "");
    report.say("opening the store", took.as_secs_f64() * 1e3, "ms", "files in the page cache");
    if let Some(read) = read {
        report.say("read while opening", read as f64 / 1e6, "MB", "");
    }
    report.say("opening one room, the first", woken.as_secs_f64() * 1e6, "us", "");
}

fn build(dir: &Path, rooms: usize) {
    let engine = Redb::open(dir, settings()).unwrap();
    for first in (0..rooms).step_by(BATCH) {
        let (done, answers) = mpsc::sync_channel(BATCH);
        let batch = first..rooms.min(first + BATCH);
        for number in batch.clone() {
            let done = done.clone();
            let answer = Box::new(move |result: Result<_, _>| done.send(result).unwrap());
            engine.append(&room(number), Vec::from([message(1)]), answer);
        }
        for _ in batch {
            answers.recv().unwrap().unwrap();
        }
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SANDMEN {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rooms {
                        return;
                    }
                    if number.is_multiple_of((rooms / 10).max(1)) {
                        progress(&format!("{number} of {rooms} rooms are asleep"));
                    }
                    while let Err(error) = engine.hibernate(&room(number), None) {
                        assert!(matches!(error, Error::Busy), "{error}");
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    engine.close(0).unwrap();
}

/// Bytes that this process has read, cached or not; known on Linux only.
fn bytes_read() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok())
}
