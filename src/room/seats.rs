//! Who is seated in a room.
//!
//! A seat outlives its socket: for `grace` nobody is told, until the end of `resume_window` it
//! can be taken back. Seats stay with the keeper while the room sleeps.

use std::collections::BTreeSet;

use super::{Limiter, Sorted};
use crate::protocol::v1::{PresenceWish, To};
use crate::protocol::{Profile, Sid};
use crate::store::SeatRow;

/// One connection of a client to a room: a seat's generation. No two are ever the same in one
/// process, so that what an older connection says is never taken for a newer one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub u64);

/// A stream of its own for one request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Side(pub u64);

/// Where a seat's client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Connected.
    Here(Connection),
    /// Gone without a goodbye; moments of the monotonic clock, in ms.
    Away {
        /// When its windows began.
        since_ms: u64,
        /// When the next of them ends; none while a record about that is on its way to disk.
        until_ms: Option<u64>,
        /// Whether the client said goodbye: the seat ends instead of leaving.
        said_bye: bool,
    },
}

/// What a seat has taken of its rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeatLimits {
    /// Publishes.
    pub publishes: Limiter,
    /// `set`, `history` and `members`.
    pub requests: Limiter,
}

/// A session's place in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// What is durable of it. A seed seat's row is never written.
    pub row: SeatRow,
    /// Which protocol its client speaks.
    pub profile: Profile,
    /// Where its client is.
    pub place: Place,
    /// Whether its client wants to know about sleep and waking.
    pub watch: bool,
    /// How much its client wants to know about who is here.
    pub presence: PresenceWish,
    /// What it has taken of its rates: neither a nap nor a new connection refills them.
    pub limits: SeatLimits,
}

/// What a member costs in a snapshot beside its texts.
const MEMBER_BYTES: usize = 120;

impl Seat {
    /// About how many bytes it takes to tell of this seat.
    pub fn bytes(&self) -> usize {
        let row = &self.row;
        let tags: usize = row.tags.iter().map(|tag| tag.len() + 3).sum();
        MEMBER_BYTES + row.name.len() + tags + row.attachment.as_ref().map_or(2, String::len)
    }

    /// The connection, if there is one.
    pub fn connection(&self) -> Option<Connection> {
        match self.place {
            Place::Here(connection) => Some(connection),
            Place::Away { .. } => None,
        }
    }
}

/// All seats of a room, ordered by `sid`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seats {
    /// Boxed: whoever comes and goes moves those behind it.
    by_sid: Sorted<Sid, Box<Seat>>,
    index: Index,
}

/// What follows from the seats, so that nobody has to look at all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Index {
    by_connection: Sorted<Connection, Sid>,
    /// The ends of windows, soonest first.
    windows: BTreeSet<(u64, Sid)>,
    /// How many are seen by others, and about how many bytes they are as members.
    seen: (usize, usize),
}

impl Index {
    fn add(&mut self, seat: &Seat) {
        let sid = seat.row.sid;
        if !seat.row.left {
            self.seen = (self.seen.0 + 1, self.seen.1 + seat.bytes());
        }
        match seat.place {
            Place::Here(connection) => drop(self.by_connection.insert(connection, sid)),
            Place::Away { until_ms: Some(until), .. } => drop(self.windows.insert((until, sid))),
            Place::Away { until_ms: None, .. } => {}
        }
    }

    fn remove(&mut self, seat: &Seat) {
        if !seat.row.left {
            self.seen = (self.seen.0 - 1, self.seen.1 - seat.bytes());
        }
        match seat.place {
            Place::Here(connection) => drop(self.by_connection.remove(&connection)),
            Place::Away { until_ms: Some(until), .. } => {
                self.windows.remove(&(until, seat.row.sid));
            }
            Place::Away { until_ms: None, .. } => {}
        }
    }
}

impl Seats {
    /// How many there are, whoever is here.
    pub fn len(&self) -> usize {
        self.by_sid.len()
    }

    /// Whether nobody has a seat.
    pub fn is_empty(&self) -> bool {
        self.by_sid.is_empty()
    }

    /// The seat with this id.
    pub fn get(&self, sid: Sid) -> Option<&Seat> {
        self.by_sid.get(&sid).map(|seat| &**seat)
    }

    /// The seat that a connection holds now.
    pub fn of(&self, connection: Connection) -> Option<&Seat> {
        self.get(*self.index.by_connection.get(&connection)?)
    }

    /// Puts a seat in its place; the one that had its id comes back.
    pub fn put(&mut self, seat: Seat) -> Option<Seat> {
        let sid = seat.row.sid;
        let before = self.by_sid.get_mut(&sid);
        if let Some(before) = &before {
            self.index.remove(before);
        }
        self.index.add(&seat);
        match before {
            Some(before) => Some(std::mem::replace(before, seat)),
            None => {
                self.by_sid.insert(sid, Box::new(seat));
                None
            }
        }
    }

    /// Takes a seat away.
    pub fn remove(&mut self, sid: Sid) -> Option<Seat> {
        let seat = *self.by_sid.remove(&sid)?;
        self.index.remove(&seat);
        Some(seat)
    }

    /// Changes a seat. Its id stays.
    pub fn change(&mut self, sid: Sid, change: impl FnOnce(&mut Seat)) {
        if let Some(seat) = self.by_sid.get_mut(&sid) {
            self.index.remove(seat);
            change(seat);
            debug_assert_eq!(seat.row.sid, sid, "a seat keeps its id");
            self.index.add(seat);
        }
    }

    /// Gives back the space of those who left.
    pub fn shrink_to_fit(&mut self) {
        self.by_sid.shrink_to_fit();
        self.index.by_connection.shrink_to_fit();
        if self.index.windows.is_empty() {
            self.index.windows = BTreeSet::new(); // an emptied tree has a node still
        }
    }

    /// What a seat has taken of its rates.
    pub fn limits(&mut self, sid: Sid) -> Option<&mut SeatLimits> {
        self.by_sid.get_mut(&sid).map(|seat| &mut seat.limits)
    }

    /// Those behind a `sid`, in its order.
    pub fn after(&self, sid: Option<Sid>) -> impl Iterator<Item = &Seat> {
        self.by_sid.after(sid).map(|seat| &**seat)
    }

    /// The connections that a direct message is for, by `sid`.
    pub fn meant(&self, to: &To) -> Vec<Connection> {
        let is_meant = |seat: &&Seat| match to {
            To::Sid(sid) => seat.row.sid == *sid,
            To::User(user) => seat.row.user.as_ref() == Some(user),
            To::Tag(tag) => seat.row.tags.contains(tag),
        };
        match to {
            To::Sid(sid) => self.get(*sid).and_then(Seat::connection).into_iter().collect(),
            _ => self.iter().filter(is_meant).filter_map(Seat::connection).collect(),
        }
    }

    /// The soonest end of a window.
    pub fn next_window(&self) -> Option<(u64, Sid)> {
        self.index.windows.first().copied()
    }

    /// How many are seen by others: those whose leaving was not announced; and about how many
    /// bytes it takes to tell them.
    pub fn seen(&self) -> (usize, usize) {
        self.index.seen
    }

    /// All of them, by `sid`.
    pub fn iter(&self) -> impl Iterator<Item = &Seat> {
        self.by_sid.values().map(|seat| &**seat)
    }

    /// The connections that speak a profile, by `sid`.
    pub fn connected(&self, profile: Profile) -> impl Iterator<Item = Connection> {
        self.iter().filter(move |seat| seat.profile == profile).filter_map(Seat::connection)
    }

    /// The names of those whose leaving was not announced, longest here first.
    pub fn names(&self) -> Vec<String> {
        let mut present: Vec<_> = self.iter().filter(|seat| !seat.row.left).collect();
        present.sort_by_key(|seat| (seat.row.since, seat.row.sid));
        present.into_iter().map(|seat| seat.row.name.clone()).collect()
    }
}
