//! How to enter a room, and within which limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data::Position;

/// How to enter a room. The defaults suit a person at a terminal.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What others see, 64 characters at most.
    pub name: Option<String>,
    /// What others see beside the name.
    pub attachment: Option<Value>,
    /// By which direct messages find the seat.
    pub tags: Option<Vec<String>>,
    /// How many messages to begin with when there is no position, 1,000 at most; the gateway's default is 100.
    pub history: Option<u32>,
    /// Whether to be told when the room falls asleep and wakes.
    pub watch: bool,
    /// How much to be told of who is here.
    pub presence: Presence,
    /// Asked before each `hello`, so that a token can be a fresh one.
    pub token: Option<Token>,
    /// Which transport.
    pub transport: Choice,
    /// Whom to trust besides the hashes that a gateway publishes.
    pub trust: Trust,
    /// Where and who one was before, from [`Events::saved`](super::Events::saved).
    pub resume: Option<Saved>,
    /// Whether to keep trying when the first connection does not come about.
    pub is_patient: bool,
    /// What may wait, and for how long.
    pub limits: Limits,
}

/// Which transport to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// WebTransport where it comes about, else a WebSocket.
    #[default]
    Any,
    /// A WebSocket.
    WebSocket,
    /// WebTransport, or nothing.
    WebTransport,
}

/// How much to be told of who is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    /// All of it while the room is small, then only the count.
    #[default]
    Auto,
    /// All of it.
    Full,
    /// The count.
    Count,
}

/// Which certificates to trust.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those that the system trusts.
    #[default]
    System,
    /// These authorities (or certificates) and no others.
    Only(Vec<CertificateDer<'static>>),
}

/// Where and who one was: enough to come back after a restart of one's own. Keep it secret, for whoever has it
/// *is* that seat.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The seat's secret.
    pub session: String,
    /// The last message that was taken; none before the first.
    pub position: Option<Position>,
}

/// Where tokens come from.
#[derive(Clone)]
pub struct Token(Arc<dyn Fn() -> String + Send + Sync>);

/// What may wait, and for how long. Each has a default, and a reason for it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Publishes that wait to be acknowledged: 1,000, a minute of the gateway's 20 a second.
    pub outbox: usize,
    /// Their bytes: 4 MiB.
    pub outbox_bytes: usize,
    /// Publishes under way at once: 1, for only then no refusal can change their order. More is faster over
    /// a long way; the gateway takes 64 unanswered requests.
    pub publishes_in_flight: usize,
    /// Events that wait to be taken: 1,024. Messages beyond them are fetched again from the gateway.
    pub events: usize,
    /// Their bytes: 4 MiB.
    pub event_bytes: usize,
    /// The longest wait before the second attempt: 0.5 s. Doubled for each one after it.
    pub retry_first: Duration,
    /// The longest wait of all: 30 s.
    pub retry_most: Duration,
    /// How long a connection must have held before the next loss begins with `retry_first` again: 30 s.
    pub stable_after: Duration,
    /// How long a connection may take to open, and a gateway to welcome: 10 s.
    pub connect: Duration,
    /// How long anything may take to come back after a ping: 10 s.
    pub answer: Duration,
    /// How long after the last sign of life a ping asks for what is owed: 5 s.
    pub owed: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbox: 1_000,
            outbox_bytes: 4 << 20,
            publishes_in_flight: 1,
            events: 1_024,
            event_bytes: 4 << 20,
            retry_first: Duration::from_millis(500),
            retry_most: Duration::from_secs(30),
            stable_after: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            owed: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// The defaults, with a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }
}

impl Presence {
    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Full => Some("full"),
            Self::Count => Some("count"),
        }
    }
}

impl Token {
    /// The same token every time.
    pub fn fixed(token: impl Into<String>) -> Self {
        let token = token.into();
        Self::from_fn(move || token.clone())
    }

    /// A token that is asked for before each `hello`.
    pub fn from_fn(ask: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn get(&self) -> String {
        (self.0)()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("position", &self.position).finish_non_exhaustive()
    }
}
