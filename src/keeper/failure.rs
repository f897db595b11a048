//! What becomes of a room whose keeper panics.
//!
//! Its members are sent away, to come back in a second, and the next keeper reads the room as it is
//! on disk. Not at once: what the failed one had given to the store may still be on its way there,
//! and a room has one append in flight, or two messages get the same number. So each answer that
//! the store owes holds a handle of the [`Keeping`], and the last one to let go hands the room on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Keeper, Letter, Mailbox};
use crate::protocol::CloseReason;

/// When members of a room whose keeper failed may come back.
pub(super) const RETURN_MS: u64 = 1_000;

/// A keeper's hold of its room: the keeper has one, and each answer that the store owes it.
pub(super) struct Keeping {
    keeper: Keeper,
    mailbox: Arc<Mailbox>,
    has_failed: AtomicBool,
}

impl Keeping {
    pub(super) fn new(keeper: Keeper, mailbox: Arc<Mailbox>) -> Arc<Self> {
        Arc::new(Self { keeper, mailbox, has_failed: AtomicBool::new(false) })
    }

    pub(super) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// The keeper has failed: nobody gets a letter through to it any more, and those whose letters
    /// it had not read are sent away.
    pub(super) fn fail(&self, unread: impl IntoIterator<Item = Letter>) {
        self.has_failed.store(true, Ordering::SeqCst);
        self.keeper.world.metrics.task_failures.of("keeper").inc();
        tracing::error!(room = %self.keeper.room, "a keeper failed; its members may come back");
        for letter in unread.into_iter().chain(self.mailbox.close_for_good()) {
            if let Letter::Mail(_, Some(outbox)) = letter {
                outbox.close(CloseReason::StoreUnavailable, Some(RETURN_MS));
            }
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if *self.has_failed.get_mut() {
            (self.keeper.world.failed)(&self.keeper.room, &self.mailbox);
        }
    }
}
