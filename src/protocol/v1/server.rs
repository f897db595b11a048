//! Frames to clients.
//!
//! What goes to all members is a *body* that the framings only wrap ([`message_body`],
//! [`ephemeral_body`]); what goes to one is a [`ServerFrame`].

use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::protocol::framing::put_varint;
use crate::protocol::{BodyKind, Payload, Position, RoomName, Sid, Timestamp, Verdict};

/// The codes of `error` frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A known type with wrong fields.
    BadRequest,
    /// A type this protocol does not have.
    UnknownType,
    /// The room cannot take it now; try again after `retry_after`, with the same key.
    RoomUnavailable,
    /// Something is larger than its limit.
    TooLarge,
    /// Too much was asked or said; try again after `retry_after`.
    RateLimited,
    /// Who a direct message is for does not keep up; try again after `retry_after`.
    RecipientBusy,
    /// The room was deleted before it was done. Do not try again.
    RoomDeleted,
}

/// Who said it, as members see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct From {
    /// The seat.
    #[serde(serialize_with = "display")]
    pub sid: Sid,
    /// The token's user.
    pub user: Option<String>,
    /// The name at that moment.
    pub name: String,
}

/// A frame to one client. What goes to all is a [`message_body`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The seat is taken.
    Welcome(Box<Welcome>),
    /// The replay is over: everything from here on happens now.
    Live {
        /// The newest message when the client joined.
        seq: u64,
    },
    /// A publish is durable and ordered.
    Ok {
        /// The request's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Its place in the log.
        seq: u64,
        /// Whether it had been there already.
        dup: bool,
    },
    /// A change of the seat is durable.
    #[serde(rename = "ok")]
    Done {
        /// The request's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    /// A direct message is on its way.
    #[serde(rename = "ok")]
    Reached {
        /// The request's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// How many connected seats it goes to.
        reached: usize,
    },
    /// A page of those who are here.
    Members {
        /// The request's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// By `sid`.
        members: Vec<Member>,
        /// Whether there are more behind them.
        more: bool,
    },
    /// Who came, left or changed.
    Presence(Box<Presence>),
    /// A request failed; the session goes on.
    Error {
        /// The request's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// What kind of failure.
        code: ErrorCode,
        /// When to try again, in ms.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
        /// The failure in words.
        reason: String,
    },
    /// Something about the room itself.
    Room {
        /// What it is now.
        #[serde(flatten)]
        state: RoomState,
    },
    /// This gateway is going away.
    Drain {
        /// When to come back, in ms.
        reconnect_after: u64,
    },
    /// I am here.
    Pong {
        /// The ping's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    /// The session ends after this frame.
    Close {
        /// The code of the table.
        code: u16,
        /// Its slug.
        reason: &'static str,
        /// When to come back, in ms.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
}

/// What a `room` frame tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RoomState {
    /// The store is unwell: nothing can be published.
    Degraded {
        /// When to try again, in ms.
        retry_after: u64,
    },
    /// The store is well again.
    Well,
    /// The room hibernates.
    Asleep,
    /// The room is awake.
    Awake {
        /// How long waking took, in µs.
        woke_in_us: u64,
        /// What woke it.
        cause: &'static str,
        /// When it sleeps if nothing happens.
        sleeps_in_ms: u64,
    },
}

/// The answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Welcome {
    /// The token for coming back.
    pub session: String,
    /// The seat.
    #[serde(serialize_with = "display")]
    pub sid: Sid,
    /// The room.
    #[serde(serialize_with = "display")]
    pub room: RoomName,
    /// The room's newest position.
    #[serde(serialize_with = "position")]
    pub position: Position,
    /// The gateway's clock.
    pub time: Timestamp,
    /// The silence in ms after which a client should ping.
    pub heartbeat: u64,
    /// Whether the log goes on from `since`.
    pub resumed: bool,
    /// Why not, after a `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<NotResumed>,
    /// Where the log begins, after a `since` that was not resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// Whether it is the seat of before.
    pub seat: SeatKept,
    /// What a client must stay within.
    pub limits: Limits,
    /// Who is here, oneself included, as far as the client is told and as many as fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<Member>>,
    /// How many are here.
    pub count: usize,
    /// What the members are as of; changes count on from it.
    pub presence_version: u64,
}

/// Somebody who is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The seat.
    #[serde(serialize_with = "display")]
    pub sid: Sid,
    /// The token's user.
    pub user: Option<String>,
    /// The name now.
    pub name: String,
    /// Labels.
    pub tags: Vec<String>,
    /// What the seat says about itself.
    #[serde(serialize_with = "attachment")]
    pub attachment: Option<String>,
    /// When the seat began.
    pub since: Timestamp,
    /// Whether the connection is lost and may yet come back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
}

/// A change of who is here, or the whole of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// Counts on by one with each change.
    pub version: u64,
    /// Everything known before is void: `members` is the whole, or its beginning.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// With `reset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<Member>>,
    /// Who is new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<Member>,
    /// Who is gone.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "displays")]
    pub leave: Vec<Sid>,
    /// Who changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub update: Vec<Member>,
    /// How many are here.
    pub count: usize,
}

/// Why a position is not resumed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotResumed {
    /// It belongs to another log, or lies ahead of this one.
    Epoch,
    /// What followed it is no longer kept.
    Retention,
}

/// Whether a seat is the one of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SeatKept {
    /// The seat was taken back.
    Kept,
    /// The seat began now.
    New,
}

/// What a client must stay within, so that nothing is refused for its size or its rate. Rates are
/// per second; one that is off is absent, and its burst with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The longest frame, in bytes.
    pub message: usize,
    /// The longest attachment as JSON, in bytes.
    pub attachment: usize,
    /// The longest name, in characters (Unicode scalar values).
    pub name: usize,
    /// How many tags.
    pub tags: usize,
    /// The longest of them, in bytes.
    pub tag: usize,
    /// The longest key of a publish or an ephemeral, in bytes.
    pub key: usize,
    /// How many different keys of ephemerals.
    pub ephemeral_keys: usize,
    /// Requests that may be unanswered before the client is not read from.
    pub in_flight: usize,
    /// Publishes of a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_rate: Option<u32>,
    /// And how many at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_burst: Option<u32>,
    /// Publishes of all members of the room together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_publish_rate: Option<u32>,
    /// `set`, `history` and `members` of a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_rate: Option<u32>,
    /// And how many at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u32>,
    /// Ephemerals of a session; more are dropped without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_rate: Option<u32>,
}

impl ServerFrame {
    /// Whether it answers a request that its session waits for.
    pub fn answers(&self) -> bool {
        matches!(
            self,
            Self::Ok { .. }
                | Self::Done { .. }
                | Self::Reached { .. }
                | Self::Members { .. }
                | Self::Error { .. }
        )
    }

    /// What it says about the frame that it answers.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Error { code, .. } => code.verdict(),
            Self::Pong { .. } => Verdict::Taken,
            _ if self.answers() => Verdict::Taken,
            _ => Verdict::Neither,
        }
    }

    /// The frame as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every frame is made of texts and numbers")
    }
}

impl ErrorCode {
    fn verdict(self) -> Verdict {
        match self {
            Self::BadRequest | Self::UnknownType | Self::TooLarge | Self::RateLimited => {
                Verdict::Refused
            }
            Self::RoomUnavailable | Self::RecipientBusy | Self::RoomDeleted => Verdict::Neither,
        }
    }
}

fn display<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn displays<T: std::fmt::Display, S: serde::Serializer>(
    values: &[T],
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(ToString::to_string))
}

/// JSON as it came; an empty object where nothing was said.
fn attachment<S: serde::Serializer>(json: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    let json = json.as_deref().unwrap_or("{}");
    let raw: &RawValue = serde_json::from_str(json).map_err(serde::ser::Error::custom)?;
    raw.serialize(to)
}

fn position<S: serde::Serializer>(position: &Position, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Fields {
        epoch: String,
        seq: u64,
    }
    Fields { epoch: position.epoch.to_string(), seq: position.seq }.serialize(to)
}

#[derive(Serialize)]
struct MessageFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    direct: bool,
    time: Timestamp,
    from: &'a From,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// The body of a `message` frame: what is stored, and what every member is sent.
pub fn message_body(
    seq: u64,
    time: Timestamp,
    from: &From,
    payload: &Payload,
) -> (BodyKind, Bytes) {
    body(payload, |data| MessageFrame {
        kind: "message",
        seq: Some(seq),
        direct: false,
        time,
        from,
        data,
    })
}

/// The body of a direct message: it has no place in the log.
pub fn direct_body(time: Timestamp, from: &From, payload: &Payload) -> (BodyKind, Bytes) {
    body(payload, |data| MessageFrame {
        kind: "message",
        seq: None,
        direct: true,
        time,
        from,
        data,
    })
}

#[derive(Serialize)]
struct EphemeralFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    key: &'a str,
    #[serde(serialize_with = "display")]
    from: Sid,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// The body of an `ephemeral` frame.
pub fn ephemeral_body(from: Sid, key: &str, payload: &Payload) -> (BodyKind, Bytes) {
    body(payload, |data| EphemeralFrame { kind: "ephemeral", key, from, data })
}

fn body<'a, F: Serialize>(
    payload: &'a Payload,
    frame: impl FnOnce(Option<&'a RawValue>) -> F,
) -> (BodyKind, Bytes) {
    let json = |frame| serde_json::to_vec(&frame).expect("frames are texts and numbers");
    match payload {
        Payload::Json(text) => {
            let data = serde_json::from_str(text).expect("the payload was read as JSON before");
            (BodyKind::Json, json(frame(Some(data))).into())
        }
        Payload::Binary(bytes) => {
            let header = json(frame(None));
            let mut body = BytesMut::with_capacity(8 + header.len() + bytes.len());
            put_varint(header.len() as u64, &mut body);
            body.extend_from_slice(&header);
            body.extend_from_slice(bytes);
            (BodyKind::Binary, body.freeze())
        }
    }
}

/// A `page` frame. Messages stand in it as they are stored; bytes become `data64` (base64).
pub fn page_json<'a>(
    id: Option<u64>,
    messages: impl IntoIterator<Item = (BodyKind, &'a [u8])>,
    more: bool,
) -> String {
    let mut page = String::new();
    page.push_str(r#"{"type":"page","#);
    if let Some(id) = id {
        page.push_str(&format!(r#""id":{id},"#));
    }
    page.push_str(r#""messages":["#);
    for (n, (kind, body)) in messages.into_iter().enumerate() {
        if n > 0 {
            page.push(',');
        }
        push_message(kind, body, &mut page);
    }
    page.push_str(&format!(r#"],"more":{more}}}"#));
    page
}

fn push_message(kind: BodyKind, body: &[u8], page: &mut String) {
    let (header, bytes) = match kind {
        BodyKind::Json => (body, None),
        BodyKind::Binary => match super::split_binary(body) {
            Some((header, bytes)) => (header, Some(bytes)),
            None => (&b"{}"[..], None), // not what this gateway writes
        },
    };
    let header = String::from_utf8_lossy(header);
    match bytes {
        None => page.push_str(&header),
        Some(bytes) => {
            let data64 = base64::Engine::encode(&STANDARD, bytes);
            page.push_str(header.strip_suffix('}').unwrap_or("{"));
            page.push_str(&format!(r#","data64":"{data64}"}}"#));
        }
    }
}
