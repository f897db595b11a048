//! Sleep is invisible: the same day, once with naps and once without, looks the same to everyone.
//!
//! Both days have the same people, who decide by what they hear; so the first difference that
//! anyone could see makes the days part for good. Compared is every frame of every connection,
//! field by field and in order, times, session tokens and closes included. Left out are the
//! `room` frames that tell watchers about sleep; and of `presence`, of which several changes are
//! told as one, it is whom everybody sees in the end that is compared.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dormouse::keeper::state::{Input, Operation};
use serde_json::Value;

use crate::dice::Dice;
use crate::seeds::{Trace, for_seeds};
use crate::world::{World, settings};

const ROUNDS: usize = 14;

/// How a day is spent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Night {
    /// The room never sleeps.
    Watch,
    /// It sleeps of itself after three seconds, and whenever an operator or the gateway says so.
    Naps,
}

/// Who is there, and how the store may answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    /// v1 only: whatever they are told goes through the gate, in one order. The store answers
    /// when it likes.
    V1,
    /// Both profiles. A seed client sits down at once while a v1 client waits for the disk, so
    /// who is greeted by whom depends on when an append is done. Appends therefore end at the
    /// same events of both days; everything else ends when it likes.
    Mixed,
}

struct Day {
    received: Vec<Vec<(u64, Bytes)>>,
    naps: usize,
}

fn day(seed: u64, night: Night, company: Company, trace: Trace) -> Day {
    let mut script = Dice::new(seed, 1); // thrown alike on both days
    let mut chance = Dice::new(seed, 2 + night as u64);
    let sleep_after = match night {
        Night::Watch => Duration::from_secs(1_000_000_000),
        Night::Naps => Duration::from_secs(3),
    };
    // Limits would hold people back for as long as the room wakes, and that can be seen.
    let (mailbox_events, waking_bytes) = (10_000, 1 << 20);
    let settings =
        dormouse::keeper::Settings { sleep_after, mailbox_events, waking_bytes, ..settings() };
    let (v1, seeds) = match company {
        Company::V1 => (4, 0),
        Company::Mixed => (2, 2),
    };
    let mut world = World::new(seed, settings, v1, seeds, trace);
    for _ in 0..ROUNDS {
        world.pass(script.pick(&[0, 0, 1, 700, 3_000, 4_000, 14_999, 15_000, 40_000, 121_000]));
        for _ in 0..script.below(6) + 1 {
            match company {
                Company::Mixed => {
                    if script.chance(40) {
                        world.drain();
                        nap(&mut world, night, &mut chance, 70);
                        world.turn(vec![], usize::MAX);
                    }
                }
                Company::V1 => nap(&mut world, night, &mut chance, 30),
            }
            world.act(script.below(4));
            while chance.chance(50) {
                let answer = match company {
                    Company::V1 if world.disk.waiting() > 0 => {
                        Some(chance.below(world.disk.waiting()))
                    }
                    Company::V1 => None,
                    Company::Mixed => world.disk.first_but_appends(),
                };
                let answer = answer.filter(|_| chance.chance(60));
                let answers = answer.map(|at| world.disk.answer(at)).into_iter().collect();
                world.turn(answers, chance.below(4));
            }
        }
        world.drain();
        for connection in world.links.keys().copied().collect::<Vec<_>>() {
            if script.chance(75) {
                world.read(connection);
            }
        }
    }
    world.read_all();
    world.judge();
    Day { received: world.received, naps: world.naps }
}

fn nap(world: &mut World, night: Night, chance: &mut Dice, percent: u64) {
    if night == Night::Naps && chance.chance(percent) {
        if chance.chance(10) {
            world.disk.engine.fail_next_hibernate();
        }
        match chance.chance(30) {
            true => world.turn(vec![Input::Doze], 0), // too many rooms are awake
            false => drop(world.operate(Operation::Hibernate)),
        }
    }
}

fn the_same_with_and_without_naps(company: Company) {
    let (mut naps, mut frames) = (0, 0);
    for_seeds(400, |seed, trace| {
        let awake = day(seed, Night::Watch, company, Trace::default());
        let asleep = day(seed, Night::Naps, company, trace);
        for (client, (awake, asleep)) in awake.received.iter().zip(&asleep.received).enumerate() {
            assert_eq!(company_seen(awake), company_seen(asleep), "whom client {client} sees");
            let (awake, asleep) = (&without_presence(awake), &without_presence(asleep));
            let pairs = awake.iter().zip(asleep);
            if let Some((without, with)) = pairs.into_iter().find(|(a, b)| a != b) {
                panic!("client {client}\n without naps {without:?}\n    with naps {with:?}");
            }
            assert_eq!(awake.len(), asleep.len(), "client {client} received more or less");
        }
        assert_eq!(awake.naps, 0);
    });
    let day = day(1, Night::Naps, company, Trace::default());
    naps += day.naps;
    frames += day.received.iter().map(Vec::len).sum::<usize>();
    assert!(naps > 5 && frames > 50, "a day without naps and talk shows nothing: {naps} {frames}");
}

type Received = [(u64, Bytes)];

/// A frame, or the words in which the simulation notes an end.
fn json(frame: &Bytes) -> Value {
    let words = || String::from_utf8_lossy(frame).into_owned().into();
    serde_json::from_slice(frame).unwrap_or_else(|_| words())
}

/// What a client received but for changes of who is here: which of them are told together
/// depends on when the disk answers, not on sleep.
fn without_presence(received: &Received) -> Vec<(u64, Value)> {
    let frames = received.iter().map(|(connection, frame)| (*connection, json(frame)));
    let rest = frames.filter(|(_, frame)| frame["type"] != "presence");
    rest.map(|(connection, mut frame)| {
        if let Some(fields) = frame.as_object_mut() {
            for field in ["presence_version", "members", "count"] {
                fields.remove(field); // as of when the disk had written the seat
            }
        }
        (connection, frame)
    })
    .collect()
}

/// Whom a client sees on each of its connections once it has read everything.
fn company_seen(received: &Received) -> BTreeMap<u64, BTreeMap<String, Value>> {
    let mut seen: BTreeMap<u64, BTreeMap<String, Value>> = BTreeMap::new();
    for (connection, frame) in received {
        let frame = json(frame);
        if !matches!(frame["type"].as_str(), Some("welcome" | "presence")) {
            continue;
        }
        let members = seen.entry(*connection).or_default();
        let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
        for list in ["members", "join", "update"] {
            for member in all(&frame[list]) {
                members.insert(member["sid"].as_str().unwrap().to_owned(), member);
            }
        }
        for sid in all(&frame["leave"]) {
            members.remove(sid.as_str().unwrap());
        }
        assert_eq!(frame["count"], members.len(), "what is told adds up: {frame}");
    }
    seen
}

#[test]
fn hibernating_between_any_two_events_changes_nothing_seen() {
    the_same_with_and_without_naps(Company::V1);
}

#[test]
fn hibernating_changes_nothing_seen_where_both_profiles_meet() {
    the_same_with_and_without_naps(Company::Mixed);
}
