//! The sessions of this process: how many there may be, and how they are sent home.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::budget::{self, Budget};

/// How long the last sessions may take to leave once all were told to.
const LEAVING: Duration = Duration::from_secs(10);

/// So many sessions are given a second to come back in.
const PER_SECOND: u64 = 1_000;

/// All sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    count: AtomicUsize,
    left: Notify,
    /// Set once: the spread of their returns. Every session looks at it in every turn, so it is
    /// never written otherwise.
    drain: OnceLock<Duration>,
    next: AtomicU64,
    /// Whom to wake for it.
    waits: Mutex<HashMap<u64, Waker>>,
}

impl Shared {
    fn waits(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why nobody may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotNow {
    /// All places are taken.
    Full,
    /// The process is going away.
    Draining,
}

/// One session's place; given back when dropped.
pub struct Entered {
    shared: Arc<Shared>,
    number: u64,
    /// Who was last entered among those to wake.
    waits: Option<Waker>,
    /// What else is given back when it leaves.
    kept: Option<Box<dyn Send + Sync>>,
}

impl Sessions {
    /// Nobody yet, and at most `limit`.
    pub fn new(limit: usize) -> Self {
        let shared = Shared {
            limit,
            count: AtomicUsize::new(0),
            left: Notify::new(),
            drain: OnceLock::new(),
            next: AtomicU64::new(0),
            waits: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a place.
    pub fn enter(&self) -> Result<Entered, NotNow> {
        let shared = self.shared.clone();
        let before = shared.count.fetch_add(1, Ordering::SeqCst);
        // From here on dropping gives the place back, also on refusal.
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let entered = Entered { shared, number, waits: None, kept: None };
        if self.is_draining() {
            return Err(NotNow::Draining);
        }
        if before >= self.shared.limit {
            return Err(NotNow::Full);
        }
        Ok(entered)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    /// Whether everybody is being sent home.
    pub fn is_draining(&self) -> bool {
        self.shared.drain.get().is_some()
    }

    /// Sends everybody home, each with its own moment to come back within a spread of a second
    /// per thousand sessions, at most `cap`. Returns the spread once all have left, or after
    /// ten seconds.
    pub async fn drain(&self, cap: Duration) -> Duration {
        let spread = Duration::from_millis(self.count() as u64 * 1_000 / PER_SECOND).min(cap);
        let spread = *self.shared.drain.get_or_init(|| spread);
        // Who comes to wait from now on looks first, and finds it.
        let waits = std::mem::take(&mut *self.shared.waits());
        waits.into_values().for_each(Waker::wake);
        let all_left = async {
            loop {
                let mut left = std::pin::pin!(self.shared.left.notified());
                left.as_mut().enable();
                if self.count() == 0 {
                    return;
                }
                left.await;
            }
        };
        let _ = timeout(LEAVING, all_left).await; // whoever is still here sees the socket close
        spread
    }
}

impl Entered {
    /// Gives something back when this is: the door's own count of who is here.
    pub fn keep(&mut self, guard: impl Send + Sync + 'static) {
        self.kept = Some(Box::new(guard));
    }

    /// Ready when everybody is sent home: the spread of their returns. The task that polled
    /// last is woken for it.
    pub fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        if let Some(spread) = self.shared.drain.get() {
            return Poll::Ready(*spread);
        }
        if self.waits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waits = Some(cx.waker().clone());
        self.shared.waits().insert(self.number, cx.waker().clone());
        // It may have come between the look and the entry.
        self.shared.drain.get().map_or(Poll::Pending, |spread| Poll::Ready(*spread))
    }

    /// Waits until everybody is sent home.
    pub async fn drained(&mut self) -> Duration {
        std::future::poll_fn(|cx| self.poll_drained(cx)).await
    }
}

/// The last handle is gone, and each place keeps one.
impl Drop for Shared {
    fn drop(&mut self) {
        budget::check(Budget::Sessions, *self.count.get_mut(), || 0);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.waits().remove(&self.number);
        if self.shared.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_are_only_so_many_places_and_none_while_draining() {
        let sessions = Sessions::new(2);
        let (one, _two) = (sessions.enter().ok().unwrap(), sessions.enter().ok().unwrap());
        assert_eq!(sessions.enter().err(), Some(NotNow::Full));
        drop(one);
        let mut three = sessions.enter().ok().unwrap();
        let draining = {
            let sessions = sessions.clone();
            tokio::spawn(async move { sessions.drain(Duration::from_secs(30)).await })
        };
        assert_eq!(three.drained().await, Duration::from_millis(2));
        assert_eq!(sessions.enter().err(), Some(NotNow::Draining));
        drop((three, _two));
        assert_eq!(draining.await.unwrap(), Duration::from_millis(2));
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_spread_is_a_second_for_a_thousand_and_never_longer_than_its_cap() {
        for (count, cap_ms, spread_ms) in [(1, 2, 1), (2, 2, 2), (3, 2, 2), (3, 0, 0)] {
            let sessions = Sessions::new(count);
            let mut inside: Vec<_> = (0..count).map(|_| sessions.enter().ok().unwrap()).collect();
            let cap = Duration::from_millis(cap_ms);
            let spread = Duration::from_millis(spread_ms);
            assert_eq!(sessions.drain(cap).await, spread, "{count} sessions, at most {cap:?}");
            assert_eq!(inside[0].drained().await, spread, "and they are told the same");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_leave_is_not_waited_for_for_ever() {
        let sessions = Sessions::new(1);
        let _stays = sessions.enter().ok().unwrap();
        assert_eq!(sessions.drain(Duration::ZERO).await, Duration::ZERO);
    }
}
