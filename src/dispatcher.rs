//! Finds or starts a room's keeper.

use std::sync::Arc;

use crate::keeper;
use crate::protocol::RoomName;
use crate::store::Store;
use crate::telemetry::Metrics;

/// What an operator sees of a room.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Inspection {
    /// The room.
    pub room: String,
}

/// Why a room cannot be asked just now.
#[derive(Debug, Clone)]
pub struct Unavailable {
    /// When to try again.
    pub retry_after_ms: u64,
    /// Why.
    pub reason: String,
}

/// Room name to keeper.
#[derive(Clone)]
pub struct Dispatcher;

impl Dispatcher {
    /// A dispatcher over a store.
    pub fn new(_settings: keeper::Settings, _store: Store, _metrics: Arc<Metrics>) -> Self {
        Self
    }

    /// What there is of a room; `None` when there never was one.
    pub async fn inspect(&self, _room: &RoomName) -> Result<Option<Inspection>, Unavailable> {
        Ok(None)
    }

    /// Puts a room to sleep now.
    pub async fn hibernate(&self, _room: &RoomName) -> Result<Option<Inspection>, Unavailable> {
        Ok(None)
    }

    /// Wakes a room.
    pub async fn wake(&self, _room: &RoomName) -> Result<Option<Inspection>, Unavailable> {
        Ok(None)
    }

    /// Waits until every keeper has finished what it committed.
    pub async fn close(&self) {}
}
