//! Faults that a gateway could have, planted in the one that is simulated: the judge must see
//! them in what people hear and are told, by the rule that each of them breaks.

use std::collections::BTreeMap;

use crate::dice::Dice;
use crate::disk::Plant;
use crate::faults::step;
use crate::history::{Rule, check};
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
        if let Err(violation) = check(&world.history, &world.log()) {
            *objections.entry(violation.rule).or_default() += 1;
        }
    }
    objections
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
