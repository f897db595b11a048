//! Whether the gateway is still there: a ping after silence, and a deadline for anything to come back.
//!
//! Silence is judged by what is heard, not by what could be written: a system takes kilobytes for a
//! connection that is long dead.

use std::time::Duration;

use tokio::time::Instant;

use super::options::Limits;

#[derive(Debug)]
pub(super) struct Liveness {
    heartbeat: Duration,
    owed_after: Duration,
    answer: Duration,
    heard: Instant,
    pinged: Option<Instant>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    /// Nothing came back.
    GiveUp,
}

impl Liveness {
    pub fn new(limits: &Limits, heartbeat_ms: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat_ms).max(Duration::from_millis(1)),
            owed_after: limits.owed,
            answer: limits.answer,
            heard: Instant::now(),
            pinged: None,
        }
    }

    /// Anything came.
    pub fn heard(&mut self) {
        self.heard = Instant::now();
        self.pinged = None;
    }

    /// When to look again, if answers are owed or not.
    pub fn next(&self, is_owed: bool) -> Instant {
        match self.pinged {
            Some(pinged) => pinged + self.answer,
            None if is_owed => self.heard + self.owed_after.min(self.heartbeat),
            None => self.heard + self.heartbeat,
        }
    }

    pub fn due(&mut self, is_owed: bool) -> Option<Due> {
        let now = Instant::now();
        if now < self.next(is_owed) {
            return None;
        }
        match self.pinged {
            Some(_) => Some(Due::GiveUp),
            None => {
                self.pinged = Some(now);
                Some(Due::Ping)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_ping_after_silence_and_the_end_when_nothing_comes_back() {
        let mut liveness = Liveness::new(&Limits::default(), 25_000);
        advance(Duration::from_secs(24)).await;
        assert_eq!(liveness.due(false), None);
        advance(Duration::from_secs(1)).await;
        assert_eq!(liveness.due(false), Some(Due::Ping));
        assert_eq!(liveness.due(false), None);
        advance(Duration::from_secs(9)).await;
        liveness.heard();
        advance(Duration::from_secs(25)).await;
        assert_eq!(liveness.due(false), Some(Due::Ping));
        advance(Duration::from_secs(10)).await;
        assert_eq!(liveness.due(false), Some(Due::GiveUp));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_owed_an_answer_asks_sooner() {
        let mut liveness = Liveness::new(&Limits::default(), 25_000);
        advance(Duration::from_secs(5)).await;
        assert_eq!(liveness.due(false), None);
        assert_eq!(liveness.due(true), Some(Due::Ping));
    }
}
