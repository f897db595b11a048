//! Dormouse.

pub mod dispatcher;
pub mod keeper;
pub mod outbox;
pub mod protocol;
pub mod room;
pub mod store;
pub mod telemetry;
