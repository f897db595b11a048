//! Whether a client is still there, as a few moments and what follows from them.
//!
//! Any traffic counts. A ping is sent after `ping_every` of silence, and its pong is due within
//! `pong_timeout`; while bytes are owed that clock stands still, and taking none of them for
//! `stalled_after` is the end instead. While the session itself does not read, silence means
//! nothing.

use std::sync::Arc;

use tokio::time::Instant;

use super::Settings;
use crate::protocol::CloseReason;

/// The moments.
#[derive(Debug)]
pub(super) struct Liveness {
    settings: Arc<Settings>,
    pings: bool,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    /// When the client last took some of what it is owed, or began to be owed.
    owed_since: Option<Instant>,
    hello_by: Option<Instant>,
}

/// What a moment brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    End(CloseReason),
}

impl Liveness {
    pub(super) fn new(now: Instant, settings: Arc<Settings>, pings: bool, greets: bool) -> Self {
        let hello_by = greets.then(|| now + settings.hello_timeout);
        Self { settings, pings, heard_at: now, pinged_at: None, owed_since: None, hello_by }
    }

    /// The client said hello.
    pub(super) fn greeted(&mut self) {
        self.hello_by = None;
    }

    /// Something came, or the session does not listen.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged_at = None;
    }

    /// There are bytes to write.
    pub(super) fn owes(&mut self, now: Instant) {
        self.owed_since.get_or_insert(now);
    }

    /// The client took some; `all` of them or not.
    pub(super) fn took(&mut self, now: Instant, all: bool) {
        self.owed_since = (!all).then_some(now);
        if all && self.pinged_at.is_some() {
            self.pinged_at = Some(now);
        }
    }

    /// Whether a ping has not been answered yet.
    pub(super) fn awaits_pong(&self) -> bool {
        self.pinged_at.is_some()
    }

    /// When [`due`](Self::due) has something to say, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let silence = match (self.owed_since, self.pinged_at) {
            (Some(since), _) => Some(since + self.settings.stalled_after),
            (None, Some(pinged)) => Some(pinged + self.settings.pong_timeout),
            (None, None) => self.pings.then(|| self.heard_at + self.settings.ping_every),
        };
        silence.into_iter().chain(self.hello_by).min()
    }

    /// What this moment brings.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if self.hello_by.is_some_and(|by| by <= now) {
            return Due::End(CloseReason::NoHello);
        }
        match (self.owed_since, self.pinged_at) {
            (Some(since), _) if since + self.settings.stalled_after <= now => {
                Due::End(CloseReason::TooSlow)
            }
            (None, Some(pinged)) if pinged + self.settings.pong_timeout <= now => {
                Due::End(CloseReason::HeartbeatLost)
            }
            (None, None) if self.pings && self.heard_at + self.settings.ping_every <= now => {
                self.pinged_at = Some(now);
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn fixture() -> (Instant, Liveness) {
        let limits = crate::room::Limits {
            members: 1,
            tags: 1,
            tag_bytes: 1,
            name_chars: 1,
            attachment_bytes: 1,
            key_bytes: 1,
        };
        let seconds = Duration::from_secs;
        let settings = Settings {
            message_bytes: 1,
            publishes_in_flight: 1,
            stalled_after: seconds(30),
            hello_timeout: seconds(10),
            heartbeat: seconds(25),
            ping_every: seconds(20),
            pong_timeout: seconds(10),
            close_linger: seconds(2),
            author_window: seconds(60),
            ephemeral_rate: crate::room::Rate::OFF,
            ephemeral_keys: 1,
            limits,
            auto_responses: Default::default(),
        };
        let start = Instant::now();
        (start, Liveness::new(start, Arc::new(settings), true, true))
    }

    #[test]
    fn a_silent_client_is_pinged_and_then_given_up() {
        let (start, mut life) = fixture();
        life.greeted();
        assert_eq!(life.due(at(start, 19)), Due::Nothing);
        assert_eq!(life.deadline(), Some(at(start, 20)));
        assert_eq!(life.due(at(start, 20)), Due::Ping);
        assert_eq!(life.due(at(start, 29)), Due::Nothing);
        assert_eq!(life.due(at(start, 30)), Due::End(CloseReason::HeartbeatLost));
        life.heard(at(start, 30));
        assert_eq!(life.due(at(start, 30)), Due::Nothing, "any traffic counts");
    }

    #[test]
    fn progress_stands_in_for_the_pong() {
        let (start, mut life) = fixture();
        life.greeted();
        life.due(at(start, 20));
        life.owes(at(start, 21));
        assert_eq!(life.due(at(start, 40)), Due::Nothing);
        life.took(at(start, 45), false);
        assert_eq!(life.due(at(start, 74)), Due::Nothing);
        life.took(at(start, 74), true);
        assert_eq!(life.due(at(start, 83)), Due::Nothing, "the pong's clock starts anew");
        assert_eq!(life.due(at(start, 84)), Due::End(CloseReason::HeartbeatLost));
    }

    #[test]
    fn who_takes_nothing_is_too_slow() {
        let (start, mut life) = fixture();
        life.greeted();
        life.owes(at(start, 1));
        life.owes(at(start, 20));
        assert_eq!(life.deadline(), Some(at(start, 31)));
        assert_eq!(life.due(at(start, 31)), Due::End(CloseReason::TooSlow));
    }

    #[test]
    fn hello_has_its_time() {
        let (start, mut life) = fixture();
        assert_eq!(life.deadline(), Some(at(start, 10)));
        assert_eq!(life.due(at(start, 10)), Due::End(CloseReason::NoHello));
    }
}
