//! Who is seated in a room.
//!
//! A seat outlives its socket: for `grace` nobody is told, until the end of `resume_window` it
//! can be taken back. Seats stay with the keeper while the room sleeps.

use std::collections::BTreeMap;

use crate::protocol::{Profile, Sid};
use crate::store::SeatRow;

/// One connection of a client to a room: a seat's generation. No two are ever the same in one
/// process, so that what an older connection says is never taken for a newer one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub u64);

/// Where a seat's client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Connected.
    Here(Connection),
    /// Gone without a goodbye, since that moment of the monotonic clock, in ms.
    Away {
        /// When its windows began.
        since_ms: u64,
    },
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
    /// Whether a record about its leaving is on its way to disk.
    pub leaving: bool,
}

impl Seat {
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
    by_sid: BTreeMap<Sid, Seat>,
    by_connection: BTreeMap<Connection, Sid>,
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
        self.by_sid.get(&sid)
    }

    /// The seat with this id, to be changed. Its place is changed by [`put`](Self::put) and
    /// [`lose`](Self::lose) only.
    pub fn get_mut(&mut self, sid: Sid) -> Option<&mut Seat> {
        self.by_sid.get_mut(&sid)
    }

    /// The seat that a connection holds now.
    pub fn of(&self, connection: Connection) -> Option<&Seat> {
        self.get(*self.by_connection.get(&connection)?)
    }

    /// Puts a seat in its place; the one that had its id comes back.
    pub fn put(&mut self, seat: Seat) -> Option<Seat> {
        let sid = seat.row.sid;
        let connection = seat.connection();
        let before = self.by_sid.insert(sid, seat);
        if let Some(old) = before.as_ref().and_then(Seat::connection) {
            self.by_connection.remove(&old);
        }
        if let Some(connection) = connection {
            self.by_connection.insert(connection, sid);
        }
        before
    }

    /// A connection ended without a goodbye: its seat's windows begin.
    pub fn lose(&mut self, connection: Connection, now_ms: u64) {
        let sid = self.by_connection.remove(&connection);
        if let Some(seat) = sid.and_then(|sid| self.by_sid.get_mut(&sid)) {
            seat.place = Place::Away { since_ms: now_ms };
        }
    }

    /// Takes a seat away.
    pub fn remove(&mut self, sid: Sid) -> Option<Seat> {
        let seat = self.by_sid.remove(&sid)?;
        if let Some(connection) = seat.connection() {
            self.by_connection.remove(&connection);
        }
        Some(seat)
    }

    /// All of them, by `sid`.
    pub fn iter(&self) -> impl Iterator<Item = &Seat> {
        self.by_sid.values()
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
