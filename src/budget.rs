//! Counters of what is held, checked against what is there.
//!
//! A limit on bytes, entries or places is a counter that goes up and down. One that is not brought
//! down again is noticed by nobody until it has reached its limit, hours later. So whoever keeps
//! such a counter compares it at its end with what is there: in debug builds, which tests are. Every
//! test that brings a counter out of step fails, whatever it is about.
//!
//! `tests/layering.rs` has the list of all places that give something back (`GIVEN_BACK`), also of
//! those that need no check here.

/// A counter that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Sessions of a process.
    Sessions,
    /// Addresses that have sessions.
    Addresses,
    /// Bytes of a session's own frames.
    OutboxBytes,
    /// Bytes of messages that a room keeps for its members.
    RingBytes,
    /// Bytes of a room's ephemerals.
    EphemeralBytes,
    /// Bytes of letters in a mailbox.
    MailboxBytes,
    /// Bytes of mail that waits for its room.
    WaitingBytes,
    /// Bytes of messages behind the output gate.
    GateBytes,
    /// Rooms on their way to sleep.
    Turns,
    /// Bytes of appends that wait for the journal's thread.
    AppendBytes,
}

/// Compares a counter with what is there, in debug builds.
///
/// # Panics
///
/// When they differ, unless the thread panics already.
pub fn check(budget: Budget, counted: usize, there: impl FnOnce() -> usize) {
    if !cfg!(debug_assertions) || std::thread::panicking() {
        return;
    }
    let there = there();
    assert!(counted == there, "{budget:?} was not given back: {counted} counted, {there} there");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_not_told() {
        check(Budget::OutboxBytes, 3, || 3);
    }

    #[test]
    #[should_panic(expected = "OutboxBytes was not given back: 3 counted, 0 there")]
    fn a_budget_that_is_not_given_back_fails_the_test_that_took_it() {
        check(Budget::OutboxBytes, 3, || 0);
    }
}
