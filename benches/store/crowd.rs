//! A thousand rooms at once, against a bare table that takes as much.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dormouse::protocol::RoomName;
use dormouse::store::{Engine as _, Redb};
use redb::{Builder, TableDefinition};

use crate::{BODY, Options, Report, message, progress, room, settings};

const ROOMS: usize = 1_000;

const JOURNAL: TableDefinition<u64, &[u8]> = TableDefinition::new("journal");

pub fn measure(options: &Options, report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    progress("a bare redb table, a thousand entries with each commit");
    let bare = bare(&dir.path().join("bare.redb"), options.each);
    progress("a thousand rooms at the store's trait");
    let ours = rooms(&dir.path().join("rooms"), options.each);
    report.say("bare redb table, 1,000 at once", bare, "records/s", "");
    report.say("1,000 rooms at the trait", ours, "records/s", "");
    report.say("of the bare table", ours / bare, "times", "to be 0.5 at least");
}

fn bare(path: &Path, each: Duration) -> f64 {
    let db = Builder::new().set_cache_size(settings().journal_cache).create(path).unwrap();
    let (begun, mut next) = (Instant::now(), 0);
    while begun.elapsed() < each {
        let mut txn = db.begin_write().unwrap();
        txn.set_quick_repair(true);
        {
            let mut journal = txn.open_table(JOURNAL).unwrap();
            for _ in 0..ROOMS {
                next += 1;
                journal.insert(next, &BODY[..]).unwrap();
            }
        }
        txn.commit().unwrap();
    }
    next as f64 / begun.elapsed().as_secs_f64()
}

fn rooms(dir: &Path, each: Duration) -> f64 {
    let engine = Redb::open(dir, settings()).unwrap();
    let names: Vec<RoomName> = (0..ROOMS).map(room).collect();
    let mut seqs = vec![0; ROOMS];
    let (done, answers) = mpsc::sync_channel(ROOMS);
    let mut append = |at: usize| {
        seqs[at] += 1;
        let done = done.clone();
        let answer = Box::new(move |result: Result<_, _>| {
            result.expect("the disk is well");
            done.send(at).expect("one place for each room");
        });
        engine.append(&names[at], Vec::from([message(seqs[at])]), answer);
    };
    let (begun, mut answered) = (Instant::now(), 0);
    (0..ROOMS).for_each(&mut append);
    while begun.elapsed() < each {
        append(answers.recv().unwrap());
        answered += 1;
    }
    let rate = f64::from(answered) / begun.elapsed().as_secs_f64();
    engine.close(0).unwrap();
    rate
}
