//! Which of the two protocols a WebSocket speaks.

/// The protocol that a client chose at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `dormouse.v1`, asked for by name.
    V1,
    /// The chat protocol of clients that ask for none.
    Seed,
}
