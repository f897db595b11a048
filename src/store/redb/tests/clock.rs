//! A wall clock that is set, while the store is open and while it is not.

use super::*;
use crate::clock::{Clock, NOT_BEFORE, Wrong};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY_MS: u64 = 86_400_000;

/// Limits of age that are far from over within a test, and over after a jump of days.
fn aged(clock: &Clock) -> Settings {
    let retention = Retention { age: HOUR, idle_delete: Some(HOUR), ..settings().retention };
    Settings { retention, clock: clock.clone(), ..settings() }
}

fn opened(dir: &tempfile::TempDir, clock: &Clock) -> Redb {
    Redb::open(dir.path(), aged(clock)).unwrap()
}

/// Something said now, in a room that then sleeps.
fn said(store: &Redb, name: &str, seq: u64) {
    let time = store.shared.settings.clock.wall();
    let message = Record::Message(Message { time, ..keyed(seq) });
    append(store, &room(name), vec![message]).unwrap();
    store.hibernate(&room(name), None).unwrap();
}

/// Returns once the mover has looked at everything that is due, in the commit of a room that is
/// moved, and the clock's jumps with it.
fn looked_at(store: &Redb, seq: u64) {
    said(store, "attic", seq);
    assert!(!store.shared.settings.clock.is_unsaved());
}

fn idle_rooms(store: &Redb) -> Vec<String> {
    let now = store.shared.settings.clock.wall();
    let due = store.due(now, &BTreeSet::new(), 9).unwrap();
    due.rooms.into_iter().map(|(_, room, _)| room.to_string()).collect()
}

/// The machine came up in 1970, and had the time from the network a minute later: the mover took
/// all of it for older than history is kept.
#[test]
fn a_clock_that_is_set_right_makes_nothing_too_old() {
    for is_open in [true, false] {
        let (dir, clock) = (dir(), Clock::movable());
        let right = clock.wall();
        clock.set_wall(Timestamp(60_000));
        let store = opened(&dir, &clock);
        assert_eq!(clock.wrong(), Some(Wrong::BeforeThisVersion));
        said(&store, "lobby", 1);
        let store = match is_open {
            true => {
                clock.set_wall(right);
                store
            }
            false => {
                store.crash().unwrap();
                drop(store);
                clock.set_wall(right);
                opened(&dir, &clock)
            }
        };
        looked_at(&store, 1);
        assert_eq!(clock.wrong(), None);
        assert_eq!(seqs(&store, &room("lobby"), 1), [1], "open: {is_open}");
        assert_eq!(idle_rooms(&store), [""; 0]);

        // What is known of the clock outlives a restart, and ages go on from there.
        drop(store);
        let store = opened(&dir, &clock);
        looked_at(&store, 2);
        assert_eq!(seqs(&store, &room("lobby"), 1), [1]);
        drop(store);
        clock.advance(2 * HOUR);
        let store = opened(&dir, &clock);
        looked_at(&store, 3);
        assert_eq!(seqs(&store, &room("lobby"), 1), [0; 0], "it is two hours old");
        assert_eq!(idle_rooms(&store), ["lobby"]);
        drop(store);
        assert_eq!(check(dir.path()).unwrap().damaged, [""; 0]);
    }
}

/// Ten days forward by mistake, and back: nothing goes for that, and what was stamped with the
/// future is kept no longer than anything else.
#[test]
fn a_clock_that_is_set_forward_and_back_leaves_history_as_it_was() {
    let (dir, clock) = (dir(), Clock::movable());
    let store = opened(&dir, &clock);
    said(&store, "before", 1);
    let right = clock.wall();
    clock.set_wall(right.plus_ms(10 * DAY_MS));
    looked_at(&store, 1);
    assert_eq!(seqs(&store, &room("before"), 1), [1]);
    assert_eq!(idle_rooms(&store), [""; 0]);
    said(&store, "meanwhile", 1);
    said(&store, "future", 1);
    clock.set_wall(right);
    looked_at(&store, 2);
    let all = |store: &Redb| {
        ["before", "meanwhile", "future"].map(|name| seqs(store, &room(name), 1).len())
    };
    assert_eq!(all(&store), [1, 1, 1]);
    said(&store, "after", 1);
    // Moved now, stamped with the time at which the room's stands still.
    let ahead = store.open(&room("meanwhile")).unwrap().newest_time;
    assert!(ahead > clock.wall());
    let still = Record::Message(Message { time: ahead, ..keyed(2) });
    append(&store, &room("meanwhile"), vec![still]).unwrap();
    store.hibernate(&room("meanwhile"), None).unwrap();

    clock.advance(HOUR / 2);
    drop(store);
    let store = opened(&dir, &clock);
    looked_at(&store, 3);
    assert_eq!(all(&store), [1, 2, 1]);
    assert_eq!(clock.wrong(), None, "the store knows that its newest message is of the future");
    drop(store);
    clock.advance(HOUR);
    let store = opened(&dir, &clock);
    looked_at(&store, 4);
    until(|| all(&store) == [0, 0, 0] && seqs(&store, &room("after"), 1).is_empty());
    let mut idle = idle_rooms(&store);
    idle.sort();
    assert_eq!(idle, ["after", "before", "future", "meanwhile"]);
}

/// An older version, or a clock that was ahead, wrote the store: nothing is known of the clock, and
/// the newest message is of the future.
#[test]
fn a_store_from_the_future_makes_the_clock_doubtful_and_loses_nothing() {
    let dir = dir();
    for is_moved in [false, true] {
        let clock = Clock::movable();
        let right = clock.wall();
        clock.set_wall(right.plus_ms(10 * DAY_MS));
        let store = opened(&dir, &clock);
        let seq = 1 + u64::from(is_moved);
        let time = clock.wall();
        append(&store, &room("lobby"), vec![Record::Message(Message { time, ..keyed(seq) })])
            .unwrap();
        if is_moved {
            store.hibernate(&room("lobby"), None).unwrap();
        }
        drop(store);
        tamper(&dir, Name::Rooms, |txn| {
            let mut meta = txn.open_table(super::super::file::META).unwrap();
            meta.remove(super::super::start::CLOCK).unwrap();
        });

        clock.set_wall(right);
        let store = opened(&dir, &clock);
        let Some(Wrong::BeforeTheStore(newest)) = clock.wrong() else { panic!("it is believed") };
        assert!(newest >= time && newest > NOT_BEFORE);
        looked_at(&store, seq);
        assert_eq!(seqs(&store, &room("lobby"), 1).len() as u64, seq);
        drop(store);
    }
}

/// An alarm that the clock jumped over has as long to wait as it had.
#[test]
fn an_alarm_that_was_jumped_over_waits_for_as_long_as_it_had_to() {
    let (dir, clock) = (dir(), Clock::movable());
    let store = opened(&dir, &clock);
    let set = |name: &str, ms: u64| {
        let at = clock.wall().plus_ms(ms);
        append(&store, &room(name), vec![Record::Alarm(Some(at)), Record::Seat(seat(1))]).unwrap();
    };
    set("moved", 3_600_000);
    store.hibernate(&room("moved"), None).unwrap();
    set("unmoved", 3_600_000);
    let right = clock.wall();
    clock.set_wall(right.plus_ms(10 * DAY_MS));
    assert_eq!(idle_rooms(&store), [""; 0]);
    let due = store.due(clock.wall(), &BTreeSet::new(), 9).unwrap();
    let wait = due.next.unwrap().since_ms(clock.wall());
    assert!((3_500_000..=3_600_000).contains(&wait), "{wait}");
    clock.advance(HOUR);
    let mut rung = idle_rooms(&store);
    rung.sort();
    assert_eq!(rung, ["moved", "unmoved"]);
}

/// It is a convenience; what is lost with it is what was known of jumps.
#[test]
fn a_damaged_note_of_the_clock_does_not_stop_a_start() {
    let (dir, clock) = (dir(), Clock::movable());
    drop(opened(&dir, &clock));
    tamper(&dir, Name::Rooms, |txn| {
        let mut meta = txn.open_table(super::super::file::META).unwrap();
        meta.insert(super::super::start::CLOCK, [1, 2, 3, 4, 5, 6].as_slice()).unwrap();
    });
    assert_eq!(check(dir.path()).unwrap().damaged, ["rooms.redb: clock (its checksum is wrong)"]);
    let store = opened(&dir, &clock);
    looked_at(&store, 1);
    drop(store);
    assert_eq!(check(dir.path()).unwrap().damaged, [""; 0], "it is written anew");
}
