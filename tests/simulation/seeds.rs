//! Runs a story for many seeds; a failure is told again, with its last events.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// How many of the last events are told.
const TOLD: usize = 120;

/// What happened, for people; silent unless a failure is being told.
#[derive(Clone, Default)]
pub struct Trace(Option<Rc<RefCell<VecDeque<String>>>>);

impl Trace {
    /// Notes a line if anyone wants to know.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            let mut lines = lines.borrow_mut();
            lines.push_back(line());
            if lines.len() > TOLD {
                lines.pop_front();
            }
        }
    }
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

/// Runs `story` for `count` seeds, or as many as the environment says.
pub fn for_seeds(count: u64, story: impl Fn(u64, Trace)) {
    let seeds = match environment("DORMOUSE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..environment("DORMOUSE_SIM_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        if catch_unwind(AssertUnwindSafe(|| story(seed, Trace::default()))).is_ok() {
            continue;
        }
        let lines = Rc::new(RefCell::new(VecDeque::new()));
        let again = Trace(Some(lines.clone()));
        let told = catch_unwind(AssertUnwindSafe(|| story(seed, again)));
        for line in lines.borrow().iter() {
            eprintln!("{line}");
        }
        let repeats = if told.is_err() { "" } else { " (and did not when run again!)" };
        panic!("seed {seed} failed{repeats}; DORMOUSE_SIM_SEED={seed} runs it alone");
    }
}
