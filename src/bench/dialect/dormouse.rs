//! Our own: `dormouse.v1`, and its ephemerals as a dialect beside it.

use bytes::BytesMut;
use serde_json::json;

use super::{Dialect, Heard, Hello};
use crate::bench::wire::Transport;
use crate::protocol::v1;

/// Messages of `dormouse.v1`.
pub struct Dormouse;

/// Ephemerals of `dormouse.v1`: they reach everybody but their author.
pub struct Ephemeral;

impl Dialect for Dormouse {
    fn path(&self, room: &str, over: Transport) -> String {
        let door = if over.is_quic() { "wt" } else { "ws" };
        format!("/rooms/{room}/{door}")
    }

    fn subprotocol(&self) -> Option<&'static str> {
        Some(v1::NAME)
    }

    /// Who is here is asked for as a number: a thousand hellos that are each told of a thousand
    /// members are another benchmark.
    fn hello(&self, _room: &str, hello: &Hello) -> Option<String> {
        let name = format!("b{}", hello.member);
        let mut frame = json!({
            "type": "hello", "name": name, "history": 0, "presence": "count", "watch": hello.watches,
        });
        if hello.attachment > 0 {
            // As JSON it is a text, whose quotes count.
            frame["attachment"] = "a".repeat(hello.attachment.saturating_sub(2)).into();
        }
        if let Some(returns) = &hello.returns {
            frame["session"] = returns.session.as_str().into();
            frame["since"] = json!({ "epoch": returns.epoch, "seq": returns.seq });
        }
        Some(frame.to_string())
    }

    fn publish(&self, _room: &str, message: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(b"{\"type\":\"publish\",\"data\":\"");
        out.extend_from_slice(message);
        out.extend_from_slice(b"\"}");
    }

    fn hear<'a>(&self, body: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) -> usize {
        heard(match kind(body) {
            b"message" => Heard::Message(body),
            other => besides(other, body),
        });
        body.len()
    }
}

impl Dialect for Ephemeral {
    fn path(&self, room: &str, over: Transport) -> String {
        Dormouse.path(room, over)
    }

    fn subprotocol(&self) -> Option<&'static str> {
        Dormouse.subprotocol()
    }

    fn hello(&self, room: &str, hello: &Hello) -> Option<String> {
        Dormouse.hello(room, hello)
    }

    fn publish(&self, _room: &str, message: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(b"{\"type\":\"ephemeral\",\"key\":\"k\",\"data\":\"");
        out.extend_from_slice(message);
        out.extend_from_slice(b"\"}");
    }

    fn echoes(&self) -> bool {
        false
    }

    fn hear<'a>(&self, body: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) -> usize {
        heard(match kind(body) {
            b"ephemeral" => Heard::Message(body),
            other => besides(other, body),
        });
        body.len()
    }
}

/// The type of a frame; the gateway writes it first.
fn kind(body: &[u8]) -> &[u8] {
    let rest = body.strip_prefix(b"{\"type\":\"").unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
    &rest[..end]
}

fn besides<'a>(kind: &[u8], body: &'a [u8]) -> Heard<'a> {
    match kind {
        b"live" => Heard::Joined,
        b"welcome" => Heard::Welcome(body),
        b"page" | b"members" => Heard::Page(body),
        b"close" | b"error" => Heard::Ends(body),
        b"room" if body.starts_with(b"{\"type\":\"room\",\"state\":\"asleep\"") => Heard::Asleep,
        _ => Heard::Else,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::v1::ServerFrame;

    fn heard(said: &str) -> String {
        let mut found = String::new();
        Dormouse.hear(said.as_bytes(), &mut |heard| found = format!("{heard:?}"));
        found.split_once('(').map_or(found.clone(), |(name, _)| name.to_owned())
    }

    #[test]
    fn what_the_gateway_says_is_told_apart_by_its_beginning() {
        assert_eq!(heard(&ServerFrame::Live { seq: 3 }.to_json()), "Joined");
        assert_eq!(heard(&ServerFrame::Pong { id: None }.to_json()), "Else");
        assert_eq!(heard("{\"type\":\"ok\",\"seq\":1,\"dup\":false}"), "Else");
        assert_eq!(heard("{\"type\":\"room\",\"state\":\"asleep\"}"), "Asleep");
        assert_eq!(heard("{\"type\":\"room\",\"state\":\"awake\",\"woke_in_us\":1}"), "Else");
        assert_eq!(heard(&v1::page_json(Some(1), [], false)), "Page");
        assert_eq!(heard("not even JSON"), "Else");
        let close = ServerFrame::Close { code: 4000, reason: "drain", retry_after: None };
        assert_eq!(heard(&close.to_json()), "Ends");
    }
}
