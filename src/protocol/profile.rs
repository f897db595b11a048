//! Which protocol a client speaks, and how its frames are wrapped on the way.

/// The protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// `dormouse.v1`: positions, resume, answers.
    V1,
    /// The seed profile: the plain chat protocol of the "durable-object-chat" article.
    Seed,
}

/// How a broadcast is encoded: all members of one framing receive the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `dormouse.v1` in WebSocket frames.
    V1WebSocket,
    /// `dormouse.v1` in records on a WebTransport stream.
    V1WebTransport,
    /// The seed profile, always in WebSocket text frames.
    Seed,
}

impl Framing {
    /// How many framings there are.
    pub const COUNT: usize = 3;

    /// This framing's place in a table of all.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The protocol inside the framing.
    pub fn profile(self) -> Profile {
        match self {
            Self::V1WebSocket | Self::V1WebTransport => Profile::V1,
            Self::Seed => Profile::Seed,
        }
    }
}

/// How a message's body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum BodyKind {
    /// One JSON object.
    Json,
    /// A varint header length, a JSON header, then bytes.
    Binary,
}
