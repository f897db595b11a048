//! The sessions of this process: how many there may be, and how they are sent home.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::outbox::{Board, Onlooker};

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
    drain: Board<Option<Duration>>,
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
    drain: Onlooker,
}

impl Sessions {
    /// Nobody yet, and at most `limit`.
    pub fn new(limit: usize) -> Self {
        let (count, left) = (AtomicUsize::new(0), Notify::new());
        let drain = Board::new(None);
        Self { shared: Arc::new(Shared { limit, count, left, drain }) }
    }

    /// Takes a place.
    pub fn enter(&self) -> Result<Entered, NotNow> {
        let shared = self.shared.clone();
        let before = shared.count.fetch_add(1, Ordering::SeqCst);
        // From here on dropping gives the place back, also on refusal.
        let entered = Entered { drain: shared.drain.look(), shared };
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
        self.shared.drain.change(|drain| *drain = Some(spread));
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
        // It entered before: there is one change to see.
        match self.shared.drain.poll_changed(&mut self.drain, cx) {
            Poll::Ready(Some(spread)) => Poll::Ready(spread),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.drain.leave(&self.drain);
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
