//! What keepers need of the world.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::Now;
use super::{Awake, Mailbox, Settings, Turns};
use crate::clock::Clock;
use crate::protocol::RoomName;
use crate::store::Store;
use crate::telemetry::Metrics;

/// Lets a keeper go; `false` if there is mail for it after all.
pub type Retire = Box<dyn Fn(&RoomName, &Mailbox) -> bool + Send + Sync>;

/// Told of a keeper that has failed, once its room may have another.
pub type Failed = Box<dyn Fn(&RoomName, &Arc<Mailbox>) + Send + Sync>;

/// What the keepers of a process share. It holds no keeper, at work or at rest: those hold it.
pub struct World {
    /// Where rooms lie.
    pub store: Store,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// And where it is noted which of them are awake.
    pub awake: Arc<Awake>,
    /// Where they stand in line to fall asleep.
    pub turns: Arc<Turns>,
    /// What is looked at to know what time it is.
    pub clock: Clock,
    /// From here on milliseconds are counted.
    pub begun: Instant,
    /// Asked by a keeper that nobody needs.
    pub retire: Retire,
    /// Told once a keeper has failed and the store owes it no answer any more: its room is to have
    /// another one.
    pub failed: Failed,
    /// Says that an alarm was set.
    pub set_alarm: Box<dyn Fn() + Send + Sync>,
}

/// Which room a keeper keeps, and what it needs for that. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    /// The room.
    pub room: RoomName,
    /// What it goes by.
    pub settings: Arc<Settings>,
    /// What it needs of the world.
    pub world: Arc<World>,
}

impl World {
    pub(super) fn now(&self) -> Now {
        let ms = self.clock.now().saturating_duration_since(self.begun).as_millis() as u64;
        Now { wall: self.clock.wall(), ms }
    }

    /// When so many milliseconds have passed.
    pub(super) fn at(&self, ms: u64) -> Instant {
        self.begun + Duration::from_millis(ms)
    }
}
