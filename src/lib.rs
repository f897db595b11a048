//! Dormouse.

pub mod outbox;
pub mod protocol;
pub mod room;
pub mod store;
