//! Whatever the store and the process do: the promises of a room's log hold.
//!
//! Appends fail with their records kept or lost; opening, reading and hibernating fail;
//! processes die between any two steps; retention trims. Then all is well again, everybody
//! comes back, and the judge looks at what everyone saw.

use std::collections::BTreeSet;

use dormouse::keeper::state::Operation;
use dormouse::protocol::Profile;
use dormouse::store::Engine;

use crate::dice::Dice;
use crate::history::Event;
use crate::seeds::{Trace, for_seeds};
use crate::world::{World, settings};

const STEPS: usize = 200;

/// A day on which things may go wrong, up to the evening when all is well.
pub fn day(seed: u64, trace: Trace) -> World {
    let faults = Dice::new(seed, 5).pick(&[0, 4, 10]); // in percent of the steps
    spend(World::new(seed, settings(), 3, 1, trace), seed, faults, STEPS)
}

/// A longer one on which nothing does.
pub fn calm_day(seed: u64, trace: Trace) -> World {
    spend(World::new(seed, settings(), 3, 1, trace), seed, 0, 2 * STEPS)
}

fn spend(mut world: World, seed: u64, faults: u64, steps: usize) -> World {
    let mut dice = Dice::new(seed, 1);
    for _ in 0..steps {
        step(&mut world, &mut dice, faults);
    }
    world.come_to_rest();
    world
}

/// One of the many things that may happen.
pub fn step(world: &mut World, dice: &mut Dice, faults: u64) {
    if dice.chance(faults) {
        return fault(world, dice);
    }
    match dice.below(100) {
        0..30 => world.act(dice.below(4)),
        30..62 => {
            let mut answers = Vec::new();
            while world.disk.waiting() > 0 && dice.chance(55) {
                answers.push(world.disk.answer(dice.below(world.disk.waiting())));
            }
            world.turn(answers, dice.below(5));
        }
        62..67 if world.disk.waiting() > 0 => world.disk.act(dice.below(world.disk.waiting())),
        67..75 => world.read_all(),
        75..90 => {
            let open: Vec<_> = world.links.keys().copied().collect();
            if !open.is_empty() {
                world.read(dice.pick(&open));
            }
        }
        90..95 => later(world, dice),
        95..96 => world.drain(),
        96..98 => drop(world.operate(dice.pick(&[Operation::Hibernate, Operation::Wake]))),
        98.. if world.log().len() > 4 => {
            let newest = world.log().len();
            world.trim(dice.below(newest) as u64 + 1);
        }
        _ => {}
    }
}

/// Time goes by while the store is still busy: to the next deadline, or a little.
fn later(world: &mut World, dice: &mut Dice) {
    let ms = dice.pick(&[1, 20, 150, 3_000, 12_000, 60_000]);
    let until = world.now_ms + ms;
    world.now_ms = match world.deadline() {
        Some(at) => at.clamp(world.now_ms, until),
        None => until,
    };
    world.turn(Vec::new(), 0);
}

fn fault(world: &mut World, dice: &mut Dice) {
    match dice.below(10) {
        0..4 => world.disk.engine.fail_next_append(dice.chance(50)),
        4 => world.disk.engine.fail_next_open(),
        5 => world.disk.engine.fail_next_read(),
        6 => world.disk.engine.fail_next_hibernate(),
        _ => world.crash(),
    }
}

#[test]
fn whatever_fails_the_log_keeps_its_promises() {
    for_seeds(600, |seed, trace| {
        let mut world = day(seed, trace);
        world.judge();
    });
}

/// Few seats, too: somebody is refused now and then, nobody for good.
#[test]
fn after_any_trouble_everybody_is_answered_and_memory_agrees_with_the_disk() {
    for_seeds(400, |seed, trace| {
        let mut few = settings();
        few.limits.members = 5;
        let world = World::new(seed, few, 3, 1, trace);
        let mut world = spend(world, seed, 7, STEPS);
        assert!(world.is_at_rest(), "somebody still waits for an answer or a seat");
        let told = world.inspect();
        assert_ne!(told.state, "degraded");
        let opened = world.disk.engine.reopen().open(&world.disk.room).unwrap();
        let seeds = world.links.values().filter(|link| link.profile() == Profile::Seed).count();
        assert!(told.seats <= 5, "more seats than there may be");
        assert_eq!(told.seats, opened.seats.len() + seeds, "{:?}", opened.seats);
        assert_eq!(told.head.seq, opened.newest);
        let tickets = world.keeper.as_ref().map_or(0, |keeper| keeper.tickets.len());
        assert_eq!(tickets, 0, "an operator was forgotten");
    });
}

/// A simulation in which nothing happens would find nothing.
#[test]
fn days_are_full_of_what_the_promises_are_about() {
    let (mut seen, mut naps, mut rests, mut said) = (BTreeSet::new(), 0, 0, 0);
    for seed in 0..60 {
        let world = day(seed, Trace::default());
        naps += world.naps;
        rests += world.rests;
        said += world.log().len();
        for event in &world.history {
            seen.insert(match event {
                Event::Ok { dup: true, .. } => "a duplicate",
                Event::Welcome { since: Some(_), why: None, .. } => "a resume",
                Event::Welcome { why: Some(_), .. } => "a refused resume",
                Event::Found { log } if !log.is_empty() => "a crash",
                Event::Heard { seq: None, .. } => "a seed client that hears",
                _ => continue,
            });
        }
        for (_, frame) in world.received.iter().flatten() {
            let text = std::str::from_utf8(frame).unwrap();
            let telling = ["close taken_over", "close store_unavailable", "room_unavailable"];
            let telling = telling.into_iter().chain([r#""seat":"kept""#, "joined the room"]);
            seen.extend(telling.filter(|telling| text.contains(telling)));
        }
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
    assert!(naps > 30 && said > 600, "{naps} naps, {said} messages");
    assert!(rests > 30, "keepers rested {rests} times");
}
