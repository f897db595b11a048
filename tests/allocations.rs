//! A message to many members allocates nothing for any of them: it is encoded once, and each
//! session's turn (woken, filled, written) does with what is there.
//!
//! Real sessions over a real keeper, on one thread (the store has its own, and is not counted),
//! with a wire that takes everything: written to by the sessions themselves, woken for it, or by
//! the room while they sleep. What the room does for the message itself is the same for a hundred
//! members and for three hundred, so the difference is what the members cost.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dormouse::config::Config;
use dormouse::dispatcher::Dispatcher;
use dormouse::keeper::Rates;
use dormouse::outbox::{Unsent, Wire};
use dormouse::protocol::{BodyKind, Framing, Profile};
use dormouse::room::{Rate, Side};
use dormouse::session::{Farewell, Link, Place, Received, Sessions, run};
use dormouse::store::{Redb, Store};
use dormouse::telemetry::Metrics;
use tempfile::TempDir;
use tokio::sync::mpsc;

const MESSAGES: u64 = 100;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A client's end that says what it is told to say, and takes all that comes.
struct Sink {
    says: mpsc::Receiver<String>,
    socket: Arc<Socket>,
    lends: bool,
}

/// Its socket.
struct Socket(Arc<AtomicU64>);

impl Wire for Socket {
    fn try_write(&self, unsent: &mut Unsent) -> bool {
        const MARK: &[u8] = br#""type":"message""#;
        let mut bytes = 0;
        for piece in unsent.iter() {
            bytes += piece.len();
            let messages = piece.windows(MARK.len()).filter(|part| *part == MARK).count();
            self.0.fetch_add(messages as u64, Ordering::Relaxed);
        }
        unsent.advance(bytes);
        true
    }
}

impl Link for Sink {
    const TRANSPORT: &'static str = "websocket";

    fn framing(_profile: Profile) -> Framing {
        Framing::V1WebSocket
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        match self.says.poll_recv(cx) {
            Poll::Ready(Some(json)) => Poll::Ready(Received::Frame(BodyKind::Json, json.into())),
            _ => Poll::Pending,
        }
    }

    fn poll_write(
        &mut self,
        _cx: &mut Context<'_>,
        unsent: &mut Unsent,
    ) -> Poll<io::Result<usize>> {
        let bytes = unsent.iter().map(Bytes::len).sum();
        self.socket.try_write(unsent);
        if bytes == 0 { Poll::Pending } else { Poll::Ready(Ok(bytes)) }
    }

    fn take_control(&mut self) -> Option<Bytes> {
        None
    }

    fn send_datagram(&mut self, _body: Bytes) -> bool {
        false
    }

    fn reply(&mut self, _side: Side, _frame: Bytes) {}

    fn wire(&self) -> Option<Arc<dyn Wire>> {
        let socket: Arc<dyn Wire> = self.socket.clone();
        self.lends.then_some(socket)
    }

    fn ping() -> Option<Bytes> {
        None
    }

    async fn close(self, _farewell: Farewell) {}
}

/// Members of one room, on a runtime of one thread.
struct Room {
    runtime: tokio::runtime::Runtime,
    _dir: TempDir,
    voices: Vec<mpsc::Sender<String>>,
    heard: Arc<AtomicU64>,
    said: u64,
}

impl Room {
    fn of(members: usize, lends: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut config = Config::default();
        config.keeper.rates = Rates { publishes: Rate::OFF, requests: Rate::OFF, room: Rate::OFF };
        config.keeper.presence_every = Duration::from_secs(3600); // no news of who is here
        config.store.reserve = None;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(Redb::open(dir.path(), config.store).unwrap());
        let metrics = Arc::<Metrics>::default();
        let dispatcher = Dispatcher::new(config.keeper, store.clone(), metrics.clone());
        let (sessions, settings) = (Sessions::new(members), Arc::new(config.session));
        let mut room =
            Self { runtime, _dir: dir, voices: Vec::new(), heard: Arc::default(), said: 0 };
        for _ in 0..members {
            let (voice, says) = mpsc::channel(4);
            let place = Place {
                room: "lobby".parse().unwrap(),
                dispatcher: dispatcher.clone(),
                store: store.clone(),
                settings: settings.clone(),
                metrics: metrics.clone(),
                entered: sessions.enter().ok().unwrap(),
            };
            let sink = Sink { says, socket: Arc::new(Socket(room.heard.clone())), lends };
            room.runtime.spawn(run(sink, Profile::V1, place));
            voice.try_send(r#"{"type":"hello","presence":"count"}"#.to_owned()).unwrap();
            room.voices.push(voice);
        }
        room
    }

    /// One of them says so many messages, each when all have heard the one before.
    fn say(&mut self, messages: u64) {
        let Self { runtime, voices, heard, said, .. } = self;
        let all_heard = async {
            for _ in 0..messages {
                *said += 1;
                let json = format!(r#"{{"type":"publish","id":{said},"data":"x"}}"#);
                voices[0].try_send(json).unwrap();
                while heard.load(Ordering::Relaxed) < *said * voices.len() as u64 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let in_time = async { tokio::time::timeout(DEADLINE, all_heard).await };
        runtime.block_on(in_time).expect("everybody hears in time");
    }
}

/// What the thread allocates while so many members hear all messages.
fn allocations(members: usize, lends: bool) -> u64 {
    let mut room = Room::of(members, lends);
    room.say(20); // everybody has joined and caught up, and what grows once has grown
    allocation_counter::measure(|| room.say(MESSAGES)).count_total
}

/// A hundred members and three hundred: both are a crowd, served in rounds.
fn nothing_for_each_receiver(lends: bool) {
    let (few, many) = (allocations(100, lends), allocations(300, lends));
    let each = (many as f64 - few as f64) / (200 * MESSAGES) as f64;
    println!("{MESSAGES} messages: {few} allocations with 100 members, {many} with 300");
    println!("for each delivery: {each:.3}");
    assert!(each < 0.01, "{each:.3} allocations for each delivery");
}

#[test]
fn a_message_allocates_nothing_for_receivers_that_are_woken_for_it() {
    nothing_for_each_receiver(false);
}

#[test]
fn a_message_allocates_nothing_for_receivers_that_sleep_through_it() {
    nothing_for_each_receiver(true);
}
