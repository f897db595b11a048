//! Writing to members without waking their sessions.
//!
//! Waking a thousand tasks for one message costs more than the message. A session that waits,
//! with everything written and nothing else to do, therefore *lends* its cursor to its outbox,
//! and whoever moves the ring writes in its stead, straight to the socket:
//!
//! ```text
//!              lend                    borrow
//!   session ────────────▶ Idle ◀──────────────────▶ Busy      whoever moved the ring
//!           ◀──────────── recall      give back
//! ```
//!
//! - One writer at a time: the cursor is the right to write, and is in one place. No lock is
//!   held while a socket is written to.
//! - A session that has woken takes its cursor back before it does anything else, and waits for
//!   the one write that may be under way.
//! - What a socket does not take at once, what needs the store, a goodbye: the cursor goes back to
//!   its session, with the rest of the bytes, and its session is woken.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::reader::{Cursor, GATHER_BYTES, fill};
use super::{Filled, Outbox, Reader, Ring, Tally, Unsent};
use crate::protocol::Framing;

/// The most pieces given to a socket in one write.
pub const PIECES: usize = 32;

/// How many different pieces of the ring are remembered for the next member: one for each framing,
/// at two places.
const REMEMBERED: usize = 2 * Framing::COUNT;

/// How often a borrowed cursor is filled from before it goes back to its session.
const ROUNDS: usize = 4;

/// A client's socket that can be written to from anywhere, by one at a time.
pub trait Wire: Send + Sync {
    /// Takes what it can at once, in order, and says how many bytes that was; waits for nothing.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if it takes nothing now, others if it is broken.
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Where a session's cursor is.
#[derive(Default)]
pub(super) enum Lent {
    /// With its session.
    #[default]
    No,
    /// Here, for whoever moves the ring.
    Idle(Box<Cursor>),
    /// In use.
    Busy,
    /// In use, and its session waits for it.
    Recalled,
    /// To be taken back by its session, with what the socket did not take.
    Returned(Box<(Box<Cursor>, Unsent)>),
}

impl Reader {
    /// Lets others write while this session waits, if it has a seat and its wire allows that.
    /// Everything chosen for the wire must have been taken by it.
    pub fn lend(&mut self) {
        if self.cursor.as_ref().is_some_and(|cursor| cursor.line.is_some())
            && let Some(cursor) = self.cursor.take()
        {
            self.outbox.private().lent = Lent::Idle(cursor);
        }
    }

    /// Takes the cursor back, and what was chosen for the wire and not taken by it. Ready at once
    /// unless somebody is writing; says how many requests were answered meanwhile.
    pub fn poll_recall(&mut self, cx: &mut Context<'_>, unsent: &mut Unsent) -> Poll<usize> {
        let mut private = self.outbox.private();
        match std::mem::take(&mut private.lent) {
            Lent::No => {}
            Lent::Idle(cursor) => self.cursor = Some(cursor),
            Lent::Returned(returned) => {
                let (cursor, rest) = *returned;
                self.cursor = Some(cursor);
                *unsent = rest;
            }
            Lent::Busy | Lent::Recalled => {
                private.lent = Lent::Recalled;
                private.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(std::mem::take(&mut private.answered))
    }
}

impl Outbox {
    /// The ring has moved: writes what is new if the session has lent its cursor, else tells the
    /// session.
    pub fn serve(&self, shared: &mut Shared) {
        if let Some(mut loan) = self.borrow() {
            loan.write(shared);
        }
    }

    /// The session's cursor, if it may be used. Else the session is told.
    fn borrow(&self) -> Option<Loan<'_>> {
        let mut private = self.private();
        if private.closing.is_none() && matches!(private.lent, Lent::Idle(_)) {
            let Lent::Idle(cursor) = std::mem::replace(&mut private.lent, Lent::Busy) else {
                unreachable!("it was idle a line ago");
            };
            private.has_changed = false;
            let owes_messages_only = private.urgent.is_empty()
                && private.ordered.is_empty()
                && private.members.is_none();
            let unsent = Unsent::new();
            let cursor = Some(cursor);
            return Some(Loan { outbox: self, cursor, unsent, owes_messages_only, answered: 0 });
        }
        let waker = private.changed();
        drop(private);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }
}

/// A cursor that is not its session's for the moment; goes back by itself.
struct Loan<'a> {
    outbox: &'a Outbox,
    /// There until it is given back.
    cursor: Option<Box<Cursor>>,
    unsent: Unsent,
    /// Whether nothing of the session's own was waiting.
    owes_messages_only: bool,
    answered: usize,
}

impl Loan<'_> {
    /// Writes what there is. What remains to be done is its session's.
    fn write(&mut self, shared: &mut Shared) {
        let Some(cursor) = &mut self.cursor else { return };
        if self.owes_messages_only && cursor.wants_messages_only() {
            let Some((bytes, next)) = shared.at(cursor, self.outbox.framing) else {
                if cursor.next <= cursor.ring.head() {
                    self.hand_back();
                }
                return;
            };
            cursor.count(next - cursor.next);
            cursor.next = next;
            cursor.may_skip = false;
            match cursor.try_write(&[IoSlice::new(bytes)]) {
                Ok(count) if count == bytes.len() => {}
                Ok(count) => self.unsent.push_back(bytes.slice(count..)),
                Err(_) => self.unsent.push_back(bytes.clone()), // its session will see why
            }
            return;
        }
        for _ in 0..ROUNDS {
            if !self.fill() {
                return self.hand_back();
            }
            if self.unsent.is_empty() {
                return;
            }
            if !self.flush() {
                return;
            }
        }
        self.hand_back();
    }

    /// Chooses what to write next; `false` if that is for the session to decide.
    fn fill(&mut self) -> bool {
        let mut tally = Tally::default();
        let filled = fill(self.outbox, &mut self.cursor, &mut self.unsent, &mut tally);
        let Tally { answered, mut frames, aside, ephemerals } = tally;
        debug_assert!(aside.is_empty(), "a wire that can be lent has no streams beside it");
        for slot in ephemerals {
            self.unsent.push_back(slot.frame(self.outbox.framing));
            frames += 1;
        }
        self.answered += answered;
        let Some(cursor) = &mut self.cursor else { return false };
        cursor.count(frames);
        match filled {
            Filled::Enough => true,
            Filled::AskForMembers => {
                cursor.asks_again_for_members();
                false
            }
            Filled::CatchUp { .. } | Filled::Close(_) => false,
        }
    }

    /// Gives the socket what was chosen; says whether it took all.
    fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = self.unsent.slices(&mut pieces);
            let Some(cursor) = &mut self.cursor else { return false };
            match cursor.try_write(&pieces[..count]) {
                Ok(count) if count > 0 => self.unsent.advance(count),
                _ => return false, // full, or broken: its session will see
            }
        }
        true
    }

    /// Gives the cursor back to its session, which has something to do.
    fn hand_back(&mut self) {
        self.outbox.private().has_changed = true;
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let Some(cursor) = self.cursor.take() else { return };
        let mut private = self.outbox.private();
        private.answered += self.answered;
        let recalled = matches!(private.lent, Lent::Recalled);
        if !recalled && !private.has_changed && self.unsent.is_empty() {
            private.lent = Lent::Idle(cursor);
            return;
        }
        private.lent = Lent::Returned(Box::new((cursor, std::mem::take(&mut self.unsent))));
        private.has_changed = true;
        let waker = private.waker.take();
        drop(private);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What was gathered from the ring for one member, for the next ones that stand at the same place:
/// they nearly all do.
#[derive(Default)]
pub struct Shared {
    gathered: Vec<Gathered>,
}

struct Gathered {
    ring: Arc<Ring>,
    framing: Framing,
    from: u64,
    next: u64,
    bytes: Bytes,
}

impl Shared {
    /// Forgets what was gathered: there may be more by now.
    pub fn renew(&mut self) {
        self.gathered.clear();
    }

    /// Everything from the cursor to the newest message, or enough for one write, and where the
    /// cursor stands behind it. Nothing if there is nothing new, or the ring has it no more.
    fn at(&mut self, cursor: &Cursor, framing: Framing) -> Option<(&Bytes, u64)> {
        let is_it = |gathered: &Gathered| {
            gathered.from == cursor.next
                && gathered.framing == framing
                && Arc::ptr_eq(&gathered.ring, &cursor.ring)
        };
        let index = match self.gathered.iter().position(is_it) {
            Some(index) => index,
            None => {
                let ring = cursor.ring.clone();
                let (bytes, next) = ring.gather(cursor.next, GATHER_BYTES, framing)?;
                if self.gathered.len() == REMEMBERED {
                    self.gathered.clear();
                }
                self.gathered.push(Gathered { ring, framing, from: cursor.next, next, bytes });
                self.gathered.len() - 1
            }
        };
        let Gathered { bytes, next, .. } = &self.gathered[index];
        Some((bytes, *next))
    }
}

#[cfg(test)]
mod tests;
