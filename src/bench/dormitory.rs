//! A store of many sleeping rooms, or of rooms with a long history, made by the store itself.
//!
//! A million rooms that clients had spoken in, one after the other, would take hours. Here each
//! room's message is appended and the room put to sleep by the engine directly, many at once: what
//! lies on disk afterwards is the same. A million messages of one room are appended many at once,
//! too. It is all that a benchmark has to do with the store; what is measured is a gateway of its
//! own process that opens it.

use std::io;
use std::path::Path;
use std::sync::Arc;
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

/// Letters of a message.
const LETTERS: usize = 100;

/// How often it is said how far it is, for all rooms.
const SAID: usize = 20;

/// Told to stop when nobody waits any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes a store beside everything else, so that an interrupt is heard. What makes it holds the
/// store's folder: it goes on for a moment when nobody waits any more.
pub async fn beside<F>(make: F) -> Result<(), super::Error>
where
    F: FnOnce(&AtomicBool) -> Result<(), store::Error> + Send + 'static,
{
    let stop = Stop(Arc::default());
    let stopped = stop.0.clone();
    let made = tokio::task::spawn_blocking(move || make(&stopped)).await;
    drop(stop);
    Ok(made.map_err(io::Error::other)?.map_err(io::Error::other)?)
}

/// The room of that number.
pub fn room(number: usize) -> RoomName {
    format!("room-{number}").parse().expect("letters and digits are a good name")
}

/// What one message of a chat is on disk. It is of now, for an old one would be forgotten as soon
/// as its room sleeps.
fn message(seq: u64, data: &str) -> Record {
    let from = json!({ "sid": "s1", "user": null, "name": "ada" });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = now.as_millis() as u64;
    // In the order in which a gateway writes it: clients are sent these very bytes.
    let body =
        format!(r#"{{"type":"message","seq":{seq},"time":{time},"from":{from},"data":"{data}"}}"#);
    Record::Message(Message {
        seq,
        time: Timestamp(time),
        key: None,
        kind: BodyKind::Json,
        body: Bytes::from(body),
    })
}

/// Letters that are not all the same, so that a long history takes the room on disk that one does.
fn letters(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (b'a' + (state % 26) as u8) as char
    };
    (0..LETTERS).map(|_| letter()).collect()
}

/// What it takes that nothing of a long history is forgotten.
pub const ALL_HISTORY: [(&str, &str); 2] =
    [("room-history-messages", "off"), ("room-history-bytes", "off")];

/// Makes a store of sleeping rooms with so many messages each, that a gateway with
/// [`ALL_HISTORY`] keeps; says in between how many there are. Ends early, with fewer, once `stop`
/// is set.
pub fn talk(
    dir: &Path,
    rooms: &[(RoomName, u64)],
    stop: &AtomicBool,
    say: &(dyn Fn(String) + Sync),
) -> Result<(), store::Error> {
    let mut settings = Config::default().store;
    (settings.retention.messages, settings.retention.bytes) = (u64::MAX, u64::MAX);
    let engine = Redb::open(dir, settings)?;
    for (room, messages) in rooms {
        let mut written = 0;
        while written < *messages && !stop.load(Ordering::Relaxed) {
            let end = (*messages).min(written + BATCH as u64);
            let records = (written + 1..=end).map(|seq| message(seq, &letters(seq))).collect();
            let (done, answer) = mpsc::sync_channel(1);
            // Full it never is, and whoever stopped listening has an error to tell.
            engine.append(room, records, Box::new(move |result| drop(done.try_send(result))));
            answer.recv().unwrap_or(Err(store::Error::Closed))?;
            if written * SAID as u64 / messages != end * SAID as u64 / messages {
                say(format!("{end} of {messages} messages are written"));
            }
            written = end;
        }
        sleep(&engine, room)?;
    }
    engine.close(0)
}

/// Puts a room to sleep, however busy the mover is.
fn sleep(engine: &Redb, room: &RoomName) -> Result<(), store::Error> {
    loop {
        match engine.hibernate(room, None) {
            Err(store::Error::Busy) => std::thread::yield_now(),
            done => return done,
        }
    }
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
    let message = message(1, &"x".repeat(LETTERS));
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
            sleep(&engine, &room(number))?;
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
    fn rooms_sleep_with_a_message_each_or_with_many_and_a_stop_leaves_fewer() {
        let dir = tempfile::tempdir().unwrap();
        let (stop, all, none) = (AtomicBool::new(false), dir.path().join("all"), dir.path());
        fill(&all, 30, &stop, &|_| {}).unwrap();
        let engine = Redb::open(&all, Config::default().store).unwrap();
        assert_eq!(engine.rooms(None, 100).unwrap().len(), 30);
        let opened = engine.open(&room(29)).unwrap();
        assert_eq!((opened.newest, opened.oldest, opened.seats.len()), (1, 1, 0));

        let long = dir.path().join("long");
        let spoken = 3 * BATCH as u64 / 2;
        talk(&long, &[(room(0), 0), (room(1), spoken)], &stop, &|_| {}).unwrap();
        let engine = Redb::open(&long, Config::default().store).unwrap();
        assert_eq!(engine.open(&room(1)).unwrap().newest, spoken);
        let slice = engine.read(&room(1), 1, 1, 1).unwrap();
        assert!(slice.messages[0].body.starts_with(br#"{"type":"message","seq":1,"#));
        drop(engine);

        stop.store(true, Ordering::Relaxed);
        let none = none.join("none");
        fill(&none, 30, &stop, &|_| {}).unwrap();
        let engine = Redb::open(&none, Config::default().store).unwrap();
        assert!(engine.rooms(None, 100).unwrap().is_empty());
    }
}
