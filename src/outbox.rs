//! What a session is still owed.
//!
//! A room broadcasts into one [`Ring`] for all. A session's outbox is a cursor into that ring
//! and a small private queue: nothing is copied or queued per member, and a session that is
//! woken takes everything from its cursor to the newest for one write.
//!
//! ```text
//!   keeper ──▶ ring ─────────────┐ cursor
//!          └─▶ private queue ──▶ Reader::fill ──▶ the session's one write
//!   store ────(behind the ring)──┘
//! ```
//!
//! - Live, resume and catch-up are one loop: from the ring if the cursor is in it, else from
//!   the store in slices.
//! - An *ordered* entry leaves only when the cursor has passed its `seq`; an *urgent* one leaves
//!   with the next write, between two frames.
//! - Nothing here waits: a reader that is slow only falls behind.

mod ephemerals;
mod presence;
mod reader;
mod ring;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::protocol::v1::PresenceWish;
use crate::protocol::{CloseReason, Epoch, Framing, Sid, Timestamp};
use crate::room::Side;

pub use ephemerals::Slot;
pub use presence::Change;
pub use reader::{Filled, Lost, Reader, Tally};
pub use ring::{Heads, Ring};

/// What a room may keep for its readers.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The most bytes of messages a ring keeps.
    pub ring_bytes: usize,
    /// The longest a ring keeps a message.
    pub ring_age: Duration,
    /// The most bytes of a private queue before its session is not read from.
    pub outbox_bytes: usize,
    /// The most bytes read from the store at once.
    pub page_bytes: usize,
    /// The most bytes of changes of who is here that are kept, and of members told at once.
    pub presence_bytes: usize,
}

/// A session's private queue, filled by the keeper.
pub struct Outbox {
    framing: Framing,
    outbox_bytes: usize,
    private: Mutex<Private>,
    wake: Notify,
    ended: Notify,
    /// When the session last answered something by itself, for whoever asks its room; 0: never.
    auto_responded: AtomicU64,
}

#[derive(Default)]
struct Private {
    seated: Option<Seated>,
    urgent: VecDeque<Urgent>,
    ordered: VecDeque<Ordered>,
    /// Who is here, whole, as of a version. A later one replaces it.
    members: Option<(u64, Bytes)>,
    bytes: usize,
    closing: Option<Closing>,
}

/// An entry that skips the order.
struct Urgent {
    frame: Bytes,
    /// Whether it answers a request that the session counts.
    answers: bool,
    /// The stream it leaves by, if not the main one.
    side: Option<Side>,
}

/// An entry that leaves once everything up to `after` has.
struct Ordered {
    after: u64,
    frame: Bytes,
    /// A later line of the same kind makes this one worthless.
    superseded: bool,
}

/// Where a session's reading begins.
pub struct Seated {
    /// The room's ring.
    pub ring: Arc<Ring>,
    /// The log's epoch.
    pub epoch: Epoch,
    /// The first message to send.
    pub start: u64,
    /// Whether messages that are no longer kept may be passed over: the client asked for some
    /// history, not for every message after a position.
    pub may_skip: bool,
    /// The seat: it is not sent its own ephemerals.
    pub sid: Sid,
    /// How much it is told about who is here; nothing in the seed profile.
    pub presence: Option<PresenceWish>,
    /// The last change of that it knows.
    pub presence_version: u64,
}

/// How a session is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Why.
    pub reason: CloseReason,
    /// When to come back, in ms.
    pub retry_after: Option<u64>,
}

impl Outbox {
    /// An empty outbox for a session of this framing.
    pub fn new(framing: Framing, policy: &Policy) -> Arc<Self> {
        Arc::new(Self {
            framing,
            outbox_bytes: policy.outbox_bytes,
            private: Mutex::default(),
            wake: Notify::new(),
            ended: Notify::new(),
            auto_responded: AtomicU64::new(0),
        })
    }

    /// The session has answered something by itself.
    pub fn auto_responded(&self, at: Timestamp) {
        self.auto_responded.store(at.0, Ordering::Relaxed);
    }

    /// When it last did.
    pub fn last_auto_response(&self) -> Option<Timestamp> {
        let at = self.auto_responded.load(Ordering::Relaxed);
        (at > 0).then_some(Timestamp(at))
    }

    /// How this session's frames are wrapped.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The session has its seat: what the room broadcasts is its from here on.
    pub fn seat(&self, seated: Seated) {
        self.private().seated = Some(seated);
        self.wake.notify_one();
    }

    /// Queues a frame that leaves with the next write; `answers` says that it is one which the
    /// session waits for.
    pub fn send(&self, frame: Bytes, answers: bool) {
        self.send_urgent(Urgent { frame, answers, side: None });
    }

    /// Queues the answer to a request that came on a stream of its own.
    pub fn send_aside(&self, side: Side, frame: Bytes) {
        self.send_urgent(Urgent { frame, answers: true, side: Some(side) });
    }

    fn send_urgent(&self, urgent: Urgent) {
        let mut private = self.private();
        private.bytes += urgent.frame.len();
        private.urgent.push_back(urgent);
        drop(private);
        self.wake.notify_one();
    }

    /// Tells who is here, whole, as of a version; changes go on from there.
    pub fn send_members(&self, version: u64, frame: Bytes) {
        self.private().members = Some((version, frame));
        self.wake.notify_one();
    }

    /// As [`send_after`](Self::send_after), unless the session is owed too much already; says
    /// whether it was queued.
    pub fn offer_after(&self, after: u64, frame: Bytes) -> bool {
        let fits = {
            let private = self.private();
            private.bytes + frame.len() <= self.outbox_bytes && private.closing.is_none()
        };
        if fits {
            self.send_after(after, frame);
        }
        fits
    }

    /// Queues a frame that leaves once the session was sent everything up to `after`.
    pub fn send_after(&self, after: u64, frame: Bytes) {
        self.push(Ordered { after, frame, superseded: false });
    }

    /// As [`send_after`](Self::send_after), for lines that a later line of their kind makes
    /// worthless: when the queue is full, the waiting ones make room for this one.
    pub fn send_newest_after(&self, after: u64, frame: Bytes) {
        let mut private = self.private();
        if private.bytes + frame.len() > self.outbox_bytes {
            let dropped: usize =
                private.ordered.iter().filter(|e| e.superseded).map(|e| e.frame.len()).sum();
            private.ordered.retain(|entry| !entry.superseded);
            private.bytes -= dropped;
        }
        drop(private);
        self.push(Ordered { after, frame, superseded: true });
    }

    fn push(&self, entry: Ordered) {
        let mut private = self.private();
        private.bytes += entry.frame.len();
        private.ordered.push_back(entry);
        drop(private);
        self.wake.notify_one();
    }

    /// Ends the session after what is urgent; the first reason stands.
    pub fn close(&self, reason: CloseReason, retry_after: Option<u64>) {
        self.private().closing.get_or_insert(Closing { reason, retry_after });
        self.wake.notify_one();
        self.ended.notify_one();
    }

    fn private(&self) -> MutexGuard<'_, Private> {
        // A panic in here would have to be in a collection's push: the queue is still whole.
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
