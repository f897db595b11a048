//! `dormouse.v1`.

/// The subprotocol's name, as it is offered and answered.
pub const NAME: &str = "dormouse.v1";
