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
mod transport;
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
pub use transport::Transport;

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
    let span =
        tracing::debug_span!("session", room = %place.room, transport = L::TRANSPORT.label());
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::dispatcher::Scripted;
    use crate::keeper::Letter;
    use crate::outbox::Unsent;
    use crate::protocol::{BodyKind, Framing};
    use crate::room::Side;
    use crate::store::Memory;

    /// A client that says hello, is welcomed, and says something.
    struct Client {
        has_said_hello: bool,
        was_welcomed: bool,
        /// Whether its next frame meets a fault of ours.
        meets_a_fault: bool,
        /// How often it still says something.
        says: usize,
        closed: oneshot::Sender<()>,
    }

    impl Client {
        fn new(meets_a_fault: bool, says: usize) -> (Self, oneshot::Receiver<()>) {
            let (closed, is_closed) = oneshot::channel();
            let (has_said_hello, was_welcomed) = (false, false);
            (Self { has_said_hello, was_welcomed, meets_a_fault, says, closed }, is_closed)
        }
    }

    impl Link for Client {
        const TRANSPORT: Transport = Transport::WebSocket;

        fn framing(_profile: Profile) -> Framing {
            Framing::V1WebSocket
        }
        fn poll_recv(&mut self, _cx: &mut Context<'_>) -> Poll<Received> {
            if !std::mem::replace(&mut self.has_said_hello, true) {
                let hello = Bytes::from_static(br#"{"type":"hello"}"#);
                return Poll::Ready(Received::Frame(BodyKind::Json, hello));
            }
            assert!(!(self.was_welcomed && self.meets_a_fault), "the fault that was planted");
            if !self.was_welcomed || self.says == 0 {
                return Poll::Pending;
            }
            self.says -= 1;
            let publish = Bytes::from_static(br#"{"type":"publish","id":1,"data":1}"#);
            Poll::Ready(Received::Frame(BodyKind::Json, publish))
        }
        fn poll_write(
            &mut self,
            _cx: &mut Context<'_>,
            unsent: &mut Unsent,
        ) -> Poll<io::Result<usize>> {
            let bytes = unsent.iter().map(Bytes::len).sum();
            unsent.advance(bytes);
            self.was_welcomed |= bytes > 0;
            if bytes == 0 { Poll::Pending } else { Poll::Ready(Ok(bytes)) }
        }
        fn take_control(&mut self) -> Option<Bytes> {
            None
        }
        fn send_datagram(&mut self, _body: Bytes) -> bool {
            false
        }
        fn reply(&mut self, _side: Side, _frame: Bytes) {}
        fn ping() -> Option<Bytes> {
            Some(Bytes::from_static(b"ping"))
        }
        async fn close(self, _farewell: Farewell) {
            let _ = self.closed.send(()); // a test may have ended
        }
    }

    /// A place in the room, in front of such a store.
    fn place(store: Store, room: &RoomName) -> Place {
        let mut config = crate::config::Config::default();
        config.keeper.rates.publishes = room::Rate::OFF;
        let metrics = Arc::<Metrics>::default();
        let dispatcher = Dispatcher::new(config.keeper, store.clone(), metrics.clone());
        Place {
            room: room.clone(),
            dispatcher,
            store,
            settings: Arc::new(config.session),
            metrics,
            entered: Sessions::new(1).enter().ok().unwrap(),
        }
    }

    /// Its seat would be taken for ever by a connection that is no more.
    #[tokio::test]
    async fn a_session_that_fails_says_goodbye_and_its_seat_is_away() {
        let room: RoomName = "lobby".parse().unwrap();
        let place = place(Store::new(Memory::new(1)), &room);
        let (dispatcher, metrics) = (place.dispatcher.clone(), place.metrics.clone());
        let (link, is_closed) = Client::new(true, 0);
        tokio::spawn(run(link, Profile::V1, place)).await.expect("a fault is no panic of its task");
        is_closed.await.expect("it is told");
        assert_eq!(metrics.task_failures.of("session").get(), 1);
        assert_eq!(metrics.sessions_closed.of("store_unavailable").get(), 1);

        let (answer, answered) = oneshot::channel();
        dispatcher.deliver(&room, Letter::Roster { after: None, limit: 9, answer }).await;
        let members = answered.await.unwrap().members;
        assert_eq!(members.len(), 1);
        assert!(members[0].connection.is_none(), "its window has begun");
    }

    /// While a disk is slow, a client with too many unanswered publishes is not read from. Its pongs
    /// lie unread as well, and it was closed for its silence.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_not_read_from_is_not_given_up_for_its_silence() {
        let room: RoomName = "lobby".parse().unwrap();
        let (store, script) = Scripted::new();
        let place = place(Store::new(store), &room);
        let (settings, metrics) = (place.settings.clone(), place.metrics.clone());
        let (link, mut is_closed) = Client::new(false, settings.publishes_in_flight + 10);
        script.lock().holds_messages = true;
        tokio::spawn(run(link, Profile::V1, place));
        tokio::time::sleep(10 * (settings.ping_every + settings.pong_timeout)).await;
        assert!(is_closed.try_recv().is_err(), "it is still there");
        assert_eq!(metrics.sessions.of("websocket").get(), 1);

        // Once it is read from again and says nothing, that is silence.
        script.lock().holds_messages = false;
        script.lock().let_go();
        let silence = settings.ping_every + settings.pong_timeout;
        let closed = tokio::time::timeout(2 * silence, is_closed).await;
        closed.expect("it is given up in time").expect("it is told");
        assert_eq!(metrics.sessions_closed.of("heartbeat_lost").get(), 1);
    }
}
