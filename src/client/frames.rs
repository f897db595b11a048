//! The frames of `dormouse.v1`, as `docs/protocol.md` lists them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data::{Author, Data, Member, Message, Position, To};
use super::framing::{Broken, Raw};

/// What a client says. Absent fields have nothing to say.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Say<'a> {
    Hello(Hello<'a>),
    Publish {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<&'a To>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
    },
    Ephemeral {
        key: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
    },
    History {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    Members {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<&'a str>,
    },
    Set {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        attachment: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tags: Option<&'a [String]>,
    },
    Ping {
        id: u64,
    },
    Bye,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Hello<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<&'a Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub watch: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
}

/// What a gateway says. Unknown types and fields are not ours to mind.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Hear {
    Welcome(Welcome),
    Message(WireMessage),
    Live {
        seq: u64,
    },
    Ok(Done),
    Error(Refusal),
    Page {
        id: u64,
        messages: Vec<WireMessage>,
        more: bool,
    },
    Members {
        id: u64,
        members: Vec<Member>,
        more: bool,
    },
    Presence(Change),
    Ephemeral {
        key: String,
        from: String,
        data: Option<Value>,
    },
    Room(RoomState),
    Drain {
        reconnect_after: u64,
    },
    Pong {},
    Close {
        code: u16,
        #[serde(default)]
        reason: String,
        retry_after: Option<u64>,
    },
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
pub(super) struct Welcome {
    pub session: String,
    pub sid: String,
    pub position: Position,
    pub heartbeat: u64,
    pub resumed: bool,
    pub why: Option<String>,
    pub oldest: Option<u64>,
    pub seat: String,
    pub limits: Limits,
    pub members: Option<Vec<Member>>,
    #[serde(default)]
    pub count: u64,
}

/// What the gateway takes. One that does not say all of it refuses by itself what is too much.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Limits {
    /// Bytes of a frame.
    pub message: usize,
    /// Bytes of an attachment.
    pub attachment: Option<u64>,
    /// How many tags a seat has.
    pub tags: Option<u64>,
    /// Bytes of one.
    pub tag: Option<u64>,
    /// Bytes of a key.
    pub key: Option<u64>,
    /// How many keys the ephemerals of a session have.
    pub ephemeral_keys: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireMessage {
    pub seq: Option<u64>,
    pub time: u64,
    pub from: Author,
    data: Option<Value>,
    data64: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Done {
    pub id: Option<u64>,
    pub seq: Option<u64>,
    #[serde(default)]
    pub dup: bool,
    pub reached: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub id: Option<u64>,
    pub code: String,
    #[serde(default)]
    pub reason: String,
    pub retry_after: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Change {
    #[serde(default)]
    pub join: Vec<Member>,
    #[serde(default)]
    pub leave: Vec<String>,
    #[serde(default)]
    pub update: Vec<Member>,
    #[serde(default)]
    pub reset: bool,
    pub members: Option<Vec<Member>>,
    pub count: Option<u64>,
}

/// How the room is, for watchers; trouble and its end are told to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RoomState {
    /// The store is unwell: publishes are refused, and sent again by themselves.
    Degraded {
        /// When it is tried again, in ms.
        retry_after: Option<u64>,
    },
    /// The store is well again.
    Well,
    /// The room sleeps.
    Asleep,
    /// The room is awake.
    Awake {
        /// How long waking took, if it was just now.
        woke_in_us: Option<u64>,
        /// What woke it: `publish`, `wake` or `store`.
        cause: Option<String>,
        /// When it falls asleep if nothing happens.
        sleeps_in_ms: Option<u64>,
    },
    /// A state that this client does not know.
    #[serde(other)]
    Other,
}

impl Say<'_> {
    /// The frame; with bytes, a binary one, in which they stand for `data`.
    pub fn frame(&self, bytes: Option<&Bytes>) -> Raw {
        let json = serde_json::to_vec(self).expect("frames are made of texts and JSON values");
        match bytes {
            None => Raw::Json(json.into()),
            Some(data) => Raw::Binary { header: json.into(), data: data.clone() },
        }
    }
}

impl Hear {
    /// Reads a frame; the bytes of a binary one come beside it.
    pub fn read(raw: &Raw) -> Result<(Self, Option<Bytes>), Broken> {
        let (json, bytes) = match raw {
            Raw::Json(json) => (json, None),
            Raw::Binary { header, data } => (header, Some(data.clone())),
        };
        let heard = serde_json::from_slice(json).map_err(|_| Broken::Frame)?;
        Ok((heard, bytes))
    }
}

impl WireMessage {
    /// The message, its data from where its frame had it.
    pub fn open(self, bytes: Option<Bytes>) -> Result<Message, Broken> {
        let data = match (bytes, self.data64) {
            (Some(bytes), _) => Data::Bytes(bytes),
            (None, Some(text)) => {
                Data::Bytes(STANDARD.decode(text).map_err(|_| Broken::Frame)?.into())
            }
            (None, None) => Data::Json(self.data.unwrap_or(Value::Null)),
        };
        Ok(Message { seq: self.seq, time: self.time, from: self.from, data })
    }
}

impl Data {
    /// The two halves of it: JSON for the header, bytes for what follows.
    pub(super) fn halves(&self) -> (Option<&Value>, Option<&Bytes>) {
        match self {
            Self::Json(value) => (Some(value), None),
            Self::Bytes(bytes) => (None, Some(bytes)),
        }
    }
}
