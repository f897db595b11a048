//! Whose turn it is to fall asleep.
//!
//! Rooms fall idle together: ten thousand that heard the same news are done with it in the same
//! second. To bring one of them to disk is little work, but all of it at once would be in the way
//! of the rooms that are awake. So only so many are under way at a time, and the others stand in
//! line: first come, first served, which is the longest idle first.
//!
//! - A room in line is awake in every respect. What comes is taken at once, and when its turn has
//!   come it passes, if it is needed again by then.
//! - Whoever asks is told exactly once, through its mailbox. A turn ends when it is dropped,
//!   whatever became of it, and is the next one's.
//! - The line needs no limit of its own: a room awake stands in it once.
//! - Waking never waits here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Mailbox;
use super::state::Input;
use crate::budget::{self, Budget};

/// The line, and how many may be under way.
pub struct Turns {
    limit: usize,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    under_way: usize,
    next: u64,
    /// Who waits, by when they came.
    waiting: BTreeMap<u64, Arc<Mailbox>>,
}

/// A place in line, and then a turn.
pub struct Turn {
    turns: Arc<Turns>,
    place: u64,
}

impl Turns {
    /// Nobody in line, and at most `limit` under way, which is at least one.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), line: Mutex::default() })
    }

    /// Stands in line. The mailbox is told when it is its turn, which may be at once.
    pub(super) fn ask(self: &Arc<Self>, mailbox: Arc<Mailbox>) -> Turn {
        let mut line = self.line();
        let place = line.next;
        line.next += 1;
        if line.under_way < self.limit {
            line.under_way += 1;
            drop(line);
            mailbox.answer(Input::Turn);
        } else {
            line.waiting.insert(place, mailbox);
        }
        Turn { turns: self.clone(), place }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Each change is one of the map or one of the number: after a panic both are still whole.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last handle is gone, and each turn keeps one.
impl Drop for Turns {
    fn drop(&mut self) {
        let line = self.line.get_mut().unwrap_or_else(PoisonError::into_inner);
        budget::check(Budget::Turns, line.under_way, || 0);
    }
}

impl Turn {
    /// Whether it has come.
    pub(super) fn has_come(&self) -> bool {
        !self.turns.line().waiting.contains_key(&self.place)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut line = self.turns.line();
        if line.waiting.remove(&self.place).is_some() {
            return; // it left the line
        }
        let next = line.waiting.pop_first();
        if next.is_none() {
            line.under_way -= 1;
        }
        drop(line);
        if let Some((_, mailbox)) = next {
            mailbox.answer(Input::Turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ask(turns: &Arc<Turns>) -> (Turn, Arc<Mailbox>) {
        let mailbox = Mailbox::new(1, 1);
        (turns.ask(mailbox.clone()), mailbox)
    }

    async fn is_told(mailbox: &Mailbox) -> bool {
        let taken = tokio::time::timeout(Duration::ZERO, mailbox.take(false)).await;
        taken.is_ok_and(|taken| matches!(taken.answers[..], [Input::Turn]))
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_fall_asleep_at_once_and_the_next_in_the_order_in_which_they_came() {
        let turns = Turns::new(2);
        let (first, first_mail) = ask(&turns);
        let (_second, second_mail) = ask(&turns);
        assert!(is_told(&first_mail).await && is_told(&second_mail).await, "as many as may be");
        let (third, third_mail) = ask(&turns);
        let (fourth, fourth_mail) = ask(&turns);
        assert!(!third.has_come() && !is_told(&third_mail).await && !is_told(&fourth_mail).await);
        drop(first);
        assert!(third.has_come() && is_told(&third_mail).await, "it came first");
        assert!(!fourth.has_come() && !is_told(&fourth_mail).await);
        drop(third);
        assert!(fourth.has_come() && is_told(&fourth_mail).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_line_is_not_told_and_takes_nobodys_turn() {
        let turns = Turns::new(1);
        let (first, _) = ask(&turns);
        let (second, second_mail) = ask(&turns);
        let (_third, third_mail) = ask(&turns);
        drop(second);
        assert!(!is_told(&third_mail).await, "the first is still under way");
        drop(first);
        assert!(is_told(&third_mail).await && !is_told(&second_mail).await);
        assert_eq!(turns.line().under_way, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn when_nobody_waits_a_turn_is_there_for_whoever_comes() {
        let turns = Turns::new(1);
        for _ in 0..3 {
            let (turn, mailbox) = ask(&turns);
            assert!(turn.has_come() && is_told(&mailbox).await);
        }
        assert_eq!(turns.line().under_way, 0);
    }
}
