//! Answers as lines for people. What strangers wrote reaches the terminal as text only.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use time::OffsetDateTime;

use crate::protocol::v1::PageFrom;

/// The names of the columns of [`room`].
pub const HEAD: &str =
    "ROOM                     STATE      SEATS    NEWEST       BYTES  AWAKE BECAUSE";

/// A room as a line.
pub fn room(room: &Value) -> String {
    let number = |value: &Value| value.as_u64().map_or("-".to_owned(), |number| number.to_string());
    let line = format!(
        "{:<24} {:<9} {:>6} {:>9} {:>11}  {}",
        room["room"].as_str().unwrap_or("?"),
        room["state"].as_str().unwrap_or("?"),
        number(&room["seats"]),
        number(&room["head"]["seq"]),
        number(&room["bytes"]),
        awake(&room["why_awake"], now_ms()),
    );
    line.trim_end().to_owned()
}

/// What keeps a room awake: `publish 3 s ago, sleeps in 7 s`.
fn awake(why: &Value, now_ms: u64) -> String {
    let Some(holder) = why["holder"].as_str() else { return String::new() };
    let age_ms = now_ms.saturating_sub(why["since"].as_u64().unwrap_or(now_ms));
    let sleeps_in_ms = why["sleeps_in_ms"].as_u64().unwrap_or(0);
    format!("{holder} {} s ago, sleeps in {} s", age_ms / 1_000, sleeps_in_ms.div_ceil(1_000))
}

/// A page of messages, oldest first, and where to go on.
pub fn page(page: &Value, from: PageFrom) -> Vec<String> {
    let messages = page["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<_> = messages.iter().map(message).collect();
    if page["more"] == true {
        let seq = |message: Option<&Value>| message.and_then(|m| m["seq"].as_u64()).unwrap_or(0);
        lines.push(match from {
            PageFrom::After(_) => format!("more: --after {}", seq(messages.last())),
            _ => format!("more: --before {}", seq(messages.first())),
        });
    }
    lines
}

/// A message as a line: `#7 2026-11-24 09:30:00 ada: hello`.
fn message(message: &Value) -> String {
    let data = &message["data"];
    let text = [data, &data["text"], &data["message"]].into_iter().find_map(Value::as_str);
    let said = match (text, message["data64"].as_str()) {
        (Some(text), _) => harmless(text),
        (None, Some(bytes)) => format!("({} bytes in base64)", bytes.len()),
        (None, None) => harmless(&data.to_string()),
    };
    let (seq, time) = (message["seq"].as_u64().unwrap_or(0), message["time"].as_u64().unwrap_or(0));
    let name = harmless(message["from"]["name"].as_str().unwrap_or("?"));
    format!("#{seq} {} {name}: {said}", date(time))
}

/// A text that moves no cursor: whatever is no visible character is written as its number.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        // Besides control characters, those that turn the direction of a line.
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match character.is_control() || turns {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    shown
}

/// A moment in UTC.
fn date(ms: u64) -> String {
    let at =
        i64::try_from(ms / 1_000).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), at.month() as u8, at.day());
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_room_is_a_line_and_says_what_keeps_it_awake() {
        let why = json!({ "holder": "publish", "since": 10_000, "sleeps_in_ms": 6_500 });
        assert_eq!(awake(&why, 13_999), "publish 3 s ago, sleeps in 7 s");
        assert_eq!(awake(&why, 5_000), "publish 0 s ago, sleeps in 7 s", "clocks differ");
        let cold = json!({ "room": "attic", "state": "cold", "seats": 0, "bytes": 512,
                           "head": { "epoch": "x", "seq": 7 }, "why_awake": null });
        assert_eq!(room(&cold), "attic                    cold           0         7         512");
        assert_eq!(
            room(&json!({ "room": "lobby", "state": "busy" })),
            "lobby                    busy           -         -           -"
        );
    }

    #[test]
    fn a_message_is_a_line_and_moves_no_cursor() {
        let said = |data: Value| {
            let from = json!({ "sid": "s1", "name": "ada" });
            message(&json!({ "seq": 7, "time": 1_764_000_000_123u64, "from": from, "data": data }))
        };
        assert_eq!(said(json!({ "text": "hi" })), "#7 2025-11-24 16:00:00 ada: hi");
        assert_eq!(said(json!("hi\u{1b}[2J")), "#7 2025-11-24 16:00:00 ada: hi\\u{1b}[2J");
        assert_eq!(said(json!({ "x": [1] })), "#7 2025-11-24 16:00:00 ada: {\"x\":[1]}");
        assert!(said(json!("\u{202e}\u{9b}1m\n")).ends_with("\\u{202e}\\u{9b}1m\\u{a}"));
    }

    #[test]
    fn a_page_says_where_it_goes_on() {
        let message = |seq: u64| json!({ "seq": seq, "time": 0, "data": 1 });
        let many = json!({ "messages": [message(4), message(5)], "more": true });
        let last = |from| page(&many, from).pop().unwrap();
        assert_eq!(last(PageFrom::Newest), "more: --before 4");
        assert_eq!(last(PageFrom::Before(6)), "more: --before 4");
        assert_eq!(last(PageFrom::After(3)), "more: --after 5");
        assert_eq!(page(&json!({ "messages": [], "more": false }), PageFrom::Newest).len(), 0);
    }
}
