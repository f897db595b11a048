//! A room is a path, being connected is being in it, and a message is a text frame.
//!
//! What the small peers of `benches/peers` speak, and nchan by itself.

use bytes::BytesMut;

use super::{Dialect, Heard, MARK};

/// Text frames and nothing else.
pub struct Plain;

impl Dialect for Plain {
    fn joins_by_connecting(&self) -> bool {
        true
    }

    fn publish(&self, _room: &str, message: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(message);
    }

    fn hear<'a>(&self, body: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) -> usize {
        heard(if body.first() == Some(&MARK) { Heard::Message(body) } else { Heard::Else });
        body.len()
    }
}
