//! `dormouse.v1`: the frames, read and written.
//!
//! Reading is one pass that keeps every field as the client wrote it, then one look at the
//! fields that the frame's type has. Unknown fields are ignored, an unknown type is an error
//! that the session survives, and what is no JSON object ends it.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::framing::{put_varint, varint};
use super::json::{self, INTEGER};
use super::{BodyKind, CloseReason, Epoch, Payload, Position, RoomName, Sid, Timestamp};

/// The subprotocol's name.
pub const NAME: &str = "dormouse.v1";

/// A frame from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// The first frame.
    Hello(Box<Hello>),
    /// Something to say.
    Publish(Publish),
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
    /// Labels for direct messages.
    pub tags: Option<Vec<String>>,
    /// What others should know about the seat: JSON text.
    pub attachment: Option<String>,
}

/// A position as a client gives it: the epoch may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The epoch, if it is one at all.
    pub epoch: Option<Epoch>,
    /// The newest message the client has.
    pub seq: u64,
}

/// A message on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The client's number for it.
    pub id: Option<u64>,
    /// Makes a retry harmless.
    pub key: Option<String>,
    /// What is said.
    pub payload: Payload,
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
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    attachment: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SinceFields {
    epoch: String,
    seq: u64,
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
    if !json::is_object(text) || !json::is_decent(text) {
        return Err(PROTOCOL_ERROR);
    }
    let fields: Fields<'_> = match serde_json::from_str(text) {
        Ok(fields) => fields,
        // An object all the same: a field that stands twice.
        Err(error) if error.is_data() => {
            return Err(bad_request(None, format!("the frame cannot be read: {error}")));
        }
        Err(_) => return Err(PROTOCOL_ERROR),
    };
    let id = number(None, "id", fields.id);
    let known = id.as_ref().ok().copied().flatten();
    let kind: Result<Option<String>, _> = typed(known, "type", "a text", fields.kind);
    if !greeted && !matches!(&kind, Ok(Some(kind)) if kind == "hello" || kind == "ping") {
        return Err(PROTOCOL_ERROR);
    }
    let (id, kind) = (id?, kind?);
    match kind.as_deref() {
        Some("hello") => fields.hello(id).map(|hello| ClientFrame::Hello(Box::new(hello))),
        Some("publish") => fields.publish(id, bytes).map(ClientFrame::Publish),
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

impl Fields<'_> {
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
        Ok(Hello {
            name: typed(id, "name", "a text", self.name)?,
            session: typed(id, "session", "a text", self.session)?,
            since,
            history: number(id, "history", self.history)?,
            watch: typed(id, "watch", "true or false", self.watch)?.unwrap_or(false),
            tags: typed(id, "tags", "a list of texts", self.tags)?,
            attachment: self.attachment.map(|raw| raw.get().to_owned()),
        })
    }

    fn publish(&self, id: Option<u64>, bytes: Option<&[u8]>) -> Result<Publish, Refusal> {
        if self.to.is_some() {
            return Err(bad_request(id, "this gateway does not deliver direct messages".into()));
        }
        let payload = match (self.data, bytes) {
            (Some(json), None) => Payload::Json(json.get().to_owned()),
            (None, Some(bytes)) => Payload::Binary(Bytes::copy_from_slice(bytes)),
            (None, None) => return Err(bad_request(id, "publish needs data".into())),
            (Some(_), Some(_)) => {
                return Err(bad_request(id, "a binary frame's header has no data".into()));
            }
        };
        Ok(Publish { id, key: typed(id, "key", "a text", self.key)?, payload })
    }
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

/// What a client must stay within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The longest frame, in bytes.
    pub message: usize,
}

impl ServerFrame {
    /// The frame as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every frame is made of texts and numbers")
    }
}

fn display<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
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
    seq: u64,
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
    let frame = |data| {
        let frame = MessageFrame { kind: "message", seq, time, from, data };
        serde_json::to_vec(&frame).expect("a message is made of texts and numbers")
    };
    match payload {
        Payload::Json(text) => {
            let data = serde_json::from_str(text).expect("the payload was read as JSON before");
            (BodyKind::Json, frame(Some(data)).into())
        }
        Payload::Binary(bytes) => {
            let header = frame(None);
            let mut body = BytesMut::with_capacity(8 + header.len() + bytes.len());
            put_varint(header.len() as u64, &mut body);
            body.extend_from_slice(&header);
            body.extend_from_slice(bytes.chunk());
            (BodyKind::Binary, body.freeze())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ClientFrame, Refusal> {
        decode(BodyKind::Json, text.as_bytes())
    }

    fn error_code(text: &str) -> Option<(Option<u64>, ErrorCode)> {
        match read(text) {
            Err(Refusal::Error { id, code, .. }) => Some((id, code)),
            _ => None,
        }
    }

    #[test]
    fn a_hello_is_read_with_all_it_may_carry() {
        let hello = read(
            r#"{"type":"hello","watch":true,"token":"t","name":"ada","session":"x",
                "since":{"epoch":"k3f9-0","seq":1234},"history":7,"presence":"full",
                "tags":["mod"],"attachment":{"color":"red"},"novel":[1,{"a":null}]}"#,
        );
        let epoch = "k3f9-0".parse().ok();
        assert_eq!(
            hello,
            Ok(ClientFrame::Hello(Box::new(Hello {
                name: Some("ada".into()),
                session: Some("x".into()),
                since: Some(Since { epoch, seq: 1234 }),
                history: Some(7),
                watch: true,
                tags: Some(vec!["mod".into()]),
                attachment: Some(r#"{"color":"red"}"#.into()),
            })))
        );
        assert_eq!(read(r#"{"type":"hello"}"#), Ok(ClientFrame::Hello(Box::default())));
    }

    #[test]
    fn null_is_something_to_say() {
        let Ok(ClientFrame::Publish(publish)) = read(r#"{"type":"publish","data":null}"#) else {
            panic!("a good publish was refused")
        };
        assert_eq!(publish.payload, Payload::Json("null".into()));
    }

    #[test]
    fn a_payload_stays_as_it_was_written() {
        let Ok(ClientFrame::Publish(publish)) =
            read(r#"{"type":"publish","id":17,"key":"a8","data":{"n":1.50, "é":"\u00e9"}}"#)
        else {
            panic!("a good publish was refused")
        };
        assert_eq!(publish.payload, Payload::Json(r#"{"n":1.50, "é":"\u00e9"}"#.into()));
        let from = From { sid: Sid(61), user: None, name: "a\"b".into() };
        let (kind, body) = message_body(3, Timestamp(9), &from, &publish.payload);
        assert_eq!(kind, BodyKind::Json);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"type":"message","seq":3,"time":9,"from":{"sid":"sz","user":null,"name":"a\"b"},"data":{"n":1.50, "é":"\u00e9"}}"#
        );
    }

    #[test]
    fn a_binary_publish_becomes_a_binary_message() {
        let header = br#"{"type":"publish","id":1}"#;
        let mut frame = vec![header.len() as u8];
        frame.extend_from_slice(header);
        frame.extend_from_slice(b"\0\xff");
        let Ok(ClientFrame::Publish(publish)) = decode(BodyKind::Binary, &frame) else {
            panic!("a good publish was refused")
        };
        let from = From { sid: Sid(0), user: None, name: "ada".into() };
        let (kind, body) = message_body(1, Timestamp(2), &from, &publish.payload);
        assert_eq!(kind, BodyKind::Binary);
        let (header, bytes) = split_binary(&body).unwrap();
        assert_eq!(bytes, b"\0\xff");
        assert!(header.ends_with(br#""name":"ada"}}"#));
    }

    #[test]
    fn wrong_fields_are_an_error_and_no_object_is_the_end() {
        use ErrorCode::*;
        assert_eq!(error_code(r#"{"type":"publish","id":5}"#), Some((Some(5), BadRequest)));
        assert_eq!(error_code(r#"{"type":"publish","id":-1}"#), Some((None, BadRequest)));
        assert_eq!(
            error_code(r#"{"type":"publish","id":9007199254740992,"data":1}"#),
            Some((None, BadRequest))
        );
        assert_eq!(error_code(r#"{"type":"hello","tags":[1]}"#), Some((None, BadRequest)));
        assert_eq!(error_code(r#"{"type":7,"id":2}"#), Some((Some(2), BadRequest)));
        assert_eq!(error_code(r#"{"id":2}"#), Some((Some(2), BadRequest)));
        assert_eq!(error_code(r#"{"type":"ping","type":"ping"}"#), Some((None, BadRequest)));
        assert_eq!(error_code(r#"{"type":"dance","id":3}"#), Some((Some(3), UnknownType)));
        let by_position = format!("[\"ping\",5{}]", ",null".repeat(10));
        for bad in
            ["", "{", "[]", &by_position, "1", "\"x\"", "null", "{}x", r#"{"type":"ping""#, "{a:1}"]
        {
            assert_eq!(read(bad), Err(PROTOCOL_ERROR), "{bad}");
        }
        let deep = format!(r#"{{"type":"publish","data":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
        assert_eq!(read(&deep), Err(PROTOCOL_ERROR));
        assert_eq!(
            decode(BodyKind::Json, b"{\"type\":\"\xff\"}"),
            Err(Refusal::Close(CloseReason::InvalidUtf8))
        );
        for bad in [&b""[..], b"\x40", b"\x05{}", b"\xff\xff\xff\xff\xff\xff\xff\xff{}"] {
            assert_eq!(decode(BodyKind::Binary, bad), Err(PROTOCOL_ERROR));
        }
    }

    #[test]
    fn frames_are_written_as_the_protocol_says() {
        let json = |frame: ServerFrame| frame.to_json();
        assert_eq!(
            json(ServerFrame::Ok { id: Some(17), seq: 1241, dup: false }),
            r#"{"type":"ok","id":17,"seq":1241,"dup":false}"#
        );
        assert_eq!(
            json(ServerFrame::Room { state: RoomState::Degraded { retry_after: 2000 } }),
            r#"{"type":"room","state":"degraded","retry_after":2000}"#
        );
        assert_eq!(
            json(ServerFrame::Error {
                id: None,
                code: ErrorCode::RoomUnavailable,
                retry_after: Some(1200),
                reason: "…".into()
            }),
            r#"{"type":"error","code":"room_unavailable","retry_after":1200,"reason":"…"}"#
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = decode(BodyKind::Json, &body);
            let _ = decode(BodyKind::Binary, &body);
        }
    }
}
