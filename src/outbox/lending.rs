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
//! - One writer at a time: the cursor is the right to write, and is in one place. The outbox is
//!   not locked while a socket is written to.
//! - A session that has woken takes its cursor back before it touches its link, and waits for the
//!   one write that may be under way.
//! - What a socket does not take at once, what needs the store, a goodbye: the cursor goes back to
//!   its session, with the rest of the bytes, and its session is woken.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::reader::{Cursor, GATHER_BYTES, fill};
use super::{Filled, Outbox, Reader, Ring, Tally, Unsent, wake};
use crate::protocol::{Framing, Verdict};

/// How many different pieces of the ring are remembered for the next member: one for each framing,
/// at two places.
const REMEMBERED: usize = 2 * Framing::COUNT;

/// How often a borrowed cursor is filled from before it goes back to its session.
const ROUNDS: usize = 4;

/// A client's wire that can be written to from anywhere, by one at a time.
pub trait Wire: Send + Sync {
    /// Takes from the front of `unsent` what it takes now, and waits for nothing. Says whether
    /// that was all, and nothing remains to be done for it: else the session goes on, and learns
    /// what is wrong.
    fn try_write(&self, unsent: &mut Unsent) -> bool;

    /// Sends something beside the stream, if that is possible here and it fits; it may get lost.
    fn send_datagram(&self, _body: Bytes) -> bool {
        false
    }
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

impl Lent {
    /// The cursor, for a write that begins, if it is here and one may.
    fn begin(&mut self, may: bool) -> Option<Box<Cursor>> {
        match std::mem::take(self) {
            Self::Idle(cursor) if may => {
                *self = Self::Busy;
                Some(cursor)
            }
            other => {
                *self = other;
                None
            }
        }
    }
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
    /// There is something new, in the ring or here: writes it if the session has lent its cursor,
    /// else tells the session.
    pub fn serve(&self, shared: &mut Shared) {
        if let Some(mut loan) = self.borrow() {
            loan.write(shared);
        }
    }

    /// There is something new: tells the session, whether it has lent its cursor or not.
    pub fn rouse(&self) {
        let mut private = self.private();
        let waker = match private.lent {
            Lent::Idle(_) => {
                private.has_changed = true;
                private.waker.take()
            }
            _ => private.changed(),
        };
        wake(private, waker);
    }

    /// The session's cursor, if it may be used. Else the session is told.
    fn borrow(&self) -> Option<Loan<'_>> {
        let mut private = self.private();
        let ends = private.closing.is_some();
        if let Some(cursor) = private.lent.begin(!ends) {
            private.has_changed = false;
            let owes_messages_only = private.urgent.is_empty()
                && private.ordered.is_empty()
                && private.members.is_none();
            let unsent = Unsent::new();
            let cursor = Some(cursor);
            let (answered, is_unfinished) = (0, false);
            return Some(Loan {
                outbox: self,
                cursor,
                unsent,
                owes_messages_only,
                answered,
                is_unfinished,
            });
        }
        let waker = private.changed();
        wake(private, waker);
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
    /// Whether its session has something to do.
    is_unfinished: bool,
}

/// What became of choosing what to write.
enum Chosen {
    /// There was nothing.
    Nothing,
    /// There was something, and there may be more.
    Some,
    /// The rest is for the session to decide.
    Stuck,
}

impl Loan<'_> {
    /// Writes what there is. What remains to be done is its session's.
    fn write(&mut self, shared: &mut Shared) {
        for _ in 0..ROUNDS {
            let chosen = if self.owes_messages_only { self.take(shared) } else { self.fill() };
            if matches!(chosen, Chosen::Nothing) {
                return;
            }
            let all_was_taken = self.unsent.is_empty() || self.send();
            if matches!(chosen, Chosen::Stuck) || !all_was_taken {
                break;
            }
        }
        self.is_unfinished = true;
    }

    /// Takes messages from the ring, in a piece that the next member may want as well.
    fn take(&mut self, shared: &mut Shared) -> Chosen {
        let Some(cursor) = &mut self.cursor else { return Chosen::Stuck };
        if !cursor.wants_messages_only() {
            return self.fill();
        }
        if cursor.next > cursor.ring.head() {
            return Chosen::Nothing;
        }
        let Some((bytes, next)) = shared.at(cursor, self.outbox.framing) else {
            return Chosen::Stuck; // they are no longer there
        };
        cursor.count(next - cursor.next);
        cursor.next = next;
        cursor.may_skip = false;
        self.unsent.push_back(bytes.clone());
        Chosen::Some
    }

    /// Takes whatever there is.
    fn fill(&mut self) -> Chosen {
        let mut tally = Tally::default();
        let filled = fill(self.outbox, &mut self.cursor, &mut self.unsent, &mut tally);
        let Some(cursor) = &mut self.cursor else { return Chosen::Stuck };
        tally.show(self.outbox.framing, &mut self.unsent, |body| cursor.send_datagram(body));
        let Tally { mut answered, mut frames, aside, .. } = tally;
        let is_alone = aside.is_empty();
        for (side, frame) in aside {
            (answered, frames) = (answered - 1, frames - 1);
            // Only the session has those streams.
            self.outbox.answer_aside(side, frame, Verdict::Neither);
        }
        cursor.count(frames);
        self.answered += answered;
        match filled {
            Filled::Enough if !is_alone => Chosen::Stuck,
            Filled::Enough if frames == 0 => Chosen::Nothing,
            Filled::Enough => Chosen::Some,
            Filled::AskForMembers => {
                cursor.asks_again_for_members();
                Chosen::Stuck
            }
            Filled::CatchUp { .. } | Filled::Close(_) => Chosen::Stuck,
        }
    }

    /// Gives the wire what was chosen; says whether that was all.
    fn send(&mut self) -> bool {
        self.cursor.as_ref().is_some_and(|cursor| cursor.try_write(&mut self.unsent))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let Some(cursor) = self.cursor.take() else { return };
        let mut private = self.outbox.private();
        private.answered += self.answered;
        let is_wanted = matches!(private.lent, Lent::Recalled) || private.has_changed;
        if !is_wanted && !self.is_unfinished && self.unsent.is_empty() {
            private.lent = Lent::Idle(cursor);
            return;
        }
        private.lent = Lent::Returned(Box::new((cursor, std::mem::take(&mut self.unsent))));
        private.has_changed = true;
        let waker = private.waker.take();
        wake(private, waker);
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
