//! The thin loop round a keeper's [`State`]: it feeds it and does what it says, in that order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::awake::{Awake, Awoken};
use super::mailbox::Taken;
use super::page;
use super::state::Unavailable;
use super::state::{Found, Input, Inspection, Mail, Now, Output, Roster, State, Ticket, Told};
use super::{Delivery, Letter, Mailbox, Settings};
use crate::clock::Clock;
use crate::outbox::{Outbox, Shared};
use crate::protocol::framing::wrap_json;
use crate::protocol::{CloseReason, RoomName, Sid};
use crate::store::{Engine, Error, Record, Store};
use crate::telemetry::{Held, Metrics};

const AWAKE: &str = "awake";
const ASLEEP: &str = "asleep";

/// When members of a room whose keeper failed may come back.
const RETURN_MS: u64 = 1_000;

/// The most messages read from the store at once.
const SLICE_MESSAGES: usize = 256;

/// Lets a keeper go; `false` if there is mail for it after all.
pub type Retire = Box<dyn Fn(&RoomName, &Mailbox) -> bool + Send>;

/// What a keeper needs of the world.
pub struct Keeper {
    /// The room.
    pub room: RoomName,
    /// What keepers go by.
    pub settings: Arc<Settings>,
    /// Where its letters come in.
    pub mailbox: Arc<Mailbox>,
    /// Where its room lies.
    pub store: Store,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// And where it is noted that its room is awake.
    pub awake: Arc<Awake>,
    /// What it looks at to know what time it is.
    pub clock: Clock,
    /// Asks to be let go.
    pub retire: Retire,
    /// Says that an alarm was set.
    pub set_alarm: Arc<dyn Fn() + Send + Sync>,
}

struct Task {
    keeper: Keeper,
    state: State,
    delivery: Delivery,
    operators: HashMap<Ticket, oneshot::Sender<Result<Inspection, Unavailable>>>,
    next_ticket: u64,
    backlog: VecDeque<Letter>,
    /// Questions that came before the store had said what there is of the room. Each is an
    /// operator's request, of which there are only so many at once.
    questions: Vec<Letter>,
    /// From here on its milliseconds are counted.
    begun: Instant,
    out: Vec<Output>,
    /// This room among those of its state.
    counted: Held,
    /// And among those awake.
    awoken: Option<Awoken>,
}

/// Keeps a room until nobody needs it.
#[tracing::instrument(level = "debug", name = "room", skip_all, fields(id = %keeper.room))]
pub async fn run(keeper: Keeper, found: Found) {
    Task::new(keeper, found).run().await;
}

impl Task {
    /// Boxed: as a part of its future it would be there once more for each place that it moves
    /// through, for as long as the room has members.
    fn new(keeper: Keeper, found: Found) -> Box<Self> {
        let begun = keeper.clock.now();
        let mut out = Vec::new();
        let secret = keeper.store.engine().identity().secret;
        let (room, settings) = (keeper.room.clone(), keeper.settings.clone());
        let state = State::new(room, settings, secret, found, now(&keeper.clock, begun), &mut out);
        let delivery = Delivery::new(keeper.settings.outbox.clone());
        let counted = keeper.metrics.rooms.of(ASLEEP).hold();
        Box::new(Self {
            keeper,
            state,
            delivery,
            operators: HashMap::new(),
            next_ticket: 0,
            backlog: VecDeque::new(),
            questions: Vec::new(),
            begun,
            out,
            counted,
            awoken: None,
        })
    }
}

/// A fault in a keeper must not leave its room locked: members are sent away to come back, and
/// the next letter finds a new keeper, which reads the room as it is on disk.
impl Drop for Task {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.delivery.close_all(CloseReason::StoreUnavailable, Some(RETURN_MS));
        // And those who were about to join: nobody else would ever answer them.
        let waiting = std::mem::take(&mut self.backlog);
        for letter in waiting.into_iter().chain(self.keeper.mailbox.close_for_good()) {
            if let Letter::Mail(_, Some(outbox)) = letter {
                outbox.close(CloseReason::StoreUnavailable, Some(RETURN_MS));
            }
        }
        (self.keeper.retire)(&self.keeper.room, &self.keeper.mailbox);
    }
}

fn now(clock: &Clock, begun: Instant) -> Now {
    let ms = clock.now().saturating_duration_since(begun).as_millis() as u64;
    Now { wall: clock.wall(), ms }
}

impl Task {
    async fn run(mut self: Box<Self>) {
        loop {
            let now = now(&self.keeper.clock, self.begun);
            self.state.settle(now, &mut self.out);
            if self.perform() {
                return;
            }
            if let Some(awoken) = &self.awoken {
                awoken.needed(self.begun + Duration::from_millis(self.state.needed_ms()));
            }
            let taken = self.wait().await;
            self.feed(taken);
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self) -> Option<Taken> {
        let wants_letters = self.state.wants_mail();
        if wants_letters && !self.backlog.is_empty() {
            return Some(Taken::default());
        }
        let due = self.state.deadline().map(|ms| self.begun + Duration::from_millis(ms));
        let clock = &self.keeper.clock;
        let expiry = self.delivery.ring().expire(Instant::now()).map(|at| clock.at(at));
        let Some(at) = due.into_iter().chain(expiry).min() else {
            return Some(self.keeper.mailbox.take(wants_letters).await);
        };
        tokio::select! {
            biased;
            taken = self.keeper.mailbox.take(wants_letters) => Some(taken),
            () = clock.sleep_until(at) => None,
        }
    }

    fn feed(&mut self, taken: Option<Taken>) {
        let now = now(&self.keeper.clock, self.begun);
        let Some(Taken { answers, letters }) = taken else {
            return self.state.step(now, Input::Tick, &mut self.out);
        };
        for answer in answers {
            self.state.step(now, answer, &mut self.out);
        }
        self.backlog.extend(letters);
        if self.state.is_known() && !self.questions.is_empty() {
            std::mem::take(&mut self.questions)
                .into_iter()
                .for_each(|letter| self.backlog.push_front(letter));
        }
        while self.state.wants_mail()
            && let Some(letter) = self.backlog.pop_front()
        {
            if letter.is_question() && !self.state.is_known() {
                self.questions.push(letter);
                continue;
            }
            let input = match letter {
                Letter::Roster { after, limit, answer } => {
                    let _ = answer.send(self.roster(after, limit)); // who asked may have hung up
                    continue;
                }
                Letter::Mail(mail, outbox) => {
                    if let (Mail::Join(join), Some(outbox)) = (&mail, outbox) {
                        self.delivery.expect(join.connection, outbox);
                    }
                    Input::Mail(mail)
                }
                Letter::Operate(operation, answer) => {
                    self.next_ticket += 1;
                    let ticket = Ticket(self.next_ticket);
                    self.operators.insert(ticket, answer);
                    Input::Operate(operation, ticket)
                }
            };
            self.state.step(now, input, &mut self.out);
        }
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new(); // a parked keeper keeps no buffer
        }
        // Windows may have ended while letters kept coming.
        if self.state.deadline().is_some_and(|at| at <= now.ms) {
            self.state.step(now, Input::Tick, &mut self.out);
        }
    }

    fn roster(&self, after: Option<Sid>, limit: usize) -> Roster {
        let mut roster = self.state.roster(after, limit);
        for member in &mut roster.members {
            let outbox = member.connection.and_then(|of| self.delivery.outbox(of));
            member.auto_responded = outbox.and_then(|outbox| outbox.last_auto_response());
        }
        roster
    }

    /// Does what the state wrote; says whether the keeper may go.
    fn perform(&mut self) -> bool {
        let mut retires = false;
        for output in std::mem::take(&mut self.out) {
            if let Output::Broadcast(messages) = &output {
                self.keeper.metrics.messages.add(messages.len() as u64);
            }
            let Some(output) = self.delivery.deliver(output) else { continue };
            match output {
                Output::Open(asked) => {
                    self.ask(
                        asked,
                        |engine, room| Told::Opened(engine.open(room)),
                        |error| Told::Opened(Err(error)),
                    );
                }
                Output::ReadKeys(asked) => {
                    self.ask(
                        asked,
                        |engine, room| Told::Keys(engine.keys(room)),
                        |error| Told::Keys(Err(error)),
                    );
                }
                Output::Read(asked, from) => {
                    let bytes = self.keeper.settings.outbox.page_bytes;
                    let read = move |engine: &dyn Engine, room: &RoomName| {
                        Told::Messages(engine.read(room, from, SLICE_MESSAGES, bytes))
                    };
                    self.ask(asked, read, |error| Told::Messages(Err(error)));
                }
                Output::Append(records) => {
                    let mailbox = self.keeper.mailbox.clone();
                    let metrics = self.keeper.metrics.clone();
                    let room = self.keeper.room.clone();
                    let is_alarm = |record: &Record| matches!(record, Record::Alarm(Some(_)));
                    let sets_alarm = records.iter().any(is_alarm);
                    let set_alarm = sets_alarm.then(|| self.keeper.set_alarm.clone());
                    let done = Box::new(move |result: Result<_, Error>| {
                        if let Err(error) = &result {
                            metrics.commits_failed.inc();
                            warn!(%room, %error, "an append failed");
                        } else if let Some(set_alarm) = &set_alarm {
                            set_alarm();
                        }
                        mailbox.answer(Input::Appended(result));
                    });
                    self.keeper.store.engine().append(&self.keeper.room, records, done);
                }
                Output::Hibernate(rules) => self.hibernate(rules),
                Output::Woke { cause, took_us } => self.woke(cause, took_us),
                Output::Slept => self.slept(),
                Output::Stayed => {
                    if let Some(awoken) = &self.awoken {
                        awoken.stays(self.keeper.clock.now());
                    }
                }
                Output::Deleted => {
                    debug!("deleted");
                    self.awoken = None;
                    self.counted = self.keeper.metrics.rooms.of(ASLEEP).hold();
                }
                Output::Page { connection, side, id, from, limit, newest } => {
                    if let Some(outbox) = self.delivery.outbox(connection) {
                        let page = page::Page { side, id, from, limit, newest };
                        self.read_page(page, outbox.clone());
                    }
                }
                Output::Answer(ticket, answer) => {
                    if let Some(operator) = self.operators.remove(&ticket) {
                        let _ = operator.send(answer); // an operator may have hung up
                    }
                }
                // All that concerns members was delivered above.
                Output::Known { .. }
                | Output::Broadcast(_)
                | Output::Ephemeral(_)
                | Output::Presence { .. }
                | Output::Seated { .. }
                | Output::Send(..)
                | Output::SendAfter(..)
                | Output::SendAside(..)
                | Output::Members { .. }
                | Output::Direct { .. }
                | Output::SeedLine { .. }
                | Output::Close { .. }
                | Output::Forget(_) => {}
                Output::Retire => {
                    retires = self.backlog.is_empty()
                        && (self.keeper.retire)(&self.keeper.room, &self.keeper.mailbox);
                }
            }
        }
        for round in self.delivery.flush() {
            tokio::spawn(round.run());
        }
        retires
    }

    /// Asks the store something that may wait for a disk.
    fn ask(
        &self,
        asked: u64,
        question: impl FnOnce(&dyn Engine, &RoomName) -> Told + Send + 'static,
        failed: impl FnOnce(Error) -> Told + Send + 'static,
    ) {
        let (store, room) = (self.keeper.store.clone(), self.keeper.room.clone());
        let mailbox = self.keeper.mailbox.clone();
        let started = Instant::now();
        tokio::spawn(async move {
            let told = store.run(move |engine| Ok(question(engine, &room))).await;
            let told = told.unwrap_or_else(failed);
            let took_us = started.elapsed().as_micros() as u64;
            mailbox.answer(Input::Told { asked, told, took_us });
        });
    }

    fn read_page(&self, page: page::Page, outbox: Arc<Outbox>) {
        let (store, room) = (self.keeper.store.clone(), self.keeper.room.clone());
        let bytes = self.keeper.settings.outbox.page_bytes;
        tokio::spawn(async move {
            let (side, id) = (page.side, page.id);
            let read = store.run(move |engine| page.read(engine, &room, bytes)).await;
            let json = read.unwrap_or_else(|_| page::unavailable(id));
            let frame = wrap_json(outbox.framing(), &json);
            match side {
                Some(side) => outbox.send_aside(side, frame),
                None => outbox.send(frame, true),
            }
            outbox.serve(&mut Shared::default());
        });
    }

    fn hibernate(&self, rules: bytes::Bytes) {
        let (store, room) = (self.keeper.store.clone(), self.keeper.room.clone());
        let mailbox = self.keeper.mailbox.clone();
        tokio::spawn(async move {
            let moved = store.run(move |engine| engine.hibernate(&room, Some(rules))).await;
            mailbox.answer(Input::Hibernated(moved));
        });
    }

    fn woke(&mut self, cause: &'static str, took_us: u64) {
        debug!(cause, took_us, "awake");
        let metrics = &self.keeper.metrics;
        metrics.room_wakes.of(cause).inc();
        metrics.room_wake.observe(Duration::from_micros(took_us));
        self.counted = metrics.rooms.of(AWAKE).hold();
        self.awoken = None; // it may have been awake already, when the store failed
        let (awoken, told) =
            self.keeper.awake.enter(self.keeper.mailbox.clone(), self.keeper.clock.now());
        self.keeper.metrics.rooms_dozed.add(told as u64);
        self.awoken = Some(awoken);
    }

    fn slept(&mut self) {
        debug!("asleep");
        self.delivery.rest();
        self.awoken = None;
        let metrics = &self.keeper.metrics;
        metrics.room_hibernations.inc();
        self.counted = metrics.rooms.of(ASLEEP).hold();
    }
}
