//! A store of many sleeping rooms, made by the store itself.
//!
//! A million rooms that clients had spoken in, one after the other, would take hours. Here each
//! room's message is appended and the room put to sleep by the engine directly, many at once: what
//! lies on disk afterwards is the same. It is all that a benchmark has to do with the store; what
//! is measured is a gateway of its own process that opens it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;

use crate::config::Config;
use crate::protocol::{BodyKind, RoomName, Timestamp};
use crate::store::{self, Engine as _, Message, Record, Redb};

/// Appends on their way at once.
const BATCH: usize = 4_096;

/// Threads that put rooms to sleep; each waits for the mover.
const SANDMEN: usize = 256;

/// How often it is said how far it is, for all rooms.
const SAID: usize = 20;

/// The room of that number.
pub fn room(number: usize) -> RoomName {
    format!("room-{number}").parse().expect("letters and digits are a good name")
}

/// The first message of each room: what one of a chat is on disk. It is of now, for an old one
/// would be forgotten as soon as its room sleeps.
fn message() -> Record {
    let (from, data) = (json!({ "sid": "s1", "user": null, "name": "ada" }), "x".repeat(100));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = now.as_millis() as u64;
    let frame = json!({ "type": "message", "seq": 1, "time": time, "from": from, "data": data });
    Record::Message(Message {
        seq: 1,
        time: Timestamp(time),
        key: None,
        kind: BodyKind::Json,
        body: Bytes::from(frame.to_string()),
    })
}

/// Makes a store of so many rooms that sleep, a message in each and nobody seated; says in between
/// how many do. Ends early, with a store that has fewer, once `stop` is set.
pub fn fill(
    dir: &Path,
    rooms: usize,
    stop: &AtomicBool,
    say: &(dyn Fn(String) + Sync),
) -> Result<(), store::Error> {
    let engine = Redb::open(dir, Config::default().store)?;
    let message = message();
    let mut written = 0;
    while written < rooms && !stop.load(Ordering::Relaxed) {
        let batch = written..rooms.min(written + BATCH);
        let (done, answers) = mpsc::sync_channel(BATCH);
        for number in batch.clone() {
            let done = done.clone();
            // Full it never is, and whoever stopped listening has an error to tell.
            let answer = Box::new(move |result| drop(done.try_send(result)));
            engine.append(&room(number), Vec::from([message.clone()]), answer);
        }
        for _ in batch.clone() {
            answers.recv().unwrap_or(Err(store::Error::Closed))?;
        }
        if batch.start * SAID / rooms != batch.end * SAID / rooms {
            say(format!("{} of {rooms} rooms are written", batch.end));
        }
        written = batch.end;
    }
    let next = AtomicUsize::new(0);
    let sandman = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= written || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if number.is_multiple_of((rooms / SAID).max(1)) {
                say(format!("{number} of {rooms} rooms are asleep"));
            }
            while let Err(error) = engine.hibernate(&room(number), None) {
                match error {
                    store::Error::Busy => std::thread::yield_now(),
                    other => return Err(other),
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let sandmen: Vec<_> = (0..SANDMEN).map(|_| scope.spawn(sandman)).collect();
        let ends = sandmen.into_iter().map(|one| one.join().unwrap_or(Err(store::Error::Closed)));
        ends.fold(Ok(()), Result::and)
    })?;
    engine.close(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_sleep_with_a_message_each_and_a_stop_leaves_fewer() {
        let dir = tempfile::tempdir().unwrap();
        let (stop, all, none) = (AtomicBool::new(false), dir.path().join("all"), dir.path());
        fill(&all, 30, &stop, &|_| {}).unwrap();
        let engine = Redb::open(&all, Config::default().store).unwrap();
        assert_eq!(engine.rooms(None, 100).unwrap().len(), 30);
        let opened = engine.open(&room(29)).unwrap();
        assert_eq!((opened.newest, opened.oldest, opened.seats.len()), (1, 1, 0));

        stop.store(true, Ordering::Relaxed);
        let none = none.join("none");
        fill(&none, 30, &stop, &|_| {}).unwrap();
        let engine = Redb::open(&none, Config::default().store).unwrap();
        assert!(engine.rooms(None, 100).unwrap().is_empty());
    }
}
