//! Dormouse (floor plan follows with the rooms).

pub mod protocol;
pub mod store;
