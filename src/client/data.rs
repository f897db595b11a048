//! What people send each other: the nouns of the protocol's page.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Error;
use super::finite;

/// What a message carries: any JSON, or bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Any JSON value.
    Json(Value),
    /// Bytes, unchanged.
    Bytes(Bytes),
}

/// Everything up to and including `seq` lies behind it, in that epoch of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which log: a room that began anew has another.
    pub epoch: String,
    /// The newest message that was processed, 0 before the first.
    pub seq: u64,
}

/// A message of a room's log, or a direct one.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its place in the log. A direct message has none: it is not stored.
    pub seq: Option<u64>,
    /// When it was stored, in milliseconds since 1970. It never runs backwards in a room.
    pub time: u64,
    /// Who sent it, as the gateway knows it.
    pub from: Author,
    /// What it says.
    pub data: Data,
}

/// Who sent something, from the seat and never from the message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Author {
    /// The seat.
    pub sid: String,
    /// The user of the token, if there was one.
    #[serde(default)]
    pub user: Option<String>,
    /// The name that was said in `hello`.
    #[serde(default)]
    pub name: Option<String>,
}

/// Somebody who is here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Member {
    /// The seat.
    pub sid: String,
    /// The user of the token, if there was one.
    #[serde(default)]
    pub user: Option<String>,
    /// The name that was said in `hello`.
    #[serde(default)]
    pub name: Option<String>,
    /// The member's tags, by which direct messages find it.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What the member attached to its seat.
    #[serde(default)]
    pub attachment: Value,
    /// Since when, in milliseconds since 1970.
    #[serde(default)]
    pub since: u64,
    /// Its connection is lost, and it may come back.
    #[serde(default)]
    pub away: bool,
}

/// Whom a direct message is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// One seat.
    Sid(String),
    /// Every seat of one user; without tokens there are no users.
    User(String),
    /// Every seat with this tag.
    Tag(String),
}

/// How deep `data` and attachments may nest: a frame's 32 levels, less the frame itself.
const DEPTH: usize = 31;

/// Refuses what the gateway would end the session for.
pub(super) fn is_shallow(value: &Value) -> Result<(), Error> {
    fn fits(value: &Value, levels: usize) -> bool {
        match value {
            Value::Array(items) => levels > 0 && items.iter().all(|it| fits(it, levels - 1)),
            Value::Object(fields) => levels > 0 && fields.values().all(|it| fits(it, levels - 1)),
            _ => true,
        }
    }
    if fits(value, DEPTH) { Ok(()) } else { Err(Error::TooDeep) }
}

impl Data {
    /// Anything that serde can make JSON of. A number that is not finite is an error, as is a map whose keys are
    /// no texts. (`serde_json::json!` and `serde_json::to_value` make `null` of such a number.)
    pub fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        finite::check(value)?;
        serde_json::to_value(value).map(Self::Json)
    }

    /// The text in it, as chats have it: `data` itself, or its `text` or `message`.
    pub fn text(&self) -> Option<&str> {
        let Self::Json(value) = self else { return None };
        value
            .as_str()
            .or_else(|| value.get("text")?.as_str())
            .or_else(|| value.get("message")?.as_str())
    }
}

impl From<Value> for Data {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self::Json(text.into())
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}
