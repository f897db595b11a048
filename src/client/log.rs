//! Where in the log the application is: every message in order, each once.
//!
//! The position is that of the last message that was *queued* for the application. What comes while the queue
//! is full is left out, and the log is then *behind*: once there is space again it asks for pages from its
//! position on, until it has caught up with what it saw go by.

use super::data::{Message, Position};
use super::event::{Event, Gap};
use super::queue::Queue;

#[derive(Debug, Default)]
pub(super) struct Log {
    epoch: Option<String>,
    /// The last that was queued, or a seq before the first.
    seq: Option<u64>,
    /// The newest that was seen.
    newest: u64,
    is_behind: bool,
    /// A page is under way; this was the newest when it was asked for.
    asked_at: Option<u64>,
    /// It is live, and nobody was told yet, for something from before is still to be fetched.
    owes_live: bool,
}

impl Log {
    /// As it was left.
    pub fn at(position: Option<Position>) -> Self {
        match position {
            Some(Position { epoch, seq }) => {
                Self { epoch: Some(epoch), seq: Some(seq), newest: seq, ..Self::default() }
            }
            None => Self::default(),
        }
    }

    /// What to say as `since`.
    pub fn position(&self) -> Option<Position> {
        Some(Position { epoch: self.epoch.clone()?, seq: self.seq? })
    }

    /// A new connection. What it replays begins behind the position, or anew.
    pub fn welcomed(&mut self, epoch: String, is_resumed: bool) {
        let seq = self.seq.filter(|_| is_resumed);
        *self = Self { epoch: Some(epoch), seq, newest: seq.unwrap_or(0), ..Self::default() };
    }

    /// A message came by.
    pub fn message(&mut self, seq: u64, message: Message, queue: &mut Queue) {
        self.newest = self.newest.max(seq);
        if self.is_behind || self.seq.is_some_and(|it| seq <= it) {
            return;
        }
        if queue.has_space() {
            self.seq = Some(seq);
            queue.push_at(Event::Message(message), self.position());
        } else {
            self.seq.get_or_insert(seq.saturating_sub(1)); // this one is the first to fetch
            self.is_behind = true;
        }
    }

    /// Everything up to `seq` has come by.
    pub fn live(&mut self, seq: u64, queue: &mut Queue) {
        self.newest = self.newest.max(seq);
        if self.is_behind {
            self.owes_live = true;
            return;
        }
        self.seq = self.seq.max(Some(seq));
        queue.push_at(Event::Live, self.position());
    }

    /// From where on to ask for a page, if it is time to.
    pub fn wants_page(&self, queue: &Queue) -> Option<u64> {
        self.seq.filter(|_| self.is_behind && self.asked_at.is_none() && queue.has_much_space())
    }

    pub fn asked(&mut self) {
        self.asked_at = Some(self.newest);
    }

    /// A page of what followed the position.
    pub fn page(&mut self, messages: Vec<Message>, more: bool, queue: &mut Queue) {
        let asked_at = self.asked_at.take().unwrap_or(self.newest);
        if messages.is_empty() && !more && self.seq < Some(asked_at) {
            // They were there, and are not kept any more.
            queue.push(gap(asked_at + 1));
            self.seq = Some(asked_at);
        }
        for message in messages {
            let (Some(seq), Some(here)) = (message.seq, self.seq) else { continue };
            if seq <= here {
                continue;
            }
            if !queue.has_space() {
                return;
            }
            if seq > here + 1 {
                queue.push(gap(seq));
            }
            self.seq = Some(seq);
            self.newest = self.newest.max(seq);
            queue.push_at(Event::Message(message), self.position());
        }
        let here = self.seq.unwrap_or(0);
        if !more {
            self.is_behind = here < self.newest;
        }
        if !self.is_behind && std::mem::take(&mut self.owes_live) {
            queue.push_at(Event::Live, self.position());
        }
    }
}

fn gap(oldest: u64) -> Event {
    Event::Gap(Gap { why: "retention".to_owned(), oldest: Some(oldest) })
}

#[cfg(test)]
mod tests {
    use super::super::options::Limits;
    use super::*;

    fn message(seq: u64) -> Message {
        let from = serde_json::from_value(serde_json::json!({"sid": "s"})).unwrap();
        Message { seq: Some(seq), time: 0, from, data: "x".into() }
    }

    fn taken(queue: &mut Queue) -> Vec<u64> {
        let mut seqs = Vec::new();
        while let Some((event, position)) = queue.pop() {
            if let Event::Message(message) = event {
                assert_eq!(position.map(|it| it.seq), message.seq);
                seqs.extend(message.seq);
            }
        }
        seqs
    }

    /// A log that saw these go by, of which the application has taken the first four, and no more fitted.
    fn behind(seqs: impl IntoIterator<Item = u64>) -> (Log, Queue) {
        let mut queue = Queue::new(&Limits { events: 4, ..Limits::default() });
        let mut log = Log::default();
        log.welcomed("e".into(), false);
        seqs.into_iter().for_each(|seq| log.message(seq, message(seq), &mut queue));
        assert_eq!(taken(&mut queue), [1, 2, 3, 4]);
        (log, queue)
    }

    #[test]
    fn what_did_not_fit_is_fetched_in_order_and_once() {
        let mut queue = Queue::new(&Limits { events: 4, ..Limits::default() });
        let mut log = Log::default();
        log.welcomed("e".into(), false);
        for seq in 1..=9 {
            log.message(seq, message(seq), &mut queue);
        }
        assert_eq!(log.position().unwrap().seq, 4);
        assert_eq!(log.wants_page(&queue), None, "there is no space yet");
        assert_eq!(taken(&mut queue), [1, 2, 3, 4]);
        assert_eq!(log.wants_page(&queue), Some(4));
        log.asked();
        assert_eq!(log.wants_page(&queue), None, "one page at a time");
        log.message(10, message(10), &mut queue); // overtakes the page
        log.page((5..=9).map(message).collect(), false, &mut queue);
        assert_eq!(taken(&mut queue), [5, 6, 7, 8], "the rest found no space");
        assert_eq!(log.wants_page(&queue), Some(8));
        log.asked();
        log.page(vec![message(9), message(10)], false, &mut queue);
        log.message(10, message(10), &mut queue);
        log.message(11, message(11), &mut queue);
        assert_eq!(taken(&mut queue), [9, 10, 11]);
        assert_eq!(log.wants_page(&queue), None);
    }

    /// What retention took from the log while it was behind was a silent hole.
    #[test]
    fn a_gap_within_pages_is_told_before_what_comes_behind_it() {
        let (mut log, mut queue) = behind(1..=9);
        log.asked();
        log.page(vec![message(7), message(8)], true, &mut queue);
        let told: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(event, _)| event).collect();
        let [Event::Gap(gap), Event::Message(first), Event::Message(_)] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!((gap.oldest, first.seq), (Some(7), Some(7)));
        log.asked();
        log.page(vec![message(9)], false, &mut queue);
        assert_eq!(taken(&mut queue), [9], "and no gap where there is none");
        assert_eq!(log.wants_page(&queue), None);
    }

    /// All of it went from the log before it could be fetched.
    #[test]
    fn an_empty_page_is_a_gap_up_to_what_was_there_when_it_was_asked_for() {
        let (mut log, mut queue) = behind(1..=9);
        log.asked();
        log.page(Vec::new(), false, &mut queue);
        let Some((Event::Gap(gap), _)) = queue.pop() else { panic!("it is told") };
        assert_eq!((gap.why.as_str(), gap.oldest), ("retention", Some(10)));
        assert_eq!((log.wants_page(&queue), log.position().unwrap().seq), (None, 9));
        log.message(10, message(10), &mut queue);
        assert_eq!(taken(&mut queue), [10]);
    }

    /// What is replayed once more does not make the newest older: the rest would not be fetched.
    #[test]
    fn an_old_message_that_comes_again_hides_nothing() {
        let (mut log, mut queue) = behind((1..=9).chain([2]));
        log.asked();
        log.page((5..=8).map(message).collect(), false, &mut queue);
        assert_eq!(taken(&mut queue), [5, 6, 7, 8]);
        assert_eq!(log.wants_page(&queue), Some(8), "the ninth was seen, and is still to come");
    }

    #[test]
    fn the_position_is_what_was_taken_in_and_never_the_welcomes() {
        let mut queue = Queue::new(&Limits::default());
        let mut log = Log::at(Some(Position { epoch: "e".into(), seq: 5 }));
        log.welcomed("e".into(), true);
        log.message(6, message(6), &mut queue);
        assert_eq!(log.position().unwrap().seq, 6);
        log.welcomed("f".into(), false);
        assert_eq!(log.position(), None, "another log: nothing of it was seen");
        log.message(3, message(3), &mut queue);
        log.live(3, &mut queue);
        assert_eq!(taken(&mut queue), [6, 3]);
    }
}
