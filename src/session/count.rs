//! The sessions of this process: how many there may be, and how they are sent home.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

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
    is_draining: AtomicBool,
    drain: Mutex<Drain>,
}

/// Who is to be told. Not a channel: each session would hold a place in its list of waiters,
/// many times the size of a waker, for an hour that comes once.
#[derive(Default)]
struct Drain {
    spread: Option<Duration>,
    waiting: Vec<Option<Waker>>,
    free: Vec<usize>,
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
    /// Its place among those who are to be told, once it waits, and the waker there.
    waits: Option<(usize, Waker)>,
}

impl Sessions {
    /// Nobody yet, and at most `limit`.
    pub fn new(limit: usize) -> Self {
        let (count, left) = (AtomicUsize::new(0), Notify::new());
        let (is_draining, drain) = (AtomicBool::new(false), Mutex::default());
        Self { shared: Arc::new(Shared { limit, count, left, is_draining, drain }) }
    }

    /// Takes a place.
    pub fn enter(&self) -> Result<Entered, NotNow> {
        let shared = self.shared.clone();
        let before = shared.count.fetch_add(1, Ordering::SeqCst);
        // From here on dropping gives the place back, also on refusal.
        let entered = Entered { shared, waits: None };
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
        self.shared.is_draining.load(Ordering::SeqCst)
    }

    /// Sends everybody home, each with its own moment to come back within a spread of a second
    /// per thousand sessions, at most `cap`. Returns the spread once all have left, or after
    /// ten seconds.
    pub async fn drain(&self, cap: Duration) -> Duration {
        let spread = Duration::from_millis(self.count() as u64 * 1_000 / PER_SECOND).min(cap);
        let waiting = {
            let mut drain = self.shared.drain();
            drain.spread = Some(spread);
            self.shared.is_draining.store(true, Ordering::SeqCst);
            std::mem::take(&mut drain.waiting)
        };
        waiting.into_iter().flatten().for_each(Waker::wake);
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
    /// Waits until everybody is sent home: the spread of their returns. Cancel-safe.
    pub async fn drained(&mut self) -> Duration {
        poll_fn(|cx| self.poll_drained(cx)).await
    }

    /// As [`drained`](Self::drained), without a future to keep.
    pub fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let knows = self.waits.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker()));
        if knows && !self.shared.is_draining.load(Ordering::SeqCst) {
            return Poll::Pending; // a session's waker hardly ever changes: no lock is taken
        }
        let mut drain = self.shared.drain();
        if let Some(spread) = drain.spread {
            return Poll::Ready(spread);
        }
        let at = match self.waits {
            Some((at, _)) => at,
            None => drain.place(),
        };
        drain.waiting[at] = Some(cx.waker().clone());
        self.waits = Some((at, cx.waker().clone()));
        Poll::Pending
    }
}

impl Shared {
    fn drain(&self) -> MutexGuard<'_, Drain> {
        // Whatever panics under this lock leaves places that nobody uses, no more.
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drain {
    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.waiting.push(None);
            self.waiting.len() - 1
        })
    }

    fn leave(&mut self, at: usize) {
        if let Some(place) = self.waiting.get_mut(at) {
            *place = None;
            self.free.push(at);
        }
        if self.free.len() == self.waiting.len() {
            (self.waiting, self.free) = Default::default(); // the last one takes the list along
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some((at, _)) = self.waits.take() {
            self.shared.drain().leave(at);
        }
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
    async fn whoever_does_not_leave_is_not_waited_for_for_ever() {
        let sessions = Sessions::new(1);
        let _stays = sessions.enter().ok().unwrap();
        assert_eq!(sessions.drain(Duration::ZERO).await, Duration::ZERO);
    }
}
