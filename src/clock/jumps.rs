//! How old something is by a wall clock that has been set.
//!
//! An age is now minus a stamp, and both come from the wall clock. When that is set, every age
//! would change at once: history of an hour would be as old as the jump is long, and be trimmed.
//! So a jump is remembered, and *a jump changes no age*: what was stamped before it goes on from
//! the age that it had.
//!
//! - Stamps made before a jump forward are told from those after it: none lies in between.
//! - After a jump back the clock shows times that it has shown before. A stamp that is still ahead of
//!   the clock was made before the jump; any other counts as it stands. At worst something is kept
//!   longer, by as much as the jump, and never shorter.
//! - A clock that was known to be wrong has no ages worth keeping: all that it may have stamped
//!   counts from the moment at which the clock was found right.

use std::sync::Arc;

use crate::protocol::Timestamp;

/// The smallest difference between the wall clock and a steady one that is a jump, in ms. Clocks
/// are corrected by less than that all the time, and no deadline that is worth having is shorter.
pub const JUMP_MS: u64 = 10_000;

/// The most jumps that are remembered; then the two oldest become one.
pub const REMEMBERED: usize = 64;

/// The wall clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// What it would have shown.
    pub from: Timestamp,
    /// What it showed instead.
    pub to: Timestamp,
    /// If it was known to be wrong before: no later than this is what it may have stamped.
    pub doubted: Option<Timestamp>,
}

/// What a store remembers of the wall clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// What it showed when this was last written.
    pub seen: Timestamp,
    /// Earlier than this it is wrong: it has shown this time before, or this version was made then.
    pub doubted: Option<Timestamp>,
    /// How it was set, oldest first.
    pub jumps: Vec<Jump>,
}

/// Tells how old things are at one moment.
#[derive(Debug, Clone, Default)]
pub struct Ages {
    pub(super) now: Timestamp,
    pub(super) jumps: Arc<[Jump]>,
    /// How many jumps there were, whatever of them is remembered.
    pub(super) count: u64,
}

impl Jump {
    /// Whether the clock was set forward.
    pub fn is_forward(&self) -> bool {
        self.to >= self.from
    }

    /// As the metric's label says it.
    pub fn direction(&self) -> &'static str {
        if self.is_forward() { "forward" } else { "back" }
    }

    /// How far, in ms.
    pub fn ms(&self) -> u64 {
        self.from.0.abs_diff(self.to.0)
    }

    /// The latest stamp that was made before it.
    fn until(&self) -> Timestamp {
        self.doubted.unwrap_or(self.from)
    }
}

/// A stamp on its way through the jumps.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    /// As it was made.
    made: Timestamp,
    /// Where the jumps so far have moved it.
    moved: u64,
    /// Whether one has: then it is older than that jump.
    is_old: bool,
}

impl Stamp {
    fn through(self, jump: &Jump, now: Timestamp) -> Self {
        let Self { made, moved, is_old } = self;
        let is_before = made <= jump.until();
        match jump.is_forward() {
            true if is_before => {
                let to = if jump.doubted.is_some() {
                    jump.to.0
                } else {
                    moved.saturating_add(jump.ms())
                };
                Self { moved: moved.max(to.min(jump.to.0)), is_old: true, made }
            }
            // The clock has shown it neither just before the jump nor since.
            true if is_old => Self { moved: moved.max(jump.to.0.min(now.0)), ..self },
            true => self,
            // What was moved forward goes back again; nothing is older than it says.
            false if is_old => {
                Self { moved: moved.saturating_sub(jump.ms()).max(made.0.min(moved)), ..self }
            }
            false if is_before && made > now.plus_ms(JUMP_MS) => {
                let to = moved.saturating_sub(jump.ms());
                Self { moved: if jump.doubted.is_some() { jump.to.0 } else { to }, ..self }
            }
            false => self,
        }
    }
}

impl Past {
    /// Whether a stamp ahead of the clock is known to come from before a jump back.
    pub(super) fn knows(&self, stamp: Timestamp) -> bool {
        self.jumps.iter().any(|jump| !jump.is_forward() && stamp <= jump.until())
    }

    /// Remembers one more. Of the two that become one no stamp is counted older than it is.
    pub(super) fn push(&mut self, jump: Jump) {
        if self.jumps.len() >= REMEMBERED {
            self.jumps.remove(0);
            let to = self.jumps[0].to;
            self.jumps[0] = Jump { from: to, to, doubted: Some(to) };
        }
        self.jumps.push(jump);
    }
}

impl Ages {
    /// Of a clock that was never set.
    pub fn at(now: Timestamp) -> Self {
        Self { now, ..Self::default() }
    }

    /// The moment.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Grows with every jump.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The jumps back, which leave stamps ahead of the clock.
    pub fn back(&self) -> impl Iterator<Item = &Jump> {
        self.jumps.iter().filter(|jump| !jump.is_forward())
    }

    /// How old what bears this stamp is, in ms; 0 if it is still ahead.
    pub fn of(&self, stamp: Timestamp) -> u64 {
        self.now.since_ms(self.counted(stamp))
    }

    /// When what bears this stamp will be `age_ms` old.
    pub fn when(&self, stamp: Timestamp, age_ms: u64) -> Timestamp {
        self.counted(stamp).plus_ms(age_ms)
    }

    /// When something is due that was to happen at `due`. If the clock jumped over that moment, it
    /// has as long to wait behind the jump as it had before.
    pub fn due(&self, due: Timestamp) -> Timestamp {
        let later = |moved: Timestamp, jump: &Jump| match jump.is_forward() {
            true if jump.from < moved && moved < jump.to => moved.plus_ms(jump.ms()),
            true => moved,
            false => Timestamp(moved.0.saturating_sub(jump.ms())).max(due),
        };
        self.jumps.iter().fold(due, later)
    }

    /// What the clock would have shown when the stamp was made, had it been as it is now.
    fn counted(&self, stamp: Timestamp) -> Timestamp {
        let stamp = Stamp { made: stamp, moved: stamp.0, is_old: false };
        let stamp = self.jumps.iter().fold(stamp, |stamp, jump| stamp.through(jump, self.now));
        Timestamp(stamp.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    /// A time in 2027.
    const T: u64 = 1_800_000_000_000;

    fn jump(from: u64, to: u64) -> Jump {
        Jump { from: Timestamp(from), to: Timestamp(to), doubted: None }
    }

    fn ages(now: u64, jumps: &[Jump]) -> Ages {
        Ages { now: Timestamp(now), jumps: jumps.into(), count: jumps.len() as u64 }
    }

    #[track_caller]
    fn assert_ages(ages: &Ages, expected: &[(u64, u64)]) {
        for (stamp, age) in expected {
            assert_eq!(ages.of(Timestamp(*stamp)), *age, "of {stamp}");
            let due = ages.when(Timestamp(*stamp), *age + 1);
            assert!(due > ages.now(), "{stamp} is not that old yet");
        }
    }

    #[test]
    fn a_jump_forward_changes_no_age() {
        let ages = ages(T + 5_000, &[jump(60_000, T)]);
        assert_ages(&ages, &[(60_000, 5_000), (10_000, 55_000), (T, 5_000), (T + 4_000, 1_000)]);
    }

    #[test]
    fn a_jump_forward_and_back_leaves_every_age_as_it_was() {
        let ahead = T + 10 * DAY;
        let jumps = [jump(T, ahead), jump(ahead + 60_000, T + 60_000)];
        let now = T + 70_000;
        // An hour before it all, while the clock was ahead, and since it is right again.
        let expected = [(T - 3_600_000, 3_670_000), (ahead + 20_000, 50_000), (T + 65_000, 5_000)];
        assert_ages(&ages(now, &jumps), &expected);
        assert_ages(&ages(ahead + 1_000, &jumps[..1]), &[(T - 3_600_000, 3_601_000)]);
    }

    /// It was set back by hand, to a little before the moment at which it was set forward.
    #[test]
    fn what_bears_a_time_that_was_twice_is_as_old_as_it_says() {
        let jumps = [jump(T, T + 10 * DAY), jump(T + 10 * DAY + 60_000, T - 30_000)];
        let ages = ages(T + 5_000, &jumps);
        assert_ages(&ages, &[(T - 10_000, 15_000), (T - 40_000, 45_000), (T, 5_000)]);
    }

    #[test]
    fn a_stamp_that_the_clock_has_caught_up_with_counts_as_made_then() {
        let ahead = T + 10 * DAY;
        let jumps = [jump(ahead, T)];
        assert_ages(&ages(T + DAY, &jumps), &[(ahead, DAY), (T + DAY - 5, 5)]);
        assert_ages(&ages(ahead + DAY, &jumps), &[(ahead, DAY)]);
    }

    #[test]
    fn a_jump_back_makes_nothing_older_than_it_says() {
        let ages = ages(T + 1_000, &[jump(T + 10 * DAY, T)]);
        assert_ages(&ages, &[(T - 5_000, 6_000), (T + 500, 500)]);
    }

    #[test]
    fn what_a_doubted_clock_may_have_stamped_counts_from_the_end_of_the_doubt() {
        let until = Timestamp(T - DAY);
        let right = Jump { doubted: Some(until), ..jump(60_000, T) };
        let ages = ages(T + 5_000, &[right]);
        assert_ages(&ages, &[(7, 5_000), (T - DAY, 5_000), (T - DAY + 1, DAY + 4_999)]);
    }

    /// A machine without a battery: 1970 for a minute, right, and 1970 again for a moment.
    #[test]
    fn the_clock_of_1970_comes_and_goes() {
        let jumps = [jump(60_000, T), jump(T + DAY, 5_000), jump(9_000, T + DAY + 4_000)];
        let ages = ages(T + DAY + 10_000, &jumps);
        // Of the first time there, and of one of the two: they count from the second.
        assert_ages(&ages, &[(T + 5, DAY + 9_995), (30_000, 6_000), (8_000, 7_000)]);
    }

    #[test]
    fn what_the_clock_jumped_over_waits_as_long_as_it_had_to() {
        let ages = ages(T, &[jump(60_000, T)]);
        assert_eq!(ages.due(Timestamp(90_000)), Timestamp(T + 30_000));
        for same in [60_000, 5, T, T + 9] {
            assert_eq!(ages.due(Timestamp(same)), Timestamp(same));
        }
        let there_and_back = super::tests::ages(T, &[jump(T, T + DAY), jump(T + DAY, T)]);
        assert_eq!(there_and_back.due(Timestamp(T + 7)), Timestamp(T + 7));
    }

    #[test]
    fn of_too_many_jumps_the_oldest_become_one_and_nothing_grows_older() {
        let mut past = Past::default();
        let mut now = T;
        let (mut stamps, mut exact) = (Vec::new(), Vec::new());
        for _ in 0..REMEMBERED * 3 {
            stamps.push(Timestamp(now));
            now += 1_000;
            exact.push(jump(now, now + DAY));
            past.push(jump(now, now + DAY));
            now += DAY;
            assert!(past.jumps.len() <= REMEMBERED);
        }
        let (few, all) = (ages(now, &past.jumps), ages(now, &exact));
        for stamp in &stamps {
            assert!(few.of(*stamp) <= all.of(*stamp));
        }
        let newest = stamps.last().unwrap();
        assert_eq!((few.of(*newest), all.of(*newest)), (1_000, 1_000));
        let kept = stamps[stamps.len() - REMEMBERED / 2];
        assert_eq!(few.of(kept), all.of(kept));
    }
}
