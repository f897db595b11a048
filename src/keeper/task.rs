//! The thin loop round a keeper's [`State`]: it feeds it and does what it says, in that order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::mailbox::Taken;
use super::page;
use super::state::{Found, Input, Inspection, Mail, Now, Output, State, Ticket, Told, Unavailable};
use super::{Letter, Mailbox, Settings};
use crate::outbox::{Change, Outbox, Ring, Seated};
use crate::protocol::framing::{wrap, wrap_json};
use crate::protocol::v1::{ErrorCode, ServerFrame};
use crate::protocol::{BodyKind, CloseReason, Profile, RoomName, Timestamp, seed};
use crate::room::Connection;
use crate::store::{Engine, Error, Store};
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
    pub settings: Settings,
    /// Where its letters come in.
    pub mailbox: Arc<Mailbox>,
    /// Where its room lies.
    pub store: Store,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Asks to be let go.
    pub retire: Retire,
}

struct Task {
    keeper: Keeper,
    state: State,
    ring: Arc<Ring>,
    outboxes: HashMap<Connection, Arc<Outbox>>,
    operators: HashMap<Ticket, oneshot::Sender<Result<Inspection, Unavailable>>>,
    next_ticket: u64,
    backlog: VecDeque<Letter>,
    clock: Instant,
    out: Vec<Output>,
    /// This room among those of its state.
    counted: Held,
}

/// Keeps a room until nobody needs it.
#[tracing::instrument(name = "room", skip_all, fields(id = %keeper.room))]
pub async fn run(keeper: Keeper, found: Found) {
    let clock = Instant::now();
    let mut out = Vec::new();
    let secret = keeper.store.engine().identity().secret;
    let (room, settings) = (keeper.room.clone(), keeper.settings.clone());
    let state = State::new(room, settings, secret, found, now(clock), &mut out);
    let ring = Ring::new(0, keeper.settings.outbox.clone());
    let counted = keeper.metrics.rooms.of(ASLEEP).hold();
    Task {
        keeper,
        state,
        ring,
        outboxes: HashMap::new(),
        operators: HashMap::new(),
        next_ticket: 0,
        backlog: VecDeque::new(),
        clock,
        out,
        counted,
    }
    .run()
    .await;
}

/// A fault in a keeper must not leave its room locked: members are sent away to come back, and
/// the next letter finds a new keeper, which reads the room as it is on disk.
impl Drop for Task {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for outbox in self.outboxes.values() {
            outbox.close(CloseReason::StoreUnavailable, Some(RETURN_MS));
        }
        self.keeper.mailbox.close_for_good();
        (self.keeper.retire)(&self.keeper.room, &self.keeper.mailbox);
    }
}

fn now(clock: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { wall: Timestamp(wall.as_millis() as u64), ms: clock.elapsed().as_millis() as u64 }
}

impl Task {
    async fn run(mut self) {
        loop {
            let now = now(self.clock);
            self.state.settle(now, &mut self.out);
            if self.perform() {
                return;
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
        let due = self.state.deadline().map(|ms| self.clock + Duration::from_millis(ms));
        let expiry = self.ring.expire(Instant::now());
        let Some(at) = due.into_iter().chain(expiry).min() else {
            return Some(self.keeper.mailbox.take(wants_letters).await);
        };
        tokio::select! {
            biased;
            taken = self.keeper.mailbox.take(wants_letters) => Some(taken),
            () = tokio::time::sleep_until(at) => None,
        }
    }

    fn feed(&mut self, taken: Option<Taken>) {
        let now = now(self.clock);
        let Some(Taken { answers, letters }) = taken else {
            return self.state.step(now, Input::Tick, &mut self.out);
        };
        for answer in answers {
            self.state.step(now, answer, &mut self.out);
        }
        self.backlog.extend(letters);
        while self.state.wants_mail()
            && let Some(letter) = self.backlog.pop_front()
        {
            let input = match letter {
                Letter::Mail(mail, outbox) => {
                    if let (Mail::Join(join), Some(outbox)) = (&mail, outbox) {
                        self.outboxes.insert(join.connection, outbox);
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

    /// Does what the state wrote; says whether the keeper may go.
    fn perform(&mut self) -> bool {
        let mut retires = false;
        for output in std::mem::take(&mut self.out) {
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
                    let done = Box::new(move |result: Result<_, Error>| {
                        metrics.store_unwell.set(i64::from(result.is_err()));
                        if let Err(error) = &result {
                            metrics.commits_failed.inc();
                            warn!(%error, "an append failed");
                        }
                        mailbox.answer(Input::Appended(result));
                    });
                    self.keeper.store.engine().append(&self.keeper.room, records, done);
                }
                Output::Hibernate(rules) => self.hibernate(rules),
                Output::Known { newest } => self.ring.start(newest),
                Output::Broadcast(messages) => {
                    self.keeper.metrics.messages.add(messages.len() as u64);
                    self.ring.push(messages);
                }
                Output::Woke { cause, took_us } => self.woke(cause, took_us),
                Output::Slept => self.slept(),
                Output::Seated {
                    connection,
                    epoch,
                    start,
                    may_skip,
                    sid,
                    presence,
                    presence_version,
                } => {
                    if let Some(outbox) = self.outboxes.get(&connection) {
                        let ring = self.ring.clone();
                        outbox.seat(Seated {
                            ring,
                            epoch,
                            start,
                            may_skip,
                            sid,
                            presence,
                            presence_version,
                        });
                    }
                }
                Output::Send(connection, frame) => {
                    if let Some(outbox) = self.outboxes.get(&connection) {
                        let answers = frame.answers();
                        outbox.send(wrap_json(outbox.framing(), &frame.to_json()), answers);
                    }
                }
                Output::SendAside(connection, side, frame) => {
                    if let Some(outbox) = self.outboxes.get(&connection) {
                        outbox.send_aside(side, wrap_json(outbox.framing(), &frame.to_json()));
                    }
                }
                Output::Page { connection, side, id, from, limit, newest } => {
                    if let Some(outbox) = self.outboxes.get(&connection) {
                        let page = page::Page { side, id, from, limit, newest };
                        self.read_page(page, outbox.clone());
                    }
                }
                Output::Direct { to, after, kind, body, answer } => {
                    self.direct(&to, after, kind, &body, answer);
                }
                Output::Ephemeral(ephemeral) => self.ring.show(ephemeral),
                Output::Presence { version, full, count, auto } => {
                    self.ring.change(Change { version, full, count, auto });
                }
                Output::Members { connection, version, frame } => {
                    if let Some(outbox) = self.outboxes.get(&connection) {
                        let frame = wrap_json(outbox.framing(), &frame.to_json());
                        outbox.send_members(version, frame);
                    }
                }
                Output::SendAfter(connection, after, frame) => {
                    if let Some(outbox) = self.outboxes.get(&connection) {
                        outbox.send_after(after, wrap_json(outbox.framing(), &frame.to_json()));
                    }
                }
                Output::SeedLine { to, after, line } => {
                    let frame = wrap_json(crate::protocol::Framing::Seed, &line.to_json());
                    for outbox in to.iter().filter_map(|to| self.outboxes.get(to)) {
                        outbox.send_newest_after(after, frame.clone());
                    }
                }
                Output::Close { connection, reason, retry_after } => {
                    if let Some(outbox) = self.outboxes.get(&connection) {
                        outbox.close(reason, retry_after);
                    }
                }
                Output::Forget(connection) => drop(self.outboxes.remove(&connection)),
                Output::Answer(ticket, answer) => {
                    if let Some(operator) = self.operators.remove(&ticket) {
                        let _ = operator.send(answer); // an operator may have hung up
                    }
                }
                Output::Retire => {
                    retires = self.backlog.is_empty()
                        && (self.keeper.retire)(&self.keeper.room, &self.keeper.mailbox);
                }
            }
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
        });
    }

    /// Hands a direct message to those who can take it, and tells its publisher how many they
    /// were.
    fn direct(
        &self,
        to: &[Connection],
        after: u64,
        kind: BodyKind,
        body: &Bytes,
        answer: Option<(Connection, Option<u64>)>,
    ) {
        let mut reached = 0;
        for outbox in to.iter().filter_map(|to| self.outboxes.get(to)) {
            let framing = outbox.framing();
            let mut frame = BytesMut::new();
            match framing.profile() {
                Profile::V1 => wrap(framing, kind, body, &mut frame),
                // What is no chat is nothing to a seed client.
                Profile::Seed => match seed::chat_json(kind, body) {
                    Some(chat) => wrap(framing, BodyKind::Json, chat.as_bytes(), &mut frame),
                    None => continue,
                },
            }
            reached += usize::from(outbox.offer_after(after, frame.freeze()));
        }
        let Some((connection, id)) = answer else { return };
        let Some(outbox) = self.outboxes.get(&connection) else { return };
        let answer = if reached == 0 && !to.is_empty() {
            ServerFrame::Error {
                id,
                code: ErrorCode::RecipientBusy,
                retry_after: Some(RETURN_MS),
                reason: "who it is for does not keep up".into(),
            }
        } else {
            ServerFrame::Reached { id, reached }
        };
        outbox.send(wrap_json(outbox.framing(), &answer.to_json()), true);
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
    }

    fn slept(&mut self) {
        debug!("asleep");
        self.ring.clear();
        self.outboxes.shrink_to_fit();
        let metrics = &self.keeper.metrics;
        metrics.room_hibernations.inc();
        self.counted = metrics.rooms.of(ASLEEP).hold();
    }
}
