//! The thin loop round a keeper's [`State`]: it feeds it and does what it says, in that order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument as _, debug, warn};

use super::awake::Awoken;
use super::failure::{Keeping, RETURN_MS};
use super::mailbox::Taken;
use super::page;
use super::resting::Resting;
use super::state::Unavailable;
use super::state::{Found, Input, Inspection, Mail, Output, Roster, State, Ticket, Told};
use super::turns::Turn;
use super::{Delivery, Keeper, Letter, Mailbox};
use crate::outbox::{Outbox, Shared};
use crate::protocol::framing::wrap_json;
use crate::protocol::{CloseReason, RoomName, Sid, Verdict};
use crate::store::{Engine, Error, Record};
use crate::supervision::caught;
use crate::telemetry::Held;

const AWAKE: &str = "awake";
const ASLEEP: &str = "asleep";

/// The most messages read from the store at once.
const SLICE_MESSAGES: usize = 256;

/// A keeper at work.
pub(super) struct Task {
    keeper: Keeper,
    mailbox: Arc<Mailbox>,
    keeping: Arc<Keeping>,
    state: State,
    delivery: Delivery,
    operators: HashMap<Ticket, oneshot::Sender<Result<Inspection, Unavailable>>>,
    next_ticket: u64,
    backlog: VecDeque<Letter>,
    /// Questions that came before the store had said what there is of the room. Each is an
    /// operator's request, of which there are only so many at once.
    questions: Vec<Letter>,
    out: Vec<Output>,
    /// This room among those of its state.
    counted: Option<Held>,
    /// And among those awake.
    awoken: Option<Awoken>,
    /// Its place among those that would fall asleep.
    turn: Option<Turn>,
}

/// Starts a keeper, which keeps its room until nobody needs it.
pub fn begin(keeper: Keeper, mailbox: Arc<Mailbox>, found: Found) {
    Task::new(keeper, mailbox, found).spawn();
}

impl Task {
    fn new(keeper: Keeper, mailbox: Arc<Mailbox>, found: Found) -> Box<Self> {
        let Keeper { room, settings, world } = &keeper;
        let (now, mut out) = (world.now(), Vec::new());
        let secret = world.store.engine().identity().secret;
        let state = State::new(room.clone(), settings.clone(), secret, found, now, &mut out);
        let delivery = Delivery::new(settings.outbox.clone());
        let counted = world.metrics.rooms.of(ASLEEP).hold();
        Self::of(Keeping::new(keeper, mailbox), state, delivery, Some(counted), out)
    }

    /// A keeper that rested.
    pub(super) fn rested(resting: Resting, keeping: Arc<Keeping>) -> Box<Self> {
        let Resting { keeper, state, ring, outboxes, counted } = resting;
        let Keeper { room, settings, world } = &keeper;
        let secret = world.store.engine().identity().secret;
        let state = State::rested(state, room.clone(), settings.clone(), secret, world.now());
        let delivery = Delivery::of(ring, outboxes);
        Self::of(keeping, state, delivery, counted, Vec::new())
    }

    /// Boxed: as a part of its future it would be there once more for each place that it moves
    /// through.
    fn of(
        keeping: Arc<Keeping>,
        state: State,
        delivery: Delivery,
        counted: Option<Held>,
        out: Vec<Output>,
    ) -> Box<Self> {
        Box::new(Self {
            keeper: keeping.keeper().clone(),
            mailbox: keeping.mailbox().clone(),
            keeping,
            state,
            delivery,
            operators: HashMap::new(),
            next_ticket: 0,
            backlog: VecDeque::new(),
            questions: Vec::new(),
            out,
            counted,
            awoken: None,
            turn: None,
        })
    }

    fn spawn(self: Box<Self>) {
        let span = tracing::debug_span!(parent: None, "room", id = %self.keeper.room);
        tokio::spawn(self.run().instrument(span));
    }
}

/// A fault in a keeper must not leave its room locked: members are sent away to come back, and
/// the next letter finds a new keeper, which reads the room as it is on disk.
impl Drop for Task {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // A second panic here would be the end of the process.
        let closed = caught(|| {
            // Those who were about to join, too: nobody else would ever answer them.
            self.keeping.fail(std::mem::take(&mut self.backlog));
            self.delivery.close_all(CloseReason::StoreUnavailable, Some(RETURN_MS));
        });
        if let Err(why) = closed {
            tracing::error!(room = %self.keeper.room, why, "not every member could be sent away");
        }
    }
}

impl Task {
    pub(super) async fn run(mut self: Box<Self>) {
        loop {
            self.state.settle(self.keeper.world.now(), &mut self.out);
            if self.perform() || self.rests() {
                return;
            }
            if let Some(awoken) = &self.awoken {
                awoken.needed(self.keeper.world.at(self.state.needed_ms()));
            }
            let taken = self.wait().await;
            self.feed(taken);
        }
    }

    /// Leaves what is left of the room in its mailbox, if there is nothing to do and nothing to
    /// wait for but a letter; says whether it did.
    fn rests(&mut self) -> bool {
        let keeps_nothing = || self.delivery.ring().expire(Instant::now()).is_none();
        if !self.state.may_rest() || !self.backlog.is_empty() || !keeps_nothing() {
            return false;
        }
        self.mailbox.rest(|| {
            let (ring, outboxes) = self.delivery.take();
            let (keeper, state) = (self.keeper.clone(), self.state.rest());
            Box::new(Resting { keeper, state, ring, outboxes, counted: self.counted.take() })
        })
    }

    /// Waits for something to do.
    async fn wait(&mut self) -> Option<Taken> {
        let wants_letters = self.state.wants_mail();
        if wants_letters && !self.backlog.is_empty() {
            return Some(Taken::default());
        }
        let world = &self.keeper.world;
        let (due, clock) = (self.state.deadline().map(|ms| world.at(ms)), &world.clock);
        let expiry = self.delivery.ring().expire(Instant::now()).map(|at| clock.at(at));
        let Some(at) = due.into_iter().chain(expiry).min() else {
            return Some(self.mailbox.take(wants_letters).await);
        };
        tokio::select! {
            biased;
            taken = self.mailbox.take(wants_letters) => Some(taken),
            () = clock.sleep_until(at) => None,
        }
    }

    fn feed(&mut self, taken: Option<Taken>) {
        let now = self.keeper.world.now();
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
                self.keeper.world.metrics.messages.add(messages.len() as u64);
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
                Output::Append(records) => self.append(records),
                Output::Tired => {
                    self.turn = Some(self.keeper.world.turns.ask(self.mailbox.clone()));
                }
                Output::Pass => self.turn = None,
                Output::Hibernate(rules) => self.hibernate(rules),
                Output::Woke { cause, took_us } => self.woke(cause, took_us),
                Output::Slept => self.slept(),
                Output::Stayed => {
                    if let Some(awoken) = &self.awoken {
                        awoken.stays(self.keeper.world.clock.now());
                    }
                }
                Output::Deleted => {
                    debug!("deleted");
                    self.awoken = None;
                    self.counted = Some(self.keeper.world.metrics.rooms.of(ASLEEP).hold());
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
                        && (self.keeper.world.retire)(&self.keeper.room, &self.mailbox);
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
        let (store, room) = (self.keeper.world.store.clone(), self.keeper.room.clone());
        let mailbox = self.mailbox.clone();
        let started = Instant::now();
        tokio::spawn(async move {
            let told = store.run(move |engine| Ok(question(engine, &room))).await;
            let told = told.unwrap_or_else(failed);
            let took_us = started.elapsed().as_micros() as u64;
            mailbox.answer(Input::Told { asked, told, took_us });
        });
    }

    fn append(&self, records: Vec<Record>) {
        let Keeper { room, world, .. } = &self.keeper;
        let sets_alarm = records.iter().any(|record| matches!(record, Record::Alarm(Some(_))));
        let alarmed = sets_alarm.then(|| world.clone());
        let (name, mailbox, metrics) = (room.clone(), self.mailbox.clone(), world.metrics.clone());
        let keeping = self.keeping.clone();
        let done = Box::new(move |result: Result<_, Error>| {
            if let Err(error) = &result {
                metrics.commits_failed.inc();
                warn!(room = %name, %error, "an append failed");
            } else if let Some(world) = &alarmed {
                (world.set_alarm)();
            }
            mailbox.answer(Input::Appended(result));
            drop(keeping);
        });
        world.store.engine().append(room, records, done);
    }

    fn read_page(&self, page: page::Page, outbox: Arc<Outbox>) {
        let (store, room) = (self.keeper.world.store.clone(), self.keeper.room.clone());
        let bytes = self.keeper.settings.outbox.page_bytes;
        tokio::spawn(async move {
            let (side, id) = (page.side, page.id);
            let read = store.run(move |engine| page.read(engine, &room, bytes)).await;
            let verdict = if read.is_ok() { Verdict::Taken } else { Verdict::Neither };
            let json = read.unwrap_or_else(|_| page::unavailable(id));
            let frame = wrap_json(outbox.framing(), &json);
            match side {
                Some(side) => outbox.answer_aside(side, frame, verdict),
                None => outbox.answer(frame, verdict),
            }
            outbox.serve(&mut Shared::default());
        });
    }

    fn hibernate(&mut self, rules: bytes::Bytes) {
        let turn = self.turn.take_if(|turn| turn.has_come());
        let (mailbox, keeping) = (self.mailbox.clone(), self.keeping.clone());
        let moved = Box::new(move |result| {
            mailbox.answer(Input::Hibernated(result));
            drop(keeping);
            drop(turn); // the next one's
        });
        self.keeper.world.store.engine().move_room(&self.keeper.room, Some(rules), moved);
    }

    fn woke(&mut self, cause: &'static str, took_us: u64) {
        debug!(cause, took_us, "awake");
        let metrics = &self.keeper.world.metrics;
        metrics.room_wakes.of(cause).inc();
        metrics.room_wake.observe(Duration::from_micros(took_us));
        self.counted = Some(metrics.rooms.of(AWAKE).hold());
        self.awoken = None; // it may have been awake already, when the store failed
        let (awoken, told) =
            self.keeper.world.awake.enter(self.mailbox.clone(), self.keeper.world.clock.now());
        self.keeper.world.metrics.rooms_dozed.add(told as u64);
        self.awoken = Some(awoken);
    }

    fn slept(&mut self) {
        debug!("asleep");
        self.delivery.rest();
        self.awoken = None;
        let metrics = &self.keeper.world.metrics;
        metrics.room_hibernations.inc();
        self.counted = Some(metrics.rooms.of(ASLEEP).hold());
    }
}
