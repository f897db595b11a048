//! A keeper's state on the bench: one input, and every output it causes.

use dormouse::keeper::Settings;
use dormouse::keeper::state::{
    Found, Gone, Input, Join, Mail, Now, Operation, Output, State, Ticket,
};
use dormouse::protocol::v1::{ServerFrame, Welcome};
use dormouse::protocol::{Author, Claim, Payload, Profile, Sid};
use dormouse::room::Connection;
use dormouse::store::{Engine, Record};

use crate::disk::{Ask, Disk};
use crate::driver::moment;

/// The state, and the store that it asks.
pub struct Bench {
    pub now_ms: u64,
    pub disk: Disk,
    /// Whether others are falling asleep: the room's turn is given by hand then.
    pub is_crowded: bool,
    state: State,
    settings: Settings,
}

impl Bench {
    /// A keeper that has found an empty room.
    pub fn new(settings: Settings) -> Self {
        let disk = Disk::new("meadow".parse().unwrap(), settings.outbox.page_bytes);
        let mut bench = Self::begin(settings, disk, 0);
        bench.answer();
        bench
    }

    fn begin(settings: Settings, mut disk: Disk, now_ms: u64) -> Self {
        let (room, secret) = (disk.room.clone(), disk.engine.identity().secret);
        let mut out = Vec::new();
        let now = moment(now_ms);
        let state = State::new(room, settings.clone(), secret, Found::Wanted, now, &mut out);
        assert_eq!(out, [Output::Open(0)]);
        disk.ask(Ask::Open(0));
        Self { now_ms, disk, is_crowded: false, state, settings }
    }

    /// The process is gone, with what was asked of its store, and another has found the room.
    pub fn begin_again(&mut self) {
        self.begin_again_after(0);
    }

    /// The same after a drain that told everybody to come back within so long.
    pub fn begin_again_after(&mut self, spread_ms: u64) {
        let settings = self.settings.clone();
        self.disk.crash();
        let mut out = Vec::new();
        let (room, secret) = (self.disk.room.clone(), self.disk.engine.identity().secret);
        let found = Found::Seats { spread_ms };
        self.state = State::new(room, settings, secret, found, self.now(), &mut out);
        self.disk.ask(Ask::Open(0));
        let out = self.answer();
        assert_eq!(brief(&out), [""; 0], "nobody is told");
    }

    /// The room falls asleep, and its keeper rests and is at work again.
    pub fn nap(&mut self) {
        let sleeps_at = self.now_ms + self.settings.sleep_after.as_millis() as u64;
        while !self.state.may_rest() {
            self.tick();
            self.answer_all();
            assert!(self.now_ms <= sleeps_at, "it does not sleep");
        }
        let (room, secret) = (self.disk.room.clone(), self.disk.engine.identity().secret);
        let rest = self.state.rest();
        self.state = State::rested(rest, room, self.settings.clone(), secret, self.now());
    }

    fn now(&self) -> Now {
        moment(self.now_ms)
    }

    /// One input and the end of its batch; what is asked of the store waits there.
    pub fn give(&mut self, input: Input) -> Vec<Output> {
        self.give_all([input])
    }

    /// Several inputs that are read together.
    pub fn give_all(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Output> {
        let (now, mut out) = (self.now(), Vec::new());
        for input in inputs {
            self.state.step(now, input, &mut out);
        }
        self.state.settle(now, &mut out);
        let tired = out.iter().position(|output| *output == Output::Tired);
        if let Some(at) = tired.filter(|_| !self.is_crowded) {
            out.remove(at);
            self.state.step(now, Input::Turn, &mut out);
            self.state.settle(now, &mut out);
        }
        for output in &out {
            match output {
                Output::Open(asked) => self.disk.ask(Ask::Open(*asked)),
                Output::ReadKeys(asked) => self.disk.ask(Ask::Keys(*asked)),
                Output::Read(asked, from) => self.disk.ask(Ask::Read(*asked, *from)),
                Output::Append(records) => self.disk.ask(Ask::Append(records.clone())),
                Output::Hibernate(rules) => self.disk.ask(Ask::Hibernate(rules.clone())),
                _ => {}
            }
        }
        out
    }

    /// The store answers its oldest question.
    pub fn answer(&mut self) -> Vec<Output> {
        self.answer_at(0)
    }

    /// The store answers one of its questions, counted from the oldest.
    pub fn answer_at(&mut self, at: usize) -> Vec<Output> {
        let answer = self.disk.answer(at);
        self.give(answer)
    }

    /// The store answers until it is asked nothing more.
    pub fn answer_all(&mut self) -> Vec<Output> {
        let mut out = Vec::new();
        while self.disk.waiting() > 0 {
            out.extend(self.answer());
        }
        out
    }

    /// The next deadline comes.
    pub fn tick(&mut self) -> Vec<Output> {
        self.now_ms = self.now_ms.max(self.state.deadline().expect("something is due"));
        self.give(Input::Tick)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.state.deadline()
    }

    pub fn wants_mail(&self) -> bool {
        self.state.wants_mail()
    }

    /// A v1 client has its seat; its claim to that.
    pub fn seated(&mut self, connection: u64) -> Claim {
        self.give(join(connection, None));
        let out = self.answer();
        let welcome = welcome(&out, connection).expect("it is welcome");
        self.claim(welcome)
    }

    /// What a welcome's token says.
    pub fn claim(&self, welcome: &Welcome) -> Claim {
        let secret = &self.disk.engine.identity().secret;
        Claim::open(&welcome.session, secret, &self.disk.room).expect("it is ours")
    }

    /// Somebody said something a while ago, so that the room is awake.
    pub fn awake(&mut self, connection: u64) {
        self.give(publish(connection, 0, None));
        self.answer_all();
        self.disk.engine.hibernate(&self.disk.room, None).unwrap();
    }

    pub fn grace_ms(&self) -> u64 {
        self.settings.grace.as_millis() as u64
    }

    pub fn resume_window_ms(&self) -> u64 {
        self.settings.resume_window.as_millis() as u64
    }

    /// The seats on disk.
    pub fn seats_on_disk(&self) -> Vec<Sid> {
        let opened = self.disk.engine.reopen().open(&self.disk.room).unwrap();
        opened.seats.iter().map(|seat| seat.sid).collect()
    }
}

/// A client wants a seat, an old one if it has a claim. Its new id would be its number.
pub fn join(connection: u64, claim: Option<Claim>) -> Input {
    Input::Mail(Mail::Join(Box::new(blank_join(connection, Profile::V1, claim))))
}

/// A seed client takes a name.
pub fn join_seed(connection: u64, name: &str) -> Input {
    let name = Some(name.to_owned());
    Input::Mail(Mail::Join(Box::new(Join { name, ..blank_join(connection, Profile::Seed, None) })))
}

pub fn blank_join(connection: u64, profile: Profile, claim: Option<Claim>) -> Join {
    Join {
        claim,
        history: 100,
        ..Join::new(Connection(connection), profile, Sid(connection), Author(connection))
    }
}

pub fn publish(connection: u64, id: u64, key: Option<&str>) -> Input {
    Input::Mail(Mail::Publish {
        connection: Connection(connection),
        id: Some(id),
        key: key.map(str::to_owned),
        to: None,
        payload: Payload::Json(format!("\"m{id}\"")),
    })
}

pub fn gone(connection: u64, how: Gone) -> Input {
    Input::Mail(Mail::Gone { connection: Connection(connection), how })
}

pub fn operate(operation: Operation, ticket: u64) -> Input {
    Input::Operate(operation, Ticket(ticket))
}

/// The welcome of a connection.
pub fn welcome(out: &[Output], connection: u64) -> Option<&Welcome> {
    out.iter().find_map(|output| match output {
        Output::Send(to, ServerFrame::Welcome(welcome)) if to.0 == connection => Some(&**welcome),
        _ => None,
    })
}

/// Outputs in brief: what matters of them here, in order.
pub fn brief(out: &[Output]) -> Vec<String> {
    let mut lines = Vec::new();
    for output in out {
        let line = match output {
            Output::Open(_) => "open".into(),
            Output::ReadKeys(_) => "keys".into(),
            Output::Read(_, from) => format!("read {from}"),
            Output::Append(records) if records.is_empty() => "probe".into(),
            Output::Append(records) => {
                let records: Vec<_> = records.iter().map(record).collect();
                format!("append {}", records.join("+"))
            }
            Output::Tired => "tired".into(),
            Output::Pass => "pass".into(),
            Output::Hibernate(_) => "hibernate".into(),
            Output::Broadcast(messages) => {
                let seqs: Vec<_> = messages.iter().map(|message| message.seq.to_string()).collect();
                format!("hear {}", seqs.join("+"))
            }
            Output::Woke { .. } => "woke".into(),
            Output::Slept => "slept".into(),
            Output::Stayed => "stayed".into(),
            Output::Send(to, ServerFrame::Welcome(_)) => format!("welcome {}", to.0),
            Output::Send(to, ServerFrame::Ok { id, dup, .. }) => {
                format!("{} {} {}", if *dup { "dup" } else { "ok" }, to.0, id.unwrap())
            }
            Output::Send(to, ServerFrame::Error { id, .. }) => {
                format!("error {} {}", to.0, id.unwrap())
            }
            Output::Close { connection, reason, .. } => {
                format!("close {} {}", connection.0, reason.slug())
            }
            Output::Answer(ticket, answer) => match answer {
                Ok(inspection) => format!("tell {} {}", ticket.0, inspection.state),
                Err(_) => format!("tell {} unavailable", ticket.0),
            },
            Output::Deleted => "deleted".into(),
            Output::Retire => "retire".into(),
            _ => continue,
        };
        lines.push(line);
    }
    lines
}

fn record(record: &Record) -> String {
    match record {
        Record::Message(message) => format!("m{}", message.seq),
        Record::Seat(row) => format!("seat{}", row.sid.0),
        Record::SeatLeft(sid) => format!("left{}", sid.0),
        Record::SeatEnded(sid) => format!("ended{}", sid.0),
        Record::Alarm(at) => if at.is_some() { "alarm" } else { "no-alarm" }.into(),
        Record::State(_) => "state".into(),
        Record::Deleted => "deleted".into(),
    }
}
