//! The seed profile: the plain chat protocol, so that its front end works unchanged.
//!
//! Its clients know no positions and get no errors: what cannot be read is ignored, and
//! counted. Timestamps of clients are data; nothing is ordered by them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::v1::split_binary;
use super::{BodyKind, Timestamp, json};

/// A frame from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// The client takes a name and begins to listen.
    Join {
        /// The name.
        name: String,
    },
    /// Something to say; the payload as it is stored.
    Chat {
        /// `{"text", "timestamp"}` as JSON text.
        data: String,
    },
    /// The client takes another name.
    UpdateName {
        /// The name.
        name: String,
    },
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    message: Option<String>,
    /// JavaScript writes an invalid date as `null`: that is no reason to lose a chat.
    #[serde(borrow, default, deserialize_with = "json::present")]
    timestamp: Option<&'a RawValue>,
}

/// Reads one text frame. `None`: no JSON, an unknown type, or a field is missing.
pub fn decode(text: &str) -> Option<ClientFrame> {
    if !json::is_object(text) || json::check(text).is_err() {
        return None;
    }
    let fields: Fields<'_> = serde_json::from_str(text).ok()?;
    match fields.kind.as_str() {
        "join" => Some(ClientFrame::Join { name: fields.name? }),
        "chat" | "message" => {
            let stored = Stored { text: &fields.message?, timestamp: fields.timestamp? };
            let data = serde_json::to_string(&stored).expect("texts and JSON as it came");
            Some(ClientFrame::Chat { data })
        }
        "update-name" => Some(ClientFrame::UpdateName { name: fields.name? }),
        _ => None,
    }
}

/// A seed chat's payload in the log.
#[derive(Serialize)]
struct Stored<'a> {
    text: &'a str,
    timestamp: &'a RawValue,
}

/// A frame to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerFrame {
    /// A line of the room itself.
    System {
        /// The line.
        message: String,
        /// The gateway's clock.
        timestamp: Timestamp,
    },
    /// Who is here.
    Users {
        /// Their names, longest here first.
        users: Vec<String>,
    },
    /// Too much was said.
    RateLimit {
        /// The wait until the next may be said; on the wire in seconds.
        #[serde(rename = "retryAfter", serialize_with = "seconds")]
        retry_after_ms: u64,
    },
}

impl ServerFrame {
    /// The frame as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every frame is made of texts and numbers")
    }

    /// The line that tells of somebody new.
    pub fn joined(name: &str, now: Timestamp) -> Self {
        Self::System { message: format!("{name} joined the room"), timestamp: now }
    }
}

fn seconds<S: serde::Serializer>(ms: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(*ms as f64 / 1000.0)
}

#[derive(Serialize)]
struct Chat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
    from: &'a str,
    timestamp: &'a RawValue,
}

#[derive(Deserialize)]
struct MessageBody<'a> {
    #[serde(borrow)]
    time: &'a RawValue,
    from: Name,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct Texts<'a> {
    text: Option<serde_json::Value>,
    message: Option<serde_json::Value>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

/// A stored message as a seed client sees it: `None` unless its data is a text, or has a text
/// called `text` or `message`.
pub fn chat_json(kind: BodyKind, body: &[u8]) -> Option<String> {
    let header = match kind {
        BodyKind::Json => body,
        BodyKind::Binary => split_binary(body)?.0,
    };
    let body: MessageBody<'_> = serde_json::from_slice(header).ok()?;
    let data = body.data?;
    let (text, timestamp) = said(data.get())?;
    let chat = Chat {
        kind: "chat",
        message: &text,
        from: &body.from.name,
        timestamp: timestamp.unwrap_or(body.time),
    };
    serde_json::to_string(&chat).ok()
}

/// The text in a payload, and the timestamp beside it.
fn said(data: &str) -> Option<(String, Option<&RawValue>)> {
    if let Ok(text) = serde_json::from_str::<String>(data) {
        return Some((text, None));
    }
    if !json::is_object(data) {
        return None;
    }
    let texts: Texts<'_> = serde_json::from_str(data).ok()?;
    let is_text = |value| match value {
        Some(serde_json::Value::String(text)) => Some(text),
        _ => None,
    };
    let text = is_text(texts.text).or_else(|| is_text(texts.message))?;
    Some((text, texts.timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::v1::{From, message_body};
    use crate::protocol::{Payload, Sid};

    fn shown(data: &str) -> Option<String> {
        let from = From { sid: Sid(1), user: None, name: "ada".into() };
        let (kind, body) = message_body(1, Timestamp(5), &from, &Payload::Json(data.into()));
        chat_json(kind, &body)
    }

    #[test]
    fn a_chat_is_stored_and_shown_with_its_own_timestamp() {
        for kind in ["chat", "message"] {
            let text = format!(r#"{{"type":"{kind}","message":"h\"i","timestamp":12.5}}"#);
            let Some(ClientFrame::Chat { data }) = decode(&text) else { panic!("refused") };
            assert_eq!(data, r#"{"text":"h\"i","timestamp":12.5}"#);
            assert_eq!(
                shown(&data).unwrap(),
                r#"{"type":"chat","message":"h\"i","from":"ada","timestamp":12.5}"#
            );
        }
    }

    #[test]
    fn an_invalid_date_loses_no_chat() {
        let text = r#"{"type":"chat","message":"hi","timestamp":null}"#;
        let data = r#"{"text":"hi","timestamp":null}"#.into();
        assert_eq!(decode(text), Some(ClientFrame::Chat { data }));
    }

    #[test]
    fn a_v1_message_with_a_text_is_shown_with_its_time() {
        let hi = r#"{"type":"chat","message":"hi","from":"ada","timestamp":5}"#;
        for data in [r#""hi""#, r#"{"text":"hi"}"#, r#"{"message":"hi","n":[1]}"#] {
            assert_eq!(shown(data).as_deref(), Some(hi), "{data}");
        }
        for other in ["1", "null", "{}", r#"["hi",null,null]"#, r#"{"text":1}"#] {
            assert_eq!(shown(other), None, "{other}");
        }
    }

    #[test]
    fn what_lacks_a_field_is_ignored() {
        for bad in [
            "",
            "x",
            "{}",
            "[]",
            r#"["join","ada",null,null]"#,
            r#"{"type":"join"}"#,
            r#"{"type":"join","name":1}"#,
            r#"{"type":"chat","message":"x"}"#,
            r#"{"type":"chat","timestamp":1}"#,
            r#"{"type":"dance"}"#,
            r#"{"type":"chat","message":"x","timestamp":NaN}"#,
            r#"{"type":"chat","message":"\ud83d","timestamp":1}"#,
            r#"{"type":"chat","message":"x","message":"x","timestamp":1}"#,
        ] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn frames_are_written_as_the_front_end_reads_them() {
        assert_eq!(
            ServerFrame::joined("ada", Timestamp(9)).to_json(),
            r#"{"type":"system","message":"ada joined the room","timestamp":9}"#
        );
        assert_eq!(
            ServerFrame::RateLimit { retry_after_ms: 500 }.to_json(),
            r#"{"type":"rate-limit","retryAfter":0.5}"#
        );
    }
}
