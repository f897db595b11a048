//! Room name → mailbox: finds a room's keeper or starts one.
//!
//! It is asked when a client joins, when an operator wants something, when seats are found at
//! start and when the [`clock`] says that something is due; never on a message's path. A keeper that nobody needs retires under the entry it
//! has here, so that a join that comes at that moment starts the next one instead of being lost.

mod clock;
mod listing;
mod reading;
#[cfg(test)]
mod scripted;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::keeper::state::{Found, Operation};
use crate::keeper::{self, Awake, Keeper, Letter, Mailbox, Refused, Turns, World};
use crate::protocol::{Kinds, RoomName};
use crate::room::Connection;
use crate::store::{self, Store};
use crate::telemetry::Metrics;
use clock::InHand;

pub use crate::keeper::state::{Inspection, Roster, Unavailable};
pub use listing::{Listed, PAGE_MOST, Query, Rooms, STATES};
#[cfg(test)]
pub(crate) use scripted::Scripted;

/// Finds keepers. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

struct Shared {
    /// Ordered, so that rooms can be listed page by page.
    mailboxes: Mutex<Mailboxes>,
    next_connection: AtomicU64,
    kinds: Kinds<keeper::Settings>,
    in_hand: InHand,
    /// What keepers need. It knows us only for as long as we are there: what is left of a keeper
    /// lies in its mailbox, and that with us.
    world: Arc<World>,
}

type Mailboxes = BTreeMap<RoomName, Arc<Mailbox>>;

/// What a dispatcher goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What keepers go by, by the kinds of their rooms.
    pub kinds: Kinds<keeper::Settings>,
    /// How many rooms may be awake before the longest idle sleeps early.
    pub rooms_awake: usize,
    /// How many may be falling asleep; the others stand in line.
    pub rooms_hibernating: usize,
    /// What time it is.
    pub clock: Clock,
}

/// All rooms alike, as many awake as like to, and nobody in line to sleep.
impl From<keeper::Settings> for Settings {
    fn from(usual: keeper::Settings) -> Self {
        let (kinds, clock) = (usual.into(), Clock::default());
        Self { kinds, rooms_awake: usize::MAX, rooms_hibernating: usize::MAX, clock }
    }
}

/// When an operator may ask a full mailbox again.
const FULL_RETRY_MS: u64 = 1_000;

/// How long keepers may take to deal with their last mail.
const CLOSING: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// A dispatcher without keepers.
    pub fn new(settings: impl Into<Settings>, store: Store, metrics: Arc<Metrics>) -> Self {
        let Settings { kinds, rooms_awake, rooms_hibernating, clock } = settings.into();
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| {
            let (keeps, fails, rings) = (shared.clone(), shared.clone(), shared.clone());
            let world = World {
                store,
                metrics,
                awake: Awake::new(rooms_awake),
                turns: Turns::new(rooms_hibernating),
                begun: clock.now(),
                clock,
                retire: Box::new(move |room, mailbox| match keeps.upgrade() {
                    Some(shared) => shared.retire(room, mailbox),
                    None => mailbox.close(), // nobody can find it any more
                }),
                failed: Box::new(move |room, mailbox| {
                    if let Some(shared) = fails.upgrade() {
                        shared.failed(room, mailbox);
                    }
                }),
                set_alarm: Box::new(move || {
                    if let Some(shared) = rings.upgrade() {
                        shared.in_hand.nudge();
                    }
                }),
            };
            Shared {
                mailboxes: Mutex::default(),
                next_connection: AtomicU64::new(1),
                kinds,
                in_hand: InHand::default(),
                world: Arc::new(world),
            }
        });
        Self { shared }
    }

    /// What time it is in these rooms.
    pub fn clock(&self) -> &Clock {
        &self.shared.world.clock
    }

    /// Looks for due alarms now: the wall clock was set.
    pub fn look_for_alarms(&self) {
        self.shared.in_hand.nudge();
    }

    /// What keepers usually go by.
    pub fn settings(&self) -> &keeper::Settings {
        self.shared.kinds.usual()
    }

    /// What the keeper of a room goes by.
    pub fn settings_of(&self, room: &RoomName) -> &Arc<keeper::Settings> {
        self.shared.kinds.of(room)
    }

    /// A number for a connection, never given twice.
    pub fn connection(&self) -> Connection {
        Connection(self.shared.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts keepers for rooms in which seats were found on disk, if they have none yet.
    pub fn begin(&self, rooms: impl IntoIterator<Item = RoomName>, spread_ms: u64) {
        let mut mailboxes = self.mailboxes();
        for room in rooms {
            self.find(&mut mailboxes, &room, Found::Seats { spread_ms });
        }
    }

    /// Hands a letter to a room's keeper, a new one if there is none, waiting for space.
    pub async fn deliver(&self, room: &RoomName, mut letter: Letter) -> Arc<Mailbox> {
        loop {
            let (mailbox, result) = {
                let mut mailboxes = self.mailboxes();
                let mailbox = self.find(&mut mailboxes, room, Found::Wanted);
                let result = mailbox.put(letter);
                (mailbox, result)
            };
            match result.map_err(|refused| *refused) {
                Ok(()) => return mailbox,
                Err(Refused::Full(back)) => {
                    letter = back;
                    mailbox.space().await;
                }
                Err(Refused::Closed(back)) => {
                    letter = back;
                    // Its entry is gone by now, unless its keeper failed.
                    mailbox.left(|| self.shared.is_entry(room, &mailbox)).await;
                }
            }
        }
    }

    /// What there is of a room; `None` if there never was one. Wakes nothing.
    pub async fn inspect(&self, room: &RoomName) -> Result<Option<Inspection>, Unavailable> {
        let mut seen = self.operate(room, Operation::Inspect).await?;
        if let Some(Inspection { alarm: Some(alarm), .. }) = &mut seen {
            alarm.failures = self.shared.in_hand.failures(room);
        }
        Ok(seen)
    }

    /// Has a room deleted; answers when nothing of it is left, `None` if there is no such room.
    pub async fn delete(&self, room: &RoomName) -> Result<Option<Inspection>, Unavailable> {
        // One that cannot be read can be deleted.
        let is_there =
            self.mailboxes().contains_key(room) || !matches!(self.cold(room).await, Ok(None));
        if !is_there {
            return Ok(None);
        }
        let seen = self.send(room, Operation::Delete).await?;
        let deleted = seen.state == "deleted";
        if deleted {
            self.shared.world.metrics.rooms_deleted.of("operator").inc();
        }
        Ok(deleted.then_some(seen))
    }

    /// Has a room asleep; answers when it is moved and out of memory.
    pub async fn hibernate(&self, room: &RoomName) -> Result<Option<Inspection>, Unavailable> {
        self.operate(room, Operation::Hibernate).await
    }

    /// Has a room awake.
    pub async fn wake(&self, room: &RoomName) -> Result<Option<Inspection>, Unavailable> {
        self.operate(room, Operation::Wake).await
    }

    /// Waits until every keeper has dealt with the mail it has now, and what that wrote is on disk;
    /// those that rest have none. Bounded by a few seconds: a keeper may be waiting for a disk.
    pub async fn close(&self) {
        let is_at_work = |mailbox: &&Arc<Mailbox>| !mailbox.is_at_rest();
        let mailboxes: Vec<_> = self.mailboxes().values().filter(is_at_work).cloned().collect();
        let all = async {
            let mut answers = Vec::with_capacity(mailboxes.len());
            for mailbox in mailboxes {
                let (answer, answered) = oneshot::channel();
                let mut letter = Some(Letter::Operate(Operation::Finish, answer));
                while let Some(next) = letter.take() {
                    if let Err(Refused::Full(back)) = mailbox.put(next).map_err(|r| *r) {
                        letter = Some(back);
                        mailbox.space().await;
                    }
                }
                answers.push(answered);
            }
            for answered in answers {
                let _ = answered.await; // a keeper that is gone has nothing left to do
            }
        };
        let _ = tokio::time::timeout(CLOSING, all).await;
    }

    async fn operate(
        &self,
        room: &RoomName,
        operation: Operation,
    ) -> Result<Option<Inspection>, Unavailable> {
        let existing = self.mailboxes().get(room).cloned();
        if existing.is_none() {
            let cold = self.cold(room).await?;
            if cold.is_none() || operation != Operation::Wake {
                return Ok(cold);
            }
        }
        let seen = self.send(room, operation).await?;
        // What a keeper was begun for that found nothing is no room.
        let is_there = seen.seats > 0 || seen.head.seq > 0 || seen.state != "cold";
        Ok((is_there || seen.alarm.is_some()).then_some(seen))
    }

    /// Hands an operation to a room's keeper, a new one if there is none, and waits for the answer.
    async fn send(&self, room: &RoomName, operation: Operation) -> Result<Inspection, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let refused = {
            let mut mailboxes = self.mailboxes();
            let mailbox = self.find(&mut mailboxes, room, Found::Wanted);
            mailbox.put(Letter::Operate(operation, answer)).is_err()
        };
        if refused {
            return Err(full());
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// A room without a keeper, as it lies on disk.
    async fn cold(&self, room: &RoomName) -> Result<Option<Inspection>, Unavailable> {
        let name = room.clone();
        let opened = self.shared.world.store.run(move |engine| engine.open(&name)).await;
        Ok(Inspection::of_cold(room, &opened.map_err(unwell)?))
    }

    fn find(&self, mailboxes: &mut Mailboxes, room: &RoomName, found: Found) -> Arc<Mailbox> {
        if let Some(mailbox) = mailboxes.get(room) {
            return mailbox.clone();
        }
        let shared = &self.shared;
        let settings = shared.kinds.of(room); // once for as long as the keeper lives
        let mailbox = Mailbox::new(settings.mailbox_events, settings.waking_bytes);
        let world = shared.world.clone();
        let keeper = Keeper { room: room.clone(), settings: settings.clone(), world };
        keeper::begin(keeper, mailbox.clone(), found);
        // Not before: a keeper that cannot be begun must not lock its room.
        mailboxes.insert(room.clone(), mailbox.clone());
        mailbox
    }

    fn mailboxes(&self) -> MutexGuard<'_, Mailboxes> {
        self.shared.mailboxes()
    }
}

impl Shared {
    fn retire(&self, room: &RoomName, mailbox: &Mailbox) -> bool {
        let mut mailboxes = self.mailboxes();
        let may_go = mailbox.close();
        if may_go {
            mailboxes.remove(room);
        }
        may_go
    }

    /// A keeper has failed, and the store has answered all it had asked for: the next to ask for
    /// its room begins another.
    fn failed(&self, room: &RoomName, mailbox: &Arc<Mailbox>) {
        let mut mailboxes = self.mailboxes();
        if mailboxes.get(room).is_some_and(|entry| Arc::ptr_eq(entry, mailbox)) {
            mailboxes.remove(room);
        }
        drop(mailboxes);
        mailbox.leave();
        self.in_hand.fell(room, self.world.clock.now());
    }

    fn is_entry(&self, room: &RoomName, mailbox: &Arc<Mailbox>) -> bool {
        self.mailboxes().get(room).is_some_and(|entry| Arc::ptr_eq(entry, mailbox))
    }

    fn mailboxes(&self) -> MutexGuard<'_, Mailboxes> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(reason: impl Into<String>) -> Unavailable {
    Unavailable { retry_after_ms: FULL_RETRY_MS, reason: reason.into() }
}

/// What an operator is told whose letter does not fit into the mailbox.
fn full() -> Unavailable {
    unavailable("the room has more to do than it can take")
}

/// What an operator is told whose letter nobody answers.
fn gone() -> Unavailable {
    unavailable("the gateway is shutting down")
}

/// What an operator is told when the store cannot be read.
fn unwell(error: store::Error) -> Unavailable {
    unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::scripted::{Scripted, join, publish};
    use super::*;
    use crate::outbox::Filled;
    use crate::protocol::CloseReason;
    use crate::store::Error;

    /// Not before the store has done what the first one had asked for: two appends of one room may
    /// not be on their way at once, or two messages get the same number.
    #[tokio::test]
    async fn a_keeper_that_fails_sends_its_members_away_and_the_next_one_serves_them() {
        let config = crate::config::Config::default();
        let (store, script) = Scripted::new();
        script.lock().panics_at_append = true;
        let metrics = Arc::<Metrics>::default();
        let dispatcher = Dispatcher::new(config.keeper, Store::new(store), metrics.clone());
        let room = "lobby".parse().unwrap();
        let Filled::Close(closing) = join(&dispatcher, &room).await else {
            panic!("the first keeper failed and said nothing")
        };
        assert_eq!(closing.reason, CloseReason::StoreUnavailable);
        assert_eq!(metrics.task_failures.of("keeper").get(), 1);
        let mut second = std::pin::pin!(join(&dispatcher, &room));
        assert!(second.as_mut().now_or_never().is_none(), "the store still owes an answer");
        let held = script.lock().held.pop().expect("it was asked");
        (held.done)(Err(Error::Busy));
        assert_eq!(second.await, Filled::Enough);
    }

    /// Though nobody comes back: the windows of its seats have to end.
    #[tokio::test(start_paused = true)]
    async fn a_room_whose_keeper_failed_has_another_one_by_itself() {
        let config = crate::config::Config::default();
        let (store, script) = Scripted::new();
        script.lock().panics_at_append = true;
        let dispatcher = Dispatcher::new(config.keeper, Store::new(store), Arc::default());
        let room = "lobby".parse().unwrap();
        let closed = join(&dispatcher, &room).await;
        assert!(matches!(closed, Filled::Close(_)));
        drop(script.lock().held.pop());
        assert!(dispatcher.mailboxes().is_empty());
        let before = script.lock().opened;
        // The other one finds no seats and may be gone at once: what it read tells that it was there.
        let begun = async {
            while script.lock().opened == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = dispatcher.keep_time() => unreachable!("it keeps time for ever"),
            begun = tokio::time::timeout(Duration::from_secs(60), begun) => begun.unwrap(),
        }
    }

    /// A drain that did not wait for what keepers had still to do closed the store under it: mail was
    /// lost behind an append, or in a room that was just waking.
    #[tokio::test]
    async fn a_close_waits_until_all_mail_is_dealt_with_and_on_disk() {
        let config = crate::config::Config::default();
        let (store, script) = Scripted::new();
        let store = Store::new(store);
        let dispatcher = Dispatcher::new(config.keeper, store.clone(), Arc::default());
        let room: RoomName = "lobby".parse().unwrap();
        assert_eq!(join(&dispatcher, &room).await, Filled::Enough);
        script.lock().holds_messages = true;
        for _ in 0..3 {
            dispatcher.deliver(&room, publish()).await; // the room is asleep, and wakes for it
        }
        let mut closing = std::pin::pin!(dispatcher.close());
        loop {
            let is_closed = closing.as_mut().now_or_never().is_some();
            tokio::task::yield_now().await; // keepers do what they can
            let newest = store.engine().open(&room).unwrap().newest;
            if is_closed {
                assert_eq!(newest, 3, "all of it is on disk");
                break;
            }
            script.lock().let_go();
        }
    }
}
