//! What time it is, for whoever keeps rooms: the system's clocks, or those moved forward by a test.
//!
//! Rooms fall asleep, windows end and alarms ring by this clock. In a gateway that serves it is the
//! system's own and nothing else: a look costs one comparison more. The [test kit](crate::testkit)
//! runs a gateway on one that it can [move](Clock::advance), both its times together, and whoever
//! waits for a moment that has come by that is woken.
//!
//! - Time passes by itself too, and never runs backwards.
//! - A moment of this clock is not one of the system's: what comes from elsewhere is
//!   [translated](Clock::at).
//! - Sockets, and what rings keep for a second, go by the system's clock: there is no other on the
//!   far side of a wire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::protocol::Timestamp;

/// A clock. Cheap to clone; clones are moved together.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// How far it is ahead of the system's; nothing if it cannot be.
    ahead: Option<watch::Sender<Duration>>,
}

impl Clock {
    /// One that can be moved.
    pub fn movable() -> Self {
        Self { ahead: Some(watch::Sender::new(Duration::ZERO)) }
    }

    /// Moves it forward; the system's own stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(ahead) = &self.ahead {
            ahead.send_modify(|ahead| *ahead += by);
        }
    }

    /// Now, for deadlines.
    pub fn now(&self) -> Instant {
        self.at(Instant::now())
    }

    /// Now, for what is told and stored.
    pub fn wall(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp((wall + self.ahead()).as_millis() as u64)
    }

    /// What this clock shows at a moment of the system's, unless it is moved before.
    pub fn at(&self, system: Instant) -> Instant {
        system + self.ahead()
    }

    /// Waits until a moment of this clock.
    pub async fn sleep_until(&self, at: Instant) {
        match &self.ahead {
            None => sleep_until(at).await,
            Some(ahead) => Box::pin(moved_until(ahead.subscribe(), at)).await,
        }
    }

    fn ahead(&self) -> Duration {
        self.ahead.as_ref().map_or(Duration::ZERO, |ahead| *ahead.borrow())
    }
}

/// Waits on a clock that is moved meanwhile.
async fn moved_until(mut ahead: watch::Receiver<Duration>, at: Instant) {
    loop {
        let by = *ahead.borrow_and_update();
        let Some(system) = at.checked_sub(by) else { return };
        tokio::select! {
            () = sleep_until(system) => return,
            Ok(()) = ahead.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_moment_that_was_moved_past_is_woken() {
        let clock = Clock::movable();
        let (begun, wall) = (clock.now(), clock.wall());
        let sleeper = clock.clone();
        let waiting = tokio::spawn(async move { sleeper.sleep_until(begun + HOUR).await });
        clock.advance(HOUR / 2);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "half of it");
        clock.advance(HOUR / 2);
        waiting.await.unwrap();
        assert_eq!(clock.now(), begun + HOUR, "no time has passed for the system");
        assert!(clock.wall().since_ms(wall) >= 3_600_000, "both its times are moved");
        assert_eq!(clock.at(begun), begun + HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_by_itself_and_the_systems_clock_cannot_be_moved() {
        for clock in [Clock::default(), Clock::movable()] {
            let begun = Instant::now();
            clock.sleep_until(clock.now() + HOUR).await;
            assert_eq!(begun.elapsed(), HOUR);
        }
        let clock = Clock::default();
        clock.advance(HOUR);
        assert_eq!(clock.now(), Instant::now());
    }
}
