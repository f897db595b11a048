//! Dormouse (floor plan follows with the rooms).

pub mod config;
pub mod dispatcher;
pub mod gateway;
pub mod keeper;
pub mod outbox;
pub mod protocol;
pub mod room;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
