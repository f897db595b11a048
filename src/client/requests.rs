//! Requests that are not answered yet: pages, members, changes of the seat, direct messages.
//!
//! What can be asked twice without harm is asked again after a lost connection. A direct message cannot:
//! nobody knows whether it arrived, and its sender is told that.

use std::collections::VecDeque;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::data::{Data, Member, Message, To};
use super::error::{Error, Lost};
use super::frames::Say;
use super::framing::Raw;

/// As many wait at once; the gateway takes 64 with the publishes.
pub(super) const REQUESTS: usize = 32;

#[derive(Debug, Clone)]
pub(super) enum Ask {
    History { before: Option<u64>, after: Option<u64>, limit: Option<u32> },
    Members { after: Option<String> },
    Set { attachment: Option<Value>, tags: Option<Vec<String>> },
    Direct { to: To, data: Data },
}

#[derive(Debug)]
pub(super) enum Answer {
    Page(Page),
    Members { members: Vec<Member>, more: bool },
    Done { reached: u64 },
}

/// A page of the log, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether there is more in the direction of the request.
    pub more: bool,
}

pub(super) type Reply = oneshot::Sender<Result<Answer, Error>>;

#[derive(Debug, Default)]
pub(super) struct Requests {
    waiting: VecDeque<Waiting>,
    paused_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    ask: Ask,
    is_said: bool,
    reply: Reply,
}

impl Ask {
    /// What of it is anybody's own JSON.
    pub fn json(&self) -> Option<&Value> {
        match self {
            Self::Set { attachment, .. } => attachment.as_ref(),
            Self::Direct { data, .. } => data.halves().0,
            Self::History { .. } | Self::Members { .. } => None,
        }
    }

    pub fn frame(&self, id: u64) -> Raw {
        let say = match self {
            Self::History { before, after, limit } => {
                Say::History { id, before: *before, after: *after, limit: *limit }
            }
            Self::Members { after } => Say::Members { id, after: after.as_deref() },
            Self::Set { attachment, tags } => {
                Say::Set { id, attachment: attachment.as_ref(), tags: tags.as_deref() }
            }
            Self::Direct { to, data } => {
                let (json, bytes) = data.halves();
                return Say::Publish { id, key: None, to: Some(to), data: json }.frame(bytes);
            }
        };
        say.frame(None)
    }
}

impl Requests {
    pub fn push(&mut self, id: u64, ask: Ask, reply: Reply) -> Result<(), Error> {
        // Nobody waits any more for those that were given up before they were said.
        self.waiting.retain(|it| it.is_said || !it.reply.is_closed());
        if self.waiting.len() >= REQUESTS {
            return Err(Error::Busy(REQUESTS));
        }
        self.waiting.push_back(Waiting { id, ask, is_said: false, reply });
        Ok(())
    }

    pub fn next(&mut self, now: Instant) -> Option<Raw> {
        if !self.has_next(now) {
            return None;
        }
        let next = self.waiting.iter_mut().find(|it| !it.is_said)?;
        next.is_said = true;
        Some(next.ask.frame(next.id))
    }

    pub fn has_next(&self, now: Instant) -> bool {
        self.paused_until.is_none_or(|it| it <= now) && self.waiting.iter().any(|it| !it.is_said)
    }

    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until.filter(|_| !self.waiting.is_empty())
    }

    pub fn is_owed(&self) -> bool {
        self.waiting.iter().any(|it| it.is_said)
    }

    /// What was asked, if that was an answer to a request of ours.
    pub fn settle(&mut self, id: u64, outcome: Result<Answer, Error>) -> Option<Ask> {
        let at = self.waiting.iter().position(|it| it.id == id)?;
        let waiting = self.waiting.remove(at)?;
        let _ = waiting.reply.send(outcome); // whoever gave up does not mind
        Some(waiting.ask)
    }

    /// The gateway asks to ask later. A direct message is its sender's to repeat.
    pub fn postpone(&mut self, id: u64, until: Instant) -> bool {
        let again = |it: &&mut Waiting| it.id == id && !matches!(it.ask, Ask::Direct { .. });
        let Some(waiting) = self.waiting.iter_mut().find(again) else { return false };
        waiting.is_said = false;
        self.paused_until = self.paused_until.max(Some(until));
        true
    }

    /// The gateway takes frames of that size now: what is larger is answered with the reason.
    pub fn fit(&mut self, limit: usize) {
        let is_large = |it: &Waiting| it.ask.frame(it.id).size() > limit;
        let (large, fits): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_large);
        self.waiting = fits;
        for Waiting { id, ask, reply, .. } in large {
            let size = ask.frame(id).size();
            let _ = reply.send(Err(Error::TooLarge { size, limit })); // perhaps nobody waits for it any more
        }
    }

    pub fn connection_lost(&mut self, lost: &Lost) {
        self.paused_until = None;
        let (gone, kept): (VecDeque<_>, _) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|it| it.is_said && matches!(it.ask, Ask::Direct { .. }));
        self.waiting = kept;
        self.waiting.iter_mut().for_each(|it| it.is_said = false);
        for waiting in gone {
            let _ = waiting.reply.send(Err(Error::Lost(lost.clone())));
        }
    }

    pub fn fail(&mut self, error: &Error) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.reply.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(raw: Option<Raw>) -> Option<u64> {
        let Raw::Json(json) = raw? else { panic!("bytes were not said") };
        let frame: Value = serde_json::from_slice(&json).unwrap();
        frame["id"].as_u64()
    }

    fn direct() -> Ask {
        Ask::Direct { to: To::Tag("mod".into()), data: "psst".into() }
    }

    /// A whisper came twice.
    #[tokio::test]
    async fn a_direct_message_that_was_said_is_not_said_again() {
        let (mut requests, now) = (Requests::default(), Instant::now());
        let mut replies = Vec::new();
        let asks = [direct(), Ask::Members { after: None }, direct()];
        for (id, ask) in (1..).zip(asks) {
            let (reply, replied) = oneshot::channel();
            requests.push(id, ask, reply).unwrap();
            replies.push(replied);
        }
        assert_eq!((said(requests.next(now)), said(requests.next(now))), (Some(1), Some(2)));
        requests.connection_lost(&Lost::Silent);
        let told = replies[0].try_recv().expect("its sender is told");
        assert!(matches!(told, Err(Error::Lost(Lost::Silent))), "{told:?}");
        assert_eq!(said(requests.next(now)), Some(2), "a question is asked again");
        assert_eq!(said(requests.next(now)), Some(3), "and one that was not said yet is said");
        assert!(requests.next(now).is_none());
        assert!(!requests.postpone(3, now), "nor is it repeated for the gateway");
        assert!(requests.settle(2, Err(Error::Ended)).is_some());
        assert!(requests.settle(3, Ok(Answer::Done { reached: 1 })).is_some());
        assert!(!requests.is_owed());
    }

    #[tokio::test]
    async fn so_many_wait_and_each_place_is_given_back() {
        let (mut requests, mut replies) = (Requests::default(), Vec::new());
        for round in 0..3 {
            for id in 0..REQUESTS as u64 {
                let (reply, replied) = oneshot::channel();
                requests.push(id, Ask::Members { after: None }, reply).unwrap();
                replies.push(replied);
            }
            let (reply, _replied) = oneshot::channel();
            assert!(matches!(requests.push(99, direct(), reply), Err(Error::Busy(REQUESTS))));
            match round {
                0 => (0..REQUESTS as u64).for_each(|id| _ = requests.settle(id, Err(Error::Ended))),
                1 => requests.fail(&Error::Ended),
                _ => replies.clear(), // given up before they were said
            }
        }
        let (reply, _replied) = oneshot::channel();
        requests.push(100, direct(), reply).unwrap();
        assert_eq!(requests.waiting.len(), 1);
    }
}
