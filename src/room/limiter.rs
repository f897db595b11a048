//! How often something may be done, as one number: the moment at which all of it would be paid
//! for (GCRA, the "leaky bucket as a meter" of ATM). A refused attempt does not lengthen the
//! wait.

use serde::{Deserialize, Serialize};

/// A rate: so many at once, and so many per second after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many per second; 0 means no limit.
    pub per_second: u32,
    /// How many at once.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const OFF: Self = Self { per_second: 0, burst: 0 };

    /// The rate, unless there is no limit.
    pub fn if_any(self) -> Option<Self> {
        (self != Self::OFF).then_some(self)
    }
}

/// What was taken so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limiter {
    paid_at_us: u64,
}

impl Limiter {
    /// Takes one at `now_ms`, or says after how many ms there will be one.
    pub fn take(&mut self, now_ms: u64, rate: Rate) -> Result<(), u64> {
        if rate.per_second == 0 {
            return Ok(());
        }
        let now_us = now_ms * 1_000;
        let each_us = 1_000_000 / u64::from(rate.per_second);
        let paid_at_us = self.paid_at_us.max(now_us) + each_us;
        let credit_us = each_us * u64::from(rate.burst.max(1));
        match paid_at_us.saturating_sub(now_us + credit_us) {
            0 => {
                self.paid_at_us = paid_at_us;
                Ok(())
            }
            wait_us => Err(wait_us.div_ceil(1_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 2, burst: 10 };

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let mut limiter = Limiter::default();
        assert!((0..10).all(|_| limiter.take(0, RATE).is_ok()));
        for _ in 0..5 {
            assert_eq!(limiter.take(0, RATE), Err(500), "asking does not lengthen the wait");
        }
        assert_eq!(limiter.take(499, RATE), Err(1));
        assert_eq!(limiter.take(500, RATE), Ok(()));
        assert_eq!(limiter.take(500, RATE), Err(500));
        assert!((0..10).all(|_| limiter.take(60_000, RATE).is_ok()), "a rest refills it");
        assert!(limiter.take(60_000, RATE).is_err());
    }

    #[test]
    fn off_is_no_limit() {
        let mut limiter = Limiter::default();
        assert!((0..10_000).all(|_| limiter.take(0, Rate::OFF).is_ok()));
    }
}
