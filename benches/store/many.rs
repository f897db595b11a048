//! Opening a store of many sleeping rooms.
//!
//! `dormouse bench sleep` opens a whole gateway on such a store; here it is the engine alone.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use dormouse::bench::dormitory;
use dormouse::store::{Engine as _, Redb};

use crate::{Options, Report, progress, settings};

pub fn measure(options: &Options, report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let never = AtomicBool::new(false);
    dormitory::fill(dir.path(), options.rooms, &never, &|how_far| progress(&how_far)).unwrap();
    let size = |file: &str| dir.path().join(file).metadata().unwrap().len() as f64 / 1e6;

    progress("opening");
    let (read_before, begun) = (bytes_read(), Instant::now());
    let engine = Redb::open(dir.path(), settings()).unwrap();
    let (took, read) = (begun.elapsed(), read_before.and_then(|b| Some(bytes_read()? - b)));
    let begun = Instant::now();
    let opened = engine.open(&dormitory::room(options.rooms / 2)).unwrap();
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

/// Bytes that this process has read, cached or not; known on Linux only.
fn bytes_read() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok())
}
