//! What every engine must do, told once and run over each.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    BodyKind, Engine, Error, KEYS_KEPT, Memory, Message, Record, Redb, Retention, SeatRow, Settings,
};
use crate::protocol::{Author, Epoch, KeyHash, RoomName, Sid, Timestamp};

/// An engine that can be closed and opened again as a new process would.
enum Kit {
    Memory(Memory),
    Redb(Option<Redb>, tempfile::TempDir),
}

impl Kit {
    fn memory() -> Self {
        Kit::Memory(Memory::new(7))
    }

    fn redb() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Kit::Redb(Some(Redb::open(dir.path(), settings()).unwrap()), dir)
    }

    fn engine(&self) -> &dyn Engine {
        match self {
            Kit::Memory(memory) => memory,
            Kit::Redb(redb, _) => redb.as_ref().unwrap(),
        }
    }

    fn reopen(&mut self) {
        match self {
            Kit::Memory(memory) => *memory = memory.reopen(),
            Kit::Redb(redb, dir) => {
                drop(redb.take());
                *redb = Some(Redb::open(dir.path(), settings()).unwrap());
            }
        }
    }
}

/// Limits that nothing here reaches, so that the mover works only when it is asked.
pub fn settings() -> Settings {
    Settings {
        journal_bytes: 1 << 30,
        journal_total_bytes: 1 << 30,
        journal_age: Duration::from_secs(1 << 20),
        journal_cache: 1 << 20,
        rooms_cache: 1 << 20,
        reserve: None,
        retention: Retention {
            messages: u64::MAX,
            age: Duration::MAX,
            bytes: u64::MAX,
            idle_delete: None,
        },
        kinds: Default::default(),
        clock: Default::default(),
        supervisor: Default::default(),
    }
}

pub fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

pub fn message(seq: u64) -> Message {
    let body = Bytes::from(format!(r#"{{"type":"message","seq":{seq},"data":{{"text":"hi"}}}}"#));
    Message { seq, time: Timestamp(1000 + seq), key: None, kind: BodyKind::Json, body }
}

pub fn keyed(seq: u64) -> Message {
    Message { key: Some(key(seq)), ..message(seq) }
}

pub fn key(seq: u64) -> KeyHash {
    KeyHash((u128::from(seq) * 0x9e37_79b9_7f4a_7c15).to_le_bytes())
}

pub fn seat(sid: u64) -> SeatRow {
    SeatRow {
        sid: Sid(sid),
        author: Author(sid + 100),
        user: sid.is_multiple_of(2).then(|| format!("u{sid}")),
        name: format!("name {sid}"),
        tags: vec!["mod".into(), "vip".into()],
        attachment: Some(r#"{"color":"red"}"#.into()),
        since: Timestamp(5),
        left: false,
    }
}

pub fn append(engine: &dyn Engine, room: &RoomName, records: Vec<Record>) -> Result<Epoch, Error> {
    let (told, answer) = mpsc::sync_channel(1);
    engine.append(room, records, Box::new(move |result| told.send(result).unwrap()));
    answer.recv_timeout(Duration::from_secs(60)).expect("an append is answered")
}

/// Appends messages `from..=to`, ten per commit.
pub fn say(engine: &dyn Engine, room: &RoomName, from: u64, to: u64) {
    let messages = (from..=to).map(|seq| Record::Message(message(seq))).collect::<Vec<_>>();
    for some in messages.chunks(10) {
        append(engine, room, some.to_vec()).unwrap();
    }
}

pub fn seqs(engine: &dyn Engine, room: &RoomName, from: u64) -> Vec<u64> {
    let slice = engine.read(room, from, usize::MAX, usize::MAX).unwrap();
    slice.messages.iter().map(|message| message.seq).collect()
}

macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        mod memory { $(#[test] fn $name() { super::$name(super::Kit::memory()); })* }
        mod redb { $(#[test] fn $name() { super::$name(super::Kit::redb()); })* }
    };
}

behaviours!(
    a_room_without_records_opens_empty,
    what_was_appended_is_read_back_in_order,
    a_slice_ends_at_its_limits,
    hibernating_changes_nothing_but_the_rules_state,
    what_was_never_moved_is_there_after_opening_again,
    half_moved_rooms_are_whole,
    seats_come_change_leave_and_end,
    a_room_without_messages_vanishes_with_its_last_seat,
    keys_outlive_hibernation_and_reach_back_far_enough,
    rooms_are_listed_in_pages,
    the_drain_is_told_once,
    a_closed_store_says_so,
    binary_bodies_and_large_ones_come_back_as_they_were,
    a_deleted_room_is_as_if_it_never_was_and_its_successor_is_another,
    what_was_said_in_the_same_breath_as_a_deletion_goes_with_it,
    alarms_come_due_in_order_wherever_they_lie,
    what_the_rules_know_is_as_durable_as_what_they_did,
);

fn a_room_without_records_opens_empty(kit: Kit) {
    let opened = kit.engine().open(&room("a")).unwrap();
    assert_eq!((opened.newest, opened.oldest, opened.bytes), (0, 1, 0));
    assert!(opened.seats.is_empty() && opened.rules.is_empty());
    let slice = kit.engine().read(&room("a"), 1, 10, 1000).unwrap();
    assert_eq!((slice.newest, slice.oldest, slice.messages.len()), (0, 1, 0));
    assert_eq!(opened.epoch, slice.epoch);
    assert_eq!(opened.epoch.store, kit.engine().identity().store);
    kit.engine().hibernate(&room("a"), Some(Bytes::from_static(b"state"))).unwrap();
    assert!(kit.engine().rooms(None, 10).unwrap().is_empty());
}

fn what_was_appended_is_read_back_in_order(kit: Kit) {
    let (a, b) = (room("a"), room("b"));
    for seq in 1..=50 {
        append(kit.engine(), &a, vec![Record::Message(keyed(seq))]).unwrap();
        append(kit.engine(), &b, vec![Record::Message(message(seq))]).unwrap();
    }
    let slice = kit.engine().read(&a, 1, 100, usize::MAX).unwrap();
    assert_eq!(slice.messages, (1..=50).map(keyed).collect::<Vec<_>>());
    assert_eq!(seqs(kit.engine(), &b, 49), [49, 50]);
    assert!(seqs(kit.engine(), &b, 51).is_empty());
    let opened = kit.engine().open(&a).unwrap();
    assert_eq!((opened.newest, opened.newest_time), (50, Timestamp(1050)));
}

fn a_slice_ends_at_its_limits(kit: Kit) {
    let a = room("a");
    say(kit.engine(), &a, 1, 300);
    let check = || {
        let read = |from, messages, bytes| {
            let slice = kit.engine().read(&a, from, messages, bytes).unwrap();
            assert_eq!((slice.oldest, slice.newest), (1, 300));
            slice.messages.iter().map(|message| message.seq).collect::<Vec<_>>()
        };
        let size = message(100).body.len();
        assert_eq!(read(100, 3, usize::MAX), [100, 101, 102]);
        assert_eq!(read(100, 10, 2 * size), [100, 101]);
        assert_eq!(read(100, 10, 2 * size + 1), [100, 101, 102]);
        assert_eq!(read(100, 10, 0), [100]);
        assert!(read(100, 0, usize::MAX).is_empty());
        assert_eq!(read(0, 2, usize::MAX), [1, 2]);
        assert_eq!(read(111, 3, usize::MAX), [111, 112, 113]);
        assert_eq!(read(299, 10, usize::MAX), [299, 300]);
        assert!(read(301, 10, usize::MAX).is_empty());
        assert!(read(u64::MAX, 10, usize::MAX).is_empty());
    };
    check();
    kit.engine().hibernate(&a, None).unwrap();
    check();
}

fn hibernating_changes_nothing_but_the_rules_state(mut kit: Kit) {
    let a = room("a");
    append(kit.engine(), &a, vec![Record::Seat(seat(1))]).unwrap();
    say(kit.engine(), &a, 1, 250);
    let before = kit.engine().open(&a).unwrap();
    let rules = Bytes::from_static(b"as it is");
    kit.engine().hibernate(&a, Some(rules.clone())).unwrap();
    for _ in 0..2 {
        let after = kit.engine().open(&a).unwrap();
        assert_eq!(after.rules, rules);
        let (rules, bytes) = (before.rules.clone(), before.bytes);
        assert_eq!(super::Opened { rules, bytes, ..after }, before);
        assert_eq!(seqs(kit.engine(), &a, 1), (1..=250).collect::<Vec<_>>());
        kit.engine().hibernate(&a, None).unwrap();
        kit.reopen();
    }
}

fn what_was_never_moved_is_there_after_opening_again(mut kit: Kit) {
    let a = room("a");
    append(kit.engine(), &a, vec![Record::Seat(seat(1)), Record::Message(keyed(1))]).unwrap();
    say(kit.engine(), &a, 2, 30);
    let before = kit.engine().open(&a).unwrap();
    let identity = kit.engine().identity().clone();
    kit.reopen();
    assert_eq!(kit.engine().open(&a).unwrap(), before);
    assert_eq!(seqs(kit.engine(), &a, 1), (1..=30).collect::<Vec<_>>());
    assert_eq!(kit.engine().keys(&a).unwrap(), [(key(1), 1)]);
    assert_eq!(kit.engine().seated().unwrap(), [a]);
    assert_eq!(kit.engine().identity().store, identity.store);
    assert_eq!(kit.engine().identity().secret, identity.secret);
}

fn half_moved_rooms_are_whole(mut kit: Kit) {
    let a = room("a");
    for part in 0..5 {
        say(kit.engine(), &a, part * 70 + 1, part * 70 + 70);
        kit.engine().hibernate(&a, None).unwrap();
        say(kit.engine(), &room("b"), part + 1, part + 1);
    }
    say(kit.engine(), &a, 351, 360);
    for _ in 0..2 {
        assert_eq!(seqs(kit.engine(), &a, 1), (1..=360).collect::<Vec<_>>());
        assert_eq!(seqs(kit.engine(), &a, 345), (345..=360).collect::<Vec<_>>());
        assert_eq!(kit.engine().open(&a).unwrap().newest, 360);
        kit.reopen();
    }
}

fn seats_come_change_leave_and_end(mut kit: Kit) {
    let a = room("a");
    let seats = |kit: &Kit| kit.engine().open(&a).unwrap().seats;
    let changed = SeatRow { name: "eve".into(), ..seat(2) };
    let left = SeatRow { left: true, ..seat(3) };
    let begin = (1..=3).rev().map(|sid| Record::Seat(seat(sid))).collect();
    append(kit.engine(), &a, begin).unwrap();
    assert_eq!(seats(&kit), [seat(1), seat(2), seat(3)]);
    kit.engine().hibernate(&a, None).unwrap();
    let change = vec![
        Record::SeatEnded(Sid(1)),
        Record::Seat(changed.clone()),
        Record::SeatLeft(Sid(3)),
        Record::SeatLeft(Sid(4)), // is not seated: means nothing
    ];
    append(kit.engine(), &a, change).unwrap();
    for _ in 0..2 {
        assert_eq!(seats(&kit), [changed.clone(), left.clone()]);
        kit.reopen();
        assert_eq!(seats(&kit), [changed.clone(), left.clone()]);
        assert_eq!(kit.engine().seated().unwrap(), [room("a")]);
        kit.engine().hibernate(&a, None).unwrap();
    }
    append(kit.engine(), &a, vec![Record::Seat(seat(3))]).unwrap();
    assert_eq!(seats(&kit)[1], seat(3), "taken back");
}

fn a_room_without_messages_vanishes_with_its_last_seat(mut kit: Kit) {
    let (a, b) = (room("a"), room("b"));
    append(kit.engine(), &a, vec![Record::Seat(seat(1))]).unwrap();
    append(kit.engine(), &b, vec![Record::Seat(seat(1)), Record::Message(message(1))]).unwrap();
    kit.engine().hibernate(&a, Some(Bytes::from_static(b"state"))).unwrap();
    assert_eq!(kit.engine().rooms(None, 9).unwrap(), [a.clone(), b.clone()]);
    append(kit.engine(), &a, vec![Record::SeatEnded(Sid(1))]).unwrap();
    append(kit.engine(), &b, vec![Record::SeatEnded(Sid(1))]).unwrap();
    kit.engine().hibernate(&a, None).unwrap();
    kit.engine().hibernate(&b, None).unwrap();
    for _ in 0..2 {
        assert_eq!(kit.engine().rooms(None, 9).unwrap(), std::slice::from_ref(&b));
        assert_eq!(kit.engine().open(&a).unwrap().bytes, 0);
        assert_eq!(kit.engine().open(&b).unwrap().newest, 1);
        assert!(kit.engine().seated().unwrap().is_empty());
        kit.reopen();
    }
}

fn keys_outlive_hibernation_and_reach_back_far_enough(mut kit: Kit) {
    let a = room("a");
    let mut seq = 0;
    for part in 0..6 {
        let some = (0..1000).map(|_| {
            seq += 1;
            Record::Message(if seq % 4 == 0 { message(seq) } else { keyed(seq) })
        });
        append(kit.engine(), &a, some.collect()).unwrap();
        if part % 2 == 0 {
            kit.engine().hibernate(&a, None).unwrap();
        }
    }
    let all = (1..=6000).filter(|seq| seq % 4 != 0).map(|seq| (key(seq), seq));
    let all = all.collect::<Vec<_>>();
    for _ in 0..2 {
        let keys = kit.engine().keys(&a).unwrap();
        assert_eq!(keys, all[all.len() - KEYS_KEPT..]);
        kit.reopen();
        kit.engine().hibernate(&a, None).unwrap();
    }
    assert!(kit.engine().keys(&room("b")).unwrap().is_empty());
}

fn rooms_are_listed_in_pages(kit: Kit) {
    for name in ["d", "b", "e", "a", "c"] {
        say(kit.engine(), &room(name), 1, 1);
    }
    kit.engine().hibernate(&room("b"), None).unwrap();
    kit.engine().hibernate(&room("e"), None).unwrap();
    let list = |after: Option<&str>, limit| {
        let rooms = kit.engine().rooms(after.map(room).as_ref(), limit).unwrap();
        rooms.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 2), ["a", "b"]);
    assert_eq!(list(Some("b"), 2), ["c", "d"]);
    assert_eq!(list(Some("d"), 2), ["e"]);
    assert!(list(Some("e"), 2).is_empty());
}

fn the_drain_is_told_once(mut kit: Kit) {
    assert_eq!(kit.engine().take_drain_spread_ms().unwrap(), 0);
    kit.engine().close(1500).unwrap();
    kit.engine().close(9).unwrap();
    kit.reopen();
    assert_eq!(kit.engine().take_drain_spread_ms().unwrap(), 1500);
    assert_eq!(kit.engine().take_drain_spread_ms().unwrap(), 0);
    kit.reopen();
    assert_eq!(kit.engine().take_drain_spread_ms().unwrap(), 0);
}

fn a_closed_store_says_so(kit: Kit) {
    let a = room("a");
    kit.engine().close(0).unwrap();
    let closed = |error| matches!(error, Some(Error::Closed));
    assert!(closed(append(kit.engine(), &a, vec![Record::Message(message(1))]).err()));
    assert!(closed(kit.engine().open(&a).err()));
    assert!(closed(kit.engine().read(&a, 1, 1, 1).err()));
    assert!(closed(kit.engine().hibernate(&a, None).err()));
}

fn binary_bodies_and_large_ones_come_back_as_they_were(mut kit: Kit) {
    let a = room("a");
    let kind = BodyKind::Binary;
    let with = |seq, len| Message { kind, body: noise(seq, len), ..message(seq) };
    let all = [with(1, 1 << 20), with(2, 0), with(3, 70_000), with(4, 60_000), with(5, 1)];
    append(kit.engine(), &a, all.iter().cloned().map(Record::Message).collect()).unwrap();
    for _ in 0..2 {
        let slice = kit.engine().read(&a, 1, 10, usize::MAX).unwrap();
        assert!(slice.messages == all);
        kit.engine().hibernate(&a, None).unwrap();
        kit.reopen();
    }
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

fn delete(engine: &dyn Engine, name: &RoomName) -> Epoch {
    append(engine, name, vec![Record::Deleted]).unwrap()
}

fn a_deleted_room_is_as_if_it_never_was_and_its_successor_is_another(mut kit: Kit) {
    // Moved, half moved, and not moved at all; each with and without a successor.
    for (number, moves) in
        [[true, false], [true, true], [false, true], [false, false]].iter().enumerate()
    {
        for succeeded in [true, false] {
            let a = room(&format!("room-{number}-{succeeded}"));
            append(
                kit.engine(),
                &a,
                vec![Record::Seat(seat(1)), Record::Alarm(Some(Timestamp(7)))],
            )
            .unwrap();
            let messages = (1..=130).map(|seq| Record::Message(keyed(seq))).collect();
            let before = append(kit.engine(), &a, messages).unwrap();
            if moves[0] {
                kit.engine().hibernate(&a, Some(Bytes::from_static(b"rules"))).unwrap();
            }
            let more = (131..=140).map(|seq| Record::Message(keyed(seq))).collect();
            assert_eq!(append(kit.engine(), &a, more).unwrap(), before);
            let after = delete(kit.engine(), &a);
            assert!(after.deletion > before.deletion, "{after:?} {before:?}");
            let is_gone = |engine: &dyn Engine| {
                let opened = engine.open(&a).unwrap();
                assert_eq!(
                    (opened.newest, opened.oldest, opened.bytes.min(30)),
                    (0, 1, opened.bytes)
                );
                assert!(opened.seats.is_empty() && opened.rules.is_empty());
                assert_eq!((opened.alarm, opened.epoch), (None, after));
                let slice = engine.read(&a, 1, 100, usize::MAX).unwrap();
                assert_eq!((slice.messages.len(), slice.newest, slice.epoch), (0, 0, after));
                assert!(engine.keys(&a).unwrap().is_empty());
                assert!(!engine.rooms(None, 100).unwrap().contains(&a));
                let due = engine.due(Timestamp(u64::MAX), &Default::default(), 100).unwrap();
                assert!(due.rooms.iter().all(|(_, room, _)| *room != a), "{due:?}");
            };
            is_gone(kit.engine());
            kit.reopen();
            is_gone(kit.engine());
            if succeeded {
                append(kit.engine(), &a, vec![Record::Seat(seat(2))]).unwrap();
                let again = append(kit.engine(), &a, vec![Record::Message(message(1))]);
                assert_eq!(again.unwrap(), after);
            }
            for _ in 0..2 {
                if moves[1] {
                    kit.engine().hibernate(&a, None).unwrap();
                }
                kit.reopen();
                if succeeded {
                    let opened = kit.engine().open(&a).unwrap();
                    assert_eq!((opened.newest, opened.epoch), (1, after));
                    assert_eq!(opened.seats, [seat(2)]);
                    assert_eq!(seqs(kit.engine(), &a, 1), [1]);
                    assert!(kit.engine().keys(&a).unwrap().is_empty());
                } else {
                    is_gone(kit.engine());
                }
                assert_eq!(kit.engine().seated().unwrap().contains(&a), succeeded);
            }
            if succeeded {
                delete(kit.engine(), &a); // so that the next room's epoch is the newest
            }
        }
    }
}

fn what_was_said_in_the_same_breath_as_a_deletion_goes_with_it(mut kit: Kit) {
    let a = room("a");
    say(kit.engine(), &a, 1, 10);
    append(kit.engine(), &a, vec![Record::Message(message(11)), Record::Deleted]).unwrap();
    for _ in 0..2 {
        assert_eq!(kit.engine().open(&a).unwrap().newest, 0);
        say(kit.engine(), &a, 1, 2);
        assert_eq!(seqs(kit.engine(), &a, 1), [1, 2]);
        kit.engine().hibernate(&a, None).unwrap();
        kit.reopen();
        assert_eq!(seqs(kit.engine(), &a, 1), [1, 2]);
        append(kit.engine(), &a, vec![Record::Message(message(3)), Record::Deleted]).unwrap();
    }
}

fn due_rooms(engine: &dyn Engine, now: u64) -> Vec<String> {
    let due = engine.due(Timestamp(now), &Default::default(), 100).unwrap();
    due.rooms
        .into_iter()
        .map(|(at, room, cause)| {
            assert_eq!(cause, super::Cause::Alarm);
            assert!(at.0 <= now);
            room.to_string()
        })
        .collect()
}

fn alarms_come_due_in_order_wherever_they_lie(mut kit: Kit) {
    let set = |kit: &Kit, name: &str, at: u64| {
        append(kit.engine(), &room(name), vec![Record::Alarm(Some(Timestamp(at)))]).unwrap();
    };
    for (name, at) in [("c", 30), ("a", 10), ("b", 20), ("d", 40)] {
        set(&kit, name, at);
    }
    for name in ["b", "d"] {
        kit.engine().hibernate(&room(name), None).unwrap();
    }
    for _ in 0..2 {
        assert!(due_rooms(kit.engine(), 9).is_empty());
        assert_eq!(due_rooms(kit.engine(), 30), ["a", "b", "c"]);
        let skip = [room("a")].into();
        let due = kit.engine().due(Timestamp(30), &skip, 1).unwrap();
        assert_eq!(due.rooms, [(Timestamp(20), room("b"), super::Cause::Alarm)]);
        assert_eq!(due.next, Some(Timestamp(40)));
        assert_eq!(kit.engine().open(&room("d")).unwrap().alarm, Some(Timestamp(40)));
        kit.reopen();
    }
    // Set anew, and taken away, over what lies in a row.
    set(&kit, "b", 50);
    append(kit.engine(), &room("d"), vec![Record::Alarm(None)]).unwrap();
    for _ in 0..2 {
        assert_eq!(due_rooms(kit.engine(), 60), ["a", "c", "b"]);
        assert_eq!(
            kit.engine().due(Timestamp(40), &Default::default(), 9).unwrap().next,
            Some(Timestamp(50))
        );
        for name in ["a", "b", "c", "d"] {
            kit.engine().hibernate(&room(name), None).unwrap();
        }
        kit.reopen();
    }
    // A room that has nothing but an alarm is a room until that is gone.
    assert_eq!(kit.engine().rooms(None, 9).unwrap(), ["a", "b", "c"].map(room));
}

fn what_the_rules_know_is_as_durable_as_what_they_did(mut kit: Kit) {
    let a = room("a");
    let knows = |what: &'static str| Record::State(Bytes::from_static(what.as_bytes()));
    append(kit.engine(), &a, vec![Record::Message(message(1)), knows("one")]).unwrap();
    kit.reopen();
    assert_eq!(kit.engine().open(&a).unwrap().rules, "one");
    kit.engine().hibernate(&a, None).unwrap();
    append(kit.engine(), &a, vec![knows("two")]).unwrap();
    for _ in 0..2 {
        assert_eq!(kit.engine().open(&a).unwrap().rules, "two");
        kit.engine().hibernate(&a, None).unwrap();
        kit.reopen();
    }
}
