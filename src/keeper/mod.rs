//! Looks after one room.
//!
//! Sockets outlive sleep; a room's state need not. A keeper stays while anyone is seated and
//! holds the [`Room`](crate::room::Room) itself only while something needs it.
//!
//! ```text
//!          a publish, an alarm, an operator's wake: store.open, Room::wake
//!  Asleep ────────────────────────────────────────────────────────────────▶ Awake(Room)
//!         ◀────────────────────────────────────────────────────────────────
//!          idle for `sleep_after`, and its turn: store.move_room, then drop
//! ```
//!
//! [`state`] decides: a pure machine, inputs in and outputs out. [`task`] is the thin loop that
//! feeds it and does what it says. Whoever wants something of a room puts it in its
//! [`Mailbox`]. While the room sleeps and nothing is due, there is no task either: what is left of
//! the keeper [rests](resting) in the mailbox until the next letter.
//!
//! - One keeper per room, so a room's events have one order.
//! - Outputs are performed in the order written: nothing is heard before it is on disk.
//! - A keeper never waits for a client; a full outbox is that client's affair.
//! - Joining, leaving and expiry touch seats only: they neither wake a room nor keep it awake.

mod awake;
mod crowd;
mod delivery;
mod failure;
mod mailbox;
mod page;
mod resting;
pub mod state;
mod task;
mod turns;
mod world;

use std::time::Duration;

use crate::protocol::v1;
use crate::room::Rate;
use crate::{outbox, room};

pub use awake::Awake;
pub use crowd::Round;
pub use delivery::Delivery;
pub use mailbox::{Letter, Mailbox, Refused};
pub use page::{Page, page_of_disk};
pub use task::begin;
pub use turns::Turns;
pub use world::{Keeper, World};

/// How often things may be done.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Publishes of one seat.
    pub publishes: Rate,
    /// `set`, `history` and `members` of one seat.
    pub requests: Rate,
    /// Publishes in one room.
    pub room: Rate,
}

/// What keepers go by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a room stays awake after the last event that needed it.
    pub sleep_after: Duration,
    /// Events a mailbox holds, and as many may wait for a room to wake.
    pub mailbox_events: usize,
    /// Bytes of events a mailbox holds, and as many may wait for a room to wake, or for the disk.
    pub waking_bytes: usize,
    /// How long nobody is told that a connection was lost.
    pub grace: Duration,
    /// How long a lost connection's seat can be taken back.
    pub resume_window: Duration,
    /// Told in `welcome`: the silence after which a client should ping.
    pub heartbeat: Duration,
    /// Told in `welcome`: the longest frame a client may send.
    pub message_bytes: usize,
    /// Told in `welcome`: requests that a client may have unanswered.
    pub publishes_in_flight: usize,
    /// Told in `welcome`: how many keys of ephemerals a client may use.
    pub ephemeral_keys: usize,
    /// Told in `welcome`: how often a client may show an ephemeral.
    pub ephemeral_rate: Rate,
    /// How long changes of who is here are gathered.
    pub presence_every: Duration,
    /// What a room and its seats must stay within.
    pub limits: room::Limits,
    /// And how often.
    pub rates: Rates,
    /// What a room may keep for its readers.
    pub outbox: outbox::Policy,
    /// What a room does beside keeping its log.
    pub behaviour: room::Make,
}

impl Settings {
    /// What a client is told to stay within.
    fn told(&self) -> v1::Limits {
        let Rates { publishes, requests, room } = self.rates;
        v1::Limits {
            message: self.message_bytes,
            attachment: self.limits.attachment_bytes,
            name: self.limits.name_chars,
            tags: self.limits.tags,
            tag: self.limits.tag_bytes,
            key: self.limits.key_bytes,
            ephemeral_keys: self.ephemeral_keys,
            in_flight: self.publishes_in_flight,
            publish_rate: publishes.if_any().map(|rate| rate.per_second),
            publish_burst: publishes.if_any().map(|rate| rate.burst),
            room_publish_rate: room.if_any().map(|rate| rate.per_second),
            requests_rate: requests.if_any().map(|rate| rate.per_second),
            requests_burst: requests.if_any().map(|rate| rate.burst),
            ephemeral_rate: self.ephemeral_rate.if_any().map(|rate| rate.per_second),
        }
    }
}
