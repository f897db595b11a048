//! How things look in a terminal, and that they cannot do anything there.

use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::client::{Author, Data, Error, Event, Gap, Message};

/// Says something to stdout, at once. `false` when nobody listens any more.
pub(super) fn say(line: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Remarks something, beside what is said.
pub(super) fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "* {text}"); // who closed stderr wants no remarks
}

/// What the connection does, if it is worth a remark.
pub(super) fn trouble(event: &Event) {
    match event {
        Event::Disconnected { error, retry_in } => {
            let seconds = retry_in.as_secs_f64();
            remark(&format!("{}; trying again in {seconds:.1} s", with_causes(error)));
        }
        Event::Gap(Gap { why, .. }) => remark(match why.as_str() {
            "epoch" => "the room's log began anew",
            _ => "some messages from before are no longer kept",
        }),
        Event::Missed { direct } => remark(&format!("{direct} direct messages were missed")),
        _ => {}
    }
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(below) = cause {
        text += &format!(": {below}");
        cause = below.source();
    }
    text
}

/// Who that is: the name, or the seat of somebody without one.
pub(super) fn who(name: Option<&str>, sid: &str) -> String {
    tame(name.filter(|name| !name.trim().is_empty()).unwrap_or(sid))
}

/// A message as people read it.
pub(super) fn spoken(message: &Message) -> String {
    let Author { sid, name, .. } = &message.from;
    let text = match (&message.data, message.data.text()) {
        (_, Some(text)) => tame(text),
        (Data::Json(value), None) => tame(&value.to_string()),
        (Data::Bytes(bytes), None) => format!("({} bytes)", bytes.len()),
    };
    format!("{}: {text}", who(name.as_deref(), sid))
}

/// The same, with its time.
pub(super) fn dated(message: &Message) -> String {
    format!("{} {}", when(message.time), spoken(message))
}

/// A message as programs read it.
pub(super) fn json_line(message: &Message) -> String {
    let Author { sid, user, name } = &message.from;
    let mut line = json!({
        "seq": message.seq,
        "time": message.time,
        "from": {"sid": sid, "user": user, "name": name},
    });
    match &message.data {
        Data::Json(value) => line["data"] = value.clone(),
        Data::Bytes(bytes) => line["data64"] = Value::from(STANDARD.encode(bytes)),
    }
    line.to_string()
}

/// Milliseconds since 1970, as a moment of UTC.
fn when(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => {
            let (date, (hour, minute, second)) = (at.date(), at.time().as_hms());
            format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
        }
        Err(_) => ms.to_string(),
    }
}

/// Without anything that a terminal would obey: escapes, backspaces, turned writing direction.
fn tame(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if c != '\t' && obeyed(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: Option<&str>, data: Data) -> Message {
        let from = Author { sid: "s1".into(), user: None, name: name.map(str::to_owned) };
        Message { seq: Some(7), time: 1_760_000_000_123, from, data }
    }

    #[test]
    fn messages_are_readable_and_cannot_command_a_terminal() {
        let chat = json!({"text": "hi \u{1b}[2Jthere\u{202e}\n"});
        assert_eq!(
            spoken(&message(Some("a\u{7}da"), chat.into())),
            "a\u{fffd}da: hi \u{fffd}[2Jthere\u{fffd}\u{fffd}"
        );
        assert_eq!(spoken(&message(Some(" "), json!([1, 2]).into())), "s1: [1,2]");
        let bytes = Data::Bytes(bytes::Bytes::from_static(b"\x00\x01"));
        assert_eq!(dated(&message(None, bytes.clone())), "2025-10-09T08:53:20Z s1: (2 bytes)");
        let line = json_line(&message(Some("ada"), bytes));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["data64"], &line["seq"]), (&json!("AAE="), &json!(7)));
        assert!(when(u64::MAX).parse::<u64>().is_ok(), "a time that no calendar has");
    }
}
