//! What people do: their wishes become mail.

use dormouse::protocol::v1::{History, PageFrom};

use super::*;

/// Requests for pages are numbered from here on, apart from publishes.
const PAGES: u64 = 1_000_000;

impl World {
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

    pub(super) fn say(&mut self, client: usize, number: usize) {
        let connection = self.here(client);
        let Said { text, key, .. } = &self.said[number];
        let (text, key) = (text.clone(), key.clone());
        self.note(Some(connection), Event::Sent { text: text.clone() });
        let link = self.links.get_mut(&connection).expect("it is connected");
        link.asked.insert(number as u64, number);
        let (id, payload) = (Some(number as u64), Payload::Json(format!("\"{text}\"")));
        self.clients[client].owed.retain(|owed| *owed != number);
        self.post(
            connection,
            Letter::Mail(Mail::Publish { connection, id, key, to: None, payload }, None),
        );
    }

    pub(super) fn join(&mut self, client: usize, session: bool, position: bool) {
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
        link.since_epoch = since.as_ref().and_then(|since| since.epoch);
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
            presence: Default::default(),
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

    /// A member asks for a page of the log.
    pub fn ask_for_a_page(&mut self, dice: &mut Dice) {
        let can =
            |link: &&Link| link.is_open() && link.is_seated() && link.framing != Framing::Seed;
        let all: Vec<_> = self.links.values().filter(can).map(|link| link.connection).collect();
        if all.is_empty() {
            return;
        }
        let (connection, seq) = (dice.pick(&all), dice.below(20) as u64);
        let from = dice.pick(&[PageFrom::Newest, PageFrom::Before(seq + 1), PageFrom::After(seq)]);
        self.pages += 1;
        let (id, limit) = (PAGES + self.pages, Some(dice.pick(&[1, 3, 100])));
        self.links.get_mut(&connection).expect("it is there").pages.insert(id, from);
        let history = History { id: Some(id), from, limit };
        let mail = Mail::History { connection, history, side: None };
        self.post(connection, Letter::Mail(mail, None));
    }

    pub(super) fn leave(&mut self, client: usize, how: Gone) {
        let connection = self.here(client);
        self.gone(connection, how);
    }

    /// A connection ends, and its session says so behind what it was still to say.
    pub(super) fn gone(&mut self, connection: Connection, how: Gone) {
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
    pub(super) fn owe(&mut self, connection: Connection) {
        let Some(link) = self.links.get(&connection) else { return };
        let person = &mut self.clients[link.client];
        link.asked.values().for_each(|number| person.owe(*number, &self.said[*number]));
    }

    pub(super) fn post(&mut self, connection: Connection, letter: Letter) {
        let link = self.links.get_mut(&connection).expect("it is connected");
        link.held.push_back(letter);
        self.deliver_held();
    }

    /// Sessions put their mail into the mailbox while there is space.
    pub(super) fn deliver_held(&mut self) {
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
}
