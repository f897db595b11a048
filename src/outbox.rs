//! What a session is still owed.
//!
//! A room broadcasts into one [`Ring`] for all. A session's outbox is a cursor into that ring
//! and a small private queue: nothing is copied or queued per member, and one write takes
//! everything from the cursor to the newest. A session that waits lends its cursor, and is
//! written to without being woken (`lending`).
//!
//! ```text
//!   keeper ──▶ ring ─────────────┐ cursor
//!          └─▶ private queue ──▶ Reader::fill ──▶ one write, by the session or by the room
//!   store ────(behind the ring)──┘
//! ```
//!
//! - Live, resume and catch-up are one loop: from the ring if the cursor is in it, else from
//!   the store in slices.
//! - An *ordered* entry leaves only when the cursor has passed its `seq`; an *urgent* one leaves
//!   with the next write, between two frames.
//! - Nothing here waits: a reader that is slow only falls behind.
//! - Every answer passes here, whoever gives it: a client whose frames are refused a thousand
//!   times in a row is sent away (`refusals`).

mod ephemerals;
mod lending;
mod presence;
mod reader;
mod refusals;
mod ring;
mod unsent;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use self::lending::Lent;
use self::refusals::Refusals;
use crate::budget::{self, Budget};
use crate::protocol::v1::PresenceWish;
use crate::protocol::{CloseReason, Epoch, Framing, Sid, Timestamp, Verdict};
use crate::room::Side;

pub use ephemerals::Slot;
pub use lending::{Shared, Wire};
pub use presence::Change;
pub use reader::{Filled, Lost, Reader, Tally};
pub use refusals::{REFUSED_IN_A_ROW, ROW_PAUSE};
pub use ring::Ring;
pub use unsent::{PIECES, Unsent};

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

/// A session's private queue, filled by the keeper. Whoever has put something in
/// [serves](Self::serve) it afterwards: a session that has lent its cursor is not woken.
pub struct Outbox {
    framing: Framing,
    outbox_bytes: usize,
    private: Mutex<Private>,
    /// When the session last answered something by itself, for whoever asks its room; 0: never.
    auto_responded: AtomicU64,
}

#[derive(Default)]
struct Private {
    seated: Option<Box<Seated>>,
    urgent: VecDeque<Urgent>,
    ordered: VecDeque<Ordered>,
    /// Who is here, whole, as of a version. A later one replaces it.
    members: Option<Box<(u64, Bytes)>>,
    bytes: usize,
    closing: Option<Closing>,
    /// Whether anything changed since the session last looked, also in the ring.
    has_changed: bool,
    /// Whom to tell, and whether of everything or only of the end: a session that waits for its
    /// socket is not woken by every message that it cannot send yet.
    waker: Option<Waker>,
    ends_only: bool,
    /// The session's cursor, while others may write.
    lent: Lent,
    /// Requests that were answered by others than the session, and that it has not counted yet.
    answered: usize,
    refusals: Refusals,
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
        self.change(|private| private.seated = Some(Box::new(seated)));
    }

    /// Queues a frame that leaves with the next write.
    pub fn send(&self, frame: Bytes) {
        self.send_urgent(Urgent { frame, answers: false, side: None }, Verdict::Neither);
    }

    /// As [`send`](Self::send), for the answer to a request that the session counts.
    pub fn answer(&self, frame: Bytes, verdict: Verdict) {
        self.send_urgent(Urgent { frame, answers: true, side: None }, verdict);
    }

    /// As [`answer`](Self::answer), to a request that came on a stream of its own.
    pub fn answer_aside(&self, side: Side, frame: Bytes, verdict: Verdict) {
        self.send_urgent(Urgent { frame, answers: true, side: Some(side) }, verdict);
    }

    fn send_urgent(&self, urgent: Urgent, verdict: Verdict) {
        self.change(|private| {
            private.bytes += urgent.frame.len();
            private.urgent.push_back(urgent);
            private.judge(verdict);
        });
    }

    /// Counts what became of a frame that has no answer, or whose answer the session does not
    /// count. After [`REFUSED_IN_A_ROW`] the session ends.
    pub fn judge(&self, verdict: Verdict) {
        let mut private = self.private();
        if private.judge(verdict) {
            let waker = private.changed();
            wake(private, waker);
        }
    }

    /// Tells who is here, whole, as of a version; changes go on from there.
    pub fn send_members(&self, version: u64, frame: Bytes) {
        self.change(|private| private.members = Some(Box::new((version, frame))));
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
        self.change(|private| {
            private.bytes += entry.frame.len();
            private.ordered.push_back(entry);
        });
    }

    /// Ends the session after what is urgent; the first reason stands.
    pub fn close(&self, reason: CloseReason, retry_after: Option<u64>) {
        self.change(|private| {
            private.closing.get_or_insert(Closing { reason, retry_after });
        });
    }

    /// Changes something and tells the session.
    fn change(&self, change: impl FnOnce(&mut Private)) {
        let mut private = self.private();
        change(&mut private);
        let waker = private.changed();
        wake(private, waker);
    }

    /// Ready once, after something changed; with `ends_only` when the session is to end, only
    /// then. There is one session to an outbox: a waker of 16 bytes does for what would be a
    /// list of waiters.
    fn poll_changed(&self, cx: &mut Context<'_>, ends_only: bool) -> Poll<()> {
        let mut private = self.private();
        if private.has_changed && (!ends_only || private.closing.is_some()) {
            private.has_changed = false;
            return Poll::Ready(());
        }
        if !private.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            private.waker = Some(cx.waker().clone());
        }
        private.ends_only = ends_only;
        Poll::Pending
    }

    fn private(&self) -> MutexGuard<'_, Private> {
        // A panic in here would have to be in a collection's push: the queue is still whole.
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes a session, with nothing locked.
fn wake(private: MutexGuard<'_, Private>, waker: Option<Waker>) {
    drop(private);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let private = self.private.get_mut().unwrap_or_else(PoisonError::into_inner);
        budget::check(Budget::OutboxBytes, private.bytes, || private.waiting_bytes());
    }
}

impl Private {
    /// The bytes of all frames that wait.
    fn waiting_bytes(&self) -> usize {
        let urgent = self.urgent.iter().map(|entry| entry.frame.len());
        urgent.chain(self.ordered.iter().map(|entry| entry.frame.len())).sum()
    }

    /// Counts what became of a frame; says whether the session ends for it.
    fn judge(&mut self, verdict: Verdict) -> bool {
        let closing = self.refusals.count(verdict);
        if let Some(closing) = closing {
            self.closing.get_or_insert(closing);
        }
        closing.is_some()
    }

    /// Notes a change; says whom to wake for it. Nobody while the cursor lies here: then the change
    /// is written by whoever [serves](Outbox::serve) next.
    fn changed(&mut self) -> Option<Waker> {
        self.has_changed = true;
        let concerns = match self.closing {
            Some(_) => true,
            None => !self.ends_only && !matches!(self.lent, Lent::Idle(_)),
        };
        if concerns { self.waker.take() } else { None }
    }

    /// Gives back what empty queues hold: most sessions are owed nothing most of the time.
    fn let_go(&mut self) {
        if self.urgent.is_empty() {
            self.urgent = VecDeque::new();
        }
        if self.ordered.is_empty() {
            self.ordered = VecDeque::new();
        }
    }
}
