//! A room's keeper, its ring and its rules, driven from a seed: no runtime, no threads, no clock.
//!
//! [`World`](world::World) is a day in one room. It does with the real
//! [`State`](dormouse::keeper::state::State) what the keeper's task does, over the memory engine,
//! and lets simulated clients read their real outboxes. Every choice is a throw of seeded dice:
//! who does what, when the store answers, what is read together, what fails.
//!
//! - [`sleep`]: a nap between any two events changes no byte that anyone receives.
//! - [`faults`]: whatever the store and the process do, the promises of a room's log hold;
//!   [`history`] is the judge; [`judged`] lies to it and [`planted`] has a gateway with faults, to
//!   show that it is not blind.
//! - [`repeat`]: the same seed leaves the same bytes.
//! - [`limits`] and [`scripts`]: single stories, told exactly.
//!
//! A failure prints its seed and the last events of that run. `DORMOUSE_SIM_SEED=n` runs that
//! seed alone, `DORMOUSE_SIM_SEEDS=n` as many as wanted of every story:
//!
//! ```sh
//! DORMOUSE_SIM_SEEDS=10000 cargo test --release --test simulation
//! ```
//!
//! ran for 24 s on a machine with two cores that had other work, too.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what it finds out, it prints")]
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod bench;
mod client;
mod dice;
mod disk;
mod driver;
mod faults;
mod history;
mod judged;
mod limits;
mod link;
mod lives;
mod planted;
mod repeat;
mod scripts;
mod seeds;
mod sleep;
mod world;
