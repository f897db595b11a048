//! Wrapping frames for a transport: WebSocket's header (RFC 6455, 5.2) and the records of a
//! WebTransport stream (a QUIC varint, RFC 9000, 16, then a kind byte).
//!
//! A server's WebSocket frame is not masked, so the same bytes serve every member.

use bytes::{BufMut, Bytes, BytesMut};

use super::{BodyKind, Framing};

/// WebSocket opcodes as the first byte of a whole, unfragmented frame.
const WS_TEXT: u8 = 0x81;
const WS_BINARY: u8 = 0x82;
const WS_CLOSE: u8 = 0x88;
const WS_PING: u8 = 0x89;

/// The most a wrapping adds in front of a body.
pub const HEADER_BYTES: usize = 10;

/// Appends one frame, header and body.
pub fn wrap(framing: Framing, kind: BodyKind, body: &[u8], out: &mut BytesMut) {
    match framing {
        Framing::V1WebSocket | Framing::Seed => {
            let opcode = if kind == BodyKind::Json { WS_TEXT } else { WS_BINARY };
            websocket_header(opcode, body.len(), out);
        }
        Framing::V1WebTransport => {
            put_varint(body.len() as u64 + 1, out);
            out.put_u8(kind_byte(kind));
        }
    }
    out.put_slice(body);
}

/// One JSON frame by itself.
pub fn wrap_json(framing: Framing, json: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + json.len());
    wrap(framing, BodyKind::Json, json.as_bytes(), &mut out);
    out.freeze()
}

/// A WebSocket ping without a payload.
pub fn websocket_ping() -> Bytes {
    Bytes::from_static(&[WS_PING, 0])
}

/// A WebSocket close frame; the reason is at most 123 bytes.
pub fn websocket_close(code: u16, reason: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + reason.len());
    websocket_header(WS_CLOSE, 2 + reason.len(), &mut out);
    out.put_u16(code);
    out.put_slice(reason.as_bytes());
    out.freeze()
}

fn websocket_header(first: u8, length: usize, out: &mut BytesMut) {
    out.put_u8(first);
    match length {
        0..126 => out.put_u8(length as u8),
        126..65_536 => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

/// The kind byte of a record.
pub fn kind_byte(kind: BodyKind) -> u8 {
    match kind {
        BodyKind::Json => 1,
        BodyKind::Binary => 2,
    }
}

/// The kind that a record's kind byte names.
pub fn kind_of(byte: u8) -> Option<BodyKind> {
    match byte {
        1 => Some(BodyKind::Json),
        2 => Some(BodyKind::Binary),
        _ => None,
    }
}

/// Appends a QUIC varint. Lengths here are far below its 2^62 limit.
pub fn put_varint(value: u64, out: &mut BytesMut) {
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(0x4000 | value as u16),
        0x4000..0x4000_0000 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value),
    }
}

/// Reads a QUIC varint from the front: the value and how many bytes it took, or `None` while
/// it is not complete.
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, &b| value << 8 | u64::from(b));
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_reads_back_at_every_width() {
        for value in [0, 1, 63, 64, 16_383, 16_384, 1_073_741_823, 1_073_741_824, (1 << 62) - 1] {
            let mut out = BytesMut::new();
            put_varint(value, &mut out);
            assert_eq!(varint(&out), Some((value, out.len())));
            for cut in 0..out.len() {
                assert_eq!(varint(&out[..cut]), None, "a cut varint is not complete");
            }
        }
    }

    #[test]
    fn the_websocket_header_grows_with_the_body() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = BytesMut::new();
            wrap(Framing::V1WebSocket, BodyKind::Json, &vec![b'x'; length], &mut out);
            assert_eq!(out.len(), header + length);
            assert_eq!(out[0], 0x81);
        }
        assert_eq!(&websocket_close(4000, "drain")[..], b"\x88\x07\x0f\xa0drain");
    }

    #[test]
    fn a_record_counts_its_kind_byte() {
        let mut out = BytesMut::new();
        wrap(Framing::V1WebTransport, BodyKind::Binary, b"abc", &mut out);
        assert_eq!(&out[..], b"\x04\x02abc");
    }
}
