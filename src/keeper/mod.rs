//! One room's keeper.

use std::time::Duration;

use crate::{outbox, room};

/// The keepers' settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a room stays awake unneeded.
    pub sleep_after: Duration,
    /// Events that may wait for one room.
    pub mailbox_events: usize,
    /// Bytes of events kept while a room wakes.
    pub waking_bytes: usize,
    /// How long a lost connection is not announced.
    pub grace: Duration,
    /// How long a seat can be taken back.
    pub resume_window: Duration,
    /// What a room allows.
    pub limits: room::Limits,
    /// What a session may be owed.
    pub outbox: outbox::Policy,
}
