//! What can go wrong, and what to do about it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::framing::Broken;

/// Why something did not happen.
///
/// It can be cloned, because one lost connection may be the reason of many.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The address is none of a room.
    #[error("{address:?} is no room's address: {why} (one is http://localhost:4433/rooms/lobby)")]
    Address {
        /// What was given, without a user and a password.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody answers there.
    #[error("cannot reach {gateway}")]
    Unreachable {
        /// Host and port.
        gateway: String,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// Somebody answers whose certificate is not trusted here.
    #[error("the certificate of {gateway} is not trusted")]
    Untrusted {
        /// Host and port.
        gateway: String,
        /// What is wrong with the certificate.
        #[source]
        source: Arc<io::Error>,
    },
    /// TLS was asked for where there is none.
    #[error("{gateway} does not speak TLS")]
    Plain {
        /// Host and port.
        gateway: String,
        /// What came instead.
        #[source]
        source: Arc<io::Error>,
    },
    /// The door stayed shut: an HTTP status instead of a session.
    #[error("{gateway} refuses with status {status}")]
    Refused {
        /// Host and port.
        gateway: String,
        /// 400 (name), 403 (origin or host), 404 (no such door), 426, 503 (full or draining).
        status: u16,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// WebTransport did not come about. It does not say more than this.
    #[error("no WebTransport session at {gateway}: {why}")]
    WebTransport {
        /// Its address.
        gateway: String,
        /// What QUIC says.
        why: String,
    },
    /// What answers does not speak `dormouse.v1`.
    #[error("{gateway} does not speak dormouse.v1: {why}")]
    Stranger {
        /// Host and port.
        gateway: String,
        /// What it does instead.
        why: String,
    },
    /// The gateway ended the session and said why.
    #[error(transparent)]
    Closed(#[from] Close),
    /// The connection went away before there was an answer.
    #[error("the connection was lost: {0}")]
    Lost(Lost),
    /// The gateway refused one request; the session goes on.
    #[error("refused: {reason} ({code})")]
    Rejected {
        /// `bad_request`, `too_large`, `rate_limited`, `room_unavailable`, `recipient_busy`, `unknown_type`.
        code: String,
        /// A sentence for people.
        reason: String,
        /// When it may succeed, if it may.
        retry_after: Option<Duration>,
    },
    /// It is longer than the gateway takes, and was not sent.
    #[error("a message of {size} bytes is over the gateway's limit of {limit}")]
    TooLarge {
        /// The frame's length.
        size: usize,
        /// `limits.message` of the gateway's welcome.
        limit: usize,
    },
    /// The gateway would refuse it, and it was not sent.
    #[error("{what} is {size}, over the gateway's limit of {limit}")]
    OverLimit {
        /// Which part of the call, as in "the key of an ephemeral, in bytes,".
        what: &'static str,
        /// How much it is.
        size: u64,
        /// The limit of that name in the gateway's welcome.
        limit: u64,
    },
    /// It nests deeper than the protocol takes, and was not sent.
    #[error("JSON of a message may nest 31 levels, this nests deeper")]
    TooDeep,
    /// As much waits to be sent as may wait.
    #[error("the outbox is full: {waiting} publishes wait to be acknowledged")]
    OutboxFull {
        /// How many wait.
        waiting: usize,
    },
    /// As many requests are unanswered as may be.
    #[error("{0} requests are unanswered already")]
    Busy(usize),
    /// The room was closed on this side.
    #[error("the room was closed")]
    Ended,
}

/// How a connection went away without a word.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// It broke or ended.
    #[error("{0}")]
    Broken(String),
    /// Nothing came back within the deadline.
    #[error("nothing was heard for too long")]
    Silent,
    /// What came is not the protocol.
    #[error(transparent)]
    Frame(#[from] Broken),
}

/// The end of a session as the gateway told it, with the codes of `docs/protocol.md`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Close {
    /// 1000, 40xx (come back) or 45xx (do not).
    pub code: u16,
    /// Its short name, `room_full`.
    pub reason: String,
    /// When to come back, if the gateway said so.
    pub retry_after: Option<Duration>,
}

impl Close {
    /// Whether the protocol asks to come back.
    pub fn may_return(&self) -> bool {
        !matches!(self.code, 1000 | 1002 | 4500..=4599)
    }

    /// What the protocol's page says to do.
    pub fn advice(&self) -> &'static str {
        match self.code {
            1000 => "you said goodbye",
            1002 | 4504 => "this client has a fault, please report it",
            4000 => "the gateway is going away; come back when it said",
            4002 => "take more, or ask for less",
            4003 => "the log began anew",
            4004 => "the gateway heard nothing for too long",
            4005 => "come back later, and slower",
            4007 => "the gateway's store is unwell; try again later",
            4500 => "get another token",
            4501 => "get a new token",
            4502 => "this room is not open to you",
            4503 => "say hello in time",
            4505 => "the room is gone",
            4506 => "somebody has to leave first",
            4507 => "an operator ended the session",
            4508 => "another connection has the seat",
            4510 => "say less at once",
            _ if self.may_return() => "come back later",
            _ => "do not come back",
        }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "closed by the gateway: {} ({}): {}", self.reason, self.code, self.advice())
    }
}

impl Error {
    /// Whether trying again later may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Closed(close) => close.may_return(),
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::Unreachable { .. } | Self::WebTransport { .. } | Self::Lost(_) => true,
            _ => false,
        }
    }

    /// What somebody at a terminal can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { .. } => {
                "is a gateway running there? `dormouse` starts one; --url says where"
            }
            Self::Untrusted { .. } => {
                "--ca FILE trusts your own authority, or the certificate itself"
            }
            Self::Plain { .. } => "a gateway without a certificate is plain: http://, not https://",
            Self::Refused { status: 403, .. } => {
                "the gateway takes only the hosts and origins that it was told: gateway.hosts, gateway.origins"
            }
            Self::Refused { status: 404, .. } | Self::Stranger { .. } => {
                "is this a Dormouse gateway? --url is its address, http://localhost:4433"
            }
            Self::Refused { status: 429 | 503, .. } => {
                "it is full or going away: try again in a moment"
            }
            Self::WebTransport { .. } => {
                "is UDP let through? without --transport webtransport a WebSocket is tried, too"
            }
            _ => return None,
        })
    }
}
