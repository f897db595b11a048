//! The session's end of its outbox: a cursor, and what to write next.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::presence::Told;
use super::ring::{Encoded, Taken};
use super::{Closing, Outbox, Ring, Seated, Slot, Unsent, Wire};
use crate::protocol::v1::PresenceWish;
use crate::protocol::{Epoch, Framing, Sid};
use crate::room::Side;
use crate::store::Slice;
use crate::telemetry::Counter;

/// How much is gathered for one write before it is offered to the transport.
pub(super) const GATHER_BYTES: usize = 64 * 1024;

/// What [`Reader::fill`] has taken so far.
#[derive(Default)]
pub struct Tally {
    /// Requests that were answered.
    pub answered: usize,
    /// Frames.
    pub frames: u64,
    /// Answers that leave by streams of their own.
    pub aside: Vec<(Side, Bytes)>,
    /// What may be dropped, only ever found when nothing else waits.
    pub ephemerals: VecDeque<Arc<Slot>>,
}

impl Tally {
    /// Sends what may be dropped: as datagrams where `send_datagram` takes them, else behind
    /// nothing else. Says whether there was any.
    pub fn show(
        &mut self,
        framing: Framing,
        unsent: &mut Unsent,
        mut send_datagram: impl FnMut(Bytes) -> bool,
    ) -> bool {
        let shown = self.ephemerals.len();
        self.frames += shown as u64;
        for slot in self.ephemerals.drain(..) {
            if !slot.datagram().is_some_and(&mut send_datagram) {
                unsent.push_back(slot.frame(framing));
            }
        }
        shown > 0
    }
}

/// Takes from a session's outbox, in order.
pub struct Reader {
    pub(super) outbox: Arc<Outbox>,
    /// There from the seat on, unless it is lent.
    pub(super) cursor: Option<Box<Cursor>>,
    /// Goes with the cursor, once there is one.
    line: Option<Box<Line>>,
}

/// Where others than the session may write, and count what they have written.
pub(super) struct Line {
    wire: Arc<dyn Wire>,
    sent: Arc<Counter>,
}

/// How far a session is. Whoever has it writes to the session's client.
pub(super) struct Cursor {
    pub(super) ring: Arc<Ring>,
    epoch: Epoch,
    pub(super) next: u64,
    /// Whether it may begin later than asked. Once a message or an ordered entry has left, its
    /// client knows where it stands, and nothing after that may be missing.
    pub(super) may_skip: bool,
    sid: Sid,
    presence: Option<PresenceWish>,
    presence_version: u64,
    asked_for_members: bool,
    ephemeral: u64,
    /// There if others than the session may write.
    pub(super) line: Option<Box<Line>>,
}

/// What [`Reader::fill`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Filled {
    /// Everything there is, or enough for one write, was added.
    Enough,
    /// The cursor has fallen off the ring: read the store from there and hand the slice to
    /// [`Reader::caught_up`].
    CatchUp {
        /// The first message wanted.
        from: u64,
    },
    /// Changes of who is here were lost: ask for the whole, once.
    AskForMembers,
    /// The session is to end, after what was added.
    Close(Closing),
}

/// Why a slice did not help.
#[derive(Debug, PartialEq, Eq)]
pub enum Lost {
    /// The log begins later than the cursor: retention was faster than this reader.
    Retention {
        /// Where the log begins.
        oldest: u64,
    },
    /// The log is another one.
    Epoch,
}

impl Reader {
    /// The reading end of an outbox.
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox, cursor: None, line: None }
    }

    /// Lets others write to this socket, counting frames, whenever the cursor is
    /// [lent](Self::lend).
    pub fn with_wire(self, wire: Arc<dyn Wire>, sent: Arc<Counter>) -> Self {
        Self { line: Some(Box::new(Line { wire, sent })), ..self }
    }

    /// The queue itself.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Whether the session has its seat.
    pub fn is_seated(&self) -> bool {
        self.cursor.is_some()
    }

    /// Whether the session is owed so much of its own that it should not ask for more.
    pub fn is_full(&self) -> bool {
        self.outbox.private().bytes > self.outbox.outbox_bytes
    }

    /// Adds whole frames to `unsent`, about [`GATHER_BYTES`] of them, and counts them.
    pub fn fill(&mut self, unsent: &mut Unsent, tally: &mut Tally) -> Filled {
        if self.cursor.is_none()
            && let Some(seated) = self.outbox.private().seated.take()
        {
            self.cursor = Some(Box::new(Cursor::new(*seated, self.line.take())));
        }
        fill(&self.outbox, &mut self.cursor, unsent, tally)
    }

    /// Adds what the store had from the cursor on.
    pub fn caught_up(&mut self, slice: &Slice, unsent: &mut Unsent) -> Result<(), Lost> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        // A seed seat leaves no record, and a room without any is of the newest epoch there is:
        // whoever waits there for a first message waits for that of any epoch.
        let waits_for_the_first = cursor.presence.is_none() && cursor.next == 1;
        if slice.epoch != cursor.epoch && !waits_for_the_first {
            return Err(Lost::Epoch);
        }
        cursor.epoch = slice.epoch;
        let ordered = self.outbox.private().ordered.front().map_or(u64::MAX, |entry| entry.after);
        if ordered < cursor.next {
            return Ok(()); // it is due already
        }
        if slice.oldest > cursor.next {
            if !cursor.may_skip || slice.oldest - 1 > ordered {
                return Err(Lost::Retention { oldest: slice.oldest });
            }
            cursor.next = slice.oldest;
        }
        // What is on disk but not yet heard will come through the ring; what comes after an
        // ordered entry has to wait for that.
        let head = cursor.ring.head();
        let until = head.min(ordered);
        let heard = slice.messages.partition_point(|message| message.seq <= until);
        let unread = slice.messages.partition_point(|message| message.seq < cursor.next);
        let messages = slice.messages.get(unread..heard).unwrap_or(&[]);
        if let Some(newest) = messages.last() {
            debug_assert_eq!(messages[0].seq, cursor.next, "a slice has no hole");
            cursor.next = newest.seq + 1;
            cursor.may_skip = false;
            let encoded = Encoded::new(messages, self.outbox.framing);
            unsent.push_back(encoded.piece(0, messages.len()));
        } else if cursor.next <= until {
            // Somebody heard what the store does not have: this is not the log it was.
            return Err(Lost::Epoch);
        }
        Ok(())
    }

    /// Adds what skips the order, for a session's last write.
    pub fn take_urgent(&mut self, unsent: &mut Unsent) {
        let mut private = self.outbox.private();
        let urgent = std::mem::take(&mut private.urgent);
        private.bytes -= urgent.iter().map(|entry| entry.frame.len()).sum::<usize>();
        let own = urgent.into_iter().filter(|entry| entry.side.is_none());
        unsent.extend(own.map(|entry| entry.frame));
    }

    /// How the session is to end, if it is.
    pub fn closing(&self) -> Option<Closing> {
        self.outbox.private().closing
    }

    /// Ready when there may be something to [`fill`](Self::fill) with; unless `wants_more`, only
    /// for the session's end.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>, wants_more: bool) -> Poll<()> {
        self.outbox.poll_changed(cx, !wants_more)
    }

    /// Waits until there may be something to [`fill`](Self::fill) with. Cancel-safe.
    pub async fn changed(&mut self) {
        std::future::poll_fn(|cx| self.poll_changed(cx, true)).await;
    }
}

/// What [`Reader::fill`] does, with a cursor that may be lent.
pub(super) fn fill(
    outbox: &Outbox,
    cursor: &mut Option<Box<Cursor>>,
    unsent: &mut Unsent,
    tally: &mut Tally,
) -> Filled {
    let mut gathered = 0;
    loop {
        let mut private = outbox.private();
        private.has_changed = false;
        while let Some(entry) = private.urgent.pop_front() {
            private.bytes -= entry.frame.len();
            gathered += entry.frame.len();
            tally.answered += usize::from(entry.answers);
            tally.frames += 1;
            match entry.side {
                Some(side) => tally.aside.push((side, entry.frame)),
                None => unsent.push_back(entry.frame),
            }
        }
        if let Some(closing) = private.closing {
            return Filled::Close(closing);
        }
        let passed = cursor.as_ref().map_or(0, |cursor| cursor.next - 1);
        while let Some(entry) = private.ordered.pop_front_if(|entry| entry.after <= passed) {
            private.bytes -= entry.frame.len();
            gathered += entry.frame.len();
            tally.frames += 1;
            unsent.push_back(entry.frame);
            if let Some(cursor) = cursor.as_mut() {
                cursor.may_skip = false;
            }
        }
        if let (Some(cursor), Some(members)) = (cursor.as_mut(), private.members.take()) {
            let (version, frame) = *members;
            cursor.presence_version = version;
            cursor.asked_for_members = false;
            gathered += frame.len();
            tally.frames += 1;
            unsent.push_back(frame);
        }
        let until = private.ordered.front().map_or(u64::MAX, |entry| entry.after);
        private.let_go();
        drop(private);
        let Some(cursor) = cursor.as_mut() else { return Filled::Enough };
        if gathered >= GATHER_BYTES {
            return Filled::Enough;
        }
        match cursor.ring.take(cursor.next, until, outbox.framing) {
            Taken::Piece(bytes, next) => {
                cursor.may_skip = false;
                tally.frames += next - cursor.next;
                cursor.next = next;
                gathered += bytes.len();
                unsent.push_back(bytes); // nothing of it may be for this profile
                // Nothing waits for its place, and nothing is left: no need to look again.
                if until == u64::MAX && cursor.ring.head() < next {
                    return cursor.fill_rest(outbox.framing, unsent, tally);
                }
            }
            Taken::Behind => return Filled::CatchUp { from: cursor.next },
            Taken::UpToDate => return cursor.fill_rest(outbox.framing, unsent, tally),
        }
    }
}

/// A panic in one member's transport is that member's: its session will meet it. Nothing of ours
/// is left half done by it.
fn contained(act: impl FnOnce() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(false)
}

impl Cursor {
    fn new(seated: Seated, line: Option<Box<Line>>) -> Self {
        let ephemeral = seated.ring.ephemeral();
        let Seated { ring, epoch, start, may_skip, sid, presence, presence_version } = seated;
        Self {
            ring,
            epoch,
            next: start,
            may_skip,
            sid,
            presence,
            presence_version,
            asked_for_members: false,
            ephemeral,
            line,
        }
    }

    /// Whether there is neither a change of who is here for it, nor anything that may be dropped.
    pub(super) fn wants_messages_only(&self) -> bool {
        self.presence.is_none()
            || (self.ring.presence() <= self.presence_version
                && self.ring.ephemeral() == self.ephemeral)
    }

    /// It was found that the keeper has to be asked, by somebody who cannot do that.
    pub(super) fn asks_again_for_members(&mut self) {
        self.asked_for_members = false;
    }

    /// Gives the wire what it takes now; says whether that was all.
    pub(super) fn try_write(&self, unsent: &mut Unsent) -> bool {
        self.line.as_ref().is_some_and(|line| contained(|| line.wire.try_write(unsent)))
    }

    /// Sends something beside the stream, if that is possible here.
    pub(super) fn send_datagram(&self, body: Bytes) -> bool {
        self.line.as_ref().is_some_and(|line| contained(|| line.wire.send_datagram(body)))
    }

    /// Counts frames that were chosen for the wire.
    pub(super) fn count(&self, frames: u64) {
        if let Some(line) = &self.line {
            line.sent.add(frames);
        }
    }

    /// What comes behind all messages: changes of who is here, then what may be dropped.
    fn fill_rest(&mut self, framing: Framing, unsent: &mut Unsent, tally: &mut Tally) -> Filled {
        let Some(wish) = self.presence else { return Filled::Enough };
        while !self.asked_for_members {
            let version = self.presence_version;
            match self.ring.changes.after(version, self.ring.presence(), wish, framing) {
                Told::Change(frame, version) => {
                    self.presence_version = version;
                    tally.frames += 1;
                    unsent.push_back(frame);
                }
                Told::UpToDate => break,
                Told::Behind => {
                    self.asked_for_members = true;
                    return Filled::AskForMembers;
                }
            }
        }
        if self.ring.ephemeral() > self.ephemeral && unsent.is_empty() {
            self.ephemeral = self.ring.slots.after(self.ephemeral, &mut tally.ephemerals);
            tally.ephemerals.retain(|slot| slot.from() != self.sid);
        }
        Filled::Enough
    }
}

#[cfg(test)]
mod tests;
