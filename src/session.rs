//! One client's life, whatever brought it: hello, read, write, ping, goodbye.
//!
//! A transport gives a [`Link`]; everything that must hold for every client is decided here or
//! below, so that two transports do not become two products. One task per session polls the
//! link both ways. While it waits with nothing to do, its room writes in its stead
//! ([`Reader::lend`](crate::outbox::Reader::lend)): one writer at a time, still.
//!
//! ```text
//!   link ──frames──▶ speaker (v1, seed) ──letters──▶ the room's mailbox
//!   link ◀──bytes─── outbox::Reader ◀── ring, private queue, store
//! ```
//!
//! - A session whose mail waits, or that is owed too much, is not read from.
//! - Silence is answered by a ping, and silence after that by the end; while bytes are owed,
//!   progress on the wire stands in for the pong.
//! - Whatever ends a session, the keeper is told once, and how.

mod auto;
mod count;
mod farewell;
mod life;
mod link;
mod liveness;
mod seed;
mod v1;

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use crate::dispatcher::Dispatcher;
use crate::protocol::{Kinds, Profile, RoomName};
use crate::room;
use crate::store::Store;
use crate::telemetry::Metrics;

pub use auto::{AutoResponses, BadPairs};
pub use count::{Entered, NotNow, Sessions};
pub use farewell::Farewell;
pub use link::{End, Link, Received};

/// What sessions go by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The longest frame a client may send.
    pub message_bytes: usize,
    /// Publishes a client may have unanswered before it is not read from.
    pub publishes_in_flight: usize,
    /// How long a client may take nothing of what it is owed.
    pub stalled_after: Duration,
    /// How long a v1 client may take to say hello.
    pub hello_timeout: Duration,
    /// The silence after which a client is told to ping.
    pub heartbeat: Duration,
    /// The silence after which a WebSocket is pinged.
    pub ping_every: Duration,
    /// How long its pong may take.
    pub pong_timeout: Duration,
    /// How long a goodbye may take.
    pub close_linger: Duration,
    /// How long the author in a session token is good.
    pub author_window: Duration,
    /// How often a client may show something that may be dropped.
    pub ephemeral_rate: room::Rate,
    /// And under how many keys.
    pub ephemeral_keys: usize,
    /// What a room and its seats must stay within.
    pub limits: room::Limits,
    /// What is answered before it is read, by the kind of the room.
    pub auto_responses: Arc<Kinds<AutoResponses>>,
}

/// What a session needs of the world.
pub struct Place {
    /// The room it is for.
    pub room: RoomName,
    /// The way to the room's keeper.
    pub dispatcher: Dispatcher,
    /// Where it catches up from.
    pub store: Store,
    /// What it goes by.
    pub settings: Arc<Settings>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Its own place in the process.
    pub entered: Entered,
}

/// Serves a client until it leaves or has to.
///
/// What this returns is all of an idle session's task: whatever happens rarely is boxed when it
/// does, and the link and the place are in it once.
pub fn run<L: Link>(
    link: L,
    profile: Profile,
    place: Place,
) -> impl Future<Output = ()> + Send + 'static {
    let span = tracing::debug_span!("session", room = %place.room, transport = L::TRANSPORT);
    let mut life = life::Life::new(link, profile, place);
    async move {
        let ending = life.live_or_fail().await;
        Box::pin(life.end(ending)).await;
    }
    .instrument(span)
}

/// A throw of the dice, for ids that nobody should guess or meet twice.
pub(crate) fn dice() -> u64 {
    let mut bytes = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .expect("the operating system has randomness to give");
    u64::from_be_bytes(bytes)
}
