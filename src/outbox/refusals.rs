//! Frames of a client that were refused, one after the other.
//!
//! A client that reads its answers mends or ends what it does long before the limit. One that
//! does not would have the gateway read and answer for ever.

use std::time::Duration;

use tokio::time::Instant;

use super::Closing;
use crate::protocol::{CloseReason, Verdict};

/// So many refused frames in a row end a session.
pub const REFUSED_IN_A_ROW: u32 = 1_000;

/// A refusal so long after the one before begins a new row. A client whose row ended its session
/// is told to come back after as long.
pub const ROW_PAUSE: Duration = Duration::from_secs(10);

/// The row that a session is in; most are in none, and it costs them a pointer.
#[derive(Default)]
pub(super) struct Refusals(Option<Box<Row>>);

struct Row {
    length: u32,
    newest: Instant,
}

impl Refusals {
    /// Counts a verdict; says how the session is to end if it was one refusal too many.
    pub(super) fn count(&mut self, verdict: Verdict) -> Option<Closing> {
        match verdict {
            Verdict::Neither => None,
            Verdict::Taken => {
                self.0 = None;
                None
            }
            Verdict::Refused => self.refused(Instant::now()),
        }
    }

    fn refused(&mut self, now: Instant) -> Option<Closing> {
        let row = self.0.get_or_insert_with(|| Box::new(Row { length: 0, newest: now }));
        if now.duration_since(row.newest) >= ROW_PAUSE {
            row.length = 0;
        }
        row.length += 1;
        row.newest = now;
        let retry_after = Some(ROW_PAUSE.as_millis() as u64);
        (row.length >= REFUSED_IN_A_ROW)
            .then_some(Closing { reason: CloseReason::RateLimitAbuse, retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_ends_with_a_frame_that_is_taken_and_with_a_pause() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let nearly = |refusals: &mut Refusals, at| {
            (1..REFUSED_IN_A_ROW).for_each(|_| assert_eq!(refusals.refused(at), None));
        };
        nearly(&mut refusals, start);
        refusals.count(Verdict::Taken);
        nearly(&mut refusals, start);
        nearly(&mut refusals, start + ROW_PAUSE);
        refusals.count(Verdict::Neither);
        let soon = start + ROW_PAUSE * 2 - Duration::from_millis(1);
        let closing = refusals.refused(soon).expect("neither ends a row");
        assert_eq!(closing.reason, CloseReason::RateLimitAbuse);
        assert_eq!(closing.retry_after, Some(10_000));
    }
}
