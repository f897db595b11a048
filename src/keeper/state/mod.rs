//! One room's keeper as a pure machine: inputs in, outputs out.
//!
//! No clock, no task, no disk: [`task`](super::task) and the simulation drive the same code.
//! [`State::step`] takes one input, [`State::settle`] follows a batch of them, and what both
//! write is to be done in that order.
//!
//! - An event that needs the room waits while the room cannot take it, and everything behind
//!   it, in order: [`State::is_ready`] is the one place that says so.
//! - Sleep is atomic: while the room is moved nothing reaches it.
//! - A failed append is *unknown*: the room is read again, what is on disk and was not heard is
//!   heard first, and what was held back is given up (`recovery`).

mod appending;
mod deleting;
mod gate;
mod operating;
mod presence;
mod publishing;
mod recovery;
mod requests;
mod resting;
mod ringing;
mod seating;
mod sleeping;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use self::appending::Crowded;
use self::deleting::Deletion;
use self::gate::{Gate, Held};
use self::presence::Presence;
use self::recovery::Trouble;
use self::seating::Joining;
use self::sleeping::Turn;
use super::Settings;
use crate::budget::{self, Budget};
use crate::protocol::v1::{ErrorCode, RoomState, ServerFrame};
use crate::protocol::{Epoch, RoomName, Sid, Timestamp};
use crate::room::{Connection, Limiter, Room, Seats};
use crate::store::{Error, Message, SeatRow};

pub use resting::Rest;
pub use words::*;

/// Everything a keeper knows.
pub struct State {
    room: RoomName,
    settings: Arc<Settings>,
    secret: [u8; 32],
    phase: Phase,
    head: Position,
    seats: Seats,
    joining: BTreeMap<Connection, Joining>,
    /// Rows on their way to disk: what a seat will be once they are there.
    rows_in_flight: BTreeMap<Sid, SeatRow>,
    presence: Presence,
    room_limit: Limiter,
    gate: Gate,
    waiting: Waiting,
    /// The number of the newest question to the store: an answer to an older one is void.
    asked: u64,
    keys_asked: bool,
    append_in_flight: bool,
    /// Whether the last append failed.
    write_failed: bool,
    crowded: Crowded,
    /// Whether the room is being moved, for us or for a hibernation that was given up.
    is_moving: bool,
    needed: Needed,
    /// Whether the room is to sleep early: too many are awake.
    dozes: bool,
    turn: Turn,
    last_wake: Option<LastWake>,
    trouble: Option<Trouble>,
    sleep_tickets: Vec<Ticket>,
    wake_tickets: Vec<Ticket>,
    /// When the rules want the room woken, as far as that is durable.
    alarm: Option<Timestamp>,
    /// The clock waits until that is dealt with.
    alarm_tickets: Vec<Ticket>,
    /// Who waits until nothing is left to do.
    finish_tickets: Vec<Ticket>,
    deletion: Deletion,
    /// What cannot be done before it is known what there is of the room.
    early: Vec<(Operation, Ticket)>,
    found: Found,
}

/// What the keeper holds of the room.
#[derive(Debug)]
enum Phase {
    /// The store is asked for the first time.
    Opening,
    Asleep,
    /// The store is asked because of an event that needs the room.
    Waking(&'static str),
    Awake(Room),
    /// The room is being moved; on an operator's word it sleeps whatever waits.
    Hibernating(Room),
    /// The store failed: the room is read again, and again.
    Recovering {
        /// Whether the room was awake, or about to be.
        wake: bool,
    },
}

/// Why a keeper was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Somebody wants something of the room.
    Wanted,
    /// Seats were found on disk; their windows are longer by the spread that the last drain
    /// announced, for their clients were told to come late.
    Seats {
        /// That spread.
        spread_ms: u64,
    },
}

/// What everybody has heard, and where the log begins.
#[derive(Debug, Clone, Copy)]
struct Position {
    epoch: Epoch,
    newest: u64,
    oldest: u64,
    bytes: u64,
}

/// Mail that cannot be taken yet, in order.
#[derive(Default)]
struct Waiting {
    mail: VecDeque<Mail>,
    bytes: usize,
}

/// The last event that needed the room.
#[derive(Debug, Clone, Copy)]
struct Needed {
    by: &'static str,
    at: Now,
}

impl State {
    /// A keeper that knows nothing yet: it asks for the room with its first output.
    pub fn new(
        room: RoomName,
        settings: impl Into<Arc<Settings>>,
        secret: [u8; 32],
        found: Found,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Self {
        out.push(Output::Open(0));
        Self::blank(room, settings.into(), secret, found, now)
    }

    fn blank(
        room: RoomName,
        settings: Arc<Settings>,
        secret: [u8; 32],
        found: Found,
        now: Now,
    ) -> Self {
        Self {
            room,
            settings,
            secret,
            phase: Phase::Opening,
            head: Position {
                epoch: Epoch { store: 0, deletion: 0 },
                newest: 0,
                oldest: 1,
                bytes: 0,
            },
            seats: Seats::default(),
            joining: BTreeMap::new(),
            rows_in_flight: BTreeMap::new(),
            presence: Presence::default(),
            room_limit: Limiter::default(),
            gate: Gate::default(),
            waiting: Waiting::default(),
            asked: 0,
            keys_asked: false,
            append_in_flight: false,
            write_failed: false,
            crowded: Crowded::default(),
            is_moving: false,
            needed: Needed { by: "nothing", at: now },
            dozes: false,
            turn: Turn::None,
            last_wake: None,
            trouble: None,
            sleep_tickets: Vec::new(),
            wake_tickets: Vec::new(),
            alarm: None,
            alarm_tickets: Vec::new(),
            finish_tickets: Vec::new(),
            deletion: Deletion::default(),
            early: Vec::new(),
            found,
        }
    }

    /// Takes one input. What it causes is written to `out`, in the order in which it is to be
    /// done; call [`settle`](Self::settle) after the last input of a batch.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Mail(mail) => {
                let Some(mail) = self.let_in(now, mail, out) else { return };
                if !self.waiting.mail.is_empty() || !self.is_ready(now, &mail, out) {
                    self.waiting.push(mail);
                    return;
                }
                self.read_mail(now, mail, out);
            }
            Input::Told { asked, .. } if asked != self.asked => {}
            Input::Told { told: Told::Opened(Ok(opened)), took_us, .. } => {
                self.opened(now, opened, took_us, out);
            }
            Input::Told { told: Told::Opened(Err(error)), .. } => {
                self.open_failed(now, &error, out);
            }
            Input::Told { told: Told::Keys(Ok(keys)), .. } => {
                self.keys_asked = false;
                if let Phase::Awake(room) | Phase::Hibernating(room) = &mut self.phase {
                    room.learn_keys(keys);
                }
            }
            Input::Told { told: Told::Keys(Err(_)), .. } => self.store_failed(now, out),
            Input::Told { told: Told::Messages(result), .. } => self.missed(now, result, out),
            Input::Appended(Ok(epoch)) => {
                self.append_in_flight = false;
                self.crowded = Crowded::default();
                self.head.epoch = epoch;
                self.has_written(now, out);
                let free = self.gate.durable();
                if free.iter().any(|held| matches!(held, Held::Hear(_))) {
                    self.needed.at = now;
                }
                self.append_next(out);
                self.perform(now, free, out);
            }
            Input::Appended(Err(Error::Busy)) if !self.is_probing() => self.crowded.wait(now.ms),
            Input::Appended(Err(_)) => {
                self.append_in_flight = false;
                self.crowded = Crowded::default();
                self.cannot_write();
                self.store_failed(now, out);
            }
            Input::Hibernated(moved) => {
                self.is_moving = false;
                self.erased(now, out);
                match (&self.phase, moved) {
                    (Phase::Hibernating(_), Ok(())) => self.slept(now, out),
                    (Phase::Hibernating(_), Err(error)) => self.not_slept(now, &error, out),
                    _ => {} // it was given up
                }
            }
            Input::Operate(operation, ticket) => self.operate(now, operation, ticket, out),
            Input::Turn => self.turn = Turn::Come,
            Input::Doze => self.dozes = !matches!(self.phase, Phase::Asleep),
            Input::Tick => self.tick(now, out),
        }
        self.read_waiting(now, out);
    }

    /// Ends a batch of inputs: what they want written goes to disk together, and a keeper that
    /// nobody needs says so.
    pub fn settle(&mut self, now: Now, out: &mut Vec<Output>) {
        self.append_next(out);
        self.tell_presence(now, out);
        self.sleep_if_told(now, out);
        self.sleep_if_tired(now, out);
        self.erase(out);
        self.answer_finished(now, out);
        self.give_back();
        let unneeded = matches!(self.phase, Phase::Asleep)
            || matches!((&self.phase, &self.trouble), (Phase::Opening, Some(_)));
        let empty = self.seats.is_empty()
            && self.joining.is_empty()
            && self.waiting.mail.is_empty()
            && self.gate.is_idle()
            && !self.has_deletion()
            && (self.trouble.is_none() || self.found == Found::Wanted);
        if unneeded && empty {
            out.push(Output::Retire);
        }
    }

    /// A room that sleeps keeps its seats, and nothing of how they were taken: an emptied map has
    /// a node of eleven places still, and an emptied queue its buffer.
    fn give_back(&mut self) {
        if !matches!(self.phase, Phase::Asleep) {
            return;
        }
        if self.joining.is_empty() {
            self.joining = BTreeMap::new();
        }
        if self.rows_in_flight.is_empty() {
            self.rows_in_flight = BTreeMap::new();
        }
        if self.waiting.mail.is_empty() {
            self.waiting.mail = VecDeque::new();
        }
    }

    /// Whether the keeper takes more mail. It does not while too much waits for the room or
    /// for the disk; the mailbox fills then, and sessions are not read from.
    pub fn wants_mail(&self) -> bool {
        let (events, bytes) = self.gate.waiting();
        self.waiting.mail.len().max(events) < self.settings.mailbox_events
            && self.waiting.bytes.max(bytes) < self.settings.waking_bytes
    }

    /// When something last needed the room, on the monotonic clock in ms.
    pub fn needed_ms(&self) -> u64 {
        self.needed.at.ms
    }

    /// When [`Input::Tick`] is due, on the monotonic clock in ms.
    pub fn deadline(&self) -> Option<u64> {
        let sleep = self.sleeps_at().filter(|_| self.turn == Turn::None);
        let window = self.seats.next_window().map(|(at, _)| at);
        let window = window.filter(|_| !self.is_recovering() && !self.is_deleting());
        let retry = self.trouble.as_ref().and_then(Trouble::retry_at);
        let presence = self.presence.due();
        [presence, sleep, window, retry, self.crowded.until_ms].into_iter().flatten().min()
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        self.retry(now, out);
        self.tell_presence(now, out);
        if !self.is_recovering() && !self.is_deleting() {
            self.end_windows(now);
        }
        self.append_again(now, out);
    }

    /// Whether `mail` can be taken now. What the room is missing for it is asked for.
    fn is_ready(&mut self, now: Now, mail: &Mail, out: &mut Vec<Output>) -> bool {
        if self.is_deleting() {
            return false;
        }
        let Mail::Publish { connection, key, .. } = mail else {
            return !matches!(self.phase, Phase::Opening);
        };
        match &self.phase {
            Phase::Opening => false,
            _ if self.seats.of(*connection).is_none() => true, // it is ignored, and wakes nothing
            Phase::Waking(_) | Phase::Hibernating(_) => false,
            Phase::Recovering { .. } => true, // it gets its error
            Phase::Asleep => {
                self.wake(now, "publish", out);
                false
            }
            Phase::Awake(_) if !self.sleep_tickets.is_empty() => false,
            Phase::Awake(room) => {
                self.needed = Needed { by: "publish", at: now };
                let unknown = key.is_some() && !room.knows_keys();
                if unknown && !self.keys_asked {
                    self.keys_asked = true;
                    self.asked += 1;
                    out.push(Output::ReadKeys(self.asked));
                }
                !unknown
            }
        }
    }

    /// The row that a seat will have once everything on its way is there.
    fn newest_row(&self, sid: Sid) -> Option<&SeatRow> {
        self.rows_in_flight.get(&sid).or_else(|| self.seats.get(sid).map(|seat| &seat.row))
    }

    fn read_waiting(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(mail) = self.waiting.mail.pop_front() {
            if !self.is_ready(now, &mail, out) {
                self.waiting.mail.push_front(mail);
                return;
            }
            self.waiting.bytes -= mail.bytes();
            self.read_mail(now, mail, out);
        }
    }

    fn read_mail(&mut self, now: Now, mail: Mail, out: &mut Vec<Output>) {
        match mail {
            Mail::Join(join) => self.join(now, *join, out),
            Mail::Publish { connection, id, key, to, payload } => {
                self.publish(now, connection, id, key.as_deref(), to, payload, out);
            }
            Mail::History { connection, history, side } => {
                self.history(now, connection, history, side, out);
            }
            Mail::Members { connection, members } => self.members(now, connection, members, out),
            Mail::AskForMembers { connection } => self.tell_whole(connection, out),
            Mail::Set { connection, set } => self.set(now, connection, set, out),
            Mail::Ephemeral { .. } => {} // it never waits
            Mail::Rename { connection, name } => self.rename(now, connection, name, out),
            Mail::Gone { connection, how } => self.gone(now, connection, how, out),
        }
    }

    /// Does what was held back: everything it rests on is durable.
    fn perform(&mut self, now: Now, free: impl IntoIterator<Item = Held>, out: &mut Vec<Output>) {
        let mut heard: Vec<Message> = Vec::new();
        for held in free {
            match held {
                Held::Hear(message) => {
                    self.head.newest = message.seq;
                    heard.push(message);
                    continue;
                }
                _ if heard.is_empty() => {}
                _ => out.push(Output::Broadcast(std::mem::take(&mut heard))),
            }
            match held {
                Held::Send(connection, frame) => out.push(Output::Send(connection, frame)),
                Held::Direct(to, kind, body, answer) => {
                    let (to, after) = (self.seats.meant(&to), self.head.newest);
                    out.push(Output::Direct { to, after, kind, body, answer });
                }
                Held::Set(connection, id, row) => self.has_set(now, connection, id, row, out),
                Held::Seat(connection, _) => self.seat(now, connection, out),
                Held::Left(sid) => self.left(now, sid, out),
                Held::Ended(sid) => self.ended(now, sid, out),
                Held::Alarm(at) => self.alarm = at,
                Held::Keep(_) => {} // it was for the disk
                Held::Rung(tickets) => {
                    let seen = self.inspect(now);
                    let answer = |ticket| Output::Answer(ticket, Ok(seen.clone()));
                    out.extend(tickets.into_iter().map(answer));
                }
                Held::Deleted => self.deleted(now, out),
                Held::Hear(_) => {}
            }
        }
        if !heard.is_empty() {
            out.push(Output::Broadcast(heard));
        }
    }

    fn try_again(&self, id: Option<u64>) -> ServerFrame {
        ServerFrame::Error {
            id,
            code: ErrorCode::RoomUnavailable,
            retry_after: Some(self.retry_after_ms()),
            reason: "the store is unwell; try again with the same key".into(),
        }
    }

    /// The room's state as watchers are told.
    fn room_state(&self, now: Now) -> RoomState {
        match (&self.trouble, &self.phase, self.last_wake) {
            (Some(_), ..) => RoomState::Degraded { retry_after: self.retry_after_ms() },
            (None, Phase::Awake(_) | Phase::Hibernating(_), Some(wake)) => {
                let asleep_at = self.needed.at.ms + self.settings.sleep_after.as_millis() as u64;
                RoomState::Awake {
                    woke_in_us: wake.took_us,
                    cause: wake.cause,
                    sleeps_in_ms: asleep_at.saturating_sub(now.ms),
                }
            }
            _ => RoomState::Asleep,
        }
    }

    fn tell_watchers(&self, state: RoomState, out: &mut Vec<Output>) {
        let watching = self.seats.iter().filter(|seat| seat.watch);
        for connection in watching.filter_map(crate::room::Seat::connection) {
            out.push(Output::Send(connection, state.clone().frame()));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let there = || self.mail.iter().map(Mail::bytes).sum();
        budget::check(Budget::WaitingBytes, self.bytes, there);
    }
}

impl Waiting {
    fn into_mail(mut self) -> VecDeque<Mail> {
        self.bytes = 0;
        std::mem::take(&mut self.mail)
    }

    fn push(&mut self, mail: Mail) {
        self.bytes += mail.bytes();
        self.mail.push_back(mail);
    }
}

impl Mail {
    /// What it costs to keep, for limits.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Publish { payload, .. } => payload.len(),
            Self::Join(join) => join.attachment.as_ref().map_or(0, String::len),
            Self::Ephemeral { payload, .. } => payload.len(),
            Self::Set { set, .. } => set.attachment.as_ref().map_or(0, String::len),
            Self::Rename { .. }
            | Self::Gone { .. }
            | Self::History { .. }
            | Self::Members { .. }
            | Self::AskForMembers { .. } => 0,
        }
    }
}
