//! Refusals that an operator should hear of: a page's origin, a request's `Host`.
//!
//! Browsers show a page neither, so the log is where the cause can be found. Any page that the
//! visitor opens can cause such a line, so there is at most one of each kind every [`EVERY`]; the
//! next one says how many were left out. All are counted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::Metrics;

/// The time that passes at least between two log lines about refusals of one kind.
pub const EVERY: Duration = Duration::from_secs(10);

/// Characters of a header that a line shows.
const SHOWN_CHARS: usize = 128;

/// What was refused so far, as far as the log is concerned.
#[derive(Debug, Default)]
pub struct Refusals {
    origins: Sparse,
    hosts: Sparse,
}

impl Refusals {
    /// A page was refused for its origin, which it sent in a request to that host.
    pub fn origin(&self, metrics: &Metrics, origin: &str, host: &str) {
        metrics.pages_refused.of("origin").inc();
        if let Some(left_out) = self.origins.line(Instant::now()) {
            tracing::warn!(
                origin = %shown(origin),
                host = %shown(host),
                left_out,
                "a page was refused for its origin: list it in gateway.origins if it may connect"
            );
        }
    }

    /// A request was refused for its `Host` at a loopback listener.
    pub fn host(&self, metrics: &Metrics, host: &str) {
        metrics.pages_refused.of("host").inc();
        if let Some(left_out) = self.hosts.line(Instant::now()) {
            tracing::warn!(
                host = %shown(host),
                left_out,
                "a request to a loopback listener was refused for its Host: list it in \
                 gateway.hosts if it is the name that a proxy on this machine passes on"
            );
        }
    }
}

/// A header's text for a log line: in quotes, control characters escaped, cut.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// Lines of one kind, of which one is written every [`EVERY`].
#[derive(Debug, Default)]
struct Sparse(Mutex<Written>);

#[derive(Debug, Default)]
struct Written {
    last: Option<Instant>,
    left_out: u64,
}

impl Sparse {
    /// Whether there is a line now: with the number of those left out since the last one.
    fn line(&self, now: Instant) -> Option<u64> {
        // Both fields are set in one step: after a panic elsewhere they are still right.
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            written.left_out += 1;
            return None;
        }
        written.last = Some(now);
        Some(std::mem::take(&mut written.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_written_in_so_long_and_says_how_many_were_not() {
        let (lines, start) = (Sparse::default(), Instant::now());
        let at = |after: Duration| lines.line(start + after);
        assert_eq!(at(Duration::ZERO), Some(0));
        for millis in [0, 1, 9_999] {
            assert_eq!(at(Duration::from_millis(millis)), None);
        }
        assert_eq!(at(EVERY), Some(3));
        assert_eq!(at(EVERY), None);
        assert_eq!(at(3 * EVERY), Some(1));
        assert_eq!(at(5 * EVERY), Some(0));
    }

    #[test]
    fn a_header_is_shown_without_its_control_characters_and_not_at_any_length() {
        assert_eq!(shown("https://a\u{1b}[2J\n"), "\"https://a\\u{1b}[2J\\n\"");
        let long = shown(&"ü".repeat(10_000));
        assert_eq!(long.chars().count(), SHOWN_CHARS + 3);
    }

    #[test]
    fn every_refusal_is_counted() {
        let (refusals, metrics) = (Refusals::default(), Metrics::default());
        for _ in 0..3 {
            refusals.origin(&metrics, "https://evil.example", "rooms.example");
        }
        refusals.host(&metrics, "evil.example");
        let page = metrics.exposition();
        assert!(page.contains("dormouse_pages_refused_total{reason=\"origin\"} 3"), "{page}");
        assert!(page.contains("dormouse_pages_refused_total{reason=\"host\"} 1"), "{page}");
    }
}
