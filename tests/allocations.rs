//! What is allocated where there are many: for each receiver of a message, and for each room that
//! sleeps.
//!
//! Real sessions over real keepers, on one thread (the store has its own, and is not counted), with
//! a wire that takes everything: written to by the sessions themselves, woken for it, or by the
//! room while they sleep. Each figure is the difference between two houses, so that what both have
//! is not in it.
//!
//! - A message to many members allocates nothing for any of them: it is encoded once, and each
//!   session's turn (woken, filled, written) does with what is there.
//! - A sleeping room is data and no task: its seats, and under 1 KiB beside them.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what it finds out, it prints")]
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
use dormouse::session::{Farewell, Link, Place, Received, Sessions, Transport, run};
use dormouse::store::{Redb, Store};
use dormouse::telemetry::Metrics;
use tempfile::TempDir;
use tokio::runtime::Runtime;
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
    const TRANSPORT: Transport = Transport::WebSocket;

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

/// Members of rooms, on a runtime of one thread.
struct House {
    runtime: Runtime,
    dispatcher: Dispatcher,
    voices: Vec<mpsc::Sender<String>>,
    heard: Arc<AtomicU64>,
    said: u64,
    outside: Outside,
}

/// What a house does not hold by itself.
struct Outside {
    metrics: Arc<Metrics>,
    _store: Store,
    _dir: TempDir,
}

impl House {
    /// So many rooms with so many members in each, none of whom is told who else is here.
    fn of(
        rooms: usize,
        members_each: usize,
        lends: bool,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut config = Config::default();
        config.keeper.rates = Rates { publishes: Rate::OFF, requests: Rate::OFF, room: Rate::OFF };
        config.keeper.presence_every = Duration::from_secs(3600); // no news of who is here
        config.store.reserve = None;
        change(&mut config);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(Redb::open(dir.path(), config.store).unwrap());
        let metrics = Arc::<Metrics>::default();
        let dispatcher = Dispatcher::new(config.keeper, store.clone(), metrics.clone());
        let members = rooms * members_each;
        let (sessions, settings) = (Sessions::new(members), Arc::new(config.session));
        let heard = Arc::<AtomicU64>::default();
        let mut voices = Vec::new();
        for number in 0..members {
            let (voice, says) = mpsc::channel(4);
            let place = Place {
                room: format!("lobby-{:04}", number % rooms).parse().unwrap(),
                dispatcher: dispatcher.clone(),
                store: store.clone(),
                settings: settings.clone(),
                metrics: metrics.clone(),
                entered: sessions.enter().ok().unwrap(),
            };
            let sink = Sink { says, socket: Arc::new(Socket(heard.clone())), lends };
            runtime.spawn(run(sink, Profile::V1, place));
            voice.try_send(r#"{"type":"hello","presence":"count"}"#.to_owned()).unwrap();
            voices.push(voice);
        }
        let outside = Outside { metrics, _store: store, _dir: dir };
        Self { runtime, dispatcher, voices, heard, said: 0, outside }
    }

    /// One of them says so many messages, each when all have heard the one before.
    fn say(&mut self, messages: u64) {
        let Self { runtime, voices, heard, said, .. } = self;
        let all_heard = async {
            for _ in 0..messages {
                *said += 1;
                voices[0].try_send(publish(*said)).unwrap();
                while heard.load(Ordering::Relaxed) < *said * voices.len() as u64 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let in_time = async { tokio::time::timeout(DEADLINE, all_heard).await };
        runtime.block_on(in_time).expect("everybody hears in time");
    }

    /// Has each room woken by a message once and waits until all of them sleep, and nothing runs
    /// here but sessions.
    fn lull(&mut self, rooms: usize) {
        let Self { runtime, voices, heard, outside, .. } = self;
        let tasks = runtime.metrics();
        let all_asleep = async {
            voices[..rooms].iter().for_each(|voice| voice.try_send(publish(1)).unwrap());
            while heard.load(Ordering::Relaxed) < voices.len() as u64
                || outside.metrics.room_hibernations.get() < rooms as u64
                || tasks.num_alive_tasks() > voices.len()
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = async { tokio::time::timeout(DEADLINE, all_asleep).await };
        runtime.block_on(in_time).expect("every room sleeps in time");
    }
}

fn publish(id: u64) -> String {
    format!(r#"{{"type":"publish","id":{id},"data":"x"}}"#)
}

/// What the thread allocates while so many members hear all messages.
fn allocations(members: usize, lends: bool) -> u64 {
    let mut house = House::of(1, members, lends, |_| {});
    house.say(20); // everybody has joined and caught up, and what grows once has grown
    allocation_counter::measure(|| house.say(MESSAGES)).count_total
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

/// What so many sleeping rooms hold, with so many members in each: what is given back when they
/// and their members are let go of. So it does not matter which thread it was taken by.
fn held(rooms: usize, members_each: usize) -> i64 {
    let mut house = House::of(rooms, members_each, true, |config| {
        config.keeper.sleep_after = Duration::from_millis(1);
        config.keeper.presence_every = Duration::from_millis(1);
        config.keeper.outbox.ring_age = Duration::from_millis(1);
    });
    house.lull(rooms);
    let House { runtime, dispatcher, voices, outside, .. } = house;
    let let_go = allocation_counter::measure(|| drop((runtime, dispatcher, voices)));
    assert_eq!(outside.metrics.rooms.of("asleep").get(), 0, "nobody else holds a room");
    -let_go.bytes_current
}

#[test]
fn a_sleeping_room_holds_its_seats_and_less_than_a_kib_more() {
    const ROOMS: usize = 1_000;
    let (few, many) = (held(ROOMS / 100, 100), held(ROOMS, 1));
    let more = (many - few) / (ROOMS - ROOMS / 100) as i64;
    println!("{ROOMS} members: {few} B in {} rooms, {many} B in as many as members", ROOMS / 100);
    println!("for each room beside its seats: {more} B");
    assert!(more < 1_024, "{more} B");
}
