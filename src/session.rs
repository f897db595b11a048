//! One client's life, whatever brought it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::room;

/// The sessions' settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The largest frame a client may send.
    pub message_bytes: usize,
    /// Publishes of one session that wait for the disk.
    pub publishes_in_flight: usize,
    /// How long a reader may take nothing.
    pub stalled_after: Duration,
    /// How long a hello may take.
    pub hello_timeout: Duration,
    /// The silence after which a client should ping.
    pub heartbeat: Duration,
    /// How often a WebSocket is pinged.
    pub ping_every: Duration,
    /// How long a pong may take.
    pub pong_timeout: Duration,
    /// How long a closing connection may take.
    pub close_linger: Duration,
    /// How long a session token names its author.
    pub author_window: Duration,
    /// What a room allows.
    pub limits: room::Limits,
}

/// Why nobody may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotNow {
    /// As many sessions as allowed.
    Full,
    /// The gateway is shutting down.
    Draining,
}

/// The sessions of this process.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    inside: AtomicUsize,
    draining: AtomicBool,
    left: Notify,
}

/// One session's place; gives it back when dropped.
pub struct Entered(Arc<Shared>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
        self.0.left.notify_waiters();
    }
}

impl Sessions {
    /// Room for `limit` sessions.
    pub fn new(limit: usize) -> Self {
        let shared = Shared {
            limit,
            inside: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            left: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a place, if there is one.
    pub fn enter(&self) -> Result<Entered, NotNow> {
        if self.is_draining() {
            return Err(NotNow::Draining);
        }
        let entered = Entered(self.shared.clone());
        match self.shared.inside.fetch_add(1, Ordering::SeqCst) < self.shared.limit {
            true => Ok(entered),
            false => Err(NotNow::Full),
        }
    }

    /// Whether the gateway is shutting down.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::SeqCst)
    }

    /// Lets nobody in any more and waits until all have left.
    pub async fn drain(&self, _spread_cap: Duration) -> Duration {
        self.shared.draining.store(true, Ordering::SeqCst);
        loop {
            let left = self.shared.left.notified();
            if self.shared.inside.load(Ordering::SeqCst) == 0 {
                return Duration::ZERO;
            }
            left.await;
        }
    }
}
