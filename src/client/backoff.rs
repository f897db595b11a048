//! How long to wait before the next attempt: full jitter, so that a thousand clients do not return at once.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use super::options::Limits;

/// Doubles its longest wait with each loss, and begins again once a connection has held.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    stable_after: Duration,
    losses: u32,
}

impl Backoff {
    pub fn new(limits: &Limits) -> Self {
        Self {
            first: limits.retry_first,
            most: limits.retry_most,
            stable_after: limits.stable_after,
            losses: 0,
        }
    }

    /// A connection is lost that was live since then, or did not come about at all.
    pub fn lost(&mut self, live_since: Option<Instant>) -> Duration {
        if live_since.is_some_and(|since| since.elapsed() >= self.stable_after) {
            self.losses = 0;
        }
        let longest = self.longest();
        self.losses = self.losses.saturating_add(1);
        longest.mul_f64(chance())
    }

    fn longest(&self) -> Duration {
        self.first.saturating_mul(1 << self.losses.min(16)).min(self.most)
    }
}

/// Evenly from 0 to 1.
fn chance() -> f64 {
    u32::from_be_bytes(dice()) as f64 / f64::from(u32::MAX)
}

/// Bytes that nobody guesses.
pub(super) fn dice<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_the_limit_and_begin_again_once_a_connection_held() {
        let mut backoff = Backoff::new(&Limits::default());
        let longest = |backoff: &Backoff| backoff.longest().as_millis();
        for expected in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            assert_eq!(longest(&backoff), expected);
            assert!(backoff.lost(None).as_millis() <= expected);
        }
        let live_since = Instant::now();
        tokio::time::advance(Duration::from_secs(29)).await;
        backoff.lost(Some(live_since));
        assert_eq!(longest(&backoff), 30_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(backoff.lost(Some(live_since)).as_millis() <= 500);
        assert_eq!(longest(&backoff), 1_000);
    }
}
