//! What time it is, for those who keep rooms: the system's clocks, or those moved by a test.
//!
//! Rooms fall asleep, windows end and alarms ring by this clock. In a gateway that serves it is the
//! system's own and nothing else: a look costs one comparison more. The [test kit](crate::testkit)
//! runs a gateway on one that it can [move](Clock::advance), both its times together, and a task
//! that waits for a moment that has come by that is woken.
//!
//! There are two times. *Deadlines* go by a monotonic clock that nobody can set. What is told and
//! stored is *wall time*, which an operator, a time server or a dead battery may set at any moment.
//! The clock [notices](Clock::look) that, by the third there is, which counts on while a machine is
//! suspended: a laptop that slept has not jumped. What follows for the ages of things is in
//! [`jumps`].
//!
//! - Time passes by itself too, and never runs backwards for deadlines.
//! - A moment of this clock is not one of the system's: what comes from elsewhere is
//!   [translated](Clock::at).
//! - An age of something stored is asked of [`Clock::ages`], never computed from two stamps.
//! - Sockets, and what rings keep for a second, go by the system's clock: there is no other on the
//!   far side of a wire.

pub mod jumps;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::protocol::Timestamp;
pub use jumps::{Ages, JUMP_MS, Jump, Past};

/// 2026-01-01, the first day of the year in which this version was made: a clock that shows an
/// earlier time is wrong. It is written here, and not read from the machine that builds, so that
/// the same source gives the same program; a release in a new year changes it.
pub const NOT_BEFORE: Timestamp = Timestamp(1_767_225_600_000);

/// How long the note of what the clock showed may be behind what it shows, in ms.
const SEEN_EVERY_MS: u64 = 60_000;

/// The most jumps that wait to be told of.
const UNTOLD: usize = 64;

/// Both clocks are read again if more than this has passed between the reads: the process was
/// stopped there, and the difference is not the clock's.
const READ_MS: i64 = 1_000;

/// A clock. Cheap to clone; clones are moved together, and know of the same jumps.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// How far it is from the system's; nothing if it cannot be moved.
    moved: Option<watch::Sender<Moved>>,
    known: Arc<Mutex<Known>>,
}

/// How far a clock is from the system's.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    /// Both its times.
    ahead: Duration,
    /// And its wall time besides, in ms.
    set: i64,
}

/// What has been noticed.
#[derive(Debug, Default)]
struct Known {
    /// Wall time minus the time that counts on through suspension, at the last look; in ms.
    offset: Option<i64>,
    past: Past,
    count: u64,
    untold: Vec<Jump>,
    /// Whether the past has changed since it was last [kept](Clock::kept).
    is_unsaved: bool,
}

/// Why a clock must be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It shows a time before this version was made.
    BeforeThisVersion,
    /// The store's newest message, or the clock itself, was later.
    BeforeTheStore(Timestamp),
}

impl Clock {
    /// One that can be moved.
    pub fn movable() -> Self {
        Self { moved: Some(watch::Sender::default()), known: Arc::default() }
    }

    /// Moves it forward; the system's own stays as it is. The wall clock has not jumped then.
    pub fn advance(&self, by: Duration) {
        self.change(|moved| moved.ahead += by);
    }

    /// Sets its wall time alone, as an operator or a time server does.
    pub fn set_wall(&self, to: Timestamp) {
        let by = to.0 as i64 - self.wall().0 as i64;
        self.change(|moved| moved.set += by);
    }

    fn change(&self, how: impl FnOnce(&mut Moved)) {
        if let Some(moved) = &self.moved {
            moved.send_modify(how);
        }
    }

    /// Now, for deadlines.
    pub fn now(&self) -> Instant {
        self.at(Instant::now())
    }

    /// Now, for what is told and stored.
    pub fn wall(&self) -> Timestamp {
        let Moved { ahead, set } = self.moved();
        Timestamp(system_ms().saturating_add(ahead.as_millis() as i64 + set).max(0) as u64)
    }

    /// Now, for what others compare with clocks of their own: certificates. It is the system's
    /// time, also after [`advance`](Self::advance), which moves nothing outside of this process.
    pub fn outside(&self) -> OffsetDateTime {
        let ms = system_ms().saturating_add(self.moved().set).max(0);
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// What this clock shows at a moment of the system's, unless it is moved before.
    pub fn at(&self, system: Instant) -> Instant {
        system + self.moved().ahead
    }

    /// Waits until a moment of this clock.
    pub async fn sleep_until(&self, at: Instant) {
        match &self.moved {
            None => sleep_until(at).await,
            Some(moved) => Box::pin(moved_until(moved.subscribe(), at)).await,
        }
    }

    fn moved(&self) -> Moved {
        self.moved.as_ref().map_or(Moved::default(), |moved| *moved.borrow())
    }

    // What is known of the wall clock

    /// Takes over what a store remembers, which forgets what was known before. `newest` is the
    /// stamp of the store's newest message.
    pub fn begin(&self, past: Past, newest: Timestamp) {
        let (wall, offset) = self.read();
        let newest = newest.max(past.seen);
        let is_ahead = newest > wall.plus_ms(JUMP_MS) && !past.knows(newest);
        let ended = past.doubted.filter(|until| *until <= wall);
        let mut begun = Known { offset: Some(offset), past, ..Known::default() };
        if let Some(until) = ended {
            let from = begun.past.seen.min(wall);
            begun.past.push(Jump { from, to: wall, doubted: Some(until) });
        }
        if is_ahead {
            begun.past.push(Jump { from: newest, to: wall, doubted: Some(newest) });
        }
        let limits = [begun.past.doubted, is_ahead.then_some(newest), Some(NOT_BEFORE)];
        let doubted = limits.into_iter().flatten().filter(|until| *until > wall).max();
        begun.is_unsaved = is_ahead || doubted != begun.past.doubted;
        begun.past.doubted = doubted;
        *self.known() = begun;
    }

    /// Looks whether the wall clock was set since the last look.
    pub fn look(&self) {
        self.look_now(&mut self.known());
    }

    fn look_now(&self, known: &mut Known) -> Timestamp {
        let (wall, offset) = self.read();
        let by = known.offset.map_or(0, |before| offset - before);
        known.offset = Some(offset);
        let ended = known.past.doubted.filter(|until| *until <= wall);
        if by.unsigned_abs() > JUMP_MS {
            let from = Timestamp((wall.0 as i64).saturating_sub(by).max(0) as u64);
            let doubted = ended.filter(|_| by > 0).map(|until| until.max(from));
            let jump = Jump { from, to: wall, doubted };
            known.past.push(jump);
            known.count += 1;
            if known.untold.len() < UNTOLD {
                known.untold.push(jump);
            }
            if wall < NOT_BEFORE && known.past.doubted.is_none() {
                known.past.doubted = Some(NOT_BEFORE);
            }
            known.is_unsaved = true;
        }
        if ended.is_some() {
            known.past.doubted = None;
            known.is_unsaved = true;
        }
        wall
    }

    /// How old things are now. Looks first, so that no jump comes before it is noticed.
    pub fn ages(&self) -> Ages {
        let mut known = self.known();
        let now = self.look_now(&mut known);
        Ages { now, jumps: known.past.jumps.as_slice().into(), count: known.count }
    }

    /// The jumps that were noticed since this was last asked.
    pub fn noticed(&self) -> Vec<Jump> {
        std::mem::take(&mut self.known().untold)
    }

    /// Whether the clock must be wrong, and why.
    pub fn wrong(&self) -> Option<Wrong> {
        let until = self.known().past.doubted?;
        Some(if until > NOT_BEFORE {
            Wrong::BeforeTheStore(until)
        } else {
            Wrong::BeforeThisVersion
        })
    }

    /// Whether something is known that is lost with the process.
    pub fn is_unsaved(&self) -> bool {
        self.known().is_unsaved
    }

    /// What a store is to remember, if what it does is no longer true or, with a commit that is
    /// made anyway, a minute old.
    pub fn past(&self, is_cheap: bool) -> Option<Past> {
        let mut known = self.known();
        let wall = self.look_now(&mut known);
        let is_old = wall.0.abs_diff(known.past.seen.0) >= SEEN_EVERY_MS;
        let is_wanted = known.is_unsaved || (is_cheap && is_old);
        is_wanted.then(|| Past { seen: wall, ..known.past.clone() })
    }

    /// The store remembers this now.
    pub fn kept(&self, past: &Past) {
        let mut known = self.known();
        known.is_unsaved = (&known.past.jumps, known.past.doubted) != (&past.jumps, past.doubted);
        known.past.seen = past.seen;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wall time, and how far it is from the time that counts on through suspension.
    fn read(&self) -> (Timestamp, i64) {
        loop {
            let before = steady_ms();
            let wall = self.wall();
            let steady = steady_ms();
            if steady - before <= READ_MS {
                return (wall, wall.0 as i64 - steady - self.moved().ahead.as_millis() as i64);
            }
        }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BeforeThisVersion => {
                write!(f, "this version of Dormouse was made after {}", said(NOT_BEFORE))
            }
            Self::BeforeTheStore(at) => {
                write!(f, "the store has messages of {}", said(*at))
            }
        }
    }
}

/// A time in the form of RFC 3339, to the second, in UTC.
pub fn said(time: Timestamp) -> String {
    let seconds = i64::try_from(time.0 / 1_000).unwrap_or(i64::MAX);
    let moment = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = moment.and_then(|it| it.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| format!("{} ms after 1970", time.0))
}

fn system_ms() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds of a clock that cannot be set and counts on while the machine is suspended.
fn steady_ms() -> i64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const STEADY: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const STEADY: ClockId = ClockId::Monotonic; // on macOS it counts on by itself
    let at = clock_gettime(STEADY);
    at.tv_sec * 1_000 + at.tv_nsec / 1_000_000
}

/// Waits on a clock that is moved meanwhile.
async fn moved_until(mut moved: watch::Receiver<Moved>, at: Instant) {
    loop {
        let by = moved.borrow_and_update().ahead;
        let Some(system) = at.checked_sub(by) else { return };
        tokio::select! {
            () = sleep_until(system) => return,
            Ok(()) = moved.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY_MS: u64 = 86_400_000;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_moment_that_was_moved_past_is_woken() {
        let clock = Clock::movable();
        let (begun, wall) = (clock.now(), clock.wall());
        let sleeper = clock.clone();
        let waiting = tokio::spawn(async move { sleeper.sleep_until(begun + HOUR).await });
        clock.advance(HOUR / 2);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "half of it");
        clock.advance(HOUR / 2);
        waiting.await.unwrap();
        assert_eq!(clock.now(), begun + HOUR, "no time has passed for the system");
        assert!(clock.wall().since_ms(wall) >= 3_600_000, "both its times are moved");
        assert_eq!(clock.at(begun), begun + HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_by_itself_and_the_systems_clock_cannot_be_moved() {
        for clock in [Clock::default(), Clock::movable()] {
            let begun = Instant::now();
            clock.sleep_until(clock.now() + HOUR).await;
            assert_eq!(begun.elapsed(), HOUR);
        }
        let clock = Clock::default();
        clock.advance(HOUR);
        clock.set_wall(Timestamp(7));
        assert_eq!(clock.now(), Instant::now());
        assert!(clock.wall() > NOT_BEFORE);
    }

    #[test]
    fn the_day_before_which_every_clock_is_wrong_is_over() {
        assert!(NOT_BEFORE < Clock::default().wall(), "a release cannot be of the future");
        assert_eq!(said(NOT_BEFORE), "2026-01-01T00:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_is_set_is_noticed_and_deadlines_go_on() {
        let clock = Clock::movable();
        clock.begin(Past::default(), Timestamp(0));
        let (begun, right) = (clock.now(), clock.wall());
        clock.look();
        assert_eq!(clock.noticed(), [], "nothing has happened");
        clock.advance(HOUR);
        clock.look();
        assert_eq!(clock.noticed(), [], "a machine that was suspended has not jumped");

        clock.set_wall(right.plus_ms(10 * DAY_MS));
        assert_eq!(clock.now(), begun + HOUR);
        let ages = clock.ages();
        assert!((3_600_000..3_610_000).contains(&ages.of(right)), "its age is as it was");
        clock.set_wall(right.plus_ms(3_600_000));
        clock.look();
        let directions = clock.noticed().iter().map(Jump::direction).collect::<Vec<_>>();
        assert_eq!(directions, ["forward", "back"]);
        assert_eq!(clock.noticed(), [], "once");
        assert!((3_600_000..3_610_000).contains(&clock.ages().of(right)));

        clock.set_wall(clock.wall().plus_ms(JUMP_MS / 2));
        clock.look();
        assert_eq!(clock.noticed(), [], "clocks are corrected by that much all the time");
    }

    /// What a store keeps of one run is what the next begins with.
    #[test]
    fn a_clock_of_1970_is_wrong_and_what_it_stamped_counts_from_when_it_is_right() {
        let clock = Clock::movable();
        let right = clock.wall();
        for is_seen in [true, false] {
            clock.set_wall(Timestamp(60_000));
            clock.begin(Past::default(), Timestamp(0));
            assert_eq!(clock.wrong(), Some(Wrong::BeforeThisVersion));
            assert!(clock.is_unsaved(), "the next run has to know");
            let past = clock.past(false).unwrap();
            clock.kept(&past);
            assert!(!clock.is_unsaved());
            let stamp = clock.wall();

            clock.set_wall(right);
            match is_seen {
                true => clock.look(),
                false => clock.begin(past, stamp),
            }
            assert_eq!(clock.wrong(), None);
            assert!(clock.is_unsaved());
            assert!(clock.ages().of(stamp) < 60_000, "it is as old as the right clock");
            let past = clock.past(false).unwrap();
            clock.begin(past, right);
            assert!(clock.ages().of(stamp) < 60_000, "after one more restart too");
            assert!(!clock.is_unsaved() && clock.noticed().is_empty());
        }
    }

    #[test]
    fn a_start_before_the_stores_newest_message_is_doubted_until_then() {
        let clock = Clock::movable();
        let right = clock.wall();
        let newest = right.plus_ms(10 * DAY_MS);
        clock.begin(Past::default(), newest);
        assert_eq!(clock.wrong(), Some(Wrong::BeforeTheStore(newest)));
        assert!(clock.ages().of(newest) < 60_000, "what is of the future is new");
        let past = clock.past(false).unwrap();
        clock.begin(past, newest);
        assert_eq!(clock.wrong(), Some(Wrong::BeforeTheStore(newest)));
        assert_eq!(clock.ages().jumps.len(), 1, "it is known");

        clock.advance(10 * 24 * HOUR);
        clock.look();
        assert_eq!((clock.wrong(), clock.noticed()), (None, vec![]), "it has caught up by itself");
    }

    #[test]
    fn what_the_clock_showed_is_kept_once_a_minute_and_only_with_something_else() {
        let clock = Clock::movable();
        clock.begin(Past::default(), Timestamp(0));
        assert_eq!(clock.past(false), None);
        let past = clock.past(true).unwrap();
        clock.kept(&past);
        assert_eq!(clock.past(true), None);
        clock.advance(HOUR);
        assert!(clock.past(true).unwrap().seen > past.seen);
    }
}
