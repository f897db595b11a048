//! A sleeping room as data: what lies in its mailbox while nobody is at work for it.
//!
//! ```text
//!            nothing on its way, nothing due: Mailbox::rest
//!  Task ───────────────────────────────────────────────────▶ Resting, in the mailbox
//!       ◀───────────────────────────────────────────────────
//!            a letter: Mailbox::put, whoever brings the first
//! ```
//!
//! - One keeper per room, still: what rests is put in and taken out under the mailbox's lock.
//! - A moment that is waited for, the end of a seat's window or of what the ring keeps, is waited
//!   for by the task: there is no second clock.

use std::sync::Arc;

use super::Mailbox;
use super::delivery::Outboxes;
use super::state::Rest;
use super::task::{Keeper, Task};
use crate::outbox::Ring;
use crate::telemetry::Held;

/// What is left of a keeper.
pub(super) struct Resting {
    pub(super) keeper: Keeper,
    pub(super) state: Rest,
    pub(super) ring: Arc<Ring>,
    pub(super) outboxes: Outboxes,
    /// This room among those asleep.
    pub(super) counted: Option<Held>,
}

impl Resting {
    /// Something has come: the keeper is at work again.
    pub(super) fn rise(self: Box<Self>, mailbox: Arc<Mailbox>) {
        Task::rested(*self, mailbox).spawn();
    }
}
