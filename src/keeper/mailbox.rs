//! A room's bounded inbox.
//!
//! Not a channel of tokio's: an empty one of those holds a block of slots, and asleep a mailbox
//! must be next to nothing. It is bounded by letters and by bytes: a thousand of the largest
//! messages would be a thousand times too much. Answers that the keeper itself asked for have a lane of their own,
//! so that a full inbox never keeps it from the disk; there are only as many as it asked for.
//!
//! While there is nothing to do for a room, what is left of its keeper lies in here as well, and
//! the first letter sets it to work again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::resting::Resting;
use super::state::{Input, Inspection, Mail, Operation, Roster, Unavailable};
use crate::budget::{self, Budget};
use crate::outbox::Outbox;
use crate::protocol::Sid;

/// Something for a keeper.
pub enum Letter {
    /// From a session; a join brings the session's outbox along.
    Mail(Mail, Option<Arc<Outbox>>),
    /// From an operator.
    Operate(Operation, oneshot::Sender<Result<Inspection, Unavailable>>),
    /// From an operator who asks for members.
    Roster {
        /// Behind this seat.
        after: Option<Sid>,
        /// So many at most.
        limit: usize,
        /// Where to.
        answer: oneshot::Sender<Roster>,
    },
}

impl Letter {
    /// What it costs to keep, for limits.
    fn bytes(&self) -> usize {
        match self {
            Self::Mail(mail, _) => mail.bytes(),
            _ => 0,
        }
    }

    /// Whether it only asks how things are.
    pub(super) fn is_question(&self) -> bool {
        matches!(self, Self::Operate(Operation::Inspect, _) | Self::Roster { .. })
    }
}

/// The letter comes back.
pub enum Refused {
    /// The mailbox is full: wait for [`Mailbox::space`].
    Full(Letter),
    /// The keeper has retired: find another.
    Closed(Letter),
}

/// A room's inbox.
pub struct Mailbox {
    limit: usize,
    limit_bytes: usize,
    lanes: Mutex<Lanes>,
    arrived: Notify,
    space: Notify,
}

#[derive(Default)]
struct Lanes {
    letters: VecDeque<Letter>,
    bytes: usize,
    answers: Vec<Input>,
    is_closed: bool,
    /// What is left of the keeper, while none is at work.
    resting: Option<Box<Resting>>,
}

/// What was in the mailbox.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) answers: Vec<Input>,
    pub(super) letters: VecDeque<Letter>,
}

impl Mailbox {
    /// An empty one for at most `limit` letters, and none behind those that reach `limit_bytes`.
    pub fn new(limit: usize, limit_bytes: usize) -> Arc<Self> {
        let (arrived, space) = (Notify::new(), Notify::new());
        Arc::new(Self { limit, limit_bytes, lanes: Mutex::default(), arrived, space })
    }

    /// Puts a letter in, if there is space.
    pub fn put(self: &Arc<Self>, letter: Letter) -> Result<(), Box<Refused>> {
        let mut lanes = self.lanes();
        if lanes.is_closed {
            return Err(Box::new(Refused::Closed(letter)));
        }
        if self.is_full(&lanes) {
            return Err(Box::new(Refused::Full(letter)));
        }
        lanes.push(letter);
        self.tell(lanes);
        Ok(())
    }

    /// Puts in what may be dropped, while at least half of the mailbox is free; says whether it
    /// did.
    pub fn offer(self: &Arc<Self>, mail: Mail) -> bool {
        let mut lanes = self.lanes();
        let has_room = !lanes.is_closed
            && lanes.letters.len() * 2 < self.limit
            && lanes.bytes * 2 < self.limit_bytes;
        if has_room {
            lanes.push(Letter::Mail(mail, None));
            self.tell(lanes);
        }
        has_room
    }

    /// Tells the keeper that there is a letter.
    fn tell(self: &Arc<Self>, mut lanes: MutexGuard<'_, Lanes>) {
        let resting = lanes.resting.take();
        drop(lanes);
        match resting {
            Some(resting) => resting.rise(self.clone()),
            None => self.arrived.notify_one(),
        }
    }

    /// Waits until there may be space. Cancel-safe.
    pub async fn space(&self) {
        loop {
            let mut notified = std::pin::pin!(self.space.notified());
            notified.as_mut().enable();
            let has_space = {
                let lanes = self.lanes();
                lanes.is_closed || !self.is_full(&lanes)
            };
            if has_space {
                return;
            }
            notified.await;
        }
    }

    /// What the keeper asked for has come. One that rests waits for none: it is void.
    pub(super) fn answer(&self, input: Input) {
        let mut lanes = self.lanes();
        if lanes.resting.is_none() {
            lanes.answers.push(input);
            drop(lanes);
            self.arrived.notify_one();
        }
    }

    /// The keeper leaves what is left of it here, unless something has come meanwhile; says
    /// whether it did.
    pub(super) fn rest(&self, rest: impl FnOnce() -> Box<Resting>) -> bool {
        let mut lanes = self.lanes();
        let is_empty = lanes.is_empty();
        if is_empty {
            lanes.resting = Some(rest());
        }
        is_empty
    }

    /// Whether there is no keeper at work, and nothing to do for one.
    pub fn is_at_rest(&self) -> bool {
        self.lanes().resting.is_some()
    }

    /// Waits for answers and, if wanted, letters, and takes all there are. Cancel-safe.
    pub(super) async fn take(&self, wants_letters: bool) -> Taken {
        loop {
            let taken = {
                let mut lanes = self.lanes();
                let answers = std::mem::take(&mut lanes.answers);
                let letters = match wants_letters {
                    true => lanes.take_letters(),
                    false => VecDeque::new(),
                };
                Taken { answers, letters }
            };
            if !taken.letters.is_empty() {
                self.space.notify_waiters();
            }
            if !taken.letters.is_empty() || !taken.answers.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    /// Closes an empty mailbox for good; says whether it was empty.
    pub fn close(&self) -> bool {
        let mut lanes = self.lanes();
        lanes.is_closed |= lanes.is_empty();
        lanes.is_closed
    }

    /// Closes it whatever is in it: its keeper is no more. The letters come back.
    pub(super) fn close_for_good(&self) -> VecDeque<Letter> {
        let mut lanes = self.lanes();
        let left = std::mem::take(&mut *lanes);
        lanes.is_closed = true;
        drop(lanes);
        self.space.notify_waiters();
        left.letters
    }

    /// Says that a closed mailbox is no longer where its room is to be found.
    pub fn leave(&self) {
        self.space.notify_waiters();
    }

    /// Waits until a closed mailbox is no longer where its room is to be found, which is `false`
    /// then.
    pub async fn left(&self, is_there: impl Fn() -> bool) {
        loop {
            let mut notified = std::pin::pin!(self.space.notified());
            notified.as_mut().enable();
            if !is_there() {
                return;
            }
            notified.await;
        }
    }

    fn is_full(&self, lanes: &Lanes) -> bool {
        lanes.letters.len() >= self.limit || lanes.bytes >= self.limit_bytes
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Only pushes and takes happen under the lock: after a panic the lanes are still whole.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let lanes = self.lanes.get_mut().unwrap_or_else(PoisonError::into_inner);
        let there = || lanes.letters.iter().map(Letter::bytes).sum();
        budget::check(Budget::MailboxBytes, lanes.bytes, there);
    }
}

impl Lanes {
    fn is_empty(&self) -> bool {
        self.letters.is_empty() && self.answers.is_empty()
    }

    fn push(&mut self, letter: Letter) {
        self.bytes += letter.bytes();
        self.letters.push_back(letter);
    }

    fn take_letters(&mut self) -> VecDeque<Letter> {
        self.bytes = 0;
        std::mem::take(&mut self.letters)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::keeper::state::Gone;
    use crate::protocol::Payload;
    use crate::room::Connection;

    const BYTES: usize = 100;

    fn large(bytes: usize) -> Letter {
        let payload = Payload::Json("x".repeat(bytes));
        let (connection, id, key, to) = (Connection(1), None, None, None);
        Letter::Mail(Mail::Publish { connection, id, key, to, payload }, None)
    }

    #[tokio::test]
    async fn bytes_fill_a_mailbox_as_letters_do() {
        let mailbox = Mailbox::new(100, BYTES);
        for bytes in [BYTES - 1, 1] {
            mailbox.put(large(bytes)).unwrap_or_else(|_| panic!("there was space"));
        }
        let refused = mailbox.put(large(0)).map_err(|refused| *refused);
        assert!(matches!(refused, Err(Refused::Full(_))));
        mailbox.take(true).await;
        mailbox.put(large(10 * BYTES)).unwrap_or_else(|_| panic!("an empty one takes any letter"));
    }

    fn letter(n: u64) -> Letter {
        Letter::Mail(Mail::Gone { connection: Connection(n), how: Gone::Lost }, None)
    }

    #[tokio::test]
    async fn a_full_mailbox_refuses_and_says_when_there_is_space() {
        let mailbox = Mailbox::new(1, BYTES);
        assert!(mailbox.put(letter(1)).is_ok());
        let refused = mailbox.put(letter(2)).map_err(|refused| *refused);
        assert!(matches!(refused, Err(Refused::Full(_))));
        mailbox.answer(Input::Tick); // the keeper's own lane is never full
        let (taken, ()) = tokio::join!(mailbox.take(true), mailbox.space());
        assert_eq!((taken.letters.len(), taken.answers.len()), (1, 1));
        assert!(mailbox.put(letter(2)).is_ok());
    }

    #[tokio::test]
    async fn only_an_empty_mailbox_closes_and_a_closed_one_gives_letters_back() {
        let mailbox = Mailbox::new(1, BYTES);
        mailbox.put(letter(1)).unwrap_or_else(|_| panic!("there was space"));
        assert!(!mailbox.close());
        mailbox.take(true).await;
        assert!(mailbox.close());
        let refused = mailbox.put(letter(2)).map_err(|refused| *refused);
        assert!(matches!(refused, Err(Refused::Closed(_))));
    }

    #[tokio::test]
    async fn letters_wait_while_the_keeper_wants_none() {
        let mailbox = Mailbox::new(2, BYTES);
        mailbox.put(letter(1)).unwrap_or_else(|_| panic!("there was space"));
        mailbox.answer(Input::Tick);
        let taken = mailbox.take(false).await;
        assert_eq!((taken.letters.len(), taken.answers.len()), (0, 1));
        assert_eq!(mailbox.take(true).await.letters.len(), 1);
    }

    /// A session that waits is woken by nothing else: it would wait for ever.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_space_is_told_when_there_is_some_and_when_there_never_will_be() {
        type Free = fn(&Arc<Mailbox>) -> bool;
        let ways: [Free; 2] = [
            |mailbox| mailbox.take(true).now_or_never().is_some(),
            |mailbox| mailbox.close_for_good().len() == 1,
        ];
        for free in ways {
            let mailbox = Mailbox::new(1, BYTES);
            mailbox.put(letter(1)).unwrap_or_else(|_| panic!("there was space"));
            let waiting = tokio::spawn({
                let mailbox = mailbox.clone();
                async move { mailbox.space().await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            assert!(free(&mailbox));
            let told = tokio::time::timeout(std::time::Duration::from_secs(1), waiting).await;
            told.expect("it is told").unwrap();
        }
    }

    /// What may be dropped leaves half of a mailbox, by letters and by bytes, to what may not.
    #[test]
    fn what_may_be_dropped_takes_half_of_a_mailbox() {
        let shown = |bytes: usize| Mail::Ephemeral {
            connection: Connection(1),
            key: "cursor".into(),
            payload: Payload::Json("x".repeat(bytes)),
        };
        let mailbox = Mailbox::new(10, BYTES);
        let offered = |bytes: usize| (0..20).filter(|_| mailbox.offer(shown(bytes))).count();
        assert_eq!(offered(0), 5);
        let mailbox = Mailbox::new(10, BYTES);
        let offered = (0..20).filter(|_| mailbox.offer(shown(BYTES / 5))).count();
        assert_eq!(offered, 3, "the third finds less than half taken");
    }
}
