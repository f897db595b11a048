//! One room in a closed loop, in turns with a file that is written and synced.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dormouse::store::{Engine as _, Redb};

use crate::keeper::Talk;
use crate::{Options, Report, median, message, progress, room, settings};

/// Publishes in a row before it is the next one's turn.
const TURN: usize = 10;

pub fn measure(options: &Options, report: &mut Report) {
    progress("one room, in turns with a file that is synced");
    let dir = tempfile::tempdir().unwrap();
    let mut file = File::create(dir.path().join("file")).unwrap();
    let engine = Redb::open(&dir.path().join("trait"), settings()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut talk = runtime.block_on(Talk::begin(&dir.path().join("keeper")));

    let (mut synced, mut appended, mut published) = (Vec::new(), Vec::new(), Vec::new());
    let (name, mut seq) = (room(0), 0);
    let end = Instant::now() + 3 * options.each;
    while Instant::now() < end {
        for _ in 0..TURN {
            synced.push(timed(|| sync_once(&mut file)));
        }
        for _ in 0..TURN {
            seq += 1;
            let record = message(seq);
            appended.push(timed(|| {
                let (done, is_done) = mpsc::sync_channel(1);
                let done = Box::new(move |result: Result<_, _>| done.send(result).unwrap());
                engine.append(&name, Vec::from([record]), done);
                is_done.recv().unwrap().unwrap();
            }));
        }
        // A task among the runtime's own, as a session is one: not the thread that waits for it.
        let turn = runtime.spawn(async move {
            let mut took = Vec::with_capacity(TURN);
            for _ in 0..TURN {
                let begun = Instant::now();
                talk.publish().await;
                took.push(begun.elapsed());
            }
            (talk, took)
        });
        let took;
        (talk, took) = runtime.block_on(turn).unwrap();
        published.extend(took);
    }
    engine.close(0).unwrap();
    runtime.block_on(talk.end());

    let (sync, append, publish) = (median(synced), median(appended), median(published));
    let times = |what: Duration| what.as_secs_f64() / sync.as_secs_f64();
    let us = |what: Duration| what.as_secs_f64() * 1e6;
    report.say("fdatasync of 4 KiB, median", us(sync), "us", "a safe commit needs two");
    report.say("append at the trait, median", us(append), "us", "");
    report.say("publish to ok through a keeper, median", us(publish), "us", "");
    report.say("append, in fdatasyncs", times(append), "times", "");
    report.say("publish to ok, in fdatasyncs", times(publish), "times", "to be within 4");
}

fn timed(what: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    what();
    begun.elapsed()
}

fn sync_once(file: &mut File) {
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[7; 4096]).unwrap();
    file.sync_data().unwrap();
}
