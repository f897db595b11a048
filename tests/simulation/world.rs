//! One room and everybody in it, moved one small step at a time by whoever tells the story.

mod gateway;
mod people;
mod reading;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dormouse::keeper::state::{Found, Gone, Input, Inspection, Join, Mail, Operation, Ticket};
use dormouse::keeper::{Rates, Settings};
use dormouse::outbox::{Closing, Policy};
use dormouse::protocol::v1::Since;
use dormouse::protocol::{Author, Claim, Epoch, Framing, Payload, Position, Profile, Sid};
use dormouse::room::{Connection, Limits, Rate};
use dormouse::store::Engine;
use std::time::Duration;

use crate::client::{Client, Said, Wish};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::driver::{Driver, Letter, moment};
use crate::history::{Entry, Event, Violation, check};
use crate::link::{End, Frame, Link};
use crate::seeds::Trace;

/// Settings small enough that every limit is met now and then.
pub fn settings() -> Settings {
    Settings {
        sleep_after: Duration::from_secs(10),
        mailbox_events: 6,
        waking_bytes: 200,
        grace: Duration::from_secs(15),
        resume_window: Duration::from_secs(120),
        heartbeat: Duration::from_secs(25),
        message_bytes: 65_536,
        publishes_in_flight: 64,
        ephemeral_keys: 8,
        ephemeral_rate: Rate::OFF,
        presence_every: Duration::ZERO, // gathered for a batch of inputs
        rates: Rates { publishes: Rate::OFF, requests: Rate::OFF, room: Rate::OFF },
        limits: Limits {
            members: 64,
            tags: 10,
            tag_bytes: 256,
            name_chars: 64,
            attachment_bytes: 16_384,
            key_bytes: 64,
        },
        outbox: Policy {
            ring_bytes: 600,                       // about six messages
            ring_age: Duration::from_secs(86_400), // the ring's clock is not ours
            outbox_bytes: 1 << 20,
            page_bytes: 400,
            presence_bytes: 4_096,
        },
        behaviour: dormouse::room::chat,
    }
}

/// The simulated world.
pub struct World {
    pub now_ms: u64,
    pub settings: Settings,
    pub disk: Disk,
    pub keeper: Option<Driver>,
    pub clients: Vec<Client>,
    pub links: BTreeMap<Connection, Link>,
    pub history: Vec<Event>,
    /// Of which epoch each event of the history is.
    pub epochs: Vec<Option<Epoch>>,
    /// In which epoch connections have their seats.
    seated: BTreeMap<Connection, Epoch>,
    /// The clock's letter to the keeper, until it is answered, and when it may write again.
    ringing: Option<Ticket>,
    ring_at: u64,
    pages: u64,
    /// What every client received, connection by connection, but for news about sleep.
    pub received: Vec<Vec<(u64, Bytes)>>,
    /// How many naps there were, of all keepers.
    pub naps: usize,
    /// How often keepers rested.
    pub rests: usize,
    mailbox: VecDeque<Letter>,
    said: Vec<Said>,
    connections: u64,
    /// How many keepers there were before this one.
    keepers: u64,
    tickets: u64,
    spread: Found,
    trace: Trace,
}

impl World {
    /// A room with `v1` people of that profile and `seed` people of the other.
    pub fn new(seed: u64, settings: Settings, v1: usize, seeds: usize, trace: Trace) -> Self {
        let profiles =
            std::iter::repeat_n(Profile::V1, v1).chain(std::iter::repeat_n(Profile::Seed, seeds));
        let clients: Vec<_> = profiles
            .enumerate()
            .map(|(at, profile)| Client::new(profile, Dice::new(seed, 100 + at as u64)))
            .collect();
        Self {
            now_ms: 0,
            disk: Disk::new("meadow".parse().unwrap(), settings.outbox.page_bytes),
            settings,
            keeper: None,
            received: vec![Vec::new(); clients.len()],
            clients,
            links: BTreeMap::new(),
            history: Vec::new(),
            epochs: Vec::new(),
            seated: BTreeMap::new(),
            ringing: None,
            ring_at: 0,
            pages: 0,
            naps: 0,
            rests: 0,
            mailbox: VecDeque::new(),
            said: Vec::new(),
            connections: 0,
            keepers: 0,
            tickets: 0,
            spread: Found::Wanted,
            trace,
        }
    }

    /// The whole log as the judge wants it.
    pub fn log(&self) -> Vec<Entry> {
        entries(self.disk.log())
    }

    /// The store is well again: everybody comes back, says what is owed and reads to the end.
    pub fn come_to_rest(&mut self) {
        for _ in 0..100 {
            self.pass(6_000);
            self.read_all();
            if self.is_at_rest() {
                break;
            }
            for client in 0..self.clients.len() {
                let link = self.clients[client].link;
                let seated =
                    link.and_then(|link| self.links.get(&link)).is_some_and(Link::is_seated);
                let owed = self.clients[client].owed.clone();
                if link.is_none() {
                    self.fulfil(client, Wish::Join { session: true, position: true });
                } else if seated {
                    owed.into_iter().for_each(|said| self.fulfil(client, Wish::SayAgain(said)));
                }
            }
            self.pass(0);
            self.read_all();
        }
        self.pass(0);
        self.read_all();
        self.pass(0);
    }

    /// Whether anybody still waits for anything.
    pub fn is_at_rest(&self) -> bool {
        let is_seated = |link| self.links.get(&link).is_some_and(Link::is_seated);
        self.clients
            .iter()
            .all(|client| client.owed.is_empty() && client.link.is_some_and(is_seated))
            && self
                .links
                .values()
                .all(|link| link.asked.is_empty() || link.framing == Framing::Seed)
    }

    /// Looks at the room as an operator does.
    pub fn inspect(&mut self) -> Inspection {
        let ticket = self.operate(Operation::Inspect);
        self.turn(Vec::new(), usize::MAX);
        let keeper = self.keeper.as_mut().expect("an inspection is a reason to be there");
        let at = keeper.answers.iter().position(|(answered, _)| *answered == ticket);
        keeper.answers.swap_remove(at.expect("inspections are answered at once")).1.unwrap()
    }

    /// Notes what somebody saw.
    fn note(&mut self, link: Option<Connection>, event: Event) {
        self.epochs.push(match link {
            Some(link) => self.seated.get(&link).copied(),
            None => Some(self.disk.epoch()),
        });
        self.history.push(event);
    }

    /// Holds the history of each room there was, one after the other, against its log.
    pub fn check(&self) -> Result<(), Violation> {
        let now = [(self.disk.epoch(), self.log())];
        let before = self.disk.lives();
        let lives = before.into_iter().map(|(epoch, log)| (epoch, entries(log)));
        for (epoch, log) in lives.chain(now) {
            let of_it = self.history.iter().zip(&self.epochs);
            let of_it = of_it.filter(|(_, whose)| **whose == Some(epoch));
            check(&of_it.map(|(event, _)| event.clone()).collect::<Vec<_>>(), &log)?;
        }
        Ok(())
    }

    /// Holds the history against the log.
    pub fn judge(&mut self) {
        let resting = self.links.values().filter(|link| link.is_open() && link.is_seated());
        for link in resting.map(|link| link.connection).collect::<Vec<_>>() {
            self.note(Some(link), Event::Rests { link: link.0 });
        }
        if let Err(violation) = self.check() {
            panic!("{violation}");
        }
    }
}

fn entries(log: Vec<dormouse::store::Message>) -> Vec<Entry> {
    let entry = |message: dormouse::store::Message| {
        let frame: Frame = serde_json::from_slice(&message.body).unwrap();
        Entry { seq: message.seq, time: message.time.0, text: frame.data.unwrap() }
    };
    log.into_iter().map(entry).collect()
}
