//! Socket.IO 4 over WebSocket, without its long-polling beginning.
//!
//! A first digit is Engine.IO's (0 open, 2 ping, 3 pong, 4 message), a second one Socket.IO's
//! (0 connect, 2 event).

use bytes::BytesMut;

use super::{Dialect, Heard};
use crate::bench::wire::Transport;

/// Engine.IO's envelope round Socket.IO's events.
pub struct SocketIo;

impl Dialect for SocketIo {
    fn path(&self, room: &str, _over: Transport) -> String {
        format!("/socket.io/?EIO=4&transport=websocket&room={room}")
    }

    fn publish(&self, _room: &str, message: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(b"42[\"say\",\"");
        out.extend_from_slice(message);
        out.extend_from_slice(b"\"]");
    }

    fn hear<'a>(&self, body: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) -> usize {
        heard(match body {
            [b'0', ..] => Heard::Wants("40"),
            b"2" => Heard::Wants("3"),
            [b'4', b'2', rest @ ..] if rest.starts_with(b"[\"m\"") => Heard::Message(rest),
            [b'4', b'2', rest @ ..] if rest.starts_with(b"[\"joined\"") => Heard::Joined,
            [b'4', b'1', rest @ ..] => Heard::Ends(rest),
            _ => Heard::Else,
        });
        body.len()
    }
}
