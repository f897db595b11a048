//! Frames from a client.
//!
//! Reading is one pass that keeps every field as the client wrote it, then one look at the
//! fields that the frame's type has. Unknown fields are ignored. What begins with `{` is a frame:
//! whatever else is wrong in it is an error that the session survives, with the frame's `id` if
//! one can be found. Only text that does not begin with `{`, broken UTF-8 and a binary frame
//! without a whole header end the session.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ErrorCode;
use super::request_id::find_id;
use crate::protocol::framing::varint;
use crate::protocol::json::{self, INTEGER};
use crate::protocol::{BodyKind, CloseReason, Epoch, Payload, Sid};

/// A frame from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// The first frame.
    Hello(Box<Hello>),
    /// Something to say.
    Publish(Publish),
    /// Something that may be dropped: a cursor, "is typing".
    Ephemeral(Ephemeral),
    /// A page of the log.
    History(History),
    /// A page of those who are here.
    Members(Members),
    /// The seat changes.
    Set(Set),
    /// Are you there?
    Ping {
        /// The client's number for it.
        id: Option<u64>,
    },
    /// A new token for the same session.
    Token,
    /// The session ends, and its seat with it.
    Bye,
}

/// How a client introduces itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name to show.
    pub name: Option<String>,
    /// The session token of an earlier `welcome`.
    pub session: Option<String>,
    /// Where the client's copy of the log ends.
    pub since: Option<Since>,
    /// How many messages to send when there is no `since`.
    pub history: Option<u64>,
    /// Whether to send `room` frames about sleep and waking.
    pub watch: bool,
    /// How much to tell about who is here.
    pub presence: PresenceWish,
    /// Labels for direct messages.
    pub tags: Option<Vec<String>>,
    /// What others should know about the seat: JSON text.
    pub attachment: Option<String>,
}

/// How much a client wants to know about who is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceWish {
    /// Everybody while the room is small, a number when it is large.
    #[default]
    Auto,
    /// Everybody, always.
    Full,
    /// Only how many.
    Count,
}

/// A position as a client gives it: the epoch may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The epoch, if it is one at all.
    pub epoch: Option<Epoch>,
    /// The newest message the client has.
    pub seq: u64,
}

/// A message on its way into the log, or to a few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The client's number for it.
    pub id: Option<u64>,
    /// Makes a retry harmless.
    pub key: Option<String>,
    /// Whom it is for, if not for everybody.
    pub to: Option<To>,
    /// What is said.
    pub payload: Payload,
}

/// Whom a direct message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// One seat.
    Sid(Sid),
    /// All seats of a user.
    User(String),
    /// All seats with a tag.
    Tag(String),
}

/// Something that may be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ephemeral {
    /// Of one author and key only the newest counts.
    pub key: String,
    /// What it is.
    pub payload: Payload,
}

/// Which page of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The client's number for it.
    pub id: Option<u64>,
    /// Where it begins or ends.
    pub from: PageFrom,
    /// How many messages at most.
    pub limit: Option<u64>,
}

/// Where a page of the log lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFrom {
    /// At the newest message.
    Newest,
    /// It ends before this one.
    Before(u64),
    /// It begins after this one.
    After(u64),
}

/// Which page of those who are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Members {
    /// The client's number for it.
    pub id: Option<u64>,
    /// It begins after this one.
    pub after: Option<Sid>,
    /// How many at most.
    pub limit: Option<u64>,
}

/// A change of the seat: what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The client's number for it.
    pub id: Option<u64>,
    /// JSON text.
    pub attachment: Option<String>,
    /// Labels for direct messages.
    pub tags: Option<Vec<String>>,
}

/// What was wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The session goes on after an `error`.
    Error {
        /// The request's number, if it could be read.
        id: Option<u64>,
        /// The error's code.
        code: ErrorCode,
        /// What to change.
        reason: String,
    },
    /// The session ends.
    Close(CloseReason),
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    to: Option<&'a RawValue>,
    /// Here `null` is a value like any other, not an absent field.
    #[serde(borrow, default, deserialize_with = "json::present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    session: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    history: Option<&'a RawValue>,
    #[serde(borrow)]
    watch: Option<&'a RawValue>,
    #[serde(borrow)]
    presence: Option<&'a RawValue>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    attachment: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SinceFields {
    epoch: String,
    seq: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ToFields {
    Sid(String),
    User(String),
    Tag(String),
}

/// Reads one frame of a client that has said hello.
pub fn decode(kind: BodyKind, body: &[u8]) -> Result<ClientFrame, Refusal> {
    read(kind, body, true)
}

/// Reads one frame of a client that has yet to say hello: only that and a ping are frames.
pub fn decode_first(kind: BodyKind, body: &[u8]) -> Result<ClientFrame, Refusal> {
    read(kind, body, false)
}

fn read(kind: BodyKind, body: &[u8], greeted: bool) -> Result<ClientFrame, Refusal> {
    match kind {
        BodyKind::Json => read_json(body, None, greeted),
        BodyKind::Binary => {
            let (header, bytes) = split_binary(body).ok_or(PROTOCOL_ERROR)?;
            read_json(header, Some(bytes), greeted)
        }
    }
}

const PROTOCOL_ERROR: Refusal = Refusal::Close(CloseReason::ProtocolError);

/// Takes a binary frame apart: the JSON header and the bytes behind it.
pub fn split_binary(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, taken) = varint(body)?;
    body[taken..].split_at_checked(usize::try_from(length).ok()?)
}

fn read_json(text: &[u8], bytes: Option<&[u8]>, greeted: bool) -> Result<ClientFrame, Refusal> {
    let text = std::str::from_utf8(text).map_err(|_| Refusal::Close(CloseReason::InvalidUtf8))?;
    if !json::is_object(text) {
        return Err(PROTOCOL_ERROR);
    }
    let fields = fields(text).map_err(|what| {
        let id = find_id(text.as_bytes());
        bad_request(id, format!("the frame cannot be read: {what}"))
    })?;
    let id = number(None, "id", fields.id);
    let known = id.as_ref().ok().copied().flatten();
    let kind: Result<Option<String>, _> = typed(known, "type", "a text", fields.kind);
    if !greeted && matches!(&kind, Ok(Some(kind)) if kind != "hello" && kind != "ping") {
        return Err(PROTOCOL_ERROR);
    }
    let (id, kind) = (id?, kind?);
    match kind.as_deref() {
        Some("hello") => fields.hello(id).map(|hello| ClientFrame::Hello(Box::new(hello))),
        Some("publish") => fields.publish(id, bytes).map(ClientFrame::Publish),
        Some("ephemeral") => fields.ephemeral(id, bytes).map(ClientFrame::Ephemeral),
        Some("history") => fields.page(id).map(ClientFrame::History),
        Some("members") => fields.members(id).map(ClientFrame::Members),
        Some("set") => Ok(ClientFrame::Set(Set {
            id,
            attachment: fields.attachment(),
            tags: typed(id, "tags", "a list of texts", fields.tags)?,
        })),
        Some("ping") => Ok(ClientFrame::Ping { id }),
        Some("token") => Ok(ClientFrame::Token),
        Some("bye") => Ok(ClientFrame::Bye),
        Some(other) => {
            let shown: String = other.chars().take(32).collect();
            Err(Refusal::Error {
                id,
                code: ErrorCode::UnknownType,
                reason: format!("there is no frame of type {shown:?}"),
            })
        }
        None => Err(bad_request(id, "a frame needs a type".into())),
    }
}

/// The fields of an object, or what is wrong in it and where.
fn fields(text: &str) -> Result<Fields<'_>, String> {
    json::check(text).map_err(|flaw| flaw.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Fields<'_> {
    fn attachment(&self) -> Option<String> {
        self.attachment.map(|raw| raw.get().to_owned())
    }

    fn hello(&self, id: Option<u64>) -> Result<Hello, Refusal> {
        const SINCE: &str = r#"{"epoch":"…","seq":0}"#;
        if self.since.is_some_and(|since| !json::is_object(since.get())) {
            return Err(bad_request(id, format!("since should be {SINCE}")));
        }
        let since: Option<SinceFields> = typed(id, "since", SINCE, self.since)?;
        let since = since.map(|s| Since { epoch: s.epoch.parse().ok(), seq: s.seq });
        if since.as_ref().is_some_and(|since| since.seq > INTEGER) {
            return Err(bad_request(id, "since.seq is greater than 2^53-1".into()));
        }
        let presence = typed(id, "presence", "auto, full or count", self.presence)?;
        Ok(Hello {
            name: typed(id, "name", "a text", self.name)?,
            session: typed(id, "session", "a text", self.session)?,
            since,
            history: number(id, "history", self.history)?,
            watch: typed(id, "watch", "true or false", self.watch)?.unwrap_or(false),
            presence: presence.unwrap_or_default(),
            tags: typed(id, "tags", "a list of texts", self.tags)?,
            attachment: self.attachment(),
        })
    }

    fn publish(&self, id: Option<u64>, bytes: Option<&[u8]>) -> Result<Publish, Refusal> {
        let payload = self.payload(id, bytes)?;
        let key: Option<String> = typed(id, "key", "a text", self.key)?;
        let to = typed(id, "to", "one of sid, user or tag, with a text", self.to)?;
        if key.is_some() && to.is_some() {
            return Err(bad_request(id, "a direct message is not stored and has no key".into()));
        }
        let to = match to {
            None => None,
            Some(ToFields::User(user)) => Some(To::User(user)),
            Some(ToFields::Tag(tag)) => Some(To::Tag(tag)),
            Some(ToFields::Sid(sid)) => Some(To::Sid(sid_of(id, "to.sid", &sid)?)),
        };
        Ok(Publish { id, key, to, payload })
    }

    fn ephemeral(&self, id: Option<u64>, bytes: Option<&[u8]>) -> Result<Ephemeral, Refusal> {
        let key: Option<String> = typed(id, "key", "a text", self.key)?;
        let key = key.ok_or_else(|| bad_request(id, "an ephemeral needs a key".into()))?;
        Ok(Ephemeral { key, payload: self.payload(id, bytes)? })
    }

    fn payload(&self, id: Option<u64>, bytes: Option<&[u8]>) -> Result<Payload, Refusal> {
        match (self.data, bytes) {
            (Some(json), None) => Ok(Payload::Json(json.get().to_owned())),
            (None, Some(bytes)) => Ok(Payload::Binary(Bytes::copy_from_slice(bytes))),
            (None, None) => Err(bad_request(id, "data is missing".into())),
            (Some(_), Some(_)) => {
                Err(bad_request(id, "a binary frame's header has no data".into()))
            }
        }
    }

    fn page(&self, id: Option<u64>) -> Result<History, Refusal> {
        let before = number(id, "before", self.before)?;
        let after = number(id, "after", self.after)?;
        let from = match (before, after) {
            (None, None) => PageFrom::Newest,
            (Some(before), None) => PageFrom::Before(before),
            (None, Some(after)) => PageFrom::After(after),
            (Some(_), Some(_)) => {
                return Err(bad_request(id, "before and after exclude each other".into()));
            }
        };
        Ok(History { id, from, limit: number(id, "limit", self.limit)? })
    }

    fn members(&self, id: Option<u64>) -> Result<Members, Refusal> {
        let after: Option<String> = typed(id, "after", "a sid", self.after)?;
        let after = after.map(|sid| sid_of(id, "after", &sid)).transpose()?;
        Ok(Members { id, after, limit: number(id, "limit", self.limit)? })
    }
}

fn sid_of(id: Option<u64>, name: &str, text: &str) -> Result<Sid, Refusal> {
    text.parse().map_err(|()| bad_request(id, format!("{name} is no sid")))
}

fn bad_request(id: Option<u64>, reason: String) -> Refusal {
    Refusal::Error { id, code: ErrorCode::BadRequest, reason }
}

fn typed<'a, T: Deserialize<'a>>(
    id: Option<u64>,
    name: &str,
    expected: &str,
    field: Option<&'a RawValue>,
) -> Result<Option<T>, Refusal> {
    let Some(raw) = field else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map_err(|_| bad_request(id, format!("{name} should be {expected}")))
}

fn number(id: Option<u64>, name: &str, field: Option<&RawValue>) -> Result<Option<u64>, Refusal> {
    let number: Option<u64> = typed(id, name, "a whole number", field)?;
    match number {
        Some(large) if large > INTEGER => {
            Err(bad_request(id, format!("{name} is greater than 2^53-1")))
        }
        fits => Ok(fits),
    }
}
