//! The process's one clock: it rings the alarms of rooms, and has rooms deleted that were idle for
//! too long.
//!
//! It knows nothing by itself. What is due it asks of the store, where due times lie in order
//! however many rooms sleep; then it hands the room's keeper a letter and waits for the answer. What
//! came due while the process was down is due when it starts.
//!
//! ```text
//!  store.due ──▶ in hand (bounded) ──▶ keeper: Ring, DeleteIdle ──▶ done: the store knows
//!      ▲                                        │
//!      └── a record was written, time passes ◀──┴──▶ failed: again after a pause that doubles
//! ```
//!
//! - Nothing is forgotten: an alarm stays due until the record of what was done about it is durable.
//! - Alarms are wall time. The timer is monotonic, and looks at the wall clock every ten seconds at
//!   the latest, and when that was set. A time that the clock jumped over comes as much later as it
//!   was away before the jump; one that lies ahead of where the clock was set to, forward or back,
//!   comes when the clock shows it. None rings early.
//! - A room that sets itself alarms in the past is rung fifty times a second at most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Dispatcher;
use crate::clock::Clock;
use crate::keeper::state::Operation;
use crate::protocol::RoomName;
use crate::store::{Cause, Due};

/// The most rooms that are dealt with at once.
const AT_ONCE: usize = 256;

/// The most rooms that are remembered: those at once, and those that failed.
const IN_HAND: usize = 1_024;

/// The longest until the store is asked again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How long a room is left alone that was just dealt with.
const REST: Duration = Duration::from_millis(20);

/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What the clock has in hand.
#[derive(Default)]
pub(super) struct InHand {
    /// There may be something due earlier than was known.
    nudge: Notify,
    hand: Mutex<BTreeMap<RoomName, Hand>>,
    /// Rooms whose keeper failed.
    fallen: Mutex<BTreeMap<RoomName, Fallen>>,
}

/// A room whose keeper failed. Its seats lie on disk, and their windows end only if it has another.
#[derive(Debug, Clone, Copy)]
struct Fallen {
    /// How often its keepers failed, each soon after the one before.
    failures: u32,
    /// When it gets another; once it has one, when the failures are forgotten.
    until: Instant,
    has_another: bool,
}

/// A room that the clock deals with.
#[derive(Debug, Clone, Copy)]
struct Hand {
    /// When it may be dealt with again; `None` while it is.
    until: Option<Instant>,
    /// How often in a row it failed.
    failures: u32,
}

impl InHand {
    /// An alarm was set.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// A room's keeper has failed. Not more than [`IN_HAND`] of them are remembered; the others get
    /// a keeper when somebody asks for them.
    pub(super) fn fell(&self, room: &RoomName, now: Instant) {
        let mut fallen = self.fallen();
        if fallen.len() < IN_HAND || fallen.contains_key(room) {
            let failures = fallen.get(room).map_or(0, |fallen| fallen.failures) + 1;
            let next = Fallen { failures, until: now + pause(failures), has_another: false };
            fallen.insert(room.clone(), next);
        }
        drop(fallen);
        self.nudge();
    }

    /// The fallen rooms that get another keeper now, and when the next does.
    fn risen(&self, now: Instant) -> (Vec<RoomName>, Option<Instant>) {
        let mut fallen = self.fallen();
        fallen.retain(|_, it| !it.has_another || it.until > now);
        let mut risen = Vec::new();
        for (room, it) in fallen.iter_mut().filter(|(_, it)| it.until <= now) {
            risen.push(room.clone());
            (it.has_another, it.until) = (true, now + 2 * LONGEST_PAUSE);
        }
        (risen, fallen.values().filter(|it| !it.has_another).map(|it| it.until).min())
    }

    /// How often in a row a room could not be dealt with.
    pub(super) fn failures(&self, room: &RoomName) -> u32 {
        self.hand().get(room).map_or(0, |hand| hand.failures)
    }

    /// Says how it went with a room once the answer is dropped: that it failed, if that was a panic
    /// or the end of the clock.
    fn dealing<'a>(&'a self, room: &'a RoomName, clock: &'a Clock) -> Dealing<'a> {
        Dealing { in_hand: self, room, clock, succeeded: false }
    }

    /// Takes a room in hand, if there is space.
    fn take(&self, room: &RoomName) -> bool {
        let mut hand = self.hand();
        let fits = hand.len() < IN_HAND || hand.contains_key(room);
        if fits {
            let failures = hand.get(room).map_or(0, |hand| hand.failures);
            hand.insert(room.clone(), Hand { until: None, failures });
        }
        fits
    }

    fn done(&self, room: &RoomName, succeeded: bool, now: Instant) {
        if let Some(hand) = self.hand().get_mut(room) {
            hand.failures = if succeeded { 0 } else { hand.failures.saturating_add(1) };
            hand.until = Some(now + if succeeded { REST } else { pause(hand.failures) });
        }
    }

    /// The rooms to leave alone now, until when the first of them is, and how many fail.
    fn resting(&self, now: Instant) -> (BTreeSet<RoomName>, Option<Instant>, usize) {
        let mut hand = self.hand();
        hand.retain(|_, hand| hand.failures > 0 || hand.until.is_none_or(|until| until > now));
        let rests = |hand: &Hand| hand.until.is_none_or(|until| until > now);
        let resting = hand.iter().filter(|(_, hand)| rests(hand));
        let first = hand.values().filter_map(|hand| hand.until).filter(|until| *until > now).min();
        let failing = hand.values().filter(|hand| hand.failures > 0).count();
        (resting.map(|(room, _)| room.clone()).collect(), first, failing)
    }

    fn hand(&self) -> MutexGuard<'_, BTreeMap<RoomName, Hand>> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fallen(&self) -> MutexGuard<'_, BTreeMap<RoomName, Fallen>> {
        self.fallen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a room is left alone that has failed so many times in a row.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE)
}

/// A room that is being dealt with.
struct Dealing<'a> {
    in_hand: &'a InHand,
    room: &'a RoomName,
    clock: &'a Clock,
    succeeded: bool,
}

impl Drop for Dealing<'_> {
    fn drop(&mut self) {
        self.in_hand.done(self.room, self.succeeded, self.clock.now());
    }
}

impl Dispatcher {
    /// Deals with what comes due, for as long as it is polled. It can be begun anew: what it had in
    /// hand counts as failed.
    pub async fn keep_time(&self) {
        let mut at_work = JoinSet::new();
        let (in_hand, clock) = (&self.shared.in_hand, &self.shared.world.clock);
        loop {
            while at_work.try_join_next().is_some() {}
            // In this order: if the clock is moved between the two, it is only looked at too early.
            let (at, now) = (clock.now(), clock.wall());
            let (fallen, rising) = in_hand.risen(at);
            self.begin(fallen, 0);
            let (skip, rested, failing) = in_hand.resting(at);
            self.shared.world.metrics.alarms_failing.set(failing as i64);
            let limit = AT_ONCE - at_work.len().min(AT_ONCE);
            let due = match limit {
                0 => Ok(Due::default()),
                _ => self.shared.world.store.run(move |engine| engine.due(now, &skip, limit)).await,
            };
            let Due { rooms, next } = due.unwrap_or_else(|error| {
                tracing::warn!(%error, "alarms wait");
                Due { rooms: Vec::new(), next: Some(now.plus_ms(1_000)) }
            });
            let mut more = rooms.len() == limit && limit > 0;
            for (_, room, cause) in rooms {
                let taken = in_hand.take(&room);
                more &= taken; // else there is no space before one of those in hand is done
                if taken {
                    let dispatcher = self.clone();
                    at_work.spawn(async move {
                        let (in_hand, clock) = (&dispatcher.shared.in_hand, dispatcher.clock());
                        let mut dealing = in_hand.dealing(&room, clock);
                        dealing.succeeded = dispatcher.deal_with(&room, cause).await;
                    });
                }
            }
            let next = next.map(|next| at + Duration::from_millis(next.since_ms(now)));
            let until = [next, rested, rising, Some(at + LOOK_AGAIN)].into_iter().flatten().min();
            let until = if more { Some(at) } else { until };
            tokio::select! {
                () = in_hand.nudge.notified() => {}
                Some(_) = at_work.join_next() => {}
                () = clock.sleep_until(until.unwrap_or(at)) => {}
            }
        }
    }

    /// Says whether that need not be tried again.
    async fn deal_with(&self, room: &RoomName, cause: Cause) -> bool {
        let metrics = &self.shared.world.metrics;
        match cause {
            Cause::Alarm => {
                let rung = self.send(room, Operation::Ring).await;
                metrics.alarms.of(if rung.is_ok() { "rung" } else { "failed" }).inc();
                if let Err(error) = &rung {
                    tracing::warn!(%room, %error, "an alarm is tried again later");
                }
                rung.is_ok()
            }
            Cause::Idle => match self.send(room, Operation::DeleteIdle).await {
                Ok(seen) if seen.state == "deleted" => {
                    metrics.rooms_deleted.of("idle").inc();
                    true
                }
                Ok(_) => {
                    let name = room.clone();
                    self.shared.world.store.run(move |engine| engine.touch(&name)).await.is_ok()
                }
                Err(_) => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::scripted::{self, Script, Scripted};
    use super::*;
    use crate::protocol::Timestamp;
    use crate::room::{Act, Happened};
    use crate::store::{Engine as _, Memory, Record, Store};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A dispatcher whose store does as the script says.
    fn scripted() -> (Dispatcher, Script) {
        let (store, script) = Scripted::new();
        let mut config = crate::config::Config::default();
        config.keeper.behaviour = |_| Box::new(Reminder);
        (Dispatcher::new(config.keeper, Store::new(store), Arc::default()), script)
    }

    /// A store that was busy for a moment made every alarm of the next ten seconds late.
    #[tokio::test(start_paused = true)]
    async fn a_failed_look_is_tried_again_after_a_second_and_a_good_one_after_ten() {
        let (dispatcher, script) = scripted();
        script.lock().failing_looks = 3;
        let begun = Instant::now();
        let _ = tokio::time::timeout(s(25), dispatcher.keep_time()).await;
        let looks = script.lock().looks.clone();
        let seconds: Vec<_> = looks.iter().map(|at| (*at - begun).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 3, 13, 23]);
    }

    /// The store went on saying that it was idle, and it was asked fifty times a second.
    #[tokio::test(start_paused = true)]
    async fn a_room_that_is_in_use_is_asked_once_and_the_store_is_told() {
        let (dispatcher, script) = scripted();
        let room: RoomName = "lobby".parse().unwrap();
        scripted::join(&dispatcher, &room).await;
        script.lock().idle.push(room.clone());
        let _ = tokio::time::timeout(s(15), dispatcher.keep_time()).await;
        let told = script.lock();
        assert_eq!(told.touched, [room]);
        assert!(told.looks.len() <= 6, "{:?}", told.looks);
    }

    /// It was rung ten seconds later, with the next look.
    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_is_set_wakes_the_clock_at_once() {
        let (dispatcher, script) = scripted();
        let metrics = dispatcher.shared.world.metrics.clone();
        let told = async {
            while script.lock().looks.is_empty() {
                tokio::task::yield_now().await;
            }
            let begun = Instant::now();
            let room = "lobby".parse().unwrap();
            scripted::join(&dispatcher, &room).await;
            dispatcher.deliver(&room, scripted::publish()).await;
            while metrics.alarms.of("rung").get() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            begun.elapsed()
        };
        let took = tokio::select! {
            () = dispatcher.keep_time() => unreachable!("it keeps time for ever"),
            took = told => took,
        };
        assert!(took < s(1), "{took:?}");
    }

    /// An alarm as soon as anything is said.
    #[derive(Debug)]
    struct Reminder;

    impl crate::room::Behaviour for Reminder {
        fn handle(&mut self, now: Timestamp, what: Happened<'_>, acts: &mut Vec<Act>) {
            if matches!(what, Happened::Published(_)) {
                acts.push(Act::SetAlarm(Some(now)));
            }
        }

        fn snapshot(&self) -> bytes::Bytes {
            bytes::Bytes::new()
        }
    }

    /// Opening the room fails: the alarm is kept, shown to fail, and rung once that is over.
    #[tokio::test]
    async fn an_alarm_that_fails_is_kept_and_shown_and_tried_again() {
        let (memory, room) = (Memory::new(1), "lobby".parse::<RoomName>().unwrap());
        memory.append(&room, vec![Record::Alarm(Some(Timestamp(7)))], Box::new(|_| {}));
        memory.fail_next_open();
        let config = crate::config::Config::default();
        let dispatcher = Dispatcher::new(config.keeper, Store::new(memory), Arc::default());
        let metrics = dispatcher.shared.world.metrics.clone();
        let failed = async {
            while metrics.alarms.of("failed").get() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let alarm = dispatcher.inspect(&room).await.unwrap().unwrap().alarm.unwrap();
            assert_eq!((alarm.due, alarm.failures), (Timestamp(7), 1));
            while metrics.alarms.of("rung").get() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(dispatcher.inspect(&room).await.unwrap().unwrap().alarm, None);
        };
        tokio::select! {
            () = dispatcher.keep_time() => unreachable!("it keeps time for ever"),
            done = tokio::time::timeout(Duration::from_secs(60), failed) => done.unwrap(),
        }
        let now = dispatcher.clock().wall();
        let due = dispatcher.shared.world.store.engine().due(now, &BTreeSet::new(), 9).unwrap();
        assert_eq!(due, Due::default(), "it rang once");
    }

    /// Whatever fails for how long, what is kept of it is bounded, and the pauses grow.
    #[tokio::test(start_paused = true)]
    async fn what_is_in_hand_is_bounded_and_pauses_grow() {
        let hand = InHand::default();
        let name = |number: usize| format!("room-{number}").parse::<RoomName>().unwrap();
        assert!((0..IN_HAND).all(|number| hand.take(&name(number))));
        assert!(!hand.take(&name(IN_HAND)), "there is no space");
        hand.done(&name(0), true, Instant::now());
        tokio::time::advance(REST).await;
        assert_eq!(hand.resting(Instant::now()).0.len(), IN_HAND - 1);
        assert!(hand.take(&name(IN_HAND)));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            hand.take(&name(1));
            hand.done(&name(1), false, Instant::now());
            let (resting, first, failing) = hand.resting(Instant::now());
            assert!(resting.contains(&name(1)) && failing == 1);
            let pause = first.unwrap() - Instant::now();
            tokio::time::advance(pause).await;
            assert!(!hand.resting(Instant::now()).0.contains(&name(1)));
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    /// One that fails again and again would otherwise be begun again and again, as fast as it can.
    #[tokio::test(start_paused = true)]
    async fn a_room_whose_keepers_fail_has_the_next_one_after_pauses_that_grow() {
        let (hand, room) = (InHand::default(), "lobby".parse::<RoomName>().unwrap());
        let mut pauses = Vec::new();
        for _ in 0..10 {
            hand.fell(&room, Instant::now());
            let (risen, next) = hand.risen(Instant::now());
            assert_eq!(risen, [], "not at once");
            let pause = next.expect("it has another one some time") - Instant::now();
            tokio::time::advance(pause - Duration::from_millis(1)).await;
            assert_eq!(hand.risen(Instant::now()).0, []);
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(hand.risen(Instant::now()), (vec![room.clone()], None));
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        tokio::time::advance(2 * LONGEST_PAUSE).await;
        hand.risen(Instant::now());
        hand.fell(&room, Instant::now());
        let next = hand.risen(Instant::now()).1.unwrap();
        assert_eq!(next - Instant::now(), FIRST_PAUSE, "one that lasted has begun a new row");
    }
}
