//! How long a room is kept that nobody uses, and that no room is left out when limits change.

use std::collections::BTreeSet;

use super::*;
use crate::clock::Clock;
use crate::store::Cause;

const IDLE: Duration = Duration::from_secs(1_000);

fn with_idle(idle: Duration, clock: &Clock) -> Settings {
    let retention = Retention { idle_delete: Some(idle), ..settings().retention };
    Settings { retention, clock: clock.clone(), ..settings() }
}

/// The rooms that are due, and when; none while the store is unwell.
fn due_at(store: &Redb, now: Timestamp) -> Vec<(RoomName, u64)> {
    let due = store.due(now, &BTreeSet::new(), usize::MAX).unwrap_or_default();
    let idle = due.rooms.into_iter().filter(|(.., cause)| *cause == Cause::Idle);
    idle.map(|(at, room, _)| (room, at.0)).collect()
}

/// When the only room is to be deleted, in seconds from now.
fn ends_in(store: &Redb, clock: &Clock) -> u64 {
    let due = store.due(clock.wall(), &BTreeSet::new(), 9).unwrap();
    assert_eq!(due.rooms, [], "it is not due");
    due.next.expect("it is idle").since_ms(clock.wall()).div_ceil(1_000)
}

/// A room with short visits was deleted, log and all, as if nobody had come.
#[test]
fn a_room_is_idle_from_its_last_event_or_use_on() {
    let (dir, clock, a) = (dir(), Clock::movable(), room("a"));
    let store = Redb::open(dir.path(), with_idle(IDLE, &clock)).unwrap();
    say(&store, &a, 1, 1);
    store.hibernate(&a, None).unwrap();
    assert_eq!(ends_in(&store, &clock), 1_000);
    clock.advance(Duration::from_secs(400));
    assert_eq!(ends_in(&store, &clock), 600);
    store.hibernate(&a, Some(Bytes::from_static(b"rules"))).unwrap();
    assert_eq!(ends_in(&store, &clock), 600, "that was no use of it");
    store.touch(&a).unwrap();
    assert_eq!(ends_in(&store, &clock), 1_000, "that was");
    clock.advance(Duration::from_secs(400));
    say(&store, &a, 2, 2);
    store.hibernate(&a, None).unwrap();
    assert_eq!(ends_in(&store, &clock), 1_000, "and so is an event");

    // While somebody is seated the room is not deleted; afterwards its whole time begins anew.
    append(&store, &a, vec![Record::Seat(seat(1))]).unwrap();
    store.hibernate(&a, None).unwrap();
    clock.advance(IDLE * 3);
    let due = store.due(clock.wall(), &BTreeSet::new(), 9).unwrap();
    assert_eq!((due.rooms.len(), due.next), (0, None));
    append(&store, &a, vec![Record::SeatEnded(seat(1).sid)]).unwrap();
    store.hibernate(&a, None).unwrap();
    assert_eq!(ends_in(&store, &clock), 1_000);
    clock.advance(IDLE);
    assert_eq!(due_at(&store, clock.wall()).len(), 1);
}

/// One slice of rooms kept its old history when the commit of a sweep failed.
#[test]
fn no_room_is_left_out_of_a_sweep_whose_commit_fails() {
    let (disk, clock) = (Faulty::default(), Clock::movable());
    let names = (100..550).map(|number| room(&format!("room-{number}"))).collect::<Vec<_>>();
    let store = Redb::open_on(disk.clone(), settings()).unwrap();
    for name in &names {
        append(&store, name, vec![Record::Message(message(1))]).unwrap();
    }
    names.iter().for_each(|name| store.hibernate(name, None).unwrap());
    drop(store);
    // Each time other limits, and thus a sweep; each time another of its commits fails.
    for failing in 0..6 {
        let idle = IDLE * (failing as u32 + 1);
        disk.fail(Name::Rooms, Fault::SyncKept, failing + 2);
        let begun = clock.wall();
        let store = Redb::open_on(disk.clone(), with_idle(idle, &clock));
        let store = match store {
            Ok(store) => store,
            Err(_) => Redb::open_on(disk.clone(), with_idle(idle, &clock)).unwrap(),
        };
        let ends = begun.0 + idle.as_millis() as u64;
        let later = Timestamp(ends + 1_000_000_000);
        until(|| {
            let due = due_at(&store, later);
            due.len() == names.len() && due.iter().all(|(_, at)| *at >= ends)
        });
        drop(store);
    }
}
