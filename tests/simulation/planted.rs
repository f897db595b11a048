//! Faults that a gateway could have, planted in the one that is simulated: the judge must see
//! them in what people hear and are told, by the rule that each of them breaks.

use std::collections::BTreeMap;

use crate::dice::Dice;
use crate::disk::Plant;
use crate::faults::step;
use crate::history::Rule;
use crate::lives;
use crate::seeds::Trace;
use crate::world::{World, settings};

const DAYS: u64 = 60;

/// Lets a gateway with a fault live for many days, on which processes die now and then, and
/// counts the days on which the judge objects.
fn objections(plant: Option<Plant>) -> BTreeMap<Rule, usize> {
    let mut objections = BTreeMap::new();
    for seed in 0..DAYS {
        let mut world = World::new(seed, settings(), 3, 1, Trace::default());
        world.disk.plant = plant;
        let mut dice = Dice::new(seed, 1);
        for _ in 0..300 {
            match dice.chance(2) {
                true => world.crash(),
                false => step(&mut world, &mut dice, 0),
            }
        }
        world.come_to_rest();
        if let Err(violation) = world.check() {
            *objections.entry(violation.rule).or_default() += 1;
        }
    }
    objections
}

/// The same for days with deletions, alarms and pages.
fn objections_of_lives(plant: Option<Plant>) -> BTreeMap<Rule, usize> {
    let mut objections = BTreeMap::new();
    for seed in 0..DAYS {
        let mut world = lives::world(seed, Trace::default());
        world.disk.plant = plant;
        let mut dice = Dice::new(seed, 3);
        for _ in 0..5 {
            lives::spend(&mut world, &mut dice, 0, 1, 60);
            world.crash();
        }
        lives::rest(&mut world);
        if let Err(violation) = lives::verdict(&world) {
            *objections.entry(violation.rule).or_default() += 1;
        }
    }
    objections
}

#[test]
fn a_gateway_without_a_planted_fault_is_not_objected_to_in_any_of_its_lives() {
    assert_eq!(objections_of_lives(None), BTreeMap::new());
}

#[test]
fn an_alarm_lost_at_a_crash_is_caught() {
    let objections = objections_of_lives(Some(Plant::LostAlarm));
    assert!(objections.get(&Rule::Rings) > Some(&10), "{objections:?}");
}

#[test]
fn a_message_of_a_deleted_room_that_comes_back_is_caught() {
    let objections = objections_of_lives(Some(Plant::ComesBack));
    assert!(objections.get(&Rule::NothingInvented) > Some(&10), "{objections:?}");
}

#[test]
fn a_page_with_a_hole_is_caught() {
    let objections = objections_of_lives(Some(Plant::HoleInPage));
    assert!(objections.get(&Rule::Whole) > Some(&10), "{objections:?}");
}

#[test]
fn a_gateway_without_a_planted_fault_is_not_objected_to() {
    assert_eq!(objections(None), BTreeMap::new());
}

#[test]
fn an_append_behind_the_sending_is_caught() {
    let objections = objections(Some(Plant::AppendAfterSend));
    assert!(objections.values().sum::<usize>() > 10, "{objections:?}");
    assert!(objections.contains_key(&Rule::Durable), "{objections:?}");
    assert!(objections.contains_key(&Rule::NothingVanishes), "{objections:?}");
}

#[test]
fn a_lost_key_is_caught() {
    let objections = objections(Some(Plant::LostKeys));
    assert!(objections.get(&Rule::Once) > Some(&10), "{objections:?}");
}

#[test]
fn a_replay_out_of_order_is_caught() {
    let objections = objections(Some(Plant::ReorderedReplay));
    assert!(objections.get(&Rule::Whole) > Some(&10), "{objections:?}");
}
