//! What one session is still owed.

use std::time::Duration;

/// The outbox's settings.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Broadcast bytes kept per room.
    pub ring_bytes: usize,
    /// The oldest a broadcast may be in the ring.
    pub ring_age: Duration,
    /// Private bytes owed to one session.
    pub outbox_bytes: usize,
    /// The most bytes of one page or slice.
    pub page_bytes: usize,
}
