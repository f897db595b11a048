//! Stores that an earlier Dormouse wrote, and what `check` says of them, whole and damaged.
//!
//! `tests/stores/v1` is what format version 1 left on disk: `closed` in order, `killed` as it lay
//! there while a gateway had it open. Every later version must read them. They are written once,
//! by `write_the_stores_of_today`; a new format gets a directory of its own.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::Duration;

use bytes::Bytes;
use dormouse::protocol::{Author, Epoch, KeyHash, RoomName, Sid, Timestamp};
use dormouse::room::{Room, chat};
use dormouse::store::{
    BodyKind, Engine, Error, Message, Opened, Record, Redb, Retention, SeatRow, Settings, check,
    look,
};
use redb::{Database, ReadableTable as _};
use tempfile::TempDir;

const FILES: [&str; 2] = ["journal.redb", "rooms.redb"];
const STATES: [&str; 2] = ["closed", "killed"];
type PerRoom = redb::TableDefinition<'static, (&'static str, u64), &'static [u8]>;
const CHUNKS: PerRoom = PerRoom::new("chunks");
const SEATS: PerRoom = PerRoom::new("seats");
const KEYS: PerRoom = PerRoom::new("keys");
const ROOMS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("rooms");
const JOURNAL: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("journal");

/// Nothing moves unless it is asked to; history is short enough to be trimmed.
fn settings() -> Settings {
    Settings {
        journal_bytes: 1 << 30,
        journal_total_bytes: 1 << 30,
        journal_age: Duration::from_secs(1 << 20),
        journal_cache: 1 << 20,
        rooms_cache: 1 << 20,
        reserve: None,
        retention: Retention {
            messages: 150,
            age: Duration::MAX,
            bytes: u64::MAX,
            idle_delete: None,
        },
        kinds: Default::default(),
        clock: Default::default(),
        supervisor: Default::default(),
    }
}

/// A room of the stores: what it was told, and how far it was moved.
struct Told {
    name: &'static str,
    moved: Vec<Record>,
    unmoved: Vec<Record>,
    /// The oldest message that retention left, and the newest.
    oldest: u64,
    newest: u64,
    seats: Vec<SeatRow>,
}

fn messages(seqs: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    seqs.map(|seq| Record::Message(message(seq))).collect()
}

/// Every third is binary, every fourth has no key.
fn message(seq: u64) -> Message {
    let kind = if seq.is_multiple_of(3) { BodyKind::Binary } else { BodyKind::Json };
    let header = format!(r#"{{"type":"message","seq":{seq},"data":"said {seq}"}}"#);
    let body = match kind {
        BodyKind::Binary => [header.as_bytes(), &[0, 255, seq as u8]].concat().into(),
        BodyKind::Json => Bytes::from(header),
    };
    let key = (!seq.is_multiple_of(4)).then(|| key(seq));
    Message { seq, time: Timestamp(1_760_000_000_000 + seq), key, kind, body }
}

fn key(seq: u64) -> KeyHash {
    KeyHash((u128::from(seq) * 0x9e37_79b9_7f4a_7c15).to_le_bytes())
}

fn seat(sid: u64, left: bool) -> SeatRow {
    SeatRow {
        sid: Sid(sid),
        author: Author(sid + 100),
        user: sid.is_multiple_of(2).then(|| format!("user {sid}")),
        name: format!("näme {sid}"),
        tags: vec!["mod".into()],
        attachment: (sid == 1).then(|| r#"{"color":"red"}"#.into()),
        since: Timestamp(1_760_000_000_000),
        left,
    }
}

fn rules() -> Bytes {
    Bytes::from_static(b"the rules' own state")
}

fn told() -> Vec<Told> {
    let seated = |sid| Record::Seat(seat(sid, false));
    vec![
        Told {
            name: "all-moved",
            moved: [vec![seated(1), seated(2), Record::SeatLeft(Sid(2))], messages(1..=120)]
                .concat(),
            unmoved: vec![],
            oldest: 1,
            newest: 120,
            seats: vec![seat(1, false), seat(2, true)],
        },
        Told {
            name: "half-moved",
            moved: [vec![seated(1), seated(3)], messages(1..=130)].concat(),
            unmoved: [messages(131..=140), vec![Record::SeatEnded(Sid(1))]].concat(),
            oldest: 1,
            newest: 140,
            seats: vec![seat(3, false)],
        },
        Told {
            name: "never-moved",
            moved: vec![],
            unmoved: [vec![seated(4)], messages(1..=3)].concat(),
            oldest: 1,
            newest: 3,
            seats: vec![seat(4, false)],
        },
        Told {
            name: "only-seats",
            moved: vec![seated(5)],
            unmoved: vec![],
            oldest: 1,
            newest: 0,
            seats: vec![seat(5, false)],
        },
        Told {
            name: "trimmed",
            moved: messages(1..=300),
            unmoved: vec![],
            oldest: 113,
            newest: 300,
            seats: vec![],
        },
    ]
}

fn append(engine: &dyn Engine, room: &RoomName, records: Vec<Record>) {
    let (done, told) = mpsc::sync_channel(1);
    engine.append(room, records, Box::new(move |result| done.send(result).unwrap()));
    told.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
}

fn kept(state: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores/v1").join(state)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in FILES {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// A process that is being started has a share in every lock of this one until it is itself. So
/// whoever starts one is alone, and a store that was closed is seen to be.
static STARTING: RwLock<()> = RwLock::new(());
/// Of the tests that do, one at a time.
static STARTERS: Mutex<()> = Mutex::new(());

fn nobody_starts() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the binary to its end.
fn run(arguments: &[&str], dir: &Path) -> Output {
    let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
    command.args(arguments).arg("--data-dir").arg(dir).output().unwrap()
}

/// A copy of a kept store: opening one writes to it.
fn store(state: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&kept(state), dir.path());
    dir
}

fn open(dir: &TempDir) -> Redb {
    Redb::open(dir.path(), settings()).unwrap()
}

#[test]
#[ignore = "writes a format's stores, once"]
fn write_the_stores_of_today() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for Told { name, moved, unmoved, .. } in told() {
        let room = name.parse().unwrap();
        for some in moved.chunks(20) {
            append(&store, &room, some.to_vec());
        }
        store.hibernate(&room, Some(rules())).unwrap();
        for some in unmoved.chunks(2) {
            append(&store, &room, some.to_vec());
        }
    }
    std::thread::sleep(Duration::from_secs(1)); // what is trimmed in the background is trimmed
    copy(dir.path(), &kept("killed"));
    store.close(1500).unwrap();
    copy(dir.path(), &kept("closed"));
}

/// Everything that can be read of a store is what was told, and every room wakes.
#[test]
fn stores_of_version_1_open_and_every_room_in_them_wakes_whole() {
    let _still = nobody_starts();
    for state in STATES {
        let dir = store(state);
        for _ in 0..2 {
            let store = open(&dir);
            let names = told().iter().map(|it| it.name.parse().unwrap()).collect::<Vec<RoomName>>();
            assert_eq!(store.rooms(None, 100).unwrap(), names);
            assert_eq!(store.seated().unwrap(), names[..4]);
            let drain = store.take_drain_spread_ms().unwrap();
            assert!(drain == 0 || (state == "closed" && drain == 1500));
            for it in told() {
                let room: RoomName = it.name.parse().unwrap();
                let opened = store.open(&room).unwrap();
                let epoch = Epoch { store: store.identity().store, deletion: 0 };
                assert_eq!(opened.epoch, epoch);
                assert_eq!((opened.oldest, opened.newest), (it.oldest, it.newest), "{room}");
                assert_eq!(opened.seats, it.seats);
                if !it.moved.is_empty() {
                    assert_eq!(opened.rules, rules());
                }
                let slice = store.read(&room, 1, usize::MAX, usize::MAX).unwrap();
                let messages = (it.oldest..=it.newest).map(message).collect::<Vec<_>>();
                assert_eq!(slice.messages, messages);
                let keys = (1..=it.newest).filter(|seq| seq % 4 != 0).map(|seq| (key(seq), seq));
                assert_eq!(store.keys(&room).unwrap(), keys.collect::<Vec<_>>());
                let woken = Room::wake(&opened, chat);
                assert_eq!(woken.snapshot(), Bytes::new(), "the built-in room knows nothing");
                // The mover may be at work: what it has moved is smaller, and the same.
                let again = store.open(&room).unwrap();
                assert_eq!(opened, Opened { bytes: opened.bytes, ..again });
            }
        }
        // And they go on.
        let store = open(&dir);
        let room = "half-moved".parse().unwrap();
        append(&store, &room, messages(141..=141));
        store.hibernate(&room, None).unwrap();
        drop(store);
        assert_eq!(check(dir.path()).unwrap().damaged, [""; 0]);
    }
    let [closed, killed] = STATES.map(|state| open(&store(state)).identity().store);
    assert_eq!(closed, killed);
}

/// Also one that a crash left, which redb repairs when it opens it.
#[test]
fn a_store_is_looked_at_whole_and_is_not_touched() {
    let _still = nobody_starts();
    for state in STATES {
        let dir = store(state);
        let store = look(dir.path(), &settings()).unwrap();
        for it in told() {
            let room: RoomName = it.name.parse().unwrap();
            let opened = store.open(&room).unwrap();
            assert_eq!((opened.oldest, opened.newest), (it.oldest, it.newest), "{room}");
            assert_eq!(opened.seats, it.seats);
            let slice = store.read(&room, 1, usize::MAX, usize::MAX).unwrap();
            assert_eq!(slice.messages, (it.oldest..=it.newest).map(message).collect::<Vec<_>>());
        }
        assert_eq!(store.rooms(None, 100).unwrap().len(), told().len());
        assert!(matches!(Redb::open(dir.path(), settings()), Err(Error::InUse { .. })));
        drop(store);
        for file in FILES {
            let [before, after] =
                [&kept(state), dir.path()].map(|at| fs::read(at.join(file)).unwrap());
            assert!(before == after, "{state}: {file} is as it was");
        }
    }
}

#[test]
fn a_whole_store_is_found_whole_and_is_not_touched() {
    let _still = nobody_starts();
    for state in STATES {
        let dir = store(state);
        let found = check(dir.path()).unwrap();
        assert_eq!(found.damaged, [""; 0], "{state}");
        assert_eq!((found.rooms, found.seats), (5, 5), "{found}");
        assert_eq!(found.messages, 120 + 140 + 3 + 188, "{found}");
        assert_eq!(found.unmoved, 8, "{found}");
        assert_eq!(found.keys, 90 + 98 + 225, "{found}");
        for file in FILES {
            let [before, after] =
                [kept(state), dir.path().into()].map(|at| fs::read(at.join(file)));
            assert!(before.unwrap() == after.unwrap(), "{file} has changed");
        }
    }
}

#[test]
fn a_store_that_is_open_or_not_there_is_said_to_be() {
    let _still = nobody_starts();
    let dir = store("closed");
    let gateway = open(&dir);
    assert!(matches!(check(dir.path()), Err(Error::InUse { .. })));
    drop(gateway);
    check(dir.path()).unwrap();
    fs::remove_file(dir.path().join("rooms.redb")).unwrap();
    let why = check(dir.path()).unwrap_err().to_string();
    assert!(why.ends_with("has no rooms.redb"), "{why}");
    assert!(!dir.path().join("rooms.redb").exists(), "nor is it made");
}

/// Changes a file behind the store's back, with the database's own checksums made right again.
fn tamper(dir: &TempDir, file: &str, with: impl FnOnce(&redb::WriteTransaction)) {
    let db = Database::open(dir.path().join(file)).unwrap();
    let txn = db.begin_write().unwrap();
    with(&txn);
    txn.commit().unwrap();
}

/// The row's value with its last byte wrong.
fn spoiled(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    value
}

#[test]
fn whatever_is_damaged_is_named() {
    let _still = nobody_starts();
    type Damage = fn(&redb::WriteTransaction);
    fn spoil(txn: &redb::WriteTransaction, table: PerRoom, key: (&str, u64)) {
        let mut table = txn.open_table(table).unwrap();
        let value = spoiled(table.get(key).unwrap().unwrap().value());
        table.insert(key, &value[..]).unwrap();
    }
    let damages: [(&str, &str, Damage); 9] = [
        ("rooms.redb", "the row of room trimmed (its checksum is wrong)", |txn| {
            let mut rooms = txn.open_table(ROOMS).unwrap();
            let value = spoiled(rooms.get("trimmed").unwrap().unwrap().value());
            rooms.insert("trimmed", &value[..]).unwrap();
        }),
        ("rooms.redb", "chunk 113 of room all-moved (its checksum is wrong)", |txn| {
            spoil(txn, CHUNKS, ("all-moved", 113));
        }),
        ("rooms.redb", "seat 2 of room all-moved (its checksum is wrong)", |txn| {
            spoil(txn, SEATS, ("all-moved", 2));
        }),
        ("rooms.redb", "keys 1 of room trimmed (its checksum is wrong)", |txn| {
            spoil(txn, KEYS, ("trimmed", 1));
        }),
        ("rooms.redb", "the log of room trimmed (a gap before 225)", |txn| {
            // One message fewer, sealed as it should be, is seen as a gap by its neighbours only.
            let mut chunks = txn.open_table(CHUNKS).unwrap();
            let other = chunks.get(("all-moved", 113)).unwrap().unwrap().value().to_vec();
            chunks.insert(("trimmed", 113), &other[..]).unwrap();
        }),
        ("rooms.redb", "chunk 1 of room half-moved (missing)", |txn| {
            txn.open_table(CHUNKS).unwrap().remove(("half-moved", 1)).unwrap();
        }),
        ("rooms.redb", "the seats of room nobody (there is no such room)", |txn| {
            txn.open_table(SEATS).unwrap().insert(("nobody", 1), &b"?"[..]).unwrap();
        }),
        ("journal.redb", "journal.redb: marks (missing)", |txn| {
            let meta: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
            txn.open_table(meta).unwrap().remove("marks").unwrap();
        }),
        ("journal.redb", "(its checksum is wrong)", |txn| {
            let mut journal = txn.open_table(JOURNAL).unwrap();
            let (key, value) = {
                let (key, value) = journal.first().unwrap().unwrap();
                (key.value(), spoiled(value.value()))
            };
            journal.insert(key, &value[..]).unwrap();
        }),
    ];
    for (file, named, damage) in damages {
        let dir = store("closed");
        tamper(&dir, file, damage);
        let found = check(dir.path()).unwrap();
        let is_named = found.damaged.iter().any(|what| what.contains(named));
        assert!(is_named, "{named} is not among {:?}", found.damaged);
    }
}

/// One bit flips anywhere in a file. Either it mattered to nobody, or `check` finds it; and never
/// is a message served that nobody said.
#[test]
fn a_flipped_bit_is_found_unless_it_means_nothing() {
    let _still = nobody_starts();
    let (mut found_some, mut meant_nothing) = (0, 0);
    for file in FILES {
        let whole = fs::read(kept("closed").join(file)).unwrap();
        for at in (0..whole.len()).step_by((whole.len() / 25) | 1) {
            let dir = store("closed");
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(dir.path().join(file), flipped).unwrap();
            let is_found = !check(dir.path()).unwrap().damaged.is_empty();
            let is_whole = serves_what_was_said(&dir, at);
            assert!(is_found || is_whole, "{file} is damaged at {at}, and that is not found");
            found_some += u32::from(is_found);
            meant_nothing += u32::from(!is_found);
        }
    }
    assert!(found_some > 5 && meant_nothing > 5, "{found_some}, {meant_nothing}");
}

/// Reads all there is; says whether it is whole. What is read must be true.
fn serves_what_was_said(dir: &TempDir, at: usize) -> bool {
    let Ok(store) = Redb::open(dir.path(), settings()) else { return false };
    told().iter().all(|it| {
        let room = it.name.parse().unwrap();
        match store.read(&room, 1, usize::MAX, usize::MAX) {
            Ok(slice) => {
                for said in &slice.messages {
                    assert_eq!(*said, message(said.seq), "byte {at}");
                }
                let is_whole = slice.messages.len() as u64 == it.newest + 1 - it.oldest;
                is_whole && store.open(&room).is_ok_and(|opened| opened.seats == it.seats)
            }
            Err(_) => false,
        }
    })
}

/// A gateway that began anew, or without what cannot be read, would give out places twice.
#[test]
fn a_damaged_journal_is_a_sentence_at_the_start_and_no_gateway() {
    let _one = STARTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = store("closed");
    tamper(&dir, "journal.redb", |txn| {
        let mut journal = txn.open_table(JOURNAL).unwrap();
        let key = journal.last().unwrap().unwrap().0.value();
        journal.insert(key, &b"nonsense"[..]).unwrap();
    });
    let output = run(&["--listen", "127.0.0.1:0", "--operator-listen", "off"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in ["cannot open the data directory", "journal entry", "is damaged", "dormouse check"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

/// The command says the same, and its exit code is what a script goes by.
#[test]
fn the_command_says_what_it_found() {
    let _one = STARTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let run = |dir: &Path| {
        let output = run(&["check"], dir);
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), text)
    };
    let dir = store("killed");
    let (code, [said, _]) = run(dir.path());
    assert_eq!(code, Some(0));
    assert!(
        said.contains("5 rooms, 451 messages") && said.ends_with("nothing is damaged\n"),
        "{said}"
    );

    let gateway = open(&dir);
    let (code, [_, complaint]) = run(dir.path());
    assert_eq!(code, Some(1));
    assert!(complaint.contains("is in use by another dormouse"), "{complaint}");
    drop(gateway);

    tamper(&dir, "rooms.redb", |txn| {
        let mut rooms = txn.open_table(ROOMS).unwrap();
        rooms.insert("trimmed", &b"nonsense"[..]).unwrap();
    });
    let (code, [said, complaint]) = run(dir.path());
    assert_eq!(code, Some(1));
    assert!(said.contains("\n  the row of room trimmed ("), "{said}");
    assert_eq!(complaint, "dormouse: the store is damaged\n");
}
