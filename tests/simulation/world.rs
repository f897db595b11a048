//! One room and everybody in it, moved one small step at a time by whoever tells the story.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dormouse::keeper::Settings;
use dormouse::keeper::state::{Found, Gone, Input, Inspection, Join, Mail, Operation, Ticket};
use dormouse::outbox::{Closing, Policy};
use dormouse::protocol::v1::Since;
use dormouse::protocol::{Author, Claim, Framing, Payload, Position, Profile, Sid};
use dormouse::room::{Connection, Limits};
use dormouse::store::Engine;
use std::time::Duration;

use crate::client::{Client, Said, Wish};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::driver::{Driver, Letter, moment};
use crate::history::{Entry, Event, check};
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
        },
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
    /// What every client received, connection by connection, but for news about sleep.
    pub received: Vec<Vec<(u64, Bytes)>>,
    /// How many naps there were, of all keepers.
    pub naps: usize,
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
            naps: 0,
            mailbox: VecDeque::new(),
            said: Vec::new(),
            connections: 0,
            keepers: 0,
            tickets: 0,
            spread: Found::Wanted,
            trace,
        }
    }

    // What people do.

    /// Lets a client do what it wishes.
    pub fn act(&mut self, client: usize) {
        let link = self.clients[client].link;
        let link = link.and_then(|link| self.links.get(&link));
        if link.is_some_and(|link| !link.held.is_empty()) {
            return; // its session is not read from
        }
        let seated = link.is_some_and(Link::is_seated);
        let wish = self.clients[client].wish(self.now_ms, seated);
        self.fulfil(client, wish);
    }

    /// Does what a client wishes.
    pub fn fulfil(&mut self, client: usize, wish: Wish) {
        let now = self.now_ms;
        self.trace.say(|| format!("{now:>7} client {client}: {wish:?}"));
        match wish {
            Wish::Nothing => {}
            Wish::Join { session, position } => self.join(client, session, position),
            Wish::Say { keyed } => {
                let number = self.said.len();
                let text = format!("c{client}-{number}");
                let key = keyed.then(|| format!("k{number}"));
                let author = self.clients[client].author;
                self.said.push(Said { text, key, author });
                if keyed {
                    self.clients[client].owed.push_back(number);
                }
                self.say(client, number);
            }
            Wish::SayAgain(number) => self.say(client, number),
            Wish::Rename => {
                let connection = self.here(client);
                let name = format!("n{}", self.clients[client].dice.below(100));
                self.post(connection, Letter::Mail(Mail::Rename { connection, name }, None));
            }
            Wish::Drop => self.leave(client, Gone::Lost),
            Wish::Bye => self.leave(client, Gone::Ended),
            Wish::TakeOver => self.join(client, true, true),
            Wish::SwapWithBye => {
                let old = self.here(client);
                self.join(client, true, true);
                self.gone(old, Gone::Ended);
            }
        }
    }

    /// The connection a client uses.
    pub fn here(&self, client: usize) -> Connection {
        self.clients[client].link.expect("it is connected")
    }

    fn say(&mut self, client: usize, number: usize) {
        let connection = self.here(client);
        let Said { text, key, .. } = &self.said[number];
        let (text, key) = (text.clone(), key.clone());
        self.history.push(Event::Sent { text: text.clone() });
        let link = self.links.get_mut(&connection).expect("it is connected");
        link.asked.insert(number as u64, number);
        let (id, payload) = (Some(number as u64), Payload::Json(format!("\"{text}\"")));
        self.clients[client].owed.retain(|owed| *owed != number);
        self.post(connection, Letter::Mail(Mail::Publish { connection, id, key, payload }, None));
    }

    fn join(&mut self, client: usize, session: bool, position: bool) {
        self.connections += 1;
        let connection = Connection(self.connections);
        let person = &mut self.clients[client];
        let framing = match person.profile {
            Profile::Seed => Framing::Seed,
            Profile::V1 => person.dice.pick(&[Framing::V1WebSocket, Framing::V1WebTransport]),
        };
        let secret = &self.disk.engine.identity().secret;
        if !session || person.session.is_none() {
            person.author += 1;
            person.owed.clear();
        }
        let token = person.session.as_ref().filter(|_| session);
        let claim =
            token.map(|token| Claim::open(token, secret, &self.disk.room).expect("it is ours"));
        let since = person.position.clone().filter(|_| position);
        let history = person.dice.pick(&[0, 1, 3, 100]);
        // Sessions look at the store themselves, as it is when their clients come in.
        let is_seed = person.profile == Profile::Seed;
        let looks = since.is_some();
        let look = (looks || is_seed).then(|| self.disk.engine.open(&self.disk.room).ok());
        let look = look
            .flatten()
            .map(|opened| (Position { epoch: opened.epoch, seq: opened.newest }, opened.oldest));
        let mut link = Link::new(connection, framing, client, &self.settings.outbox);
        (link.since, link.history) = (since.as_ref().map(|since| since.seq), history);
        let join = Join {
            connection,
            profile: person.profile,
            name: person.dice.chance(60).then(|| format!("c{client}")),
            tags: None,
            attachment: person.dice.chance(20).then(|| "{\"color\":\"red\"}".into()),
            claim,
            since,
            history,
            watch: person.dice.chance(50),
            accepted: look.as_ref().filter(|_| is_seed).map(|(position, _)| *position),
            oldest: look.filter(|_| looks).map(|(position, oldest)| (position.epoch, oldest)),
            fresh_sid: Sid(Dice::new(self.connections, 1).number()),
            fresh_author: Author(Dice::new(self.connections, 2).number()),
        };
        let before = person.link.replace(connection);
        let outbox = link.outbox();
        self.links.insert(connection, link);
        if let Some(before) = before {
            self.owe(before);
        }
        self.post(connection, Letter::Mail(Mail::Join(Box::new(join)), Some(outbox)));
    }

    fn leave(&mut self, client: usize, how: Gone) {
        let connection = self.here(client);
        self.gone(connection, how);
    }

    /// A connection ends, and its session says so behind what it was still to say.
    fn gone(&mut self, connection: Connection, how: Gone) {
        self.owe(connection);
        let link = self.links.get_mut(&connection).expect("it is connected");
        link.close();
        let person = &mut self.clients[link.client];
        if person.link == Some(connection) {
            person.link = None;
        }
        self.post(connection, Letter::Mail(Mail::Gone { connection, how }, None));
    }

    /// What a connection asked without an answer is to be asked again, if that is harmless.
    fn owe(&mut self, connection: Connection) {
        let Some(link) = self.links.get(&connection) else { return };
        let person = &mut self.clients[link.client];
        link.asked.values().for_each(|number| person.owe(*number, &self.said[*number]));
    }

    fn post(&mut self, connection: Connection, letter: Letter) {
        let link = self.links.get_mut(&connection).expect("it is connected");
        link.held.push_back(letter);
        self.deliver_held();
    }

    /// Sessions put their mail into the mailbox while there is space.
    fn deliver_held(&mut self) {
        for link in self.links.values_mut() {
            while self.mailbox.len() < self.settings.mailbox_events
                && let Some(letter) = link.held.pop_front()
            {
                if matches!(letter, Letter::Mail(Mail::Join(_), _)) {
                    link.keeper = Some(self.keepers);
                }
                // The mailbox of a keeper that has retired is closed.
                if link.keeper == Some(self.keepers) {
                    self.mailbox.push_back(letter);
                }
            }
        }
        let clients = &self.clients;
        self.links.retain(|connection, link| {
            let is_used = clients[link.client].link == Some(*connection);
            is_used || !link.held.is_empty() || link.is_open()
        });
    }

    /// An operator says something.
    pub fn operate(&mut self, operation: Operation) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.mailbox.push_back(Letter::Operate(operation, ticket));
        ticket
    }

    // What the gateway does.

    /// The keeper takes some of the answers that there are, some of the mail, and a turn.
    pub fn turn(&mut self, answers: Vec<Input>, letters: usize) {
        self.deliver_held();
        if self.keeper.is_none() {
            if self.mailbox.is_empty() && self.spread == Found::Wanted {
                return;
            }
            self.begin();
        }
        let now = moment(self.now_ms);
        let keeper = self.keeper.as_mut().expect("it was just begun");
        let letters = match keeper.wants_mail() {
            true => self.mailbox.drain(..letters.min(self.mailbox.len())).collect(),
            false => Vec::new(),
        };
        let naps = keeper.naps;
        let may_go = keeper.turn(now, answers, letters, &mut self.disk);
        self.naps += keeper.naps - naps;
        if may_go && self.mailbox.is_empty() {
            self.trace.say(|| "        the keeper retires".into());
            let keeper = self.keeper.take().expect("it had a turn");
            assert!(keeper.tickets.is_empty(), "an operator was forgotten");
            self.keepers += 1;
            self.disk.orphan();
        }
        self.deliver_held();
    }

    fn begin(&mut self) {
        let found = std::mem::replace(&mut self.spread, Found::Wanted);
        let trace = self.trace.clone();
        let now = moment(self.now_ms);
        self.keeper = Some(Driver::begin(now, &self.settings, found, &mut self.disk, trace));
    }

    pub fn has_mail(&self) -> bool {
        !self.mailbox.is_empty() || self.keeper.as_ref().is_some_and(Driver::has_backlog)
    }

    /// Everything that can happen at this moment happens.
    pub fn drain(&mut self) {
        for _ in 0..1_000 {
            if self.has_mail() && self.keeper.as_ref().is_none_or(Driver::wants_mail) {
                self.turn(Vec::new(), usize::MAX);
            } else if let Some(at) = self.disk.first_but_appends() {
                let answer = self.disk.answer(at);
                self.turn(vec![answer], 0);
            } else if self.disk.waiting() > 0 {
                let answer = self.disk.answer(0);
                self.turn(vec![answer], 0);
            } else if self.deadline().is_some_and(|at| at <= self.now_ms) {
                self.turn(Vec::new(), 0);
            } else {
                let waits = self.deadline().is_some();
                assert!(waits || !self.has_mail(), "the keeper waits for nothing, mail for it");
                return;
            }
        }
        panic!("the keeper does not come to rest");
    }

    pub fn deadline(&self) -> Option<u64> {
        self.keeper.as_ref().and_then(Driver::deadline)
    }

    /// Time goes by; everything that is due on the way happens when it is due.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        self.drain();
        while let Some(at) = self.deadline().filter(|at| *at <= until) {
            self.now_ms = self.now_ms.max(at);
            self.drain();
        }
        self.now_ms = until;
        self.drain();
    }

    /// The process dies and another one begins.
    pub fn crash(&mut self) {
        self.trace.say(|| "        CRASH".into());
        self.keeper = None;
        self.keepers += 1;
        self.mailbox.clear();
        self.disk.crash();
        self.spread = match self.disk.engine.seated().unwrap().is_empty() {
            true => Found::Wanted,
            false => Found::Seats { spread_ms: 500 },
        };
        let connections: Vec<_> = self.links.keys().copied().collect();
        for connection in connections {
            self.owe(connection);
        }
        self.links.clear();
        self.clients.iter_mut().for_each(|client| client.link = None);
        self.history.push(Event::Found { log: self.log() });
        if self.spread != Found::Wanted {
            self.begin(); // the dispatcher begins keepers of seats it finds
        }
    }

    /// Retention lets go of everything before `oldest`.
    pub fn trim(&mut self, oldest: u64) {
        let oldest = self.disk.trim(oldest);
        self.trace.say(|| format!("        trimmed before {oldest}"));
        self.history.push(Event::Trimmed { oldest });
    }

    // What people see.

    /// Every open connection reads what there is.
    pub fn read_all(&mut self) {
        let connections: Vec<_> = self.links.keys().copied().collect();
        connections.into_iter().for_each(|connection| self.read(connection));
    }

    /// A connection reads what there is.
    pub fn read(&mut self, connection: Connection) {
        let Some(link) = self.links.get_mut(&connection).filter(|link| link.is_open()) else {
            return;
        };
        let (frames, end) = link.read(&self.disk);
        for frame in frames {
            self.heard(connection, frame);
        }
        let (gone, after_ms) = match end {
            None => return,
            Some(End::Told(Closing { reason, retry_after })) => {
                self.trace.say(|| format!("        {connection:?} is closed: {reason:?}"));
                let link = &self.links[&connection];
                let note = Bytes::from(format!("close {}", reason.slug()));
                self.received[link.client].push((connection.0, note));
                (Gone::Lost, retry_after.unwrap_or(0))
            }
            Some(End::Unwell) => (Gone::Lost, 1_000),
            Some(End::BehindRetention(oldest)) => (Gone::BehindRetention { oldest }, 0),
            Some(End::AnotherLog) => panic!("the memory engine has one log only"),
        };
        let link = self.links.get_mut(&connection).expect("it is connected");
        link.close();
        let client = link.client;
        self.clients[client].patience_ms = self.now_ms + after_ms;
        self.gone(connection, gone);
    }

    fn heard(&mut self, connection: Connection, bytes: Bytes) {
        let frame: Frame = serde_json::from_slice(&bytes).expect("frames are JSON");
        self.trace.say(|| {
            format!("        {connection:?} reads {}", std::str::from_utf8(&bytes).unwrap())
        });
        let link = self.links.get_mut(&connection).expect("it is connected");
        let client = link.client;
        if frame.kind != "room" {
            self.received[client].push((connection.0, bytes));
        }
        let person = &mut self.clients[client];
        let is_current = person.link == Some(connection);
        let event = match frame.kind.as_str() {
            "message" => {
                let seq = frame.seq.unwrap();
                if is_current {
                    person.position = Some(Since { epoch: person.epoch, seq });
                }
                Event::Heard {
                    link: connection.0,
                    seq: Some(seq),
                    time: frame.time,
                    text: frame.data.unwrap(),
                }
            }
            "chat" => Event::Heard {
                link: connection.0,
                seq: None,
                time: None,
                text: frame.message.unwrap(),
            },
            "live" => {
                let seq = frame.seq.unwrap();
                if is_current {
                    person.position = Some(Since { epoch: person.epoch, seq });
                }
                Event::Live { link: connection.0, seq }
            }
            "welcome" => {
                let position = frame.position.unwrap();
                if is_current {
                    person.session = frame.session;
                    person.epoch = position.epoch.parse().ok();
                }
                Event::Welcome {
                    link: connection.0,
                    since: link.since,
                    history: link.history,
                    newest: position.seq,
                    why: frame.why,
                }
            }
            "ok" => {
                let Some(number) = link.asked.remove(&frame.id.unwrap()) else {
                    panic!("an answer to nothing, or a second one")
                };
                let (seq, dup) = (frame.seq.unwrap(), frame.dup.unwrap());
                Event::Ok { text: self.said[number].text.clone(), seq, dup }
            }
            "error" => {
                let number = link.asked.remove(&frame.id.unwrap()).expect("asked once");
                person.owe(number, &self.said[number]);
                person.patience_ms = self.now_ms + frame.retry_after.unwrap_or(0);
                return;
            }
            _ => return,
        };
        self.history.push(event);
    }

    // What is judged.

    /// The whole log as the judge wants it.
    pub fn log(&self) -> Vec<Entry> {
        let entry = |message: dormouse::store::Message| {
            let frame: Frame = serde_json::from_slice(&message.body).unwrap();
            Entry { seq: message.seq, time: message.time.0, text: frame.data.unwrap() }
        };
        self.disk.log().into_iter().map(entry).collect()
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

    /// Holds the history against the log.
    pub fn judge(&mut self) {
        for link in self.links.values().filter(|link| link.is_open() && link.is_seated()) {
            self.history.push(Event::Rests { link: link.connection.0 });
        }
        if let Err(violation) = check(&self.history, &self.log()) {
            panic!("{violation}");
        }
    }
}
