//! Publishes that are not acknowledged yet, in the order in which they were said.
//!
//! - Each has a key, so that saying it again after a lost connection has no second effect.
//! - Each settles exactly once: acknowledged, rejected for good, or the room ended.
//! - It is bounded, in number and in bytes; what does not fit is told so at once.

use std::collections::VecDeque;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::backoff::dice;
use super::data::{Data, is_shallow};
use super::error::Error;
use super::frames::Say;
use super::framing::Raw;
use super::options::Limits;

/// What became of a publish: it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its place in the log.
    pub seq: u64,
    /// It had arrived before; this is where.
    pub dup: bool,
}

pub(super) type Settled = oneshot::Receiver<Result<Published, Error>>;

#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    limits: Limits,
    keys: String,
    /// Until then nothing is said: the gateway asked for it.
    paused_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    frame: Raw,
    is_said: bool,
    settle: oneshot::Sender<Result<Published, Error>>,
}

impl Outbox {
    pub fn new(limits: &Limits) -> Self {
        let keys = dice::<9>().iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            limits: limits.clone(),
            keys,
            paused_until: None,
        }
    }

    /// Takes a publish in, to be said when its turn comes.
    pub fn push(&mut self, id: u64, data: &Data, longest: Option<usize>) -> Result<Settled, Error> {
        let key = format!("{}-{id}", self.keys);
        let (json, bytes) = data.halves();
        let say = Say::Publish { id, key: Some(&key), to: None, data: json };
        let frame = say.frame(bytes);
        fits(&frame, json, longest)?;
        let is_full = self.waiting.len() >= self.limits.outbox
            || self.bytes + frame.size() > self.limits.outbox_bytes;
        if is_full {
            return Err(Error::OutboxFull { waiting: self.waiting.len() });
        }
        let (settle, settled) = oneshot::channel();
        self.bytes += frame.size();
        self.waiting.push_back(Waiting { id, frame, is_said: false, settle });
        Ok(settled)
    }

    /// The next to be said, if one may be said now.
    pub fn next(&mut self, now: Instant) -> Option<Raw> {
        if !self.may_say(now) {
            return None;
        }
        let next = self.waiting.iter_mut().find(|it| !it.is_said)?;
        next.is_said = true;
        Some(next.frame.clone())
    }

    pub fn has_next(&self, now: Instant) -> bool {
        self.may_say(now) && self.waiting.iter().any(|it| !it.is_said)
    }

    /// When the gateway may be asked again, if it asked for a pause.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until.filter(|_| !self.waiting.is_empty())
    }

    pub fn is_owed(&self) -> bool {
        self.waiting.iter().any(|it| it.is_said)
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether that was an answer to a publish of ours.
    pub fn settle(&mut self, id: u64, outcome: Result<Published, Error>) -> bool {
        let Some(at) = self.waiting.iter().position(|it| it.id == id) else { return false };
        let waiting = self.waiting.remove(at).expect("it was just found");
        self.bytes -= waiting.frame.size();
        let _ = waiting.settle.send(outcome); // whoever does not wait for it does not mind
        true
    }

    /// The gateway asks to say that one again later; whatever comes behind it waits as well.
    pub fn postpone(&mut self, id: u64, until: Instant) -> bool {
        let Some(waiting) = self.waiting.iter_mut().find(|it| it.id == id) else { return false };
        waiting.is_said = false;
        self.paused_until = self.paused_until.max(Some(until));
        true
    }

    /// The gateway takes frames of that size now: those that are larger are settled, each with the reason, before
    /// one of them ends the session. Says whether there was one.
    pub fn fit(&mut self, limit: usize) -> bool {
        let (large, fits): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|it| it.frame.size() > limit);
        self.waiting = fits;
        let is_any = !large.is_empty();
        for Waiting { frame, settle, .. } in large {
            self.bytes -= frame.size();
            let _ = settle.send(Err(Error::TooLarge { size: frame.size(), limit }));
        }
        is_any
    }

    /// The connection is gone: what was said without an answer is said again on the next.
    pub fn connection_lost(&mut self) {
        self.waiting.iter_mut().for_each(|it| it.is_said = false);
        self.paused_until = None;
    }

    pub fn fail(&mut self, error: &Error) {
        self.bytes = 0;
        for waiting in self.waiting.drain(..) {
            let _ = waiting.settle.send(Err(error.clone()));
        }
    }

    fn may_say(&self, now: Instant) -> bool {
        let under_way = self.waiting.iter().filter(|it| it.is_said).count();
        under_way < self.limits.publishes_in_flight && self.paused_until.is_none_or(|it| it <= now)
    }
}

/// Refuses what the gateway would end the session for.
pub(super) fn fits(frame: &Raw, json: Option<&Value>, longest: Option<usize>) -> Result<(), Error> {
    json.map_or(Ok(()), is_shallow)?;
    match longest {
        Some(limit) if frame.size() > limit => Err(Error::TooLarge { size: frame.size(), limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;

    fn outbox(change: impl FnOnce(&mut Limits)) -> Outbox {
        let mut limits = Limits::default();
        change(&mut limits);
        Outbox::new(&limits)
    }

    fn said(raw: Option<Raw>) -> Option<(u64, String)> {
        let Raw::Json(json) = raw? else { panic!("bytes were not said") };
        let frame: serde_json::Value = serde_json::from_slice(&json).unwrap();
        Some((frame["id"].as_u64().unwrap(), frame["key"].as_str().unwrap().to_owned()))
    }

    #[tokio::test]
    async fn what_was_under_way_is_said_again_in_order_with_its_key() {
        let mut outbox = outbox(|limits| limits.publishes_in_flight = 2);
        for id in 1..=3 {
            outbox.push(id, &"x".into(), None).unwrap();
        }
        let now = Instant::now();
        let first = said(outbox.next(now)).unwrap();
        let second = said(outbox.next(now)).unwrap();
        assert_eq!((first.0, second.0, outbox.has_next(now)), (1, 2, false));
        outbox.connection_lost();
        assert_eq!(said(outbox.next(now)).unwrap(), first);
        assert_eq!(said(outbox.next(now)).unwrap(), second);
        assert!(first.1.len() <= 64, "the gateway takes keys of 64 bytes");
    }

    #[tokio::test]
    async fn a_refused_publish_holds_back_those_behind_it() {
        let mut outbox = outbox(|_| {});
        let mut settled = outbox.push(1, &"a".into(), None).unwrap();
        outbox.push(2, &"b".into(), None).unwrap();
        let now = Instant::now();
        assert_eq!(said(outbox.next(now)).unwrap().0, 1);
        let later = now + Duration::from_secs(1);
        assert!(outbox.postpone(1, later));
        assert!(!outbox.has_next(now));
        assert_eq!(outbox.paused_until(), Some(later));
        assert_eq!(said(outbox.next(later)).unwrap().0, 1);
        let published = Published { seq: 7, dup: false };
        assert!(outbox.settle(1, Ok(published)));
        assert!(!outbox.settle(1, Ok(published)), "once");
        assert_eq!(settled.try_recv().unwrap().unwrap(), published);
        assert_eq!(said(outbox.next(later)).unwrap().0, 2);
    }

    /// The gateway was restarted with a lower limit while they waited: one of them would have ended the session.
    #[tokio::test]
    async fn what_the_gateway_takes_no_longer_is_settled_alone() {
        let mut outbox = outbox(|_| {});
        let mut small = outbox.push(1, &"a".into(), Some(1_000)).unwrap();
        let large = Data::Bytes(Bytes::from(vec![0; 600]));
        let mut large = outbox.push(2, &large, Some(1_000)).unwrap();
        assert!(!outbox.fit(1_000));
        assert!(outbox.fit(500) && !outbox.fit(500));
        assert!(matches!(large.try_recv(), Ok(Err(Error::TooLarge { limit: 500, .. }))));
        assert!(small.try_recv().is_err(), "it waits");
        assert_eq!(said(outbox.next(Instant::now())).unwrap().0, 1);
        assert!(outbox.settle(1, Ok(Published { seq: 1, dup: false })) && outbox.is_empty());
        assert_eq!(outbox.bytes, 0);
    }

    /// It was full for ever after 4 MiB in all.
    #[tokio::test]
    async fn every_byte_is_given_back_however_a_publish_settles() {
        let mut outbox = outbox(|limits| limits.outbox_bytes = 10_000);
        let data = Data::Bytes(Bytes::from(vec![0; 6_000]));
        for id in 0..100 {
            let _settled = outbox.push(id, &data, None).expect("the ones before are gone");
            assert!(outbox.bytes > 6_000);
            match id % 4 {
                0 => assert!(outbox.settle(id, Ok(Published { seq: id, dup: false }))),
                1 => assert!(outbox.settle(id, Err(Error::Ended))),
                2 => assert!(outbox.fit(100)),
                _ => outbox.fail(&Error::Ended),
            }
            assert_eq!((outbox.bytes, outbox.is_empty()), (0, true), "{id}");
        }
    }

    #[tokio::test]
    async fn it_is_bounded_in_number_and_bytes_and_says_so() {
        let mut few = outbox(|limits| limits.outbox = 2);
        let _kept =
            (few.push(1, &"a".into(), None).unwrap(), few.push(2, &"b".into(), None).unwrap());
        assert!(matches!(few.push(3, &"c".into(), None), Err(Error::OutboxFull { waiting: 2 })));
        few.settle(1, Ok(Published { seq: 1, dup: false }));
        few.push(3, &"c".into(), None).unwrap();

        let mut small = outbox(|limits| limits.outbox_bytes = 1_000);
        let bytes = Data::Bytes(Bytes::from(vec![0; 600]));
        small.push(1, &bytes, None).unwrap();
        assert!(matches!(small.push(2, &bytes, None), Err(Error::OutboxFull { .. })));
        assert!(matches!(
            small.push(2, &bytes, Some(500)),
            Err(Error::TooLarge { limit: 500, .. })
        ));
    }
}
