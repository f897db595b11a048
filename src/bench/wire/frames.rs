//! Frames on a byte stream: found where they begin and end, and otherwise left alone.
//!
//! A generator that parsed what it receives would be slower than the server it measures. It hops
//! from header to header; a frame cut by the edge of what was read waits for its rest.

use bytes::{BufMut, BytesMut};

use crate::protocol::framing::{kind_byte, put_varint, varint};
use crate::protocol::{BodyKind, Framing};

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It carries something, whether text or bytes.
    Body,
    /// It is to be answered with its body in a pong.
    Ping,
    /// It answers a ping.
    Pong,
    /// It ends the connection.
    Close,
}

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is for.
    pub kind: Kind,
    /// What it carries.
    pub body: &'a [u8],
}

/// The first frame and how many bytes it has, header included; `None` while it is not whole.
pub fn first(framing: Framing, bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    match framing {
        Framing::V1WebSocket | Framing::Seed => websocket(bytes),
        Framing::V1WebTransport => record(bytes),
    }
}

fn websocket(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (opcode, short) = (bytes.first()? & 0x0f, *bytes.get(1)? & 0x7f);
    let (length, begin) = match short {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (short.into(), 2),
    };
    let end = usize::try_from(length).ok()?.checked_add(begin)?;
    let kind = match opcode {
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        _ => Kind::Body,
    };
    Some((Frame { kind, body: bytes.get(begin..end)? }, end))
}

fn record(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (length, taken) = varint(bytes)?;
    let end = usize::try_from(length).ok()?.checked_add(taken)?;
    let body = bytes.get(taken..end)?.get(1..)?; // behind its kind
    Some((Frame { kind: Kind::Body, body }, end))
}

/// The opcodes that a client of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The answer to a ping.
    Pong = 10,
}

/// Appends a frame as a client sends it.
pub fn put(framing: Framing, opcode: Opcode, body: &[u8], out: &mut BytesMut) {
    if framing == Framing::V1WebTransport {
        put_varint(body.len() as u64 + 1, out);
        out.put_u8(kind_byte(BodyKind::Json));
        return out.put_slice(body);
    }
    out.put_u8(0x80 | opcode as u8);
    match body.len() {
        length @ 0..126 => out.put_u8(0x80 | length as u8),
        length @ 126..65_536 => {
            out.put_u8(0x80 | 126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(0x80 | 127);
            out.put_u64(length as u64);
        }
    }
    // A mask hides frames from proxies, and there is none on loopback: a mask of zeros changes
    // nothing, and costs the server what any other does.
    out.put_slice(&[0; 4]);
    out.put_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::framing::wrap;

    const FRAMINGS: [Framing; 2] = [Framing::V1WebSocket, Framing::V1WebTransport];

    /// Reads in pieces of so many bytes, keeping what is not whole, as a member does.
    fn bodies(framing: Framing, bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let (mut kept, mut found) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            kept.extend_from_slice(piece);
            let mut at = 0;
            while let Some((frame, length)) = first(framing, &kept[at..]) {
                found.push(frame.body.to_vec());
                at += length;
            }
            kept.drain(..at);
        }
        assert!(kept.is_empty(), "all of it was read");
        found
    }

    #[test]
    fn frames_are_counted_once_wherever_a_read_cuts_them() {
        let sent: Vec<_> = [0, 1, 125, 126, 300, 65_535, 65_536, 7].map(|n| vec![b'x'; n]).into();
        for framing in FRAMINGS {
            let mut stream = BytesMut::new();
            sent.iter().for_each(|body| wrap(framing, BodyKind::Json, body, &mut stream));
            for piece in [1, 2, 3, 7, 64, 1_000, 65_537, stream.len()] {
                assert_eq!(bodies(framing, &stream, piece), sent, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let kind = |bytes| first(Framing::V1WebSocket, bytes).unwrap().0.kind;
        assert_eq!(kind(b"\x81\x01a"), Kind::Body);
        assert_eq!(kind(b"\x82\x01a"), Kind::Body);
        assert_eq!(kind(b"\x89\x00"), Kind::Ping);
        assert_eq!(kind(b"\x8a\x00"), Kind::Pong);
        assert_eq!(kind(b"\x88\x02\x03\xe8"), Kind::Close);
        assert_eq!(first(Framing::V1WebTransport, b"\x00"), None, "a record has a kind");
    }

    #[test]
    fn a_clients_frame_says_that_it_is_masked() {
        let mut out = BytesMut::new();
        put(Framing::V1WebSocket, Opcode::Text, b"hi", &mut out);
        assert_eq!(&out[..], b"\x81\x82\0\0\0\0hi");
        out.clear();
        put(Framing::V1WebSocket, Opcode::Binary, &[7; 300], &mut out);
        assert_eq!(&out[..8], b"\x82\xfe\x01\x2c\0\0\0\0");
        out.clear();
        put(Framing::V1WebTransport, Opcode::Text, b"hi", &mut out);
        assert_eq!(&out[..], b"\x03\x01hi");
    }
}
