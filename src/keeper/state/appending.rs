//! The keeper's end of the way to disk: one append at a time, and a line that may be full.

use super::{Now, Output, State};

/// The first pause before an append for which there was no room, and the longest.
const PAUSES_MS: (u64, u64) = (5, 500);

/// The store takes no more appends for a moment: ours is tried again, and until then members are
/// held back as they are by a slow disk.
#[derive(Debug, Default)]
pub(super) struct Crowded {
    pub(super) until_ms: Option<u64>,
    pause_ms: u64,
}

impl Crowded {
    pub(super) fn wait(&mut self, now_ms: u64) {
        self.pause_ms = (self.pause_ms * 2).clamp(PAUSES_MS.0, PAUSES_MS.1);
        self.until_ms = Some(now_ms + self.pause_ms);
    }
}

impl State {
    pub(super) fn append_next(&mut self, out: &mut Vec<Output>) {
        if self.append_in_flight {
            return; // one at a time, also if nobody waits for it any more
        }
        if let Some(records) = self.gate.next_append() {
            self.append_in_flight = true;
            out.push(Output::Append(records));
        }
    }

    /// Tries again what found the line full, if it is time to.
    pub(super) fn append_again(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.crowded.until_ms.take_if(|at| *at <= now.ms).is_some() {
            out.extend(self.gate.append_again().map(Output::Append));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_that_finds_the_line_full_is_tried_again_after_pauses_that_grow() {
        let (mut crowded, mut now, mut pauses) = (Crowded::default(), 1_000, Vec::new());
        for _ in 0..9 {
            crowded.wait(now);
            let until = crowded.until_ms.expect("it waits");
            pauses.push(until - now);
            now = until;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 500, 500]);
    }
}
