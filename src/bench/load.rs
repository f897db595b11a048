//! Messages in, deliveries counted: what a crowd does once it stands.
//!
//! In an open loop messages are published at a rate, whatever becomes of them ([`Pace`]). In a
//! closed loop so many are under way at once; one is under way until as many deliveries came as
//! it has hearers. That is a count, not a list: a room's messages arrive in order, so whoever is
//! ahead of the others makes up for who is behind.
//!
//! All of it happens on one thread, so counters are plain cells and nothing is locked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::timeout;

use super::Error;
use super::dialect::{self, Dialect};
use super::histogram::Histogram;
use super::member::Mouth;
use super::pace::{Alarm, Pace};
use super::wire::{Transport, put};

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Push {
    /// So many a second, over all rooms in turn.
    Rate(f64),
    /// So many under way at once, over all rooms in turn.
    InAll(u64),
    /// So many under way at once in each room.
    PerRoom(u64),
}

/// One room as its load sees it.
pub struct Room {
    /// Its name.
    pub name: String,
    /// How many listen, the author too.
    listeners: Cell<u64>,
    /// Whose messages they are.
    mouth: RefCell<Option<Rc<Mouth>>>,
    published: Cell<u64>,
    delivered: Cell<u64>,
}

/// Everything that is sent and heard.
pub struct Load {
    /// How the server is spoken to.
    pub dialect: Box<dyn Dialect>,
    /// Over what.
    pub transport: Transport,
    rooms: Vec<Room>,
    size: usize,
    push: Cell<Option<Push>>,
    turn: Cell<usize>,
    published: Cell<u64>,
    completed: Cell<u64>,
    delivered: Cell<u64>,
    origin: Instant,
    /// When deliveries are timed, how long they took.
    latencies: RefCell<Option<Histogram>>,
    message: RefCell<Vec<u8>>,
    body: RefCell<BytesMut>,
}

impl Load {
    /// For so many rooms named `name-0` and on, with messages of `size` bytes.
    pub fn new(
        dialect: Box<dyn Dialect>,
        transport: Transport,
        name: &str,
        rooms: usize,
        size: usize,
    ) -> Rc<Self> {
        let room = |number| Room {
            name: format!("{name}-{number}"),
            listeners: Cell::new(0),
            mouth: RefCell::default(),
            published: Cell::new(0),
            delivered: Cell::new(0),
        };
        Rc::new(Self {
            dialect,
            transport,
            rooms: (0..rooms).map(room).collect(),
            size,
            push: Cell::new(None),
            turn: Cell::new(0),
            published: Cell::new(0),
            completed: Cell::new(0),
            delivered: Cell::new(0),
            origin: Instant::now(),
            latencies: RefCell::new(None),
            message: RefCell::default(),
            body: RefCell::default(),
        })
    }

    /// The room of that number.
    pub fn room(&self, room: usize) -> &Room {
        &self.rooms[room]
    }

    /// All rooms.
    pub fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// Counts a listener of the room.
    pub fn add_listener(&self, room: usize) {
        let room = &self.rooms[room];
        room.listeners.set(room.listeners.get() + 1);
    }

    /// Lets this mouth speak for the room.
    pub fn set_mouth(&self, room: usize, mouth: Rc<Mouth>) {
        *self.rooms[room].mouth.borrow_mut() = Some(mouth);
    }

    /// How many hear each message of the room. Its author is among the listeners, and may join before or
    /// after the others.
    fn hearers(&self, room: &Room) -> u64 {
        let deaf = u64::from(!self.dialect.echoes() && room.mouth.borrow().is_some());
        room.listeners.get().saturating_sub(deaf)
    }

    /// Messages published so far.
    pub fn published(&self) -> u64 {
        self.published.get()
    }

    /// Deliveries so far.
    pub fn delivered(&self) -> u64 {
        self.delivered.get()
    }

    /// The deliveries that all messages published so far make.
    pub fn expected(&self) -> u64 {
        self.rooms.iter().map(|room| room.published.get() * self.hearers(room)).sum()
    }

    /// Begins to time deliveries.
    pub fn begin_timing(&self) {
        *self.latencies.borrow_mut() = Some(Histogram::default());
    }

    /// Ends it: how long they took.
    pub fn end_timing(&self) -> Histogram {
        self.latencies.borrow_mut().take().unwrap_or_default()
    }

    /// Nanoseconds since the beginning.
    pub fn stamp(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_nanos() as u64
    }

    /// Times one delivery.
    pub fn time(&self, now: u64, body: &[u8]) {
        if let Some(histogram) = self.latencies.borrow_mut().as_mut()
            && let Some(sent) = dialect::stamp(body)
        {
            histogram.record(now.saturating_sub(sent));
        }
    }

    /// Counts deliveries in a room, and publishes what a closed loop now may.
    pub fn heard(&self, room: usize, count: u64) {
        self.delivered.set(self.delivered.get() + count);
        let room = &self.rooms[room];
        let hearers = self.hearers(room).max(1);
        let before = room.delivered.replace(room.delivered.get() + count);
        let completed = (before + count) / hearers - before / hearers;
        if completed > 0 {
            self.completed.set(self.completed.get() + completed);
            match self.push.get() {
                Some(Push::InAll(count)) => self.fill(count),
                Some(Push::PerRoom(count)) => self.fill_room(room, count),
                Some(Push::Rate(_)) | None => {}
            }
        }
    }

    /// Sends until told to stop; never returns by itself.
    pub async fn push(&self, push: Push) -> Result<(), Error> {
        self.push.set(Some(push));
        match push {
            Push::InAll(count) => self.fill(count),
            Push::PerRoom(count) => {
                self.rooms.iter().for_each(|room| self.fill_room(room, count));
            }
            Push::Rate(per_second) => {
                let mut alarm = Alarm::new()?;
                let mut pace = Pace::new(per_second, Instant::now());
                loop {
                    alarm.until(pace.next()).await;
                    let now = Instant::now();
                    while let Some(at) = pace.take(now) {
                        self.publish_in_turn(at);
                    }
                }
            }
        }
        std::future::pending().await
    }

    /// Sends no more.
    pub fn stop(&self) {
        self.push.set(None);
    }

    /// Waits until all that was published was heard by everybody, or for so long.
    pub async fn settle(&self, patience: Duration) -> bool {
        let all = async {
            while self.delivered() < self.expected() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(patience, all).await.is_ok()
    }

    fn fill(&self, count: u64) {
        while self.published.get() < self.completed.get() + count {
            self.publish_in_turn(Instant::now());
        }
    }

    fn fill_room(&self, room: &Room, count: u64) {
        let hearers = self.hearers(room).max(1);
        while room.published.get() < room.delivered.get() / hearers + count {
            self.publish(room, Instant::now());
        }
    }

    fn publish_in_turn(&self, at: Instant) {
        let turn = self.turn.replace((self.turn.get() + 1) % self.rooms.len());
        self.publish(&self.rooms[turn], at);
    }

    /// Publishes one message that should have been sent at that moment.
    pub fn publish(&self, room: &Room, at: Instant) {
        let (mut message, mut body) = (self.message.borrow_mut(), self.body.borrow_mut());
        dialect::text(self.stamp(at), self.size, &mut message);
        body.clear();
        self.dialect.publish(&room.name, &message, &mut body);
        let (framing, opcode) = (self.transport.framing(), self.dialect.opcode());
        if let Some(mouth) = &*room.mouth.borrow() {
            mouth.say(|unsent| put(framing, opcode, &body, unsent));
        }
        room.published.set(room.published.get() + 1);
        self.published.set(self.published.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rooms: usize, hearers: usize) -> Rc<Load> {
        let load = Load::new(dialect::named("plain"), Transport::Ws, "room", rooms, 20);
        for room in 0..rooms {
            (0..hearers).for_each(|_| load.add_listener(room));
            load.set_mouth(room, Rc::default());
        }
        load
    }

    fn begin(load: &Load, push: Push) {
        let mut pushing = Box::pin(load.push(push));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(pushing.as_mut().poll(&mut cx).is_pending());
    }

    #[test]
    fn a_message_is_under_way_until_it_was_delivered_as_often_as_it_has_hearers() {
        let load = load(1, 10);
        begin(&load, Push::InAll(3));
        assert_eq!((load.published(), load.expected()), (3, 30));
        load.heard(0, 9);
        assert_eq!(load.published(), 3, "the first one lacks a hearer");
        load.heard(0, 1);
        assert_eq!(load.published(), 4);
        load.heard(0, 25);
        assert_eq!(load.published(), 6, "35 deliveries are three messages and a half");
        load.stop();
        load.heard(0, 25);
        assert_eq!((load.published(), load.delivered(), load.expected()), (6, 60, 60));
    }

    #[test]
    fn rooms_take_turns_or_each_have_their_own_messages_under_way() {
        let in_turn = load(3, 1);
        begin(&in_turn, Push::InAll(4));
        let published = |load: &Load| [0, 1, 2].map(|room| load.room(room).published.get());
        assert_eq!(published(&in_turn), [2, 1, 1]);
        in_turn.heard(2, 1);
        assert_eq!(published(&in_turn), [2, 2, 1], "it was the second room's turn");

        let each = load(3, 1);
        begin(&each, Push::PerRoom(4));
        each.heard(2, 2);
        assert_eq!(published(&each), [4, 4, 6]);
    }

    #[test]
    fn who_is_not_echoed_to_hears_one_less() {
        for joined_before_the_author in 0..10 {
            let load = Load::new(Box::new(dialect::Ephemeral), Transport::Datagram, "room", 1, 20);
            (0..joined_before_the_author).for_each(|_| load.add_listener(0));
            load.set_mouth(0, Rc::default());
            (joined_before_the_author..10).for_each(|_| load.add_listener(0));
            load.publish(load.room(0), Instant::now());
            assert_eq!(load.expected(), 9);
        }
    }

    #[test]
    fn deliveries_are_timed_by_the_stamp_they_carry_and_only_when_asked() {
        let load = load(1, 1);
        let mut message = Vec::new();
        dialect::text(1_000, 40, &mut message);
        load.time(5_000, &message);
        load.begin_timing();
        load.time(5_000, &message);
        load.time(6_000, b"no message");
        let timed = load.end_timing();
        assert_eq!((timed.count(), timed.quantile(1.0).unwrap().as_nanos()), (1, 4_000));
        assert_eq!(load.end_timing().count(), 0);
    }
}
