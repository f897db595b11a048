//! Rooms that are deleted, alarms, pages and retention, on days on which anything may fail.
//!
//! Each life of the room is judged by itself, by what was seen in its epoch: nothing of an earlier
//! one may be in a later one's log. Whatever is said here that ends with a multiple of three sets an
//! alarm for five seconds later, at which the room says so.

use bytes::Bytes;
use dormouse::keeper::Settings;
use dormouse::keeper::state::Operation;
use dormouse::protocol::{Payload, Timestamp};
use dormouse::room::{Act, Behaviour, Happened};

use crate::dice::Dice;
use crate::driver::moment;
use crate::faults::step;
use crate::history::{ALARM, Entry, Violation, check_rings};
use crate::seeds::{Trace, for_seeds};
use crate::world::{World, settings};

const STEPS: usize = 250;
const AFTER_MS: u64 = 5_000;

/// What alarms are set for, in order of time; it knows nothing else.
#[derive(Debug)]
struct Reminder(Vec<(u64, String)>);

fn reminder(knows: &Bytes) -> Box<dyn Behaviour> {
    Box::new(Reminder(serde_json::from_slice(knows).unwrap_or_default()))
}

fn sets_alarm(text: &str) -> bool {
    let number = text.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok());
    !text.starts_with(ALARM) && number.is_some_and(|number| number.is_multiple_of(3))
}

impl Behaviour for Reminder {
    fn handle(&mut self, now: Timestamp, happened: Happened<'_>, acts: &mut Vec<Act>) {
        match happened {
            Happened::Published(publish) => {
                let Payload::Json(json) = &publish.payload else { return };
                let text: String = serde_json::from_str(json).unwrap_or_default();
                if !sets_alarm(&text) {
                    return;
                }
                self.0.push((now.0 + AFTER_MS, text));
                self.0.sort();
            }
            Happened::Alarm => {
                while self.0.first().is_some_and(|(at, _)| *at <= now.0) {
                    let (_, text) = self.0.remove(0);
                    let payload = Payload::Json(format!("\"{ALARM}{text}\""));
                    acts.push(Act::Say { name: "reminder".into(), payload });
                }
            }
        }
        acts.push(Act::SetAlarm(self.0.first().map(|(at, _)| Timestamp(*at))));
    }

    fn snapshot(&self) -> Bytes {
        match self.0.is_empty() {
            true => Bytes::new(),
            false => serde_json::to_vec(&self.0).unwrap().into(),
        }
    }
}

/// A day, and the evening after it.
pub fn day(mut world: World, seed: u64, faults: u64, deletions: u64) -> World {
    spend(&mut world, &mut Dice::new(seed, 1), faults, deletions, STEPS);
    rest(&mut world);
    world
}

/// All is well, and whatever was set last has rung.
pub fn rest(world: &mut World) {
    world.come_to_rest();
    world.pass(20_000);
    world.read_all();
}

/// So many things that may happen.
pub fn spend(world: &mut World, dice: &mut Dice, faults: u64, deletions: u64, steps: usize) {
    for _ in 0..steps {
        match dice.below(100) as u64 {
            throw if throw < deletions => drop(world.operate(Operation::Delete)),
            90..95 => world.ask_for_a_page(dice),
            95.. => world.ring(),
            _ => step(world, dice, faults),
        }
    }
}

pub fn world(seed: u64, trace: Trace) -> World {
    let settings = Settings { behaviour: reminder, ..settings() };
    World::new(seed, settings, 3, 1, trace)
}

/// What the judge says, of alarms too.
pub fn verdict(world: &World) -> Result<(), Violation> {
    world.check()?;
    let due = |entry: &Entry| sets_alarm(&entry.text).then_some(entry.time + AFTER_MS + 5_000);
    check_rings(&world.log(), moment(world.now_ms).wall.0, due)
}

#[test]
fn lives_alarms_pages_and_retention_hold_whatever_fails() {
    let lives = std::cell::Cell::new(0);
    for_seeds(400, |seed, trace| {
        let faults = Dice::new(seed, 5).pick(&[0, 4, 10]);
        let deletions = Dice::new(seed, 6).pick(&[0, 1, 3]);
        let mut world = day(world(seed, trace), seed, faults, deletions);
        world.judge();
        verdict(&world).unwrap();
        lives.set(lives.get() + world.disk.lives().len());
    });
    assert!(lives.get() > 200 || std::env::var("DORMOUSE_SIM_SEED").is_ok());
}
