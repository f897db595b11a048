//! What only the embedded engine can get wrong: two files, two threads, and disks that fail.

mod clock;
mod faulty;
pub(super) mod files;
mod flips;
mod kept;
mod power;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use redb::{Database, ReadableTable, ReadableTableMetadata};

use super::super::row::{self, Marks};
use super::super::suite::{append, keyed, message, noise, room, say, seat, seqs, settings};
use super::super::{KEYS_KEPT, Message, Retention};
use super::file::{ALARMS, CHUNKS, DUE, JOURNAL};
use super::*;
use crate::protocol::{Epoch, Timestamp};
use faulty::{Fault, Faulty};

fn open(dir: &tempfile::TempDir) -> Redb {
    Redb::open(dir.path(), settings()).unwrap()
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

impl Redb {
    /// How many entries the journal's table has.
    fn entries(&self) -> u64 {
        let journal = lock(&self.shared.journal).file.read().unwrap();
        journal.open_table(JOURNAL).unwrap().len().unwrap()
    }

    fn next_key(&self) -> u64 {
        lock(&self.shared.journal).index.next
    }

    fn is_moved(&self, room: &RoomName) -> bool {
        lock(&self.shared.journal).index.get(room).is_none()
    }
}

/// Comes back as soon as it is so. Only for what another thread does by itself.
fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < deadline, "it never came to pass");
        std::thread::yield_now();
    }
}

/// Writes into a file behind the store's back, while it is closed.
fn tamper(dir: &tempfile::TempDir, file: Name, with: impl FnOnce(&redb::WriteTransaction)) {
    let db = Database::open(dir.path().join(file.as_str())).unwrap();
    let txn = db.begin_write().unwrap();
    with(&txn);
    txn.commit().unwrap();
}

#[test]
fn a_directory_in_use_is_said_to_be() {
    let dir = dir();
    let store = open(&dir);
    let Err(Error::InUse { dir: named }) = Redb::open(dir.path(), settings()) else {
        panic!("opened twice");
    };
    assert_eq!(named, dir.path().display().to_string());
    drop(store);
    open(&dir);
}

/// redb says in its file's head whether the file was closed: the second bit of the tenth byte.
fn was_closed(dir: &tempfile::TempDir, file: Name) -> bool {
    std::fs::read(dir.path().join(file.as_str())).unwrap()[9] & 2 == 0
}

#[test]
fn a_crash_leaves_what_was_acknowledged_in_files_that_nobody_closed() {
    let (dir, lobby) = (dir(), room("lobby"));
    let store = open(&dir);
    say(&store, &lobby, 1, 3);
    store.hibernate(&lobby, None).unwrap();
    say(&store, &lobby, 4, 5);
    let told = Arc::new(AtomicU64::new(0));
    for seq in 6..=200 {
        let told = told.clone();
        let done = Box::new(move |result: Result<_, _>| {
            result.unwrap();
            told.fetch_max(seq, Ordering::SeqCst);
        });
        store.append(&lobby, vec![Record::Message(message(seq))], done);
    }
    store.crash().unwrap();
    let told = told.load(Ordering::SeqCst).max(5);
    assert!(matches!(store.open(&lobby), Err(Error::Closed)));
    let refused = append(&store, &lobby, vec![Record::Message(message(201))]);
    assert!(matches!(refused, Err(Error::Closed)));
    drop(store);
    assert!(!was_closed(&dir, Name::Journal) && !was_closed(&dir, Name::Rooms));

    let store = open(&dir);
    let newest = store.open(&lobby).unwrap().newest;
    assert_eq!(newest, told, "what was being written was written, and answered");
    assert_eq!(seqs(&store, &lobby, 1), (1..=newest).collect::<Vec<_>>());
    store.close(0).unwrap();
    assert!(was_closed(&dir, Name::Journal) && was_closed(&dir, Name::Rooms));
    drop(store);
    open(&dir).crash().unwrap();
    open(&dir).crash().unwrap();
}

/// What a crash in the middle of making a file leaves is no file yet.
#[test]
fn a_file_half_made_is_made_anew() {
    let dir = dir();
    std::fs::write(dir.path().join("rooms.redb.new"), [0; 10_000]).unwrap();
    say(&open(&dir), &room("a"), 1, 1);
    assert_eq!(open(&dir).open(&room("a")).unwrap().newest, 1);
    assert!(!dir.path().join("rooms.redb.new").exists());
}

#[test]
fn two_stores_are_two_stores() {
    let (one, other) = (dir(), dir());
    let (one, other) = (open(&one), open(&other));
    assert_ne!(one.identity().store, other.identity().store);
    assert_ne!(one.identity().secret, other.identity().secret);
}

#[test]
fn files_of_different_stores_are_not_mixed() {
    let (one, other) = (dir(), dir());
    drop((open(&one), open(&other)));
    std::fs::copy(one.path().join("journal.redb"), other.path().join("journal.redb")).unwrap();
    assert!(matches!(Redb::open(other.path(), settings()), Err(Error::Corrupt { .. })));

    say(&open(&one), &room("a"), 1, 1);
    open(&one).hibernate(&room("a"), None).unwrap();
    std::fs::remove_file(one.path().join("journal.redb")).unwrap();
    assert!(matches!(Redb::open(one.path(), settings()), Err(Error::Corrupt { .. })));
}

/// A reader works all the time while messages are appended and moved under it.
#[test]
fn a_reader_sees_no_hole_while_records_move() {
    let settings = Settings { journal_bytes: 2000, ..settings() };
    let store = Redb::open_on(Faulty::default(), settings).unwrap();
    let a = room("a");
    let acked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 1..=1500 {
                append(&store, &a, vec![Record::Message(keyed(seq))]).unwrap();
                acked.store(seq, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while acked.load(Ordering::SeqCst) < 1500 {
                store.hibernate(&a, None).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut turn = 0;
                loop {
                    turn += 1;
                    let before = acked.load(Ordering::SeqCst);
                    let from = if turn % 2 == 0 { 1 } else { before.saturating_sub(30).max(1) };
                    let slice = store.read(&a, from, usize::MAX, usize::MAX).unwrap();
                    let newest = from + slice.messages.len() as u64 - 1;
                    let seqs = slice.messages.iter().map(|message| message.seq);
                    assert!(seqs.eq(from..=newest));
                    assert!(newest >= before && newest == slice.newest);
                    let opened = store.open(&a).unwrap();
                    assert!(opened.newest >= newest && opened.oldest == 1);
                    let keys = store.keys(&a).unwrap();
                    assert!(keys.iter().map(|key| key.1).eq(1..=keys.len() as u64));
                    assert!(keys.len() as u64 >= opened.newest);
                    if before == 1500 {
                        break;
                    }
                }
            });
        }
    });
}

/// Twenty busy rooms, more than the journal may hold many times over: what it holds at any time
/// is bounded by its limit, and the rest has been moved.
#[test]
fn the_journal_stops_growing_under_steady_traffic() {
    let limit = 10_000;
    let settings = Settings { journal_bytes: 1000, journal_total_bytes: limit, ..settings() };
    let store = Redb::open_on(Faulty::default(), settings).unwrap();
    let one = row::encode_entry(&room("room-10"), 0, &[Record::Message(message(1000))]).len();
    let most = 2 * limit / (one as u64 - 8) + 100;
    let mut refused = 0;
    for seq in 1..=60 {
        for number in 10..30 {
            let room = room(&format!("room-{number}"));
            while append(&store, &room, vec![Record::Message(message(seq))]).is_err() {
                refused += 1; // the mover is behind
            }
        }
        assert!(store.entries() <= most, "{} entries, {refused} refused", store.entries());
    }
    assert!(most < store.next_key() / 2, "{most} entries allowed of {}", store.next_key());
    for number in 10..30 {
        let room = room(&format!("room-{number}"));
        assert_eq!(seqs(&store, &room, 1), (1..=60).collect::<Vec<_>>());
    }
}

/// How many pages both files use, nobody having them open.
fn pages_of(disk: &Faulty) -> u64 {
    let of = |name| {
        let db = disk.open(name).unwrap();
        let txn = db.begin_write().unwrap();
        let pages = txn.stats().unwrap().allocated_pages();
        txn.abort().unwrap();
        pages
    };
    of(Name::Journal) + of(Name::Rooms)
}

/// Retention on, the mover at work, and traffic that never ends: after a while neither file takes
/// another page. What opening reads after a crash is bounded by the journal's limits, and no more
/// after a long history than after a short one.
#[test]
fn files_and_recovery_are_bounded_by_limits_and_not_by_history() {
    let limit = 20_000;
    let settings = Settings {
        journal_bytes: 4000,
        journal_total_bytes: limit,
        retention: Retention { messages: 200, ..settings().retention },
        ..settings()
    };
    let disk = Faulty::default();
    let names = ["a", "b", "c", "d"].map(room);
    let mut store = Redb::open_on(disk.clone(), settings.clone()).unwrap();
    let (mut pages, mut entries, mut read) = (Vec::new(), Vec::new(), Vec::new());
    let mut newest = 0;
    for _ in 0..5 {
        for _ in 0..300 {
            newest += 1;
            for name in &names {
                while append(&store, name, vec![Record::Message(message(newest))]).is_err() {}
            }
        }
        disk.cut_after(0);
        assert!(append(&store, &names[0], vec![Record::Seat(seat(1))]).is_err());
        drop(store);
        disk.forget_power_cut();
        pages.push(pages_of(&disk));
        let before = disk.bytes_read();
        store = Redb::open_on(disk.clone(), settings.clone()).unwrap();
        read.push(disk.bytes_read() - before);
        entries.push(store.entries());
    }
    // 4 × 1,500 messages of 70 bytes and more were said; an entry takes over 80.
    println!("pages {pages:?}, entries {entries:?}, bytes read {read:?}");
    assert!(entries.iter().all(|entries| *entries < 2 * limit / 80 + 100), "{entries:?}");
    // What the limits let lie there, twice: a message takes less than 100 bytes, and a page may be
    // half empty. The whole of what was said would be 250 pages and more.
    let kept = names.len() as u64 * (200 + 2 * 112) * 100;
    let most_bytes = 2 * (2 * limit + kept);
    assert!(pages.iter().all(|pages| pages * 4096 <= most_bytes), "{pages:?}");
    assert!(read.iter().all(|read| *read <= most_bytes), "{read:?}");
    for name in &names {
        let opened = store.open(name).unwrap();
        assert_eq!(opened.newest, newest);
        assert!(opened.newest - opened.oldest < 200 + 2 * 112 + limit / 80, "{opened:?}");
    }
}

#[test]
fn what_has_moved_is_trimmed_with_the_next_append() {
    let dir = dir();
    let store = open(&dir);
    say(&store, &room("a"), 1, 100);
    assert_eq!(store.entries(), 10);
    say(&store, &room("b"), 1, 1);
    store.hibernate(&room("a"), None).unwrap();
    say(&store, &room("b"), 2, 2);
    assert_eq!(store.entries(), 2);
    store.hibernate(&room("b"), None).unwrap();
    until(|| store.entries() == 0); // trimmed without an append, too
}

#[test]
fn old_records_are_moved_unasked() {
    let dir = dir();
    let settings = Settings { journal_age: Duration::from_millis(1), ..settings() };
    let store = Redb::open(dir.path(), settings).unwrap();
    say(&store, &room("a"), 1, 10);
    until(|| store.is_moved(&room("a")));
    assert_eq!(seqs(&store, &room("a"), 1), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_journal_key_is_never_used_twice() {
    let dir = dir();
    let store = open(&dir);
    say(&store, &room("a"), 1, 100);
    store.hibernate(&room("a"), None).unwrap();
    until(|| store.entries() == 0);
    let next = store.next_key();
    drop(store);
    let store = open(&dir);
    assert_eq!(store.next_key(), next);
    // Were a key used again, the room's row would say that this is in it already.
    say(&store, &room("a"), 101, 101);
    drop(store);
    let store = open(&dir);
    assert_eq!((store.next_key(), store.open(&room("a")).unwrap().newest), (next + 1, 101));
}

#[test]
fn sleeping_again_writes_nothing() {
    let disk = Faulty::default();
    let store = Redb::open_on(disk.clone(), settings()).unwrap();
    let rules = Some(Bytes::from_static(b"state"));
    say(&store, &room("a"), 1, 10);
    store.hibernate(&room("a"), rules.clone()).unwrap();
    say(&store, &room("b"), 1, 1); // trims
    let written = disk.operations();
    store.hibernate(&room("a"), rules.clone()).unwrap();
    store.hibernate(&room("a"), None).unwrap();
    store.hibernate(&room("nobody"), rules).unwrap();
    assert_eq!(disk.operations(), written);
    store.hibernate(&room("a"), Some(Bytes::from_static(b"other"))).unwrap();
    assert!(disk.operations() > written);
    assert_eq!(store.open(&room("a")).unwrap().rules, "other");
}

fn kept(retention: Retention, message: impl Fn(u64) -> Message) -> (Redb, tempfile::TempDir) {
    let dir = dir();
    let store = Redb::open(dir.path(), Settings { retention, ..settings() }).unwrap();
    for some in (1..=6000).collect::<Vec<u64>>().chunks(500) {
        let some = some.iter().map(|&seq| Record::Message(message(seq))).collect();
        append(&store, &room("a"), some).unwrap();
        store.hibernate(&room("a"), None).unwrap();
    }
    (store, dir)
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

#[test]
fn retention_keeps_as_many_messages_as_it_says_and_a_chunk_more_at_most() {
    let (store, _dir) = kept(Retention { messages: 1000, ..settings().retention }, keyed);
    let slice = store.read(&room("a"), 1, usize::MAX, usize::MAX).unwrap();
    assert!((1000..1112).contains(&slice.messages.len()), "{}", slice.messages.len());
    assert_eq!(slice.messages[0].seq, slice.oldest);
    let opened = store.open(&room("a")).unwrap();
    assert_eq!((opened.oldest, opened.newest), (slice.oldest, 6000));
    assert_eq!(store.keys(&room("a")).unwrap().len(), KEYS_KEPT, "keys outlive their messages");
}

#[test]
fn retention_by_age_may_take_everything_but_where_the_room_was() {
    let old = Retention { age: Duration::from_secs(3600), ..settings().retention };
    let (store, _dir) = kept(old, keyed);
    let opened = store.open(&room("a")).unwrap();
    assert_eq!((opened.oldest, opened.newest), (6001, 6000));
    assert_eq!(opened.newest_time, Timestamp(7000));
    assert!(seqs(&store, &room("a"), 1).is_empty());
    assert_eq!(store.keys(&room("a")).unwrap().len(), KEYS_KEPT);

    let fresh = Message { time: Timestamp(now()), ..message(6001) };
    append(&store, &room("a"), vec![Record::Message(fresh)]).unwrap();
    assert_eq!(seqs(&store, &room("a"), 1), [6001]);
    store.hibernate(&room("a"), None).unwrap();
    assert_eq!(seqs(&store, &room("a"), 1), [6001]);
    assert_eq!(store.open(&room("a")).unwrap().oldest, 6001);
}

#[test]
fn retention_by_bytes_bounds_what_the_chunks_take() {
    let (store, _dir) = kept(Retention { bytes: 20_000, ..settings().retention }, keyed);
    let opened = store.open(&room("a")).unwrap();
    assert!(opened.oldest > 1 && opened.oldest < 6000);
    let keys = KEYS_KEPT as u64 * 17 + 2 * 112 * 17;
    assert!(opened.bytes < 20_000 + keys + 200, "{}", opened.bytes);
    let rooms = lock(&store.shared.rooms).read().unwrap().open_table(CHUNKS).unwrap();
    let stored = ReadableTable::iter(&rooms).unwrap();
    let stored = stored.map(|row| row.unwrap().1.value().len() as u64).sum::<u64>();
    assert!(stored > 10_000 && stored <= 20_000, "{stored}");
}

/// Deleting rooms comes later; what it needs of the format is there. A room keeps the epoch of
/// its first record, awake or asleep; new rooms get the present one.
#[test]
fn a_room_keeps_the_epoch_of_its_first_record() {
    let dir = dir();
    let store = open(&dir);
    let id = store.identity().store;
    let epoch = |deletion| Epoch { store: id, deletion };
    for name in ["asleep", "unmoved"] {
        assert_eq!(append(&store, &room(name), vec![Record::Seat(seat(1))]).unwrap(), epoch(0));
    }
    store.hibernate(&room("asleep"), None).unwrap();
    drop(store);
    tamper(&dir, Name::Journal, |txn| {
        journal::remember(txn, Marks { store: id, next: 9, deletion: 5 }).unwrap();
    });
    let store = open(&dir);
    for (name, deletion) in [("asleep", 0), ("unmoved", 0), ("new", 5), ("new", 5)] {
        assert_eq!(store.open(&room(name)).unwrap().epoch, epoch(deletion));
        let said = append(&store, &room(name), vec![Record::Seat(seat(1))]);
        assert_eq!(said.unwrap(), epoch(deletion));
        store.hibernate(&room(name), None).unwrap();
    }
}

#[test]
fn a_damaged_row_is_named_and_holds_up_nobody_else() {
    let dir = dir();
    let store = open(&dir);
    say(&store, &room("bad"), 1, 10);
    say(&store, &room("good"), 1, 10);
    store.hibernate(&room("bad"), None).unwrap();
    store.hibernate(&room("good"), None).unwrap();
    say(&store, &room("bad"), 11, 12);
    drop(store);
    // While the store is open: a damaged row is met when the room is, not at the start.
    let store = open(&dir);
    {
        let txn = lock(&store.shared.rooms).write().unwrap();
        let whole = txn.open_table(ROOMS).unwrap().get("bad").unwrap().unwrap().value().to_vec();
        let torn = [&whole[..whole.len() - 1], &[!whole[whole.len() - 1]]].concat();
        txn.open_table(ROOMS).unwrap().insert("bad", torn.as_slice()).unwrap();
        txn.commit().unwrap();
    }
    let damaged = |error| match error {
        Some(Error::Corrupt { what }) => what.starts_with("the row of room bad"),
        _ => false,
    };
    assert!(damaged(store.open(&room("bad")).err()));
    assert!(damaged(store.read(&room("bad"), 1, 1, 1).err()));
    assert!(damaged(store.hibernate(&room("bad"), None).err()));
    let asked =
        |name: &str| waited(|moved| store.ask_mover(&room(name), None, Look::Moving, moved));
    assert!(damaged(asked("bad").err()));
    say(&store, &room("good"), 11, 20);
    assert!(asked("good").is_ok());
    until(|| store.entries() == 1); // only what cannot be moved is left
    assert_eq!(seqs(&store, &room("good"), 1), (1..=20).collect::<Vec<_>>());
}

#[test]
fn after_a_damaged_chunk_history_goes_on() {
    let dir = dir();
    let store = open(&dir);
    let a = room("a");
    say(&store, &a, 1, 120);
    store.hibernate(&a, None).unwrap();
    drop(store);
    tamper(&dir, Name::Rooms, |txn| {
        txn.open_table(CHUNKS).unwrap().insert(("a", 113), &b"nonsense"[..]).unwrap();
    });
    let store = open(&dir);
    say(&store, &a, 121, 130);
    store.hibernate(&a, None).unwrap();
    let Err(Error::Corrupt { what }) = store.read(&a, 100, 50, usize::MAX) else {
        panic!("read a damaged chunk");
    };
    assert!(what.starts_with("chunk 113 of room a"), "{what}");
    assert_eq!(store.read(&a, 100, 10, usize::MAX).unwrap().messages.len(), 10);
    assert_eq!(seqs(&store, &a, 121), (121..=130).collect::<Vec<_>>());
}

#[test]
fn a_body_too_large_to_read_back_is_refused() {
    let dir = dir();
    let store = open(&dir);
    let huge = Message { body: vec![0; BODY_BYTES + 1].into(), ..message(1) };
    let refused = append(&store, &room("a"), vec![Record::Message(huge)]);
    assert!(matches!(refused, Err(Error::Unwell { .. })));
    say(&store, &room("a"), 1, 1);
}

/// Appends the next message until the store takes one again.
fn say_on(store: &Redb, room: &RoomName) -> u64 {
    let healed = Arc::new(AtomicU64::new(0));
    until(|| {
        let Ok(opened) = store.open(room) else { return false };
        let next = opened.newest + 1;
        let said = append(store, room, vec![Record::Message(message(next))]);
        said.is_ok_and(|_| healed.swap(next, Ordering::Relaxed) == 0)
    });
    healed.load(Ordering::Relaxed)
}

/// The disk after the power went while nothing was being written.
fn power_cut(store: Redb, disk: &Faulty) -> Faulty {
    disk.cut_after(0);
    assert!(append(&store, &room("z"), vec![Record::Message(message(1))]).is_err());
    drop(store);
    disk.image()
}

#[test]
fn a_failed_commit_heals_whatever_the_disk_did_with_it() {
    for fault in [Fault::Write, Fault::SyncKept, Fault::SyncLost, Fault::Panic] {
        for after in 0..6 {
            let disk = Faulty::default();
            let store = Redb::open_on(disk.clone(), settings()).unwrap();
            let a = room("a");
            say(&store, &a, 1, 20);
            store.hibernate(&a, None).unwrap();
            say(&store, &a, 21, 30);
            disk.fail(Name::Journal, fault, after);
            let mut acked = 30;
            while append(&store, &a, vec![Record::Message(message(acked + 1))]).is_ok() {
                acked += 1;
            }
            // Its only harm is the one failure: the store comes back by itself.
            let healed = say_on(&store, &a);
            assert!((acked + 1..=acked + 2).contains(&healed), "{healed} after {acked}");
            assert_eq!(seqs(&store, &a, 1), (1..=healed).collect::<Vec<_>>());
            say(&store, &a, healed + 1, healed + 30);
            let store = Redb::open_on(power_cut(store, &disk), settings()).unwrap();
            assert_eq!(seqs(&store, &a, 1), (1..=healed + 30).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_failed_move_loses_nothing_and_can_be_asked_for_again() {
    for fault in [Fault::Write, Fault::SyncKept, Fault::SyncLost, Fault::Panic] {
        for after in 0..6 {
            let disk = Faulty::default();
            let store = Redb::open_on(disk.clone(), settings()).unwrap();
            let a = room("a");
            disk.fail(Name::Rooms, fault, after);
            let mut newest = 0;
            let failed = loop {
                say(&store, &a, newest + 1, newest + 200);
                newest += 200;
                if let Err(error) = store.hibernate(&a, None) {
                    break error;
                }
            };
            assert!(matches!(failed, Error::Unwell { .. }), "{failed}");
            append(&store, &a, vec![Record::Message(message(newest + 1))]).unwrap();
            until(|| store.hibernate(&a, None).is_ok());
            assert_eq!(seqs(&store, &a, 1), (1..=newest + 1).collect::<Vec<_>>());
            assert!(store.is_moved(&a));
            let store = Redb::open_on(power_cut(store, &disk), settings()).unwrap();
            assert_eq!(seqs(&store, &a, 1), (1..=newest + 1).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_failed_read_does_not_end_writing_for_good() {
    for name in [Name::Rooms, Name::Journal] {
        let disk = Faulty::default();
        let store = Redb::open_on(disk.clone(), settings()).unwrap();
        let a = room("a");
        let large = |seq| Message { body: noise(seq, 200_000), ..message(seq) };
        for seq in 1..=20 {
            append(&store, &a, vec![Record::Message(large(seq))]).unwrap();
        }
        if name == Name::Rooms {
            store.hibernate(&a, None).unwrap();
        }
        drop(store);
        let store = Redb::open_on(disk.clone(), settings()).unwrap();
        disk.fail(name, Fault::Read, 0);
        assert!(store.read(&a, 1, 100, usize::MAX).is_err());
        until(|| store.read(&a, 1, 100, usize::MAX).is_ok());
        until(|| append(&store, &a, vec![Record::Message(message(21))]).is_ok());
        until(|| store.read(&a, 1, 1, 1).is_ok());
        assert_eq!(seqs(&store, &a, 1), (1..=21).collect::<Vec<_>>());
    }
}

/// A full disk, met before it is known of: what was begun ends with the help of the reserve,
/// nothing new is taken, and all that needs no space goes on. Then there is space again.
#[test]
fn a_full_disk_ends_nothing_for_good() {
    let disk = Faulty::default();
    let store = Redb::open_on(disk.clone(), settings()).unwrap();
    let a = room("a");
    say(&store, &a, 1, 300);
    assert_eq!(store.trouble(), None);
    disk.fill(true);
    let mut newest = 300;
    let mut next = || {
        newest += 1;
        append(&store, &a, vec![Record::Message(message(newest))]).err()
    };
    let failed = std::iter::from_fn(|| Some(next())).find_map(|failed| failed).unwrap();
    assert!(matches!(failed, Error::Unwell { .. } | Error::NearlyFull { .. }), "{failed}");
    let refused = || append(&store, &room("b"), vec![Record::Seat(seat(1))]).err();
    until(|| matches!(refused(), Some(Error::NearlyFull { .. })));
    assert_eq!(store.trouble(), Some("the disk is nearly full"));
    assert!(store.open(&room("b")).unwrap().seats.is_empty(), "what was refused is not there");
    until(|| store.hibernate(&a, None).is_ok()); // with what the reserve gave back
    assert!(!disk.has_reserve());
    let there = store.open(&a).unwrap().newest;
    assert!((300..=newest).contains(&there));
    assert_eq!(seqs(&store, &a, 1), (1..=there).collect::<Vec<_>>());

    disk.fill(false);
    until(|| store.trouble().is_none()); // by itself: nobody has to ask
    assert!(disk.has_reserve());
    say(&store, &room("b"), 1, 1);
    say(&store, &a, there + 1, there + 10);
}

/// One that opens again and fails again at once is not tried without end; and whoever asks is
/// told as long as it is not open.
#[test]
fn a_file_that_keeps_failing_is_tried_less_and_less() {
    let health = Arc::new(Health::default());
    for (name, trouble) in
        [(Name::Rooms, "the file of rooms has failed"), (Name::Journal, "the journal has failed")]
    {
        let disk = Faulty::default();
        let mut file = File::new(name, disk.open(name).unwrap(), health.clone());
        for wait in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            assert_eq!(health.trouble(), None);
            let before = Instant::now();
            file.fail(Error::Busy).discard();
            assert_eq!(health.trouble(), Some(trouble));
            assert!(file.retry_at().unwrap() - before >= Duration::from_millis(wait));
            file.heal(disk.reopen(name).unwrap());
        }
    }
}

/// The power goes at any moment, for both files at once, with whatever the disk had reordered
/// and torn until then. What was acknowledged is there; of what was not, the last append may be.
#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    for seed in 1..=60 {
        let mut disk = Faulty::with_seed(seed);
        let (mut acked, rooms) = ([0u64; 3], ["a", "b", "c"].map(room));
        for _ in 0..4 {
            let store = Redb::open_on(disk.clone(), settings()).unwrap();
            for (room, acked) in rooms.iter().zip(&mut acked) {
                let there = seqs(&store, room, 1);
                assert!(there.iter().copied().eq(1..=there.len() as u64), "seed {seed}: a hole");
                let newest = there.len() as u64;
                assert!(newest == *acked || newest == *acked + 1, "seed {seed}: {newest}, {acked}");
                assert_eq!(store.open(room).unwrap().newest, newest);
                *acked = newest;
            }
            disk.cut_after(disk.dice(120));
            'alive: loop {
                for (room, acked) in rooms.iter().zip(&mut acked) {
                    let next = vec![Record::Message(keyed(*acked + 1))];
                    if append(&store, room, next).is_err() {
                        break 'alive;
                    }
                    *acked += 1;
                    if disk.dice(4) == 0 && store.hibernate(room, None).is_err() {
                        break 'alive;
                    }
                }
            }
            let after = disk.image();
            drop(store);
            disk = after;
        }
    }
}

#[test]
fn what_waits_is_bounded() {
    let queue = Queue::default();
    let push = |bytes| {
        let large = Message { body: vec![0; bytes].into(), ..message(1) };
        let (tell, told) = mpsc::sync_channel(1);
        let done = Box::new(move |result: Result<_, Error>| _ = tell.try_send(result.err()));
        queue.push(Append::new(room("a"), vec![Record::Message(large)], done));
        told.try_recv().ok().flatten()
    };
    assert!(push(queue::WAITING_BYTES + 1).is_none(), "nothing else waits");
    assert!(matches!(push(0), Some(Error::Busy)));
    assert_eq!(queue.next(None).appends.len(), 1);
    for _ in 0..queue::WAITING {
        assert!(push(0).is_none());
    }
    assert!(matches!(push(0), Some(Error::Busy)));
    queue.close();
    assert!(matches!(push(0), Some(Error::Closed)));
    let work = queue.next(None);
    assert!(work.end && work.appends.len() == queue::WAITING);
}

#[test]
fn a_batch_is_bounded_by_its_bytes() {
    let queue = Queue::default();
    for _ in 0..10 {
        let large = Message { body: vec![0; 3 << 20].into(), ..message(1) };
        let append = Append::new(room("a"), vec![Record::Message(large)], Box::new(|_| {}));
        queue.push(append);
    }
    assert_eq!(queue.next(None).appends.len(), 2);
}

#[test]
fn the_movers_line_has_a_limit_and_who_comes_then_is_told() {
    let mover = Mover::default();
    let ask = || {
        let (tell, told) = mpsc::sync_channel(1);
        let moved = Box::new(move |result: Result<_, Error>| _ = tell.try_send(result.err()));
        mover.ask(Asked::new(room("a"), None, Look::Moving, moved));
        told.try_recv().ok().flatten()
    };
    for _ in 0..mover::WAITING {
        assert!(ask().is_none());
    }
    assert!(matches!(ask(), Some(Error::Busy)));
    mover.close();
    assert!(matches!(ask(), Some(Error::Closed)));
}

/// The last handle of a store may go while one of its own threads answers.
#[test]
fn a_store_may_be_let_go_of_in_an_answer() {
    let dir = dir();
    let record = || vec![Record::Message(message(1))];
    let_go_in_an_answer(&dir, |store, answer| {
        store.append(&room("a"), record(), Box::new(move |result| answer(result.map(drop))));
    });
    let_go_in_an_answer(&dir, |store, answer| store.move_room(&room("a"), None, answer));
    let store = open(&dir);
    assert_eq!((store.open(&room("a")).unwrap().newest, store.is_moved(&room("a"))), (1, true));
}

fn let_go_in_an_answer(dir: &tempfile::TempDir, ask: impl FnOnce(&Redb, Moved)) {
    let store = Arc::new(open(dir));
    let (told, gone) = mpsc::sync_channel(1);
    let last = store.clone();
    let (may_go, go) = mpsc::sync_channel::<()>(1);
    let answer = Box::new(move |result| {
        go.recv().unwrap();
        drop(last);
        told.send(result).unwrap();
    });
    ask(&store, answer);
    drop(store);
    may_go.send(()).unwrap();
    gone.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
}

/// Every table of both files, and in how many of its rows the name occurs.
fn traces(dir: &tempfile::TempDir, name: &str) -> Vec<(String, usize)> {
    let mut traces = Vec::new();
    let occurs = |bytes: &[u8]| bytes.windows(name.len()).any(|some| some == name.as_bytes());
    for file in [Name::Journal, Name::Rooms] {
        let db = Database::open(dir.path().join(file.as_str())).unwrap();
        let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
        for table in txn.list_tables().unwrap() {
            let mut count = 0;
            match redb::TableHandle::name(&table) {
                "journal" => {
                    for row in ReadableTable::iter(&txn.open_table(JOURNAL).unwrap()).unwrap() {
                        count += usize::from(occurs(row.unwrap().1.value()));
                    }
                }
                "due" => {
                    for row in ReadableTable::iter(&txn.open_table(DUE).unwrap()).unwrap() {
                        count += usize::from(row.unwrap().0.value().2 == name);
                    }
                }
                one @ ("rooms" | "alarms" | "meta") => {
                    let of_rooms = redb::TableDefinition::<&str, &[u8]>::new(one);
                    for row in ReadableTable::iter(&txn.open_table(of_rooms).unwrap()).unwrap() {
                        let (key, value) = row.unwrap();
                        count += usize::from(key.value() == name || occurs(value.value()));
                    }
                }
                many @ ("seats" | "chunks" | "keys") => {
                    let per_room = redb::TableDefinition::<(&str, u64), &[u8]>::new(many);
                    for row in ReadableTable::iter(&txn.open_table(per_room).unwrap()).unwrap() {
                        count += usize::from(row.unwrap().0.value().0 == name);
                    }
                }
                other => panic!("nobody looks into the table {other}"),
            }
            traces.push((redb::TableHandle::name(&table).to_owned(), count));
        }
    }
    traces.retain(|(_, count)| *count > 0);
    traces
}

/// A room with rows in every table, moved and unmoved, and one beside it.
fn full(dir: &tempfile::TempDir) -> Redb {
    let idle_delete = Some(Duration::from_secs(1 << 20));
    let age = Duration::from_secs(1 << 20);
    let retention = Retention { idle_delete, age, ..settings().retention };
    let store = Redb::open(dir.path(), Settings { retention, ..settings() }).unwrap();
    for name in ["attic-a", "attic-b"].map(room) {
        let fresh = |seq| Message { time: Timestamp(now()), ..keyed(seq) };
        let messages = (1..=300).map(|seq| Record::Message(fresh(seq))).collect();
        append(&store, &name, messages).unwrap();
        let alarm = Record::Alarm(Some(Timestamp(now() + 1_000_000_000)));
        append(&store, &name, vec![Record::Seat(seat(1)), alarm]).unwrap();
        store.hibernate(&name, Some(Bytes::from_static(b"rules"))).unwrap();
        append(&store, &name, vec![Record::Message(fresh(301))]).unwrap();
    }
    store
}

#[test]
fn nothing_of_a_deleted_room_is_left_in_any_table() {
    let dir = dir();
    let store = full(&dir);
    drop(store);
    let before = traces(&dir, "attic-a");
    let tables = before.iter().map(|(table, _)| table.as_str()).collect::<Vec<_>>();
    assert_eq!(tables, ["journal", "alarms", "chunks", "due", "keys", "rooms", "seats"]);

    let store = open(&dir);
    append(&store, &room("attic-a"), vec![Record::Deleted]).unwrap();
    store.hibernate(&room("attic-a"), None).unwrap();
    store.hibernate(&room("attic-b"), None).unwrap();
    until(|| store.entries() == 0);
    drop(store);
    assert_eq!(traces(&dir, "attic-a"), []);
    assert_eq!(traces(&dir, "attic-b").len(), 6);
    assert_eq!(check(dir.path()).unwrap().damaged, [""; 0]);
}

/// Its rows are damaged, so it was set aside, and trimming had passed over its entries. They came
/// back after the next start.
#[test]
fn a_damaged_room_can_be_deleted_and_does_not_come_back() {
    let dir = dir();
    let store = full(&dir);
    store.hibernate(&room("attic-a"), None).unwrap();
    drop(store);
    tamper(&dir, Name::Rooms, |txn| {
        let nonsense = b"nonsense".as_slice();
        txn.open_table(ROOMS).unwrap().insert("attic-a", nonsense).unwrap();
        txn.open_table(ALARMS).unwrap().insert("attic-a", nonsense).unwrap();
    });
    let store = open(&dir);
    append(&store, &room("attic-a"), vec![Record::Message(message(302))]).unwrap();
    assert!(store.hibernate(&room("attic-a"), None).is_err());
    say(&store, &room("attic-c"), 1, 50);
    for name in ["attic-b", "attic-c"] {
        store.hibernate(&room(name), None).unwrap();
    }
    until(|| store.entries() == 1); // passed over
    append(&store, &room("attic-a"), vec![Record::Deleted]).unwrap();
    assert_eq!(store.open(&room("attic-a")).unwrap().newest, 0);
    store.hibernate(&room("attic-a"), None).unwrap();
    until(|| store.entries() == 0);
    assert_eq!(open_again(store, &dir).open(&room("attic-a")).unwrap().newest, 0);
    assert_eq!(traces(&dir, "attic-a"), []);
}

fn open_again(store: Redb, dir: &tempfile::TempDir) -> Redb {
    drop(store);
    open(dir)
}

/// What lies in the journal before a deletion may be half trimmed when the power goes.
#[test]
fn a_deletion_half_done_is_done_when_the_store_opens_again() {
    let disk = Faulty::default();
    let store = Redb::open_on(disk.clone(), settings()).unwrap();
    let a = room("a");
    say(&store, &a, 1, 200);
    store.hibernate(&a, None).unwrap();
    say(&store, &a, 201, 230);
    append(&store, &a, vec![Record::Deleted]).unwrap();
    let operations = {
        let before = disk.operations();
        store.hibernate(&a, None).unwrap();
        until(|| store.entries() == 0);
        disk.operations() - before
    };
    drop(store);
    for cut in 0..operations {
        let disk = Faulty::default();
        let store = Redb::open_on(disk.clone(), settings()).unwrap();
        say(&store, &a, 1, 200);
        store.hibernate(&a, None).unwrap();
        say(&store, &a, 201, 230);
        let epoch = append(&store, &a, vec![Record::Deleted]).unwrap();
        disk.cut_after(cut);
        _ = store.hibernate(&a, None);
        drop(store);
        disk.forget_power_cut();
        let store = Redb::open_on(disk.clone(), settings()).unwrap();
        let opened = store.open(&a).unwrap();
        assert_eq!((opened.newest, opened.epoch), (0, epoch), "cut after {cut}");
        assert!(store.rooms(None, 9).unwrap().is_empty());
        append(&store, &a, vec![Record::Message(message(1))]).unwrap();
        store.hibernate(&a, None).unwrap();
        assert_eq!(seqs(&store, &a, 1), [1]);
    }
}

/// Nobody touches the room again: its history goes all the same when its time has come.
#[test]
fn history_that_becomes_too_old_goes_while_the_room_sleeps() {
    let dir = dir();
    let retention = Retention { age: Duration::from_millis(300), ..settings().retention };
    let store = Redb::open(dir.path(), Settings { retention, ..settings() }).unwrap();
    let fresh = |seq| Record::Message(Message { time: Timestamp(now()), ..keyed(seq) });
    append(&store, &room("a"), (1..=200).map(fresh).collect()).unwrap();
    store.hibernate(&room("a"), None).unwrap();
    until(|| store.open(&room("a")).unwrap().oldest == 201);
    let opened = store.open(&room("a")).unwrap();
    assert_eq!((opened.newest, store.keys(&room("a")).unwrap().len()), (200, 200));
    drop(store);
    assert_eq!(check(dir.path()).unwrap().damaged, [""; 0]);
}

/// A store that lay still while its limits were changed, or that an older version wrote: all rooms
/// are gone through once, by their names, and a restart on the way goes on from there.
#[test]
fn new_limits_hold_for_rooms_that_nobody_touches() {
    let dir = dir();
    let store = open(&dir);
    let names = (100..700).map(|number| room(&format!("room-{number}"))).collect::<Vec<_>>();
    for name in &names {
        let messages = (1..=113).map(|seq| Record::Message(message(seq))).collect();
        append(&store, name, messages).unwrap();
    }
    names.iter().for_each(|name| store.hibernate(name, None).unwrap());
    drop(store);
    let few =
        Settings { retention: Retention { messages: 1, ..settings().retention }, ..settings() };
    drop(Redb::open(dir.path(), few.clone()).unwrap());
    let store = Redb::open(dir.path(), few).unwrap();
    until(|| names.iter().all(|name| store.open(name).unwrap().oldest == 113));
}
