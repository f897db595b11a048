//! Who may write, and that nothing is written twice, late or not at all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::*;
use crate::outbox::{Change, Policy, Seated};
use crate::protocol::framing::wrap_json;
use crate::protocol::v1::PresenceWish;
use crate::protocol::{BodyKind, CloseReason, Epoch, Sid, Timestamp, Verdict};
use crate::room::{Ephemeral, Side};
use crate::store::Message;
use crate::telemetry::Counter;

const V1: Framing = Framing::V1WebSocket;

/// A socket that takes so many bytes and then no more, until it is given leave again.
#[derive(Default)]
struct Socket {
    taken: Mutex<Vec<u8>>,
    takes: AtomicU64,
    /// Whether it keeps what it took, and has to be asked again, as TLS may.
    holds_back: AtomicBool,
    /// What was sent beside the stream, if that is possible.
    datagrams: Mutex<Option<Vec<Bytes>>>,
    /// Called in the middle of a write.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Wire for Socket {
    fn try_write(&self, unsent: &mut Unsent) -> bool {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        let takes = self.takes.load(Ordering::Relaxed) as usize;
        let bytes: Vec<u8> = unsent.iter().flatten().copied().take(takes).collect();
        unsent.advance(bytes.len());
        self.takes.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        self.taken.lock().unwrap().extend(bytes);
        unsent.is_empty() && !self.holds_back.load(Ordering::Relaxed)
    }

    fn send_datagram(&self, body: Bytes) -> bool {
        let mut datagrams = self.datagrams.lock().unwrap();
        datagrams.as_mut().map(|datagrams| datagrams.push(body)).is_some()
    }
}

/// A session's task: it only counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Fixture {
    ring: Arc<Ring>,
    outbox: Arc<Outbox>,
    reader: Reader,
    unsent: Unsent,
    socket: Arc<Socket>,
    sent: Arc<Counter>,
    woken: Arc<Woken>,
    shared: Shared,
}

fn message(seq: u64) -> Message {
    let body = vec![b'0' + seq as u8].into();
    Message { seq, time: Timestamp(seq), key: None, kind: BodyKind::Json, body }
}

impl Fixture {
    /// A session that has its seat and has lent its cursor, and a ring of four messages.
    fn lent(presence: Option<PresenceWish>) -> Self {
        Self::with_ring_of(4, presence)
    }

    fn with_ring_of(ring_bytes: usize, presence: Option<PresenceWish>) -> Self {
        let policy = Policy {
            ring_bytes,
            ring_age: Duration::from_secs(1),
            outbox_bytes: 16,
            page_bytes: 100,
            presence_bytes: 100,
        };
        let (ring, outbox) = (Ring::new(0, policy.clone()), Outbox::new(V1, &policy));
        let socket = Arc::new(Socket::default());
        socket.takes.store(1_000, Ordering::Relaxed);
        let sent = Arc::new(Counter::default());
        outbox.seat(Seated {
            ring: ring.clone(),
            epoch: Epoch { store: 1, deletion: 0 },
            start: 1,
            may_skip: false,
            sid: Sid(1),
            presence,
            presence_version: 0,
        });
        let reader = Reader::new(outbox.clone()).with_wire(socket.clone(), sent.clone());
        let (unsent, woken, shared) = (Unsent::new(), Arc::default(), Shared::default());
        let mut fix = Self { ring, outbox, reader, unsent, socket, sent, woken, shared };
        fix.wait();
        fix
    }

    /// Does what a session does before it waits, and waits.
    fn wait(&mut self) {
        let filled = self.reader.fill(&mut self.unsent, &mut Tally::default());
        assert_eq!((filled, self.unsent.is_empty()), (Filled::Enough, true));
        self.reader.lend();
        let waker = Waker::from(self.woken.clone());
        assert!(self.reader.poll_changed(&mut Context::from_waker(&waker), true).is_pending());
    }

    fn recall(&mut self) -> Poll<usize> {
        let waker = Waker::from(self.woken.clone());
        self.reader.poll_recall(&mut Context::from_waker(&waker), &mut self.unsent)
    }

    fn hear(&mut self, seq: u64) {
        self.ring.push(vec![message(seq)]);
        self.serve();
    }

    fn serve(&mut self) {
        self.shared.renew();
        self.outbox.serve(&mut self.shared);
    }

    fn woken(&self) -> u64 {
        self.woken.0.load(Ordering::Relaxed)
    }

    fn takes(&self, bytes: u64) {
        self.socket.takes.store(bytes, Ordering::Relaxed);
    }

    /// What the socket took, without the WebSocket headers.
    fn taken(&self) -> String {
        text(&self.socket.taken.lock().unwrap())
    }
}

fn text(bytes: &[u8]) -> String {
    let (mut text, mut rest) = (String::new(), bytes);
    while let [_, length, tail @ ..] = rest {
        let (body, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        text.push_str(std::str::from_utf8(body).unwrap());
        rest = tail;
    }
    text
}

#[test]
fn who_has_lent_its_cursor_is_written_to_and_not_woken() {
    let mut fix = Fixture::lent(None);
    for seq in 1..=3 {
        fix.hear(seq);
    }
    fix.serve();
    assert_eq!((fix.taken().as_str(), fix.sent.get(), fix.woken()), ("123", 3, 0));
    assert_eq!(fix.recall(), Poll::Ready(0));
    assert!(fix.unsent.is_empty());
    fix.ring.push(vec![message(4)]);
    fix.reader.fill(&mut fix.unsent, &mut Tally::default());
    let pieces: Vec<u8> = fix.unsent.iter().flatten().copied().collect();
    assert_eq!(text(&pieces), "4", "the session goes on where the others stopped");
}

/// What leaves with one write is limited, what is heard at once is not.
#[test]
fn more_than_one_write_holds_is_written_to_the_end_or_is_the_sessions() {
    for messages in [1, 2, ROUNDS - 1, ROUNDS, 2 * ROUNDS] {
        let mut fix = Fixture::with_ring_of(usize::MAX, None);
        fix.takes(u64::MAX / 2);
        for seq in 1..=messages as u64 {
            let body = vec![b'x'; GATHER_BYTES].into();
            fix.ring.push(vec![Message { body, ..message(seq) }]);
        }
        fix.serve();
        let frame = GATHER_BYTES + 10;
        let written = fix.socket.taken.lock().unwrap().len() / frame;
        let is_to_go_on = written < messages || fix.woken() > 0;
        assert_eq!((written, is_to_go_on), (messages.min(ROUNDS), messages >= ROUNDS));
        assert_eq!(fix.recall(), Poll::Ready(0));
        fix.reader.fill(&mut fix.unsent, &mut Tally::default());
        assert_eq!(fix.unsent.is_empty(), messages <= ROUNDS);
    }
}

#[test]
fn answers_and_what_may_be_dropped_leave_with_the_messages_in_their_places() {
    let mut fix = Fixture::lent(Some(PresenceWish::Count));
    fix.ring.push((1..=2).map(message).collect());
    fix.outbox.send_after(1, wrap_json(V1, "L"));
    fix.outbox.answer(wrap_json(V1, "u"), Verdict::Taken);
    let form = |text: &str| text.to_owned();
    fix.ring.change(Change { version: 1, full: form("f"), count: form("c"), auto: form("a") });
    fix.serve();
    assert_eq!(fix.taken(), "u1L2c");
    for (from, body) in [(1, "own"), (2, "theirs")] {
        let (kind, key) = (BodyKind::Json, "k".into());
        fix.ring.show(Ephemeral { from: Sid(from), key, kind, body: body.into() });
    }
    fix.serve();
    assert_eq!((fix.taken().as_str(), fix.sent.get()), ("u1L2ctheirs", 6));
    assert_eq!(fix.recall(), Poll::Ready(1), "and the session learns what was answered");
    assert_eq!(fix.recall(), Poll::Ready(0), "once");
}

#[test]
fn what_the_socket_does_not_take_goes_back_to_its_session_to_the_byte() {
    for takes in 0..3 {
        let mut fix = Fixture::lent(None);
        fix.takes(takes);
        fix.hear(1);
        assert_eq!(fix.woken(), 1, "it has something to do");
        fix.hear(2); // and what comes now is its own affair
        assert_eq!(fix.recall(), Poll::Ready(0));
        let mut all = fix.socket.taken.lock().unwrap().clone();
        assert_eq!(all.len() as u64, takes);
        all.extend(fix.unsent.iter().flatten());
        assert_eq!(text(&all), "1", "{takes} bytes were taken");
        fix.unsent = Unsent::new();
        fix.reader.fill(&mut fix.unsent, &mut Tally::default());
        let rest: Vec<u8> = fix.unsent.iter().flatten().copied().collect();
        assert_eq!(text(&rest), "2");
    }
}

#[test]
fn a_wire_that_holds_something_back_is_for_its_session() {
    let mut fix = Fixture::lent(None);
    fix.socket.holds_back.store(true, Ordering::Relaxed);
    fix.hear(1);
    assert_eq!((fix.taken().as_str(), fix.woken()), ("1", 1));
    assert_eq!(fix.recall(), Poll::Ready(0));
    assert!(fix.unsent.is_empty());
}

#[test]
fn what_leaves_beside_the_stream_does_and_other_streams_are_the_sessions() {
    let mut fix = Fixture::lent(Some(PresenceWish::Count));
    *fix.socket.datagrams.lock().unwrap() = Some(Vec::new());
    let (from, kind, key) = (Sid(2), BodyKind::Json, "k".into());
    fix.ring.show(Ephemeral { from, key, kind, body: "here".into() });
    fix.serve();
    let datagrams = fix.socket.datagrams.lock().unwrap().clone();
    assert_eq!((datagrams, fix.taken().as_str()), (Some(vec!["here".into()]), ""));
    assert_eq!(fix.sent.get(), 1);

    fix.outbox.answer_aside(Side(7), "answer".into(), Verdict::Taken);
    fix.hear(1);
    assert_eq!((fix.taken().as_str(), fix.woken()), ("1", 1));
    assert_eq!(fix.recall(), Poll::Ready(0), "it has not been answered yet");
    let mut tally = Tally::default();
    fix.reader.fill(&mut fix.unsent, &mut tally);
    assert_eq!((tally.answered, tally.aside), (1, vec![(Side(7), "answer".into())]));
}

#[test]
fn what_may_be_dropped_is_shown_to_the_last_of_it() {
    let mut fix = Fixture::lent(Some(PresenceWish::Count));
    *fix.socket.datagrams.lock().unwrap() = Some(Vec::new());
    for number in 0..400 {
        let (from, kind, key) = (Sid(2), BodyKind::Json, format!("{number}"));
        fix.ring.show(Ephemeral { from, key, kind, body: vec![b'x'; 100].into() });
    }
    fix.serve();
    assert_eq!(fix.socket.datagrams.lock().unwrap().as_ref().map(Vec::len), Some(400));
}

#[test]
fn a_transport_that_fails_is_its_sessions_trouble_alone() {
    let mut fix = Fixture::lent(None);
    *fix.socket.meanwhile.lock().unwrap() = Some(Box::new(|| panic!("a bug of the transport's")));
    fix.hear(1);
    assert_eq!((fix.taken().as_str(), fix.woken()), ("", 1));
    assert_eq!(fix.recall(), Poll::Ready(0));
    let rest: Vec<u8> = fix.unsent.iter().flatten().copied().collect();
    assert_eq!(text(&rest), "1");
}

#[test]
fn a_session_that_wants_its_cursor_waits_for_the_write_under_way() {
    let mut fix = Fixture::lent(None);
    let (outbox, woken) = (fix.outbox.clone(), fix.woken.clone());
    *fix.socket.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let mut reader = Reader::new(outbox);
        let waker = Waker::from(woken);
        let recalled = reader.poll_recall(&mut Context::from_waker(&waker), &mut Unsent::new());
        assert!(recalled.is_pending());
    }));
    fix.hear(1);
    assert_eq!((fix.taken().as_str(), fix.woken()), ("1", 1));
    assert_eq!(fix.recall(), Poll::Ready(0));
    assert!(fix.unsent.is_empty());
    fix.wait();
    fix.hear(2);
    assert_eq!(fix.taken(), "12");
}

#[test]
fn what_comes_in_the_middle_of_a_write_is_not_forgotten() {
    let mut fix = Fixture::lent(None);
    let (ring, outbox) = (fix.ring.clone(), fix.outbox.clone());
    *fix.socket.meanwhile.lock().unwrap() = Some(Box::new(move || {
        ring.push(vec![message(2)]);
        outbox.serve(&mut Shared::default()); // somebody else is serving it already
    }));
    fix.hear(1);
    assert_eq!((fix.taken().as_str(), fix.woken()), ("12", 1));
    assert_eq!(fix.recall(), Poll::Ready(0), "it was told, and looks for itself");
}

#[test]
fn a_goodbye_and_what_only_the_store_has_are_for_the_session() {
    let mut fix = Fixture::lent(None);
    fix.ring.push((1..=3).map(message).collect());
    fix.ring.push((4..=9).map(message).collect()); // the first are no longer there
    fix.serve();
    assert_eq!((fix.taken().as_str(), fix.woken()), ("", 1));
    assert_eq!(fix.recall(), Poll::Ready(0));
    let filled = fix.reader.fill(&mut fix.unsent, &mut Tally::default());
    assert_eq!(filled, Filled::CatchUp { from: 1 });

    let mut fix = Fixture::lent(None);
    fix.outbox.close(CloseReason::RoomDeleted, None);
    fix.hear(1);
    assert_eq!((fix.taken().as_str(), fix.woken()), ("", 1));
    assert_eq!(fix.recall(), Poll::Ready(0));
    let filled = fix.reader.fill(&mut fix.unsent, &mut Tally::default());
    assert!(matches!(filled, Filled::Close(_)));
}

#[test]
fn lost_changes_of_who_is_here_are_asked_for_by_the_session() {
    let mut fix = Fixture::lent(Some(PresenceWish::Full));
    let form = |text: &str| text.to_owned();
    fix.ring.change(Change { version: 5, full: form("f"), count: form("c"), auto: form("a") });
    fix.serve();
    assert_eq!((fix.taken().as_str(), fix.woken()), ("", 1));
    assert_eq!(fix.recall(), Poll::Ready(0));
    let filled = fix.reader.fill(&mut fix.unsent, &mut Tally::default());
    assert_eq!(filled, Filled::AskForMembers);
}

#[test]
fn members_at_the_same_place_share_what_was_gathered() {
    let ring = Fixture::lent(None).ring;
    ring.push(vec![message(1)]);
    ring.push(vec![message(2)]);
    let (all, next) = ring.gather(1, GATHER_BYTES, V1).unwrap();
    assert_eq!((text(&all).as_str(), next), ("12", 3));
    let (enough, next) = ring.gather(1, 1, V1).unwrap();
    assert_eq!((text(&enough).as_str(), next), ("1", 2));
    assert!(ring.gather(3, GATHER_BYTES, V1).is_none());
}
