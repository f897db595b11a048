//! The session's end of its outbox: a cursor, and what to write next.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::ring::{Encoded, Taken};
use super::{Closing, Outbox, Ring, Seated};
use crate::protocol::Epoch;
use crate::store::Slice;

/// How much is gathered for one write before it is offered to the transport.
const GATHER_BYTES: usize = 64 * 1024;

/// What [`Reader::fill`] has taken so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Publishes that were answered.
    pub answered: usize,
    /// Frames.
    pub frames: u64,
}

/// Takes from a session's outbox, in order.
pub struct Reader {
    outbox: Arc<Outbox>,
    cursor: Option<Cursor>,
}

/// Where a session stands in the log.
pub(super) struct Cursor {
    ring: Arc<Ring>,
    heads: watch::Receiver<u64>,
    epoch: Epoch,
    next: u64,
    /// While nothing was sent yet, the log may begin as late as here and there is still no hole:
    /// behind the newest message of the moment of joining for who wants some history.
    begins_by: u64,
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
        Self { outbox, cursor: None }
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
    pub fn fill(&mut self, unsent: &mut VecDeque<Bytes>, tally: &mut Tally) -> Filled {
        let mut gathered = 0;
        loop {
            let mut private = self.outbox.private();
            if let Some(cursor) = private.seated.take() {
                self.cursor = Some(cursor);
            }
            while let Some(entry) = private.urgent.pop_front() {
                private.bytes -= entry.frame.len();
                gathered += entry.frame.len();
                tally.answered += usize::from(entry.answers_publish);
                tally.frames += 1;
                unsent.push_back(entry.frame);
            }
            if let Some(closing) = private.closing {
                return Filled::Close(closing);
            }
            let passed = self.cursor.as_ref().map_or(0, |cursor| cursor.next - 1);
            while let Some(entry) = private.ordered.pop_front_if(|entry| entry.after <= passed) {
                private.bytes -= entry.frame.len();
                gathered += entry.frame.len();
                tally.frames += 1;
                unsent.push_back(entry.frame);
            }
            let until = private.ordered.front().map_or(u64::MAX, |entry| entry.after);
            drop(private);
            let Some(cursor) = &mut self.cursor else { return Filled::Enough };
            if gathered >= GATHER_BYTES {
                return Filled::Enough;
            }
            match cursor.ring.take(cursor.next, until, self.outbox.framing) {
                Taken::Piece(bytes, next) => {
                    tally.frames += next - cursor.next;
                    cursor.pass(next);
                    gathered += bytes.len();
                    if !bytes.is_empty() {
                        unsent.push_back(bytes);
                    }
                }
                Taken::Behind => return Filled::CatchUp { from: cursor.next },
                Taken::UpToDate => return Filled::Enough,
            }
        }
    }

    /// Adds what the store had from the cursor on.
    pub fn caught_up(&mut self, slice: &Slice, unsent: &mut VecDeque<Bytes>) -> Result<(), Lost> {
        let until = self.outbox.private().ordered.front().map_or(u64::MAX, |entry| entry.after);
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        if slice.epoch != cursor.epoch {
            return Err(Lost::Epoch);
        }
        if slice.oldest > cursor.next {
            if slice.oldest > cursor.begins_by {
                return Err(Lost::Retention { oldest: slice.oldest });
            }
            cursor.next = slice.oldest;
        }
        // What is on disk but not yet heard will come through the ring, and what waits for its
        // place in the order comes before what is later.
        let head = cursor.ring.head();
        let heard = slice.messages.partition_point(|message| message.seq <= head.min(until));
        let unread = slice.messages.partition_point(|message| message.seq < cursor.next);
        let messages = slice.messages.get(unread..heard).unwrap_or(&[]);
        if let Some(newest) = messages.last() {
            debug_assert_eq!(messages[0].seq, cursor.next, "a slice has no hole");
            cursor.pass(newest.seq + 1);
            let encoded = Encoded::new(messages, self.outbox.framing);
            unsent.push_back(encoded.piece(0, messages.len()));
        } else if cursor.next <= head.min(until) {
            // Somebody heard what the store does not have: this is not the log it was.
            return Err(Lost::Epoch);
        }
        Ok(())
    }

    /// Adds what skips the order, for a session's last write.
    pub fn take_urgent(&mut self, unsent: &mut VecDeque<Bytes>) {
        unsent.extend(self.outbox.private().urgent.drain(..).map(|entry| entry.frame));
    }

    /// Waits until the session is to end; then `fill` says how. Cancel-safe.
    pub async fn ended(&self) {
        self.outbox.ended.notified().await;
    }

    /// How the session is to end, if it is.
    pub fn closing(&self) -> Option<Closing> {
        self.outbox.private().closing
    }

    /// Waits until there may be something to [`fill`](Self::fill) with. Cancel-safe.
    pub async fn changed(&mut self) {
        let head_moved = async {
            match &mut self.cursor {
                // The ring lives as long as the cursor: its sender cannot be gone.
                Some(cursor) => drop(cursor.heads.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.outbox.wake.notified() => {}
            () = head_moved => {}
        }
    }
}

impl Cursor {
    /// Made at the moment the seat is taken: what the ring has by then was there on joining.
    pub(super) fn new(seated: Seated) -> Self {
        let Seated { ring, epoch, start, may_skip } = seated;
        let begins_by = if may_skip { ring.head() + 1 } else { start };
        Self { heads: ring.heads(), ring, epoch, next: start, begins_by }
    }

    /// Everything before `next` is sent. From here on a gap would be a hole.
    fn pass(&mut self, next: u64) {
        self.next = next;
        self.begins_by = next;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outbox::Policy;
    use crate::protocol::{CloseReason, Framing, Timestamp};
    use crate::store::{BodyKind, Message};

    const EPOCH: Epoch = Epoch { store: 1, deletion: 0 };

    fn policy() -> Policy {
        let ring_age = Duration::from_secs(1);
        Policy { ring_bytes: 64, ring_age, outbox_bytes: 16, page_bytes: 100 }
    }

    fn message(seq: u64) -> Message {
        let body = vec![b'0' + seq as u8].into();
        Message { seq, time: Timestamp(seq), key: None, kind: BodyKind::Json, body }
    }

    fn slice(seqs: std::ops::RangeInclusive<u64>, oldest: u64) -> Slice {
        let newest = *seqs.end();
        Slice { messages: seqs.map(message).collect(), oldest, newest, epoch: EPOCH }
    }

    struct Fixture {
        ring: Arc<Ring>,
        outbox: Arc<Outbox>,
        reader: Reader,
        unsent: VecDeque<Bytes>,
    }

    impl Fixture {
        fn seated(start: u64, heard: u64, may_skip: bool) -> Self {
            let ring = Ring::new(0, policy());
            ring.push((1..=heard).map(message).collect());
            let outbox = Outbox::new(Framing::V1WebSocket, &policy());
            outbox.seat(Seated { ring: ring.clone(), epoch: EPOCH, start, may_skip });
            let reader = Reader::new(outbox.clone());
            Self { ring, outbox, reader, unsent: VecDeque::new() }
        }

        fn fill(&mut self) -> Filled {
            self.reader.fill(&mut self.unsent, &mut Tally::default())
        }

        /// What was written, without the WebSocket headers.
        fn written(&mut self) -> String {
            let bytes: Vec<u8> = self.unsent.drain(..).flatten().collect();
            let mut text = String::new();
            let mut rest = &bytes[..];
            while let [_, length, tail @ ..] = rest {
                let (body, tail) = tail.split_at(usize::from(*length));
                text.push_str(std::str::from_utf8(body).unwrap());
                rest = tail;
            }
            text
        }
    }

    fn frame(text: &str) -> Bytes {
        crate::protocol::framing::wrap_json(Framing::V1WebSocket, text)
    }

    #[test]
    fn an_ordered_entry_waits_for_its_place_and_an_urgent_one_does_not() {
        let mut fix = Fixture::seated(1, 4, false);
        fix.outbox.send_after(2, frame("L"));
        fix.outbox.send(frame("u"), false);
        assert_eq!(fix.fill(), Filled::Enough);
        assert_eq!(fix.written(), "u12L34");
        fix.outbox.send_after(6, frame("M"));
        fix.ring.push(vec![message(5)]);
        fix.fill();
        assert_eq!(fix.written(), "5");
        fix.ring.push(vec![message(6)]);
        fix.fill();
        assert_eq!(fix.written(), "6M");
    }

    #[test]
    fn a_cursor_off_the_ring_is_served_from_the_store_and_comes_back() {
        let mut fix = Fixture::seated(1, 4, false);
        fix.ring.clear();
        assert_eq!(fix.fill(), Filled::CatchUp { from: 1 });
        assert_eq!(fix.reader.caught_up(&slice(1..=2, 1), &mut fix.unsent), Ok(()));
        assert_eq!(fix.fill(), Filled::CatchUp { from: 3 });
        // The store has message 5 already, but nobody has heard it yet.
        assert_eq!(fix.reader.caught_up(&slice(3..=5, 1), &mut fix.unsent), Ok(()));
        assert_eq!(fix.fill(), Filled::Enough);
        fix.ring.push(vec![message(5)]);
        assert_eq!(fix.fill(), Filled::Enough);
        assert_eq!(fix.written(), "12345");
    }

    #[test]
    fn a_reader_behind_retention_is_told_and_a_fresh_one_starts_later() {
        let mut behind = Fixture::seated(1, 4, false);
        behind.ring.clear();
        behind.fill();
        let lost = behind.reader.caught_up(&slice(3..=4, 3), &mut behind.unsent);
        assert_eq!(lost, Err(Lost::Retention { oldest: 3 }));

        let mut fresh = Fixture::seated(1, 4, true);
        fresh.ring.clear();
        fresh.fill();
        assert_eq!(fresh.reader.caught_up(&slice(3..=4, 3), &mut fresh.unsent), Ok(()));
        assert_eq!(fresh.written(), "34");
        let trimmed = Slice { messages: vec![], oldest: 5, newest: 4, epoch: EPOCH };
        let mut fresh = Fixture::seated(1, 4, true);
        fresh.ring.clear();
        fresh.fill();
        assert_eq!(fresh.reader.caught_up(&trimmed, &mut fresh.unsent), Ok(()));
        assert_eq!(fresh.fill(), Filled::Enough, "nothing is left to catch up with");
    }

    /// A member that had joined without a position was shown the log with a silent hole when
    /// it fell behind retention later: it was still allowed to skip.
    #[test]
    fn a_fresh_reader_that_has_begun_or_is_live_is_not_led_over_a_hole() {
        let mut begun = Fixture::seated(1, 4, true);
        begun.fill();
        begun.ring.clear();
        begun.ring.push((5..=8).map(message).collect());
        begun.ring.clear();
        assert_eq!(begun.fill(), Filled::CatchUp { from: 5 });
        let lost = begun.reader.caught_up(&slice(7..=8, 7), &mut begun.unsent);
        assert_eq!(lost, Err(Lost::Retention { oldest: 7 }));

        // Nothing was sent, but its `live` is going to say that it has everything up to 4.
        let mut live = Fixture::seated(3, 4, true);
        live.ring.push((5..=8).map(message).collect());
        live.ring.clear();
        assert_eq!(live.fill(), Filled::CatchUp { from: 3 });
        let lost = live.reader.caught_up(&slice(6..=8, 6), &mut live.unsent);
        assert_eq!(lost, Err(Lost::Retention { oldest: 6 }));
        assert_eq!(live.reader.caught_up(&slice(5..=8, 5), &mut live.unsent), Ok(()));
        assert_eq!(live.written(), "5678");
    }

    /// `live` came behind messages that are later than it, when they were read in one slice:
    /// a client's position went back, and it got them twice the next time.
    #[test]
    fn what_waits_for_its_place_stands_there_in_a_catch_up_too() {
        let mut fix = Fixture::seated(1, 2, false);
        fix.outbox.send_after(2, frame("L"));
        fix.ring.push((3..=4).map(message).collect());
        fix.ring.clear();
        assert_eq!(fix.fill(), Filled::CatchUp { from: 1 });
        assert_eq!(fix.reader.caught_up(&slice(1..=4, 1), &mut fix.unsent), Ok(()));
        assert_eq!(fix.fill(), Filled::CatchUp { from: 3 });
        assert_eq!(fix.reader.caught_up(&slice(3..=4, 1), &mut fix.unsent), Ok(()));
        assert_eq!(fix.written(), "12L34");
    }

    #[test]
    fn another_log_is_not_mistaken_for_this_one() {
        let mut fix = Fixture::seated(1, 4, true);
        fix.fill();
        let other = Slice { epoch: Epoch { store: 2, deletion: 0 }, ..slice(1..=4, 1) };
        assert_eq!(fix.reader.caught_up(&other, &mut fix.unsent), Err(Lost::Epoch));
    }

    #[test]
    fn a_full_queue_drops_lines_that_a_later_one_makes_worthless() {
        let mut fix = Fixture::seated(1, 0, false);
        for n in 0..20 {
            fix.outbox.send_newest_after(9, frame(&format!("{n:02}")));
        }
        assert!(!fix.reader.is_full());
        fix.ring.push((1..=9).map(message).collect());
        fix.fill();
        let written = fix.written();
        assert!(written.ends_with("19") && written.len() < 20, "{written}");
        fix.outbox.send(frame("a long answer, longer than sixteen bytes"), true);
        assert!(fix.reader.is_full());
    }

    #[test]
    fn a_close_waits_for_answers_only() {
        let mut fix = Fixture::seated(1, 4, false);
        fix.outbox.send(frame("ok"), true);
        fix.outbox.close(CloseReason::TakenOver, None);
        fix.outbox.close(CloseReason::Drain, Some(5));
        let closing = Closing { reason: CloseReason::TakenOver, retry_after: None };
        let mut tally = Tally::default();
        let filled = fix.reader.fill(&mut fix.unsent, &mut tally);
        assert_eq!(filled, Filled::Close(closing), "the first reason stands");
        assert_eq!((fix.written().as_str(), tally), ("ok", Tally { answered: 1, frames: 1 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_woken_by_the_ring_and_by_its_own_queue() {
        let mut fix = Fixture::seated(1, 0, false);
        fix.fill();
        fix.reader.changed().await; // the seat itself
        fix.ring.push(vec![message(1)]);
        fix.reader.changed().await;
        fix.outbox.send(frame("x"), false);
        fix.reader.changed().await;
        let nothing = tokio::time::timeout(Duration::from_secs(9), fix.reader.changed()).await;
        assert!(nothing.is_err());
    }
}
