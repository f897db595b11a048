//! Limits hold, and windows are as long as they are said to be.

use std::time::Duration;

use dormouse::keeper::state::{Gone, Output};
use dormouse::keeper::{Rates, Settings};
use dormouse::protocol::seed;
use dormouse::protocol::v1::SeatKept;
use dormouse::room::Rate;

use crate::bench::{Bench, brief, gone, join, join_seed, publish, welcome};
use crate::world::settings;

/// Takes publishes for as long as mail is wanted; says how many that were.
fn fill(bench: &mut Bench) -> usize {
    let mut taken = 0;
    while bench.wants_mail() {
        taken += 1;
        assert!(taken < 1_000, "there is no limit");
        bench.give(publish(1, taken as u64, None));
    }
    taken
}

#[test]
fn what_waits_for_a_room_to_wake_is_limited_in_number() {
    let waking_bytes = 1 << 20;
    let mut bench = Bench::new(Settings { waking_bytes, ..settings() });
    bench.seated(1);
    assert_eq!(fill(&mut bench), settings().mailbox_events);
    bench.answer(); // awake: all of it is on its way to disk
    bench.answer();
    assert!(bench.wants_mail());
}

#[test]
fn what_waits_for_a_room_to_wake_is_limited_in_bytes() {
    let (mailbox_events, waking_bytes) = (1_000, 20);
    let mut bench = Bench::new(Settings { mailbox_events, waking_bytes, ..settings() });
    bench.seated(1);
    assert_eq!(fill(&mut bench), 5, "five times four bytes");
    bench.answer();
    bench.answer();
    assert!(bench.wants_mail());
}

#[test]
fn what_waits_for_the_disk_is_limited() {
    let (mailbox_events, waking_bytes) = (20, 1 << 20);
    let mut bench = Bench::new(Settings { mailbox_events, waking_bytes, ..settings() });
    bench.seated(1);
    bench.awake(1);
    let taken = fill(&mut bench);
    assert_eq!(taken, 1 + 10, "one in flight, and ten behind it with their answers");
    bench.answer();
    assert!(bench.wants_mail());
}

#[test]
fn a_room_has_no_more_seats_than_it_may() {
    let mut bench = few_seats(2);
    bench.seated(1);
    bench.give_all([join(2, None), join_seed(3, "bob")]);
    bench.answer();
    assert_eq!(bench.seats_on_disk().len(), 2);
    assert_eq!(brief(&bench.give(join(4, None))), ["close 4 room_full"]);
    bench.give(gone(2, Gone::Ended));
    assert_eq!(brief(&bench.give(join(5, None))), ["close 5 room_full"], "it is not gone yet");
    bench.answer();
    assert_eq!(brief(&bench.give(join(6, None))), ["append seat6"]);
}

/// A seat that was just being taken back counted twice, and a newcomer was sent away for good
/// from a room that had space.
#[test]
fn a_seat_that_is_being_taken_back_counts_once() {
    let mut bench = few_seats(2);
    let claim = bench.seated(1);
    let out = bench.give_all([join(2, Some(claim)), join(3, Some(claim)), join(4, None)]);
    assert_eq!(brief(&out), ["append seat1+seat1+seat4"]);
    let out = bench.give(join(5, None));
    assert_eq!(brief(&out), ["close 5 room_full"]);
}

fn few_seats(members: usize) -> Bench {
    let mut settings = settings();
    settings.limits.members = members;
    Bench::new(settings)
}

/// A nap gave a room that was over its rate a whole burst again.
#[test]
fn a_nap_gives_nobody_more_than_the_rooms_rate_or_the_seats() {
    let slow = Rate { per_second: 1, burst: 20 };
    let rates = Rates { publishes: Rate::OFF, requests: Rate::OFF, room: Rate::OFF };
    for rates in [Rates { room: slow, ..rates }, Rates { publishes: slow, ..rates }] {
        let sleep_after = Duration::from_secs(5);
        let mut bench = Bench::new(Settings { rates, sleep_after, ..settings() });
        bench.seated(1);
        let taken_in_a_row = |bench: &mut Bench| {
            let mut taken = 0;
            loop {
                let mut out = bench.give(publish(1, 7, None));
                out.extend(bench.answer_all());
                if brief(&out).contains(&"error 1 7".to_owned()) {
                    return taken;
                }
                taken += 1;
                assert!(taken < 100, "there is no limit");
            }
        };
        assert_eq!(taken_in_a_row(&mut bench), 20, "{rates:?}");
        let before = bench.now_ms;
        bench.nap();
        let slept = bench.now_ms - before;
        assert_eq!(slept, 5_000);
        assert_eq!(taken_in_a_row(&mut bench), 5, "a second each, and no more: {rates:?}");
    }
}

/// Whoever was told at a drain to come back within a spread was missed before that was over.
#[test]
fn the_windows_of_seats_found_at_the_start_are_longer_by_the_drains_spread() {
    const SPREAD_MS: u64 = 40_000;
    let mut bench = Bench::new(settings());
    let claim = bench.seated(1);
    bench.begin_again_after(SPREAD_MS);
    let begun = bench.now_ms;
    let (grace_ms, window_ms) = (bench.grace_ms(), bench.resume_window_ms());
    assert_eq!(brief(&bench.tick()), ["append left1"]);
    assert_eq!(bench.now_ms, begun + SPREAD_MS + grace_ms, "whoever stays away is missed then");
    bench.answer_all();
    assert_eq!(brief(&bench.tick()), ["append ended1"]);
    assert_eq!(bench.now_ms, begun + SPREAD_MS + window_ms, "and cannot come back from then on");
    bench.answer_all();
    bench.give(join(2, Some(claim)));
    let out = bench.answer_all();
    assert_ne!(welcome(&out, 2).unwrap().seat, SeatKept::Kept);

    // The same of a seat that had left before: only the rest of its time is there.
    bench.give(gone(2, Gone::Lost));
    bench.tick();
    bench.answer_all();
    bench.begin_again_after(SPREAD_MS);
    let begun = bench.now_ms;
    assert_eq!(brief(&bench.tick()), ["append ended2"]);
    assert_eq!(bench.now_ms, begun + SPREAD_MS + window_ms);
}

/// The rosters that seed clients were sent.
fn rosters(out: &[Output]) -> Vec<Vec<String>> {
    let roster = |output: &Output| match output {
        Output::SeedLine { line: seed::ServerFrame::Users { users }, .. } => Some(users.clone()),
        _ => None,
    };
    out.iter().filter_map(roster).collect()
}

#[test]
fn a_lost_connection_is_missed_after_the_grace_once_and_can_return_until_the_window_ends() {
    for back_after in [1, 14_999, 15_000, 60_000, 119_999, 120_000] {
        let mut bench = Bench::new(settings());
        let claim = bench.seated(1);
        bench.give(join_seed(9, "listener"));
        bench.give(gone(1, Gone::Lost));
        let mut told = Vec::new();
        while bench.deadline().is_some_and(|at| at < back_after) {
            told.extend(bench.tick());
            told.extend(bench.answer_all());
        }
        bench.now_ms = back_after;
        if bench.deadline().is_some_and(|at| at <= back_after) {
            told.extend(bench.tick());
            told.extend(bench.answer_all());
        }
        let (grace_ms, window_ms) = (bench.grace_ms(), bench.resume_window_ms());
        let missed = rosters(&told);
        match back_after >= grace_ms {
            false => assert!(missed.is_empty(), "{back_after}: {missed:?}"),
            true => assert_eq!(missed, [["listener"]], "{back_after}"),
        }
        bench.give(join(2, Some(claim)));
        let out = bench.answer_all();
        let kept = welcome(&out, 2).unwrap().seat == SeatKept::Kept;
        assert_eq!(kept, back_after < window_ms, "{back_after}");
        assert_eq!(rosters(&out).len(), usize::from(back_after >= grace_ms), "{back_after}");
    }
}
