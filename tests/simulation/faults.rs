//! Whatever the store and the process do: the promises of a room's log hold.
//!
//! Appends fail with their records kept or lost; opening, reading and hibernating fail;
//! processes die between any two steps; retention trims. Then all is well again, everybody
//! comes back, and the judge looks at what everyone saw.

use dormouse::keeper::state::Operation;
use dormouse::protocol::Profile;
use dormouse::store::Engine;

use crate::dice::Dice;
use crate::seeds::{Trace, for_seeds};
use crate::world::{World, settings};

const STEPS: usize = 150;

/// A day on which things may go wrong, up to the evening when all is well.
pub fn day(seed: u64, trace: Trace) -> World {
    let faults = Dice::new(seed, 5).pick(&[0, 4, 10]); // in percent of the steps
    spend(World::new(seed, settings(), 3, 1, trace), seed, faults, STEPS)
}

/// A longer one on which nothing does.
pub fn calm_day(seed: u64, trace: Trace) -> World {
    spend(World::new(seed, settings(), 3, 1, trace), seed, 0, 3 * STEPS)
}

fn spend(mut world: World, seed: u64, faults: u64, steps: usize) -> World {
    let mut dice = Dice::new(seed, 1);
    for _ in 0..steps {
        step(&mut world, &mut dice, faults);
    }
    world.come_to_rest();
    world
}

fn step(world: &mut World, dice: &mut Dice, faults: u64) {
    if dice.chance(faults) {
        return fault(world, dice);
    }
    match dice.below(100) {
        0..35 => world.act(dice.below(4)),
        35..65 => {
            let mut answers = Vec::new();
            while world.disk.waiting() > 0 && dice.chance(45) {
                answers.push(world.disk.answer(dice.below(world.disk.waiting())));
            }
            world.turn(answers, dice.below(5));
        }
        65..75 if world.disk.waiting() > 0 => world.disk.act(dice.below(world.disk.waiting())),
        75..87 => {
            let open: Vec<_> = world.links.keys().copied().collect();
            if !open.is_empty() {
                world.read(dice.pick(&open));
            }
        }
        87..94 => later(world, dice),
        94..96 => world.drain(),
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
    for_seeds(1_000, |seed, trace| {
        let mut world = day(seed, trace);
        world.judge();
    });
}

/// Few seats, too: somebody is refused now and then, nobody for good.
#[test]
fn after_any_trouble_everybody_is_answered_and_memory_agrees_with_the_disk() {
    for_seeds(700, |seed, trace| {
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
