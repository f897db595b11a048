//! What a room broadcasts, once for all of its members.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::Policy;
use super::ephemerals::Slots;
use super::presence::{Change, Changes};
use crate::budget::{self, Budget};
use crate::protocol::framing::{HEADER_BYTES, wrap};
use crate::protocol::{Framing, Profile, seed};
use crate::room::Ephemeral;
use crate::store::{BodyKind, Message};

/// The most bytes of messages in one chunk, unless one message alone has more. Small enough
/// that a full ring lets go of little at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// So many of the newest chunks are looked through one by one before the rest is searched.
const NEWEST: usize = 8;

/// A bounded, append-only window on a room's newest messages.
///
/// It wakes nobody: whoever changed it tells the outboxes, once for all that changed.
pub struct Ring {
    policy: Policy,
    window: Mutex<Window>,
    pub(super) changes: Changes,
    pub(super) slots: Slots,
    heads: Heads,
}

/// The newest of everything that a room broadcasts. Stored after what they speak of.
#[derive(Debug, Default)]
struct Heads {
    message: AtomicU64,
    presence: AtomicU64,
    ephemeral: AtomicU64,
}

#[derive(Default)]
struct Window {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
}

/// Messages that were heard at the same moment.
struct Chunk {
    messages: Vec<Message>,
    bytes: usize,
    heard_at: Instant,
    /// One encoding per framing, made when the first session of that framing comes by.
    encoded: [OnceLock<Encoded>; Framing::COUNT],
}

/// Messages as they go on a wire.
pub(super) struct Encoded {
    bytes: Bytes,
    /// Where each message ends.
    ends: Vec<usize>,
}

impl Encoded {
    /// Wraps messages for a framing.
    pub(super) fn new(messages: &[Message], framing: Framing) -> Self {
        let size = messages.iter().map(|m| m.body.len() + HEADER_BYTES).sum();
        let mut bytes = BytesMut::with_capacity(size);
        let ends = messages.iter().map(|message| {
            match framing.profile() {
                Profile::V1 => wrap(framing, message.kind, &message.body, &mut bytes),
                // A message that is no chat is nothing to a seed client.
                Profile::Seed => {
                    if let Some(chat) = seed::chat_json(message.kind, &message.body) {
                        wrap(framing, BodyKind::Json, chat.as_bytes(), &mut bytes);
                    }
                }
            }
            bytes.len()
        });
        let ends = ends.collect();
        Self { bytes: bytes.freeze(), ends }
    }

    /// The bytes of the messages from the one at `first` up to, not including, that at `end`.
    pub(super) fn piece(&self, first: usize, end: usize) -> Bytes {
        let offset = |count: usize| if count == 0 { 0 } else { self.ends[count - 1] };
        self.bytes.slice(offset(first)..offset(end))
    }
}

impl Chunk {
    fn first(&self) -> u64 {
        self.messages[0].seq
    }

    fn end(&self) -> u64 {
        self.first() + self.messages.len() as u64
    }

    fn encoded(&self, framing: Framing) -> &Encoded {
        self.encoded[framing.index()].get_or_init(|| Encoded::new(&self.messages, framing))
    }
}

/// What a cursor found in the ring.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A piece, and where the cursor stands behind it.
    Piece(Bytes, u64),
    /// The cursor is at the newest message.
    UpToDate,
    /// The cursor's message is no longer here.
    Behind,
}

impl Ring {
    /// A ring of a room whose newest message is `newest`.
    pub fn new(newest: u64, policy: Policy) -> Arc<Self> {
        let heads = Heads { message: newest.into(), ..Heads::default() };
        let (window, changes, slots) = (Mutex::default(), Changes::default(), Slots::default());
        Arc::new(Self { policy, window, changes, slots, heads })
    }

    /// A ring of another room that may keep as much.
    pub fn anew(&self) -> Arc<Self> {
        Self::new(0, self.policy.clone())
    }

    /// The newest message that was heard.
    pub fn head(&self) -> u64 {
        self.heads.message.load(Ordering::Acquire)
    }

    /// The newest change of who is here.
    pub(super) fn presence(&self) -> u64 {
        self.heads.presence.load(Ordering::Acquire)
    }

    /// The newest ephemeral.
    pub(super) fn ephemeral(&self) -> u64 {
        self.heads.ephemeral.load(Ordering::Acquire)
    }

    /// Tells everybody of a change of who is here.
    pub fn change(&self, change: Change) {
        let version = change.version;
        self.changes.push(change, self.policy.presence_bytes, Instant::now());
        self.heads.presence.store(version, Ordering::Release);
    }

    /// Lets everybody but its author see an ephemeral.
    pub fn show(&self, ephemeral: Ephemeral) {
        let number = self.ephemeral() + 1; // the keeper alone counts here
        self.slots.put(number, ephemeral, Instant::now());
        self.heads.ephemeral.store(number, Ordering::Release);
    }

    /// Lets everybody hear messages: they are on disk, in order, and follow the newest.
    pub fn push(&self, messages: Vec<Message>) {
        let Some(newest) = messages.last().map(|message| message.seq) else { return };
        debug_assert_eq!(messages[0].seq, self.head() + 1, "a ring has no gap");
        let heard_at = Instant::now();
        let mut window = self.window();
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while let Some(next) =
                messages.next_if(|next| chunk.is_empty() || bytes + next.body.len() <= CHUNK_BYTES)
            {
                bytes += next.body.len();
                chunk.push(next);
            }
            window.bytes += bytes;
            let encoded = Default::default();
            window.chunks.push_back(Arc::new(Chunk { messages: chunk, bytes, heard_at, encoded }));
        }
        while window.bytes > self.policy.ring_bytes && window.chunks.len() > 1 {
            window.drop_oldest();
        }
        drop(window);
        self.expire_messages(heard_at);
        self.heads.message.store(newest, Ordering::Release);
    }

    /// Lets go of what is older than `ring_age`; says when there will be something again.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        let changes = self.changes.expire(now, self.policy.ring_age);
        let slots = self.slots.expire(now);
        self.expire_messages(now).into_iter().chain(changes).chain(slots).min()
    }

    fn expire_messages(&self, now: Instant) -> Option<Instant> {
        let mut window = self.window();
        while let Some(oldest) = window.chunks.front() {
            let at = oldest.heard_at + self.policy.ring_age;
            if at > now {
                return Some(at);
            }
            window.drop_oldest();
        }
        None
    }

    /// Lets go of everything: the room sleeps.
    pub fn clear(&self) {
        *self.window() = Window::default();
    }

    /// Moves the head without messages: the room was opened, nobody has read yet. What was here
    /// before belongs to another log.
    pub fn start(&self, newest: u64) {
        self.clear();
        self.heads.message.store(newest, Ordering::Release);
    }

    /// The piece at a cursor that stands at `next`, with nothing later than `until` in it.
    pub(super) fn take(&self, next: u64, until: u64, framing: Framing) -> Taken {
        let head = self.head();
        if next > head.min(until) {
            return Taken::UpToDate;
        }
        let window = self.window();
        let Some(chunk) = window.chunk_of(next) else { return Taken::Behind };
        let end = chunk.end().min(until.saturating_add(1)).min(head + 1);
        let index = |seq: u64| (seq - chunk.first()) as usize;
        let (first, end_index) = (index(next), index(end));
        // Nearly everybody comes for what another has encoded already: no need to hold the chunk
        // itself, whose count of holders all of them would change.
        if let Some(encoded) = chunk.encoded[framing.index()].get() {
            return Taken::Piece(encoded.piece(first, end_index), end);
        }
        let chunk = chunk.clone();
        drop(window);
        Taken::Piece(chunk.encoded(framing).piece(first, end_index), end)
    }

    /// Everything from `next` on, or about `enough` bytes of it, in one piece, and where a cursor
    /// stands behind it. Nothing if it is not all here, or there is nothing.
    pub(super) fn gather(
        &self,
        next: u64,
        enough: usize,
        framing: Framing,
    ) -> Option<(Bytes, u64)> {
        let Taken::Piece(piece, mut at) = self.take(next, u64::MAX, framing) else { return None };
        if piece.len() >= enough || at > self.head() {
            return Some((piece, at));
        }
        let mut all = BytesMut::from(&piece[..]);
        while all.len() < enough
            && let Taken::Piece(piece, behind) = self.take(at, u64::MAX, framing)
        {
            all.extend_from_slice(&piece);
            at = behind;
        }
        Some((all.freeze(), at))
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// The chunk that holds a message. Most readers come for one of the newest.
    fn chunk_of(&self, seq: u64) -> Option<&Arc<Chunk>> {
        let mut newest = self.chunks.iter().rev().take(NEWEST);
        let found = newest.find(|chunk| chunk.first() <= seq);
        found.or_else(|| {
            let at = self.chunks.partition_point(|chunk| chunk.end() <= seq);
            self.chunks.get(at).filter(|chunk| chunk.first() <= seq)
        })
    }

    fn drop_oldest(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.bytes -= chunk.bytes;
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let bytes_of = |chunk: &Arc<Chunk>| {
            chunk.messages.iter().map(|message| message.body.len()).sum::<usize>()
        };
        let there = || self.chunks.iter().map(bytes_of).sum();
        budget::check(Budget::RingBytes, self.bytes, there);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::Timestamp;

    fn policy(ring_bytes: usize) -> Policy {
        Policy {
            ring_bytes,
            ring_age: Duration::from_secs(1),
            outbox_bytes: 1_000,
            page_bytes: 1_000,
            presence_bytes: 1_000,
        }
    }

    fn message(seq: u64, size: usize) -> Message {
        let body = vec![b'a' + (seq % 26) as u8; size].into();
        Message { seq, time: Timestamp(seq), key: None, kind: BodyKind::Json, body }
    }

    fn piece(taken: Taken) -> (Vec<u8>, u64) {
        match taken {
            Taken::Piece(bytes, next) => (bytes.to_vec(), next),
            other => panic!("expected a piece, got {other:?}"),
        }
    }

    #[test]
    fn a_cursor_takes_from_the_middle_of_a_chunk_and_stops_where_it_is_told() {
        let ring = Ring::new(0, policy(1_000));
        ring.push((1..=4).map(|seq| message(seq, 1)).collect());
        let v1 = Framing::V1WebSocket;
        assert_eq!(piece(ring.take(2, 3, v1)), (b"\x81\x01c\x81\x01d".to_vec(), 4));
        assert_eq!(piece(ring.take(4, u64::MAX, v1)), (b"\x81\x01e".to_vec(), 5));
        assert_eq!(ring.take(5, u64::MAX, v1), Taken::UpToDate);
        assert_eq!(ring.take(4, 3, v1), Taken::UpToDate, "not yet");
    }

    #[test]
    fn a_full_ring_lets_go_of_the_oldest() {
        let ring = Ring::new(0, policy(100));
        for seq in 1..=10 {
            ring.push(vec![message(seq, 30)]);
        }
        assert_eq!(ring.take(7, u64::MAX, Framing::V1WebSocket), Taken::Behind);
        assert_eq!(piece(ring.take(8, u64::MAX, Framing::V1WebSocket)).1, 9);
    }

    #[test]
    fn one_message_larger_than_the_ring_still_goes_through_it() {
        let ring = Ring::new(0, policy(100));
        ring.push(vec![message(1, 500)]);
        assert_eq!(piece(ring.take(1, u64::MAX, Framing::V1WebTransport)).1, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_stays_longer_than_ring_age() {
        let ring = Ring::new(0, policy(1_000));
        ring.push(vec![message(1, 10)]);
        let at = ring.expire(Instant::now()).unwrap();
        assert_eq!(ring.expire(at), None);
        assert_eq!(ring.take(1, u64::MAX, Framing::V1WebSocket), Taken::Behind);
        assert_eq!(ring.head(), 1, "the head stays");
    }

    #[test]
    fn a_log_that_begins_anew_is_not_read_from_the_old_one() {
        let ring = Ring::new(0, policy(1_000));
        ring.push((1..=4).map(|seq| message(seq, 10)).collect());
        ring.start(1);
        ring.push(vec![message(2, 3)]);
        let (bytes, next) = piece(ring.take(2, u64::MAX, Framing::V1WebSocket));
        assert_eq!((bytes.len(), next), (5, 3));
        assert_eq!(ring.take(1, u64::MAX, Framing::V1WebSocket), Taken::Behind);
    }

    #[test]
    fn all_sessions_of_a_framing_share_one_encoding() {
        let ring = Ring::new(0, policy(1_000));
        ring.push(vec![message(1, 10)]);
        let take = |framing| match ring.take(1, u64::MAX, framing) {
            Taken::Piece(bytes, _) => bytes,
            other => panic!("expected a piece, got {other:?}"),
        };
        let v1 = take(Framing::V1WebSocket);
        assert_eq!(v1.as_ptr(), take(Framing::V1WebSocket).as_ptr());
        assert_ne!(v1.as_ptr(), take(Framing::V1WebTransport).as_ptr());
    }
}
