//! Cursors at every edge of the ring.

use std::time::Duration;

use super::*;
use crate::outbox::{Policy, Shared};
use crate::protocol::{CloseReason, Framing, Timestamp, Verdict};
use crate::store::{BodyKind, Message};

const EPOCH: Epoch = Epoch { store: 1, deletion: 0 };

fn policy() -> Policy {
    let ring_age = Duration::from_secs(1);
    Policy { ring_bytes: 64, ring_age, outbox_bytes: 16, page_bytes: 100, presence_bytes: 100 }
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
    unsent: Unsent,
}

impl Fixture {
    fn seated(start: u64, heard: u64, may_skip: bool) -> Self {
        let ring = Ring::new(0, policy());
        ring.push((1..=heard).map(message).collect());
        let outbox = Outbox::new(Framing::V1WebSocket, &policy());
        outbox.seat(Seated {
            ring: ring.clone(),
            epoch: EPOCH,
            start,
            may_skip,
            sid: Sid(1),
            presence: Some(PresenceWish::Auto),
            presence_version: 0,
        });
        let reader = Reader::new(outbox.clone());
        Self { ring, outbox, reader, unsent: Unsent::new() }
    }

    fn fill(&mut self) -> Filled {
        self.reader.fill(&mut self.unsent, &mut Tally::default())
    }

    /// What was written, without the WebSocket headers.
    fn written(&mut self) -> String {
        let unsent = std::mem::take(&mut self.unsent);
        let bytes: Vec<u8> = unsent.iter().flatten().copied().collect();
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

/// It is filled only once everything chosen before is taken, and the ring goes on without it.
#[test]
fn what_a_stalled_reader_holds_does_not_grow_with_the_traffic() {
    let mut fix = Fixture::seated(1, 0, false);
    for seq in 1..=200 {
        fix.ring.push(vec![message(seq)]);
        if fix.unsent.is_empty() {
            fix.fill();
        }
    }
    assert_eq!(fix.written(), "1");
    assert_eq!(fix.fill(), Filled::CatchUp { from: 2 });
    let framing = Framing::V1WebSocket;
    let kept = policy().ring_bytes as u64;
    assert_eq!(fix.ring.take(200 - kept, u64::MAX, framing), Taken::Behind);
    assert!(matches!(fix.ring.take(201 - kept, u64::MAX, framing), Taken::Piece(..)));
}

#[test]
fn an_ordered_entry_waits_for_its_place_and_an_urgent_one_does_not() {
    let mut fix = Fixture::seated(1, 4, false);
    fix.outbox.send_after(2, frame("L"));
    fix.outbox.send(frame("u"));
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

/// A resuming client was sent `live` for message 2 after message 3, when both were read from
/// the store in one slice: its position went back, and the next resume repeated message 3.
#[test]
fn an_ordered_entry_keeps_its_place_in_what_comes_from_the_store() {
    let mut fix = Fixture::seated(1, 4, false);
    fix.ring.clear();
    fix.outbox.send_after(2, frame("L"));
    assert_eq!(fix.fill(), Filled::CatchUp { from: 1 });
    fix.outbox.send_after(2, frame("M"));
    assert_eq!(fix.reader.caught_up(&slice(1..=4, 1), &mut fix.unsent), Ok(()));
    assert_eq!(fix.fill(), Filled::CatchUp { from: 3 });
    fix.outbox.send_after(2, frame("N"));
    assert_eq!(fix.reader.caught_up(&slice(3..=4, 1), &mut fix.unsent), Ok(()));
    assert_eq!(fix.fill(), Filled::CatchUp { from: 3 }, "first what is due");
    assert_eq!(fix.reader.caught_up(&slice(3..=4, 1), &mut fix.unsent), Ok(()));
    assert_eq!(fix.written(), "12LMN34");
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

/// A client that had asked for some history was passed over a hole later on, when it was slow
/// and retention was not: only its very first message may come later than asked.
#[test]
fn a_reader_that_has_begun_misses_nothing_silently() {
    for begun in [1, 5] {
        let mut fix = Fixture::seated(begun, 4, true);
        fix.outbox.send_after(4, frame("L"));
        assert_eq!(fix.fill(), Filled::Enough);
        fix.ring.push((5..=6).map(message).collect());
        fix.ring.clear();
        assert_eq!(fix.fill(), Filled::CatchUp { from: 5 });
        let lost = fix.reader.caught_up(&slice(6..=6, 6), &mut fix.unsent);
        assert_eq!(lost, Err(Lost::Retention { oldest: 6 }), "begun at {begun}");
    }
    // Nor is anything passed over behind the place that an ordered entry speaks of.
    let mut fix = Fixture::seated(1, 4, true);
    fix.outbox.send_after(4, frame("L"));
    fix.ring.push((5..=6).map(message).collect());
    fix.ring.clear();
    fix.fill();
    let lost = fix.reader.caught_up(&slice(6..=6, 6), &mut fix.unsent);
    assert_eq!(lost, Err(Lost::Retention { oldest: 6 }));
    assert_eq!(fix.reader.caught_up(&slice(5..=6, 5), &mut fix.unsent), Ok(()));
    fix.fill();
    assert_eq!(fix.written(), "L");
}

#[test]
fn another_log_is_not_mistaken_for_this_one() {
    let mut fix = Fixture::seated(1, 4, true);
    fix.fill();
    let other = Slice { epoch: Epoch { store: 2, deletion: 0 }, ..slice(1..=4, 1) };
    assert_eq!(fix.reader.caught_up(&other, &mut fix.unsent), Err(Lost::Epoch));
}

/// A seed seat leaves no record. So its empty room was of the newest epoch there is, which was
/// another once another room had been deleted, and its first message was of another log.
#[test]
fn who_waits_for_a_first_message_takes_that_of_any_log() {
    let mut fix = Fixture::seated(1, 4, true);
    fix.fill();
    fix.unsent = Unsent::new();
    let cursor = fix.reader.cursor.as_mut().unwrap();
    (cursor.presence, cursor.next) = (None, 1);
    let other = Slice { epoch: Epoch { store: 1, deletion: 9 }, ..slice(1..=4, 1) };
    assert_eq!(fix.reader.caught_up(&other, &mut fix.unsent), Ok(()));
    assert_eq!(fix.written(), "1234");
    let third = Slice { epoch: Epoch { store: 1, deletion: 10 }, ..slice(1..=5, 1) };
    assert_eq!(fix.reader.caught_up(&third, &mut fix.unsent), Err(Lost::Epoch));
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
    fix.outbox.answer(frame("a long answer, longer than sixteen bytes"), Verdict::Taken);
    assert!(fix.reader.is_full());
}

/// Who is offered a direct message and does not take it was not reached.
#[test]
fn what_is_offered_is_taken_up_to_the_queues_bytes_and_never_by_a_session_that_ends() {
    let sized = |bytes: usize| frame(&"x".repeat(bytes - 2)); // behind a header of two
    let mut fix = Fixture::seated(1, 0, false);
    assert!(fix.outbox.offer_after(0, sized(13)));
    assert!(!fix.outbox.offer_after(0, sized(4)), "one byte beyond");
    assert!(fix.outbox.offer_after(0, sized(3)), "at the limit");
    assert!(!fix.outbox.offer_after(0, sized(2)));
    assert!(!fix.reader.is_full(), "what was taken is no reason not to read");
    fix.fill();
    assert!(fix.outbox.offer_after(0, sized(16)), "all of it was given back");
    fix.fill();
    assert!(!fix.outbox.offer_after(0, sized(17)));
    fix.outbox.send(sized(17));
    assert!(fix.reader.is_full());
    fix.fill();
    assert!(!fix.reader.is_full());
    fix.outbox.close(CloseReason::TakenOver, None);
    assert!(!fix.outbox.offer_after(0, sized(2)), "it would never be written");
}

#[test]
fn a_close_waits_for_answers_only() {
    let mut fix = Fixture::seated(1, 4, false);
    fix.outbox.answer(frame("ok"), Verdict::Taken);
    fix.outbox.close(CloseReason::TakenOver, None);
    fix.outbox.close(CloseReason::Drain, Some(5));
    let closing = Closing { reason: CloseReason::TakenOver, retry_after: None };
    let mut tally = Tally::default();
    let filled = fix.reader.fill(&mut fix.unsent, &mut tally);
    assert_eq!(filled, Filled::Close(closing), "the first reason stands");
    assert_eq!((fix.written().as_str(), tally.answered, tally.frames), ("ok", 1, 1));
}

fn change(version: u64) -> crate::outbox::Change {
    let json = format!("p{version}");
    crate::outbox::Change { version, full: json.clone(), count: json.clone(), auto: json }
}

#[test]
fn changes_of_who_is_here_come_behind_messages_and_the_whole_replaces_lost_ones() {
    let mut fix = Fixture::seated(1, 2, false);
    fix.ring.change(change(1));
    fix.ring.change(change(2));
    assert_eq!(fix.fill(), Filled::Enough);
    assert_eq!(fix.written(), "12p1p2");
    fix.ring.change(change(3));
    fix.ring.expire(tokio::time::Instant::now() + Duration::from_secs(2));
    assert_eq!(fix.fill(), Filled::AskForMembers);
    assert_eq!(fix.fill(), Filled::Enough, "once");
    fix.ring.change(change(4));
    fix.outbox.send_members(3, frame("whole"));
    fix.fill();
    assert_eq!(fix.written(), "wholep4");
}

#[test]
fn ephemerals_wait_for_everything_else_and_skip_their_author() {
    let mut fix = Fixture::seated(1, 2, false);
    fix.fill(); // what was shown before it sat down is nothing to it
    fix.ring.push((3..=4).map(message).collect());
    let ephemeral = |from, body: &'static str| crate::room::Ephemeral {
        from: Sid(from),
        key: "cursor".into(),
        kind: BodyKind::Json,
        body: body.into(),
    };
    fix.ring.show(ephemeral(1, "own"));
    fix.ring.show(ephemeral(2, "old"));
    fix.ring.show(ephemeral(2, "new"));
    let mut tally = Tally::default();
    fix.reader.fill(&mut fix.unsent, &mut tally);
    assert_eq!((fix.written().as_str(), tally.ephemerals.len()), ("1234", 0));
    fix.reader.fill(&mut fix.unsent, &mut tally);
    let datagrams: Vec<_> = tally.ephemerals.iter().filter_map(|s| s.datagram()).collect();
    assert_eq!(datagrams, ["new"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_woken_by_the_ring_and_by_its_own_queue() {
    let mut fix = Fixture::seated(1, 0, false);
    fix.fill();
    fix.ring.push(vec![message(1)]);
    fix.outbox.serve(&mut Shared::default());
    fix.reader.changed().await;
    fix.outbox.send(frame("x"));
    fix.reader.changed().await;
    let nothing = tokio::time::timeout(Duration::from_secs(9), fix.reader.changed()).await;
    assert!(nothing.is_err());
}

/// Bytes that had left went on being counted: after a while of direct messages, or of answers, the
/// client was never read from again.
#[test]
fn every_byte_that_waited_is_given_back() {
    let mut fix = Fixture::seated(1, 0, false);
    for round in 0..100 {
        fix.outbox.send(frame("a"));
        fix.outbox.answer(frame("b"), Verdict::Taken);
        fix.outbox.answer_aside(crate::room::Side(1), frame("c"), Verdict::Taken);
        assert!(fix.outbox.offer_after(0, frame("d")), "round {round}");
        fix.outbox.send_newest_after(0, frame("e"));
        assert!(fix.outbox.private().bytes > 0);
        fix.fill();
        assert_eq!(fix.outbox.private().bytes, 0, "round {round}");
        assert!(!fix.reader.is_full());
    }
    fix.outbox.send(frame("last"));
    fix.outbox.answer_aside(crate::room::Side(1), frame("aside"), Verdict::Taken);
    fix.reader.take_urgent(&mut Unsent::new());
    assert_eq!(fix.outbox.private().bytes, 0);
}
