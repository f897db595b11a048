//! When an open loop sends: at times that were fixed beforehand.
//!
//! Each message carries the moment at which it *should* have been sent. When the generator or
//! the server's backpressure is late, that lateness is part of what is measured, and no slow
//! answer hides the messages that would have been sent meanwhile (no "coordinated omission").

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// So many a second, evenly.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    begun: Instant,
    sent: u64,
}

impl Pace {
    /// The first is due at `begun`.
    pub fn new(per_second: f64, begun: Instant) -> Self {
        Self { per_second, begun, sent: 0 }
    }

    /// When the next one is due.
    pub fn next(&self) -> Instant {
        self.begun + Duration::from_secs_f64(self.sent as f64 / self.per_second)
    }

    /// Takes the next one, if it is due: when it should have been sent.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let at = self.next();
        (at <= now).then(|| {
            self.sent += 1;
            at
        })
    }
}

/// Wakes at a moment, to some ten microseconds: tokio's own timers count in milliseconds.
///
/// A thread sleeps for it, for that is what the system is precise at.
pub struct Alarm {
    set: SyncSender<Instant>,
    rung: Arc<Notify>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> std::io::Result<Self> {
        let (set, moments) = sync_channel::<Instant>(1);
        let rung = Arc::new(Notify::new());
        let bell = rung.clone();
        std::thread::Builder::new().name("alarm".to_owned()).spawn(move || {
            do_not_dawdle();
            while let Ok(at) = moments.recv() {
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                bell.notify_one();
            }
        })?;
        Ok(Self { set, rung })
    }

    /// Waits until then.
    pub async fn until(&mut self, at: Instant) {
        while Instant::now() < at {
            // Full: it sleeps for an earlier moment that nobody waits for any more.
            let _ = self.set.try_send(at);
            self.rung.notified().await;
        }
    }
}

/// The system may wake a thread 50 µs late, to wake several at once; not this one.
fn do_not_dawdle() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_late_sends_all_that_was_due_with_the_times_it_was_due_at() {
        let begun = Instant::now();
        let mut pace = Pace::new(1_000.0, begun);
        let ms = Duration::from_millis;
        assert_eq!(pace.take(begun), Some(begun));
        assert_eq!(pace.take(begun), None, "the next is due in a millisecond");
        assert_eq!(pace.next(), begun + ms(1));

        let late = begun + ms(3);
        let due: Vec<_> = std::iter::from_fn(|| pace.take(late)).collect();
        assert_eq!(due, [begun + ms(1), begun + ms(2), begun + ms(3)]);
    }

    #[test]
    fn lateness_does_not_lower_the_rate() {
        let begun = Instant::now();
        let mut pace = Pace::new(2_000.0, begun);
        let mut count = |seconds| {
            let now = begun + Duration::from_secs(seconds);
            std::iter::from_fn(|| pace.take(now)).count()
        };
        assert_eq!((count(1), count(5)), (2_001, 8_000));
    }

    #[tokio::test]
    async fn an_alarm_rings_no_sooner_than_set_and_may_be_set_again() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..3 {
            let at = Instant::now() + Duration::from_micros(300);
            alarm.until(at).await;
            assert!(Instant::now() >= at);
        }
        alarm.until(Instant::now()).await;
    }
}
