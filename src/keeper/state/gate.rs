//! The output gate: nothing leaves before what it rests on is on disk.
//!
//! One append is in flight at a time; what queues meanwhile is the next. Whatever is decided
//! while records wait is held behind them, in order, even if it writes nothing itself: an answer
//! may speak of a message that is not durable yet.

use bytes::Bytes;

use super::Ticket;
use crate::budget::{self, Budget};
use crate::protocol::v1::{self, To};
use crate::protocol::{BodyKind, Sid, Timestamp};
use crate::room::Connection;
use crate::store::{Message, Record, SeatRow};

/// Something to be done once all records before it are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Everybody hears a message.
    Hear(Message),
    /// One client gets an answer.
    Send(Connection, v1::ServerFrame),
    /// A few get a direct message.
    Direct(To, BodyKind, Bytes, Option<(Connection, Option<u64>)>),
    /// A seat has changed.
    Set(Connection, Option<u64>, SeatRow),
    /// A joining client takes its seat.
    Seat(Connection, SeatRow),
    /// A seat's leaving is announced.
    Left(Sid),
    /// A seat is gone.
    Ended(Sid),
    /// The room is to be woken then, or not at all.
    Alarm(Option<Timestamp>),
    /// What the rules know.
    Keep(Bytes),
    /// The clock hears that the room has dealt with its alarm.
    Rung(Vec<Ticket>),
    /// There is no such room.
    Deleted,
}

impl Held {
    /// What it costs to keep, for limits.
    fn bytes(&self) -> usize {
        match self {
            Held::Hear(message) => message.body.len(),
            _ => 0,
        }
    }

    /// What has to be on disk before it is done, if it writes anything.
    pub(super) fn record(&self) -> Option<Record> {
        Some(match self {
            Held::Hear(message) => Record::Message(message.clone()),
            Held::Set(_, _, row) | Held::Seat(_, row) => Record::Seat(row.clone()),
            Held::Left(sid) => Record::SeatLeft(*sid),
            Held::Ended(sid) => Record::SeatEnded(*sid),
            Held::Alarm(at) => Record::Alarm(*at),
            Held::Keep(knows) => Record::State(knows.clone()),
            Held::Deleted => Record::Deleted,
            Held::Send(..) | Held::Direct(..) | Held::Rung(_) => return None,
        })
    }
}

/// What is on its way to disk, and what waits for that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gate {
    in_flight: Option<Vec<Held>>,
    held: Vec<Held>,
    /// Whether any of `held` writes something, and how much of that are messages.
    writes: bool,
    bytes: usize,
}

impl Gate {
    /// Whether nothing is on its way and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.held.is_empty()
    }

    /// How much waits for the next append: records and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.held.len(), self.bytes)
    }

    /// Adds what happens once its record is durable.
    pub(super) fn commit(&mut self, then: Held) {
        self.bytes += then.bytes();
        self.writes = true;
        self.held.push(then);
    }

    /// Holds `then` behind what waits; gives it back if nothing does.
    pub(super) fn hold(&mut self, then: Held) -> Option<Held> {
        if self.is_idle() {
            return Some(then);
        }
        self.held.push(then);
        None
    }

    /// The next append, if none is in flight and there is something to write.
    pub(super) fn next_append(&mut self) -> Option<Vec<Record>> {
        if self.in_flight.is_some() || !self.writes {
            return None;
        }
        self.check();
        self.in_flight = Some(self.take_held());
        self.append_again()
    }

    /// The append in flight once more: nothing of it was taken.
    pub(super) fn append_again(&self) -> Option<Vec<Record>> {
        let in_flight = self.in_flight.as_ref()?;
        Some(in_flight.iter().filter_map(Held::record).collect())
    }

    /// The append in flight is durable: what may be done now, in order.
    pub(super) fn durable(&mut self) -> Vec<Held> {
        let mut free = self.in_flight.take().unwrap_or_default();
        if !self.writes {
            free.append(&mut self.held);
        }
        free
    }

    /// Gives up everything: an append failed.
    pub(super) fn give_up(&mut self) -> Vec<Held> {
        let in_flight = self.in_flight.take().into_iter().flatten();
        in_flight.chain(self.take_held()).collect()
    }

    fn check(&self) {
        let there = || self.held.iter().map(Held::bytes).sum();
        budget::check(Budget::GateBytes, self.bytes, there);
    }

    fn take_held(&mut self) -> Vec<Held> {
        (self.writes, self.bytes) = (false, 0);
        std::mem::take(&mut self.held)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.check();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> Record {
        Record::SeatEnded(Sid(n))
    }

    /// The limit on what waits for a disk stands on this count.
    #[test]
    fn what_waits_is_counted_until_it_is_in_flight_or_given_up() {
        let message = |seq: u64, bytes: usize| {
            let (time, kind, body) = (Timestamp(0), BodyKind::Json, vec![b'x'; bytes].into());
            Held::Hear(Message { seq, time, key: None, kind, body })
        };
        let mut gate = Gate::default();
        gate.commit(message(1, 10));
        gate.commit(message(2, 5));
        gate.commit(Held::Ended(Sid(1)));
        assert_eq!(gate.waiting(), (3, 15));
        assert_eq!(gate.next_append().map(|records| records.len()), Some(3));
        assert_eq!(gate.waiting(), (0, 0));
        gate.commit(message(3, 7));
        assert_eq!(gate.hold(Held::Left(Sid(4))), None);
        assert_eq!(gate.waiting(), (2, 7));
        assert_eq!(gate.durable().len(), 3);
        assert_eq!(gate.waiting(), (2, 7), "they wait for the next append");
        assert_eq!(gate.give_up().len(), 2);
        assert_eq!(gate.waiting(), (0, 0));
    }

    #[test]
    fn what_queues_during_an_append_is_the_next_one() {
        let mut gate = Gate::default();
        assert_eq!(gate.hold(Held::Left(Sid(0))), Some(Held::Left(Sid(0))), "nothing to wait for");
        gate.commit(Held::Ended(Sid(1)));
        assert_eq!(gate.next_append(), Some(vec![record(1)]));
        gate.commit(Held::Ended(Sid(2)));
        gate.commit(Held::Ended(Sid(3)));
        assert_eq!(gate.next_append(), None, "one at a time");
        assert_eq!(gate.append_again(), Some(vec![record(1)]));
        assert_eq!(gate.durable(), [Held::Ended(Sid(1))]);
        assert_eq!(gate.next_append(), Some(vec![record(2), record(3)]));
        assert_eq!(gate.hold(Held::Left(Sid(4))), None);
        assert_eq!(gate.durable().len(), 3, "what wrote nothing is free with what it waited for");
        assert!(gate.is_idle());
    }
}
