//! Does with a keeper's state what the keeper's task does, one turn at a time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use dormouse::keeper::state::{
    Found, Input, Inspection, Mail, Now, Operation, Output, State, Ticket, Unavailable,
};
use dormouse::keeper::{Delivery, Page, Settings};
use dormouse::outbox::Outbox;
use dormouse::protocol::framing::wrap_json;
use dormouse::protocol::{Epoch, Timestamp, Verdict};
use dormouse::room::Connection;
use dormouse::store::Engine;

use crate::disk::{Ask, Disk, Plant};
use crate::seeds::Trace;

/// Midnight of the simulated world's first day.
pub const BEGIN: u64 = 1_760_000_000_000;

/// A moment of the simulated world. Its wall clock is set back by five seconds now and then,
/// and forward again.
pub fn moment(ms: u64) -> Now {
    let is_set_back = (ms / 7_000) % 3 == 2;
    let wall = BEGIN + ms - if is_set_back { 5_000 } else { 0 };
    Now { wall: Timestamp(wall), ms }
}

/// What lies in a mailbox.
pub enum Letter {
    Mail(Mail, Option<Arc<Outbox>>),
    Operate(Operation, Ticket),
}

/// A keeper at work.
pub struct Driver {
    settings: Arc<Settings>,
    state: State,
    delivery: Delivery,
    backlog: VecDeque<Letter>,
    out: Vec<Output>,
    trace: Trace,
    /// Whether the room is out of memory, as the outputs tell it.
    pub is_asleep: bool,
    /// How often the room fell asleep.
    pub naps: usize,
    /// How often its keeper rested.
    pub rests: usize,
    /// Operators that wait for an answer.
    pub tickets: BTreeSet<Ticket>,
    /// Who got a seat, and in which epoch.
    pub seated: Vec<(Connection, Epoch)>,
    /// What operators were told.
    pub answers: Vec<(Ticket, Result<Inspection, Unavailable>)>,
}

impl Driver {
    pub fn begin(
        now: Now,
        settings: &Settings,
        found: Found,
        disk: &mut Disk,
        trace: Trace,
    ) -> Self {
        let mut out = Vec::new();
        let secret = disk.engine.identity().secret;
        let settings = Arc::new(settings.clone());
        let state = State::new(disk.room.clone(), settings.clone(), secret, found, now, &mut out);
        let mut driver = Self {
            delivery: Delivery::new(settings.outbox.clone()),
            settings,
            state,
            backlog: VecDeque::new(),
            out,
            trace,
            is_asleep: true,
            naps: 0,
            rests: 0,
            tickets: BTreeSet::new(),
            seated: Vec::new(),
            answers: Vec::new(),
        };
        driver.trace.say(|| format!("{:>7} a keeper begins", now.ms));
        driver.state.settle(now, &mut driver.out);
        driver.perform(disk);
        driver
    }

    pub fn deadline(&self) -> Option<u64> {
        self.state.deadline()
    }

    /// Whether letters would be taken.
    pub fn wants_mail(&self) -> bool {
        self.state.wants_mail()
    }

    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// One turn of the task's loop; says whether the keeper may go.
    pub fn turn(
        &mut self,
        now: Now,
        answers: Vec<Input>,
        letters: Vec<Letter>,
        disk: &mut Disk,
    ) -> bool {
        for answer in answers {
            self.step(now, answer);
        }
        self.backlog.extend(letters);
        while self.state.wants_mail()
            && let Some(letter) = self.backlog.pop_front()
        {
            let input = match letter {
                Letter::Mail(mail, outbox) => {
                    if let (Mail::Join(join), Some(outbox)) = (&mail, outbox) {
                        self.delivery.expect(join.connection, outbox);
                    }
                    Input::Mail(mail)
                }
                Letter::Operate(operation, ticket) => {
                    self.tickets.insert(ticket);
                    Input::Operate(operation, ticket)
                }
            };
            self.step(now, input);
        }
        if self.state.deadline().is_some_and(|at| at <= now.ms) {
            self.step(now, Input::Tick);
        }
        self.state.settle(now, &mut self.out);
        let retires = self.perform(disk);
        self.rest(now, disk);
        retires
    }

    /// A room that may rest does, and is made anew from what is left of it at once: nobody can
    /// tell.
    fn rest(&mut self, now: Now, disk: &Disk) {
        if self.state.may_rest() {
            let (room, secret) = (disk.room.clone(), disk.engine.identity().secret);
            let settings = self.settings.clone();
            self.state = State::rested(self.state.rest(), room, settings, secret, now);
            self.rests += 1;
        }
    }

    fn step(&mut self, now: Now, input: Input) {
        self.trace.say(|| format!("{:>7} ▶ {}", now.ms, brief(&input)));
        self.state.step(now, input, &mut self.out);
    }

    fn perform(&mut self, disk: &mut Disk) -> bool {
        let mut retires = false;
        for output in std::mem::take(&mut self.out) {
            self.trace.say(|| format!("        ◀ {}", brief(&output)));
            if let Output::Seated { connection, epoch, .. } = &output {
                self.seated.push((*connection, *epoch));
            }
            let Some(output) = self.delivery.deliver(output) else { continue };
            match output {
                Output::Open(asked) => disk.ask(Ask::Open(asked)),
                Output::ReadKeys(asked) => disk.ask(Ask::Keys(asked)),
                Output::Read(asked, from) => disk.ask(Ask::Read(asked, from)),
                Output::Append(records) => disk.ask(Ask::Append(records)),
                Output::Tired => disk.ask(Ask::Turn),
                Output::Pass => {}
                Output::Hibernate(rules) => disk.ask(Ask::Hibernate(rules)),
                Output::Woke { .. } => self.is_asleep = false,
                Output::Stayed => {}
                Output::Slept => {
                    self.is_asleep = true;
                    self.naps += 1;
                    self.delivery.rest();
                }
                Output::Answer(ticket, answer) => {
                    assert!(self.tickets.remove(&ticket), "an operator is answered once");
                    self.answers.push((ticket, answer));
                }
                Output::Deleted => self.is_asleep = true,
                Output::Page { connection, side, id, from, limit, newest } => {
                    let page = Page { side, id, from, limit, newest };
                    let calm = disk.engine.reopen();
                    let mut json = page.read(&calm, &disk.room, disk.page_bytes).unwrap();
                    if disk.plant == Some(Plant::HoleInPage) {
                        json = with_a_hole(&json);
                    }
                    let outbox = self.delivery.outbox(connection).expect("it asked");
                    outbox.answer(wrap_json(outbox.framing(), &json), Verdict::Taken);
                }
                Output::Retire => retires = self.backlog.is_empty(),
                other => panic!("{other:?} is nothing that clients of the simulation ask for"),
            }
        }
        assert!(self.delivery.flush().is_empty(), "no room of the simulation is a crowd");
        retires
    }
}

/// A page that lacks the second of its messages.
fn with_a_hole(json: &str) -> String {
    let mut page: serde_json::Value = serde_json::from_str(json).unwrap();
    let messages = page["messages"].as_array_mut().unwrap();
    if messages.len() > 2 {
        messages.remove(1);
    }
    page.to_string()
}

/// One line of something, however long it is.
fn brief(what: &impl std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    match text.char_indices().nth(180) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
