//! A sleeping room as data: what lies in its mailbox while nobody is at work for it.
//!
//! ```text
//!            nothing on its way, nothing due: Mailbox::rest
//!  Task ───────────────────────────────────────────────────▶ Resting, in the mailbox
//!       ◀───────────────────────────────────────────────────
//!            a letter: Mailbox::put, whoever brings the first
//! ```
//!
//! - One keeper per room, still: what rests is put in and taken out under the mailbox's lock.
//! - A moment that is waited for, the end of a seat's window or of what the ring keeps, is waited
//!   for by the task: there is no second clock.

use std::sync::Arc;

use tracing::Instrument as _;

use super::delivery::Outboxes;
use super::failure::Keeping;
use super::state::Rest;
use super::task::Task;
use super::{Keeper, Mailbox};
use crate::outbox::Ring;
use crate::supervision::caught;
use crate::telemetry::Held;

/// What is left of a keeper.
pub(super) struct Resting {
    pub(super) keeper: Keeper,
    pub(super) state: Rest,
    pub(super) ring: Arc<Ring>,
    pub(super) outboxes: Outboxes,
    /// This room among those asleep.
    pub(super) counted: Option<Held>,
}

impl Resting {
    /// Something has come: the keeper is at work again. All of it happens in the keeper's own task,
    /// so that a fault in it is not one of the session that brought the letter.
    pub(super) fn rise(self: Box<Self>, mailbox: Arc<Mailbox>) {
        let span = tracing::debug_span!(parent: None, "room", id = %self.keeper.room);
        let at_work = async move {
            let keeping = Keeping::new(self.keeper.clone(), mailbox);
            match caught(|| Task::rested(*self, keeping.clone())) {
                Ok(task) => {
                    drop(keeping);
                    task.run().await;
                }
                Err(why) => {
                    tracing::error!(why, "a keeper cannot get up");
                    keeping.fail([]);
                }
            }
        };
        tokio::spawn(at_work.instrument(span));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::super::state::{Found, Input, Join, Mail, Operation};
    use super::super::{Awake, Letter, Turns, World, begin};
    use super::*;
    use crate::outbox::Outbox;
    use crate::protocol::{Author, Framing, Profile, Sid};
    use crate::room::Connection;
    use crate::store::{Memory, Store};

    /// A room with one member and nothing to do.
    async fn lull() -> Arc<Mailbox> {
        let mut settings = crate::config::Config::default().keeper;
        settings.presence_every = Duration::ZERO;
        settings.outbox.ring_age = Duration::ZERO;
        let world = World {
            store: Store::new(Memory::new(1)),
            metrics: Arc::default(),
            awake: Awake::new(1),
            turns: Turns::new(1),
            clock: Default::default(),
            begun: Instant::now(),
            retire: Box::new(|_, mailbox| mailbox.close()),
            failed: Box::new(|_, _| {}),
            set_alarm: Box::new(|| {}),
        };
        let mailbox = Mailbox::new(4, 4_000);
        let outbox = Outbox::new(Framing::V1WebSocket, &settings.outbox);
        let (settings, world) = (Arc::new(settings), Arc::new(world));
        let keeper = Keeper { room: "lobby".parse().unwrap(), settings, world };
        begin(keeper, mailbox.clone(), Found::Wanted);
        let join = Join::new(Connection(1), Profile::V1, Sid(1), Author(1));
        put(&mailbox, Letter::Mail(Mail::Join(Box::new(join)), Some(outbox)));
        at_rest(&mailbox).await;
        mailbox
    }

    async fn at_rest(mailbox: &Mailbox) {
        let waiting = async {
            while !mailbox.is_at_rest() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it rests in time");
    }

    fn put(mailbox: &Arc<Mailbox>, letter: Letter) {
        mailbox.put(letter).unwrap_or_else(|_| panic!("there was space"));
    }

    fn tasks() -> usize {
        tokio::runtime::Handle::current().metrics().num_alive_tasks()
    }

    #[tokio::test]
    async fn a_keeper_with_nothing_to_do_is_no_task_and_each_letter_finds_it() {
        let mailbox = lull().await;
        for _ in 0..3 {
            assert_eq!(tasks(), 0);
            let mut answers = Vec::new();
            for _ in 0..2 {
                let (answer, answered) = oneshot::channel();
                put(&mailbox, Letter::Operate(Operation::Inspect, answer));
                answers.push(answered);
                assert_eq!(tasks(), 1, "whoever comes second finds it at work");
            }
            for answered in answers {
                let seen = answered.await.unwrap().unwrap();
                assert_eq!((seen.state, seen.seats), ("asleep", 1));
            }
            at_rest(&mailbox).await;
        }
    }

    /// A room that was told to doze may have fallen asleep by itself.
    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_rouses_nobody() {
        let mailbox = lull().await;
        mailbox.answer(Input::Doze);
        assert!(mailbox.is_at_rest());
        assert_eq!(tasks(), 0);
    }
}
