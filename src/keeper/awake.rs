//! The rooms that are awake, by how long nothing has needed them.
//!
//! A process keeps only so many rooms awake. When one more wakes, the one that has been idle the
//! longest is told to sleep early; waking itself is never refused, nor made to wait for that. A
//! room that is told sleeps as soon as nothing of it is on its way to disk, and one that is needed
//! again just then stays.
//!
//! A keeper notes each event in a number of its own, which costs nothing on a message's path.
//! Where a room stands here may therefore be too early, never too late: whoever comes out first is
//! put back where it belongs until one comes out that is in its right place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::Mailbox;
use super::state::Input;

/// The rooms awake in one process.
pub struct Awake {
    limit: usize,
    begun: Instant,
    rooms: Mutex<Rooms>,
}

#[derive(Default)]
struct Rooms {
    next: u64,
    /// By when something last needed them, as far as is known here. Who was told to sleep is
    /// not among them.
    idle: BTreeMap<(u64, u64), Arc<Entry>>,
}

struct Entry {
    id: u64,
    /// Where it stands; changed under the lock only.
    noted_ms: AtomicU64,
    /// Whether it was told to sleep; changed under the lock only.
    is_told: AtomicBool,
    /// When something last needed it.
    needed_ms: AtomicU64,
    mailbox: Arc<Mailbox>,
}

/// A room that is awake until this is dropped.
pub struct Awoken {
    awake: Arc<Awake>,
    entry: Arc<Entry>,
}

impl Awake {
    /// No room yet, and at most `limit`.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, begun: Instant::now(), rooms: Mutex::default() })
    }

    /// A room is awake now. Rooms that are too many by that are told to sleep; says how many.
    pub(super) fn enter(self: &Arc<Self>, mailbox: Arc<Mailbox>, now: Instant) -> (Awoken, usize) {
        let now_ms = self.ms(now);
        let mut rooms = self.rooms();
        rooms.next += 1;
        let entry = Arc::new(Entry {
            id: rooms.next,
            noted_ms: AtomicU64::new(now_ms),
            is_told: AtomicBool::new(false),
            needed_ms: AtomicU64::new(now_ms),
            mailbox,
        });
        rooms.note(entry.clone());
        let told = rooms.tell(self.limit);
        drop(rooms);
        told.iter().for_each(|room| room.mailbox.answer(Input::Doze));
        (Awoken { awake: self.clone(), entry }, told.len())
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.begun).as_millis() as u64
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        // Entries move in whole steps: after a panic each is still in its place or nowhere.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    fn note(&mut self, entry: Arc<Entry>) {
        self.idle.insert((entry.noted_ms.load(Ordering::Relaxed), entry.id), entry);
    }

    /// Takes out those that are too many, the longest idle first.
    fn tell(&mut self, limit: usize) -> Vec<Arc<Entry>> {
        let mut told = Vec::new();
        while self.idle.len() > limit
            && let Some(((noted_ms, _), entry)) = self.idle.pop_first()
        {
            let needed_ms = entry.needed_ms.load(Ordering::Relaxed);
            if needed_ms > noted_ms {
                entry.noted_ms.store(needed_ms, Ordering::Relaxed);
                self.note(entry);
            } else {
                entry.is_told.store(true, Ordering::Relaxed);
                told.push(entry);
            }
        }
        told
    }
}

impl Awoken {
    /// When something last needed the room.
    pub(super) fn needed(&self, at: Instant) {
        self.entry.needed_ms.store(self.awake.ms(at), Ordering::Relaxed);
    }

    /// It was told to sleep and is needed after all.
    pub(super) fn stays(&self, now: Instant) {
        let mut rooms = self.awake.rooms();
        if self.entry.is_told.swap(false, Ordering::Relaxed) {
            self.entry.noted_ms.store(self.awake.ms(now), Ordering::Relaxed);
            rooms.note(self.entry.clone());
        }
    }
}

impl Drop for Awoken {
    fn drop(&mut self) {
        let mut rooms = self.awake.rooms();
        let noted_ms = self.entry.noted_ms.load(Ordering::Relaxed);
        rooms.idle.remove(&(noted_ms, self.entry.id));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn enter(awake: &Arc<Awake>) -> (Awoken, Arc<Mailbox>, usize) {
        let mailbox = Mailbox::new(1, 1);
        let (awoken, told) = awake.enter(mailbox.clone(), Instant::now());
        (awoken, mailbox, told)
    }

    async fn is_told(mailbox: &Mailbox) -> bool {
        let taken = tokio::time::timeout(Duration::ZERO, mailbox.take(false)).await;
        taken.is_ok_and(|taken| matches!(taken.answers[..], [Input::Doze]))
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_is_told_to_sleep_when_there_is_one_too_many() {
        let awake = Awake::new(2);
        let (first, first_mail, told) = enter(&awake);
        assert_eq!(told, 0);
        tokio::time::advance(Duration::from_millis(10)).await;
        let (_second, second_mail, told) = enter(&awake);
        assert_eq!(told, 0, "as many as may be");
        tokio::time::advance(Duration::from_millis(10)).await;
        first.needed(Instant::now());
        let (third, _, told) = enter(&awake);
        assert_eq!(told, 1);
        assert!(is_told(&second_mail).await && !is_told(&first_mail).await);
        drop(third);
        let (_fourth, _, told) = enter(&awake);
        assert_eq!(told, 0, "who was told is as good as asleep");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stays_counts_again_and_one_that_sleeps_no_more() {
        let awake = Awake::new(1);
        let (first, first_mail, _) = enter(&awake);
        tokio::time::advance(Duration::from_millis(1)).await;
        let (second, second_mail, _) = enter(&awake);
        assert!(is_told(&first_mail).await);
        tokio::time::advance(Duration::from_millis(1)).await;
        first.stays(Instant::now());
        first.stays(Instant::now());
        assert_eq!(awake.rooms().idle.len(), 2, "counted once");
        tokio::time::advance(Duration::from_millis(1)).await;
        let (third, _, told) = enter(&awake);
        assert_eq!(told, 2);
        assert!(is_told(&first_mail).await && is_told(&second_mail).await);
        drop((first, second, third));
        assert!(awake.rooms().idle.is_empty());
    }
}
