//! The seed profile's side of a session: names, chats and the chat's own rate limit.

use tokio::time::Instant;

use crate::protocol::Position;
use crate::protocol::seed::ServerFrame;

/// A chat may be said every so many ms …
const EVERY_MS: u64 = 500;
/// … or so many ms' worth of them at once: ten.
const BURST_MS: u64 = 5_000;

/// What a seed session remembers. It outlives every nap of the room.
#[derive(Debug)]
pub(super) struct Seed {
    /// Whether it has taken a name.
    pub(super) joined: bool,
    /// Its place in the log, from the moment its socket was accepted.
    pub(super) accepted: Option<Position>,
    start: Instant,
    next_ms: u64,
}

impl Seed {
    pub(super) fn new(now: Instant) -> Self {
        Self { joined: false, accepted: None, start: now, next_ms: 0 }
    }

    /// Takes one from the limiter, or says how long to wait. An attempt that is refused does
    /// not lengthen the wait.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), ServerFrame> {
        let now_ms = (now - self.start).as_millis() as u64;
        let next_ms = self.next_ms.max(now_ms) + EVERY_MS;
        match next_ms.saturating_sub(now_ms + BURST_MS) {
            0 => {
                self.next_ms = next_ms;
                Ok(())
            }
            retry_after_ms => Err(ServerFrame::RateLimit { retry_after_ms }),
        }
    }
}

/// A name within its limit; what is longer is cut, for this profile has no errors.
pub(super) fn fitting(name: String, name_chars: usize) -> String {
    match name.char_indices().nth(name_chars) {
        Some((at, _)) => name[..at].to_owned(),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ten_at_once_and_then_two_a_second() {
        let start = Instant::now();
        let mut seed = Seed::new(start);
        assert!((0..10).all(|_| seed.take(start).is_ok()));
        let wait = Err(ServerFrame::RateLimit { retry_after_ms: 500 });
        for _ in 0..5 {
            assert_eq!(seed.take(start), wait, "asking does not lengthen the wait");
        }
        let later = |ms| start + Duration::from_millis(ms);
        assert!(seed.take(later(499)).is_err());
        assert!(seed.take(later(500)).is_ok());
        assert!(seed.take(later(500)).is_err());
        assert!((0..10).all(|_| seed.take(later(60_000)).is_ok()), "a rest refills it");
        assert!(seed.take(later(60_000)).is_err());
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(fitting("ädä".into(), 2), "äd");
        assert_eq!(fitting("ädä".into(), 3), "ädä");
    }
}
