//! A value that many sessions keep an eye on: the heads of a ring, the drain of a process.
//!
//! As tokio's `watch`, but one who waits costs a waker in a list, and no future: a session's
//! task holds room for whatever it may wait for as long as it lives, and this would be an
//! eighth of it, twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The value, and who is to be told when it changes.
#[derive(Debug, Default)]
pub struct Board<T> {
    /// Grows with every change; changed only under the lock.
    version: AtomicU64,
    notes: Mutex<Notes<T>>,
}

#[derive(Debug, Default)]
struct Notes<T> {
    value: T,
    /// One place for each onlooker, with its waker while it waits.
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// Somebody who looks at a [`Board`]. It gives its place back with [`Board::leave`].
#[derive(Debug)]
pub struct Onlooker {
    place: usize,
    /// The newest version it has seen.
    seen: u64,
    /// The waker that is in its place, as long as nothing newer than `seen` came.
    waits: Option<Waker>,
}

impl<T: Copy> Board<T> {
    /// A board that shows a value.
    pub fn new(value: T) -> Self {
        let notes = Notes { value, places: Vec::new(), free: Vec::new() };
        Self { version: AtomicU64::new(0), notes: Mutex::new(notes) }
    }

    /// What it shows.
    pub fn get(&self) -> T {
        self.notes().value
    }

    /// Changes what it shows, and wakes everybody who waits.
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        let mut notes = self.notes();
        change(&mut notes.value);
        self.version.fetch_add(1, Ordering::Release);
        // Woken without the lock, or they would run into it at once.
        let waiting: Vec<_> = notes.places.iter_mut().filter_map(Option::take).collect();
        drop(notes);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Somebody who has seen what it shows now.
    pub fn look(&self) -> Onlooker {
        let mut notes = self.notes();
        let place = notes.free.pop().unwrap_or_else(|| {
            notes.places.push(None);
            notes.places.len() - 1
        });
        Onlooker { place, seen: self.version.load(Ordering::Acquire), waits: None }
    }

    /// Ready, once, when there is something that the onlooker has not seen.
    pub fn poll_changed(&self, onlooker: &mut Onlooker, cx: &mut Context<'_>) -> Poll<T> {
        let waits = onlooker.waits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if waits && onlooker.seen == self.version.load(Ordering::Acquire) {
            return Poll::Pending; // its waker is in its place: no lock is taken
        }
        let mut notes = self.notes();
        let version = self.version.load(Ordering::Acquire);
        if onlooker.seen != version {
            onlooker.seen = version;
            onlooker.waits = None;
            return Poll::Ready(notes.value);
        }
        notes.places[onlooker.place] = Some(cx.waker().clone());
        onlooker.waits = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The onlooker goes.
    pub fn leave(&self, onlooker: &Onlooker) {
        let mut notes = self.notes();
        notes.places[onlooker.place] = None;
        notes.free.push(onlooker.place);
        if notes.free.len() == notes.places.len() {
            (notes.places, notes.free) = Default::default(); // nobody is left: nor is the list
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes<T>> {
        // A panic in here would have to be in a `Vec`'s push: the notes are still whole.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_is_woken_and_sees_a_change_once() {
        let board = Arc::new(Board::new(0));
        let looking = (0..3).map(|_| {
            let board = board.clone();
            let mut onlooker = board.look();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while seen.last() != Some(&2) {
                    seen.push(poll_fn(|cx| board.poll_changed(&mut onlooker, cx)).await);
                }
                board.leave(&onlooker);
                seen
            })
        });
        let looking: Vec<_> = looking.collect();
        for value in [1, 2] {
            board.change(|it| *it = value);
            tokio::task::yield_now().await;
        }
        for one in looking {
            let seen = one.await.unwrap();
            assert!(seen == [1, 2] || seen == [2], "{seen:?}");
        }
        assert_eq!(board.notes().places.capacity(), 0, "the last one takes the list along");
    }

    #[tokio::test]
    async fn an_onlooker_knows_what_was_there_when_it_came_and_takes_a_place_that_is_free() {
        let board = Board::new(1);
        let (gone, stays) = (board.look(), board.look());
        board.leave(&gone);
        let mut next = board.look();
        assert_eq!((next.place, stays.place), (gone.place, 1));
        let now = poll_fn(|cx| Poll::Ready(board.poll_changed(&mut next, cx))).await;
        assert!(now.is_pending());
        board.change(|it| *it = 2);
        let now = poll_fn(|cx| Poll::Ready(board.poll_changed(&mut next, cx))).await;
        assert_eq!(now, Poll::Ready(2));
    }
}
