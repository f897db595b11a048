//! Frames as bytes: the varint, the binary frame, and records on a WebTransport stream.
//!
//! Written from `docs/protocol.md` ("Framing") and sharing nothing with the gateway's own, so that one
//! checks the other.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A frame, before it is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// One JSON object.
    Json(Bytes),
    /// A header that is one JSON object, and the bytes that stand for `data`.
    Binary { header: Bytes, data: Bytes },
}

/// Frames that no gateway of this protocol sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A header that is longer than its frame, or a record without a kind.
    #[error("a frame is shorter than what it announces")]
    Short,
    /// A record of a kind that the protocol does not have.
    #[error("a record is of the unknown kind {0}")]
    Kind(u8),
    /// A record so long that it is not worth waiting for.
    #[error("a record of {0} bytes is announced")]
    Long(u64),
    /// A frame that is no JSON object, or one with wrong fields.
    #[error("a frame is not what the protocol says")]
    Frame,
}

const JSON: u8 = 1;
const BINARY: u8 = 2;

/// The longest record that is read. Pages and lists of members are the longest: 256 KiB by default, and
/// what an operator may make of it stays well below.
const LONGEST: u64 = 16 << 20;

impl Raw {
    /// A binary WebSocket message, or a record's body behind the byte `2`.
    pub fn binary(mut body: Bytes) -> Result<Self, Broken> {
        let length = get_varint(&mut body).ok_or(Broken::Short)?;
        let length = usize::try_from(length).map_err(|_| Broken::Short)?;
        if length > body.len() {
            return Err(Broken::Short);
        }
        let header = body.split_to(length);
        Ok(Self::Binary { header, data: body })
    }

    /// The whole of a binary WebSocket message.
    pub fn binary_body(header: &[u8], data: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + header.len() + data.len());
        put_varint(&mut out, header.len() as u64);
        out.put_slice(header);
        out.put_slice(data);
        out.freeze()
    }

    /// A record as it stands on a WebTransport stream.
    pub fn record(&self) -> Bytes {
        let (kind, body) = match self {
            Self::Json(json) => (JSON, json.clone()),
            Self::Binary { header, data } => (BINARY, Self::binary_body(header, data)),
        };
        let mut out = BytesMut::with_capacity(9 + body.len());
        put_varint(&mut out, 1 + body.len() as u64);
        out.put_u8(kind);
        out.put_slice(&body);
        out.freeze()
    }

    /// How much of the gateway's limit on a message it takes.
    pub fn size(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Binary { header, data } => {
                varint_size(header.len() as u64) + header.len() + data.len()
            }
        }
    }

    /// The next whole record, taken from the front of what has been read.
    pub fn next_record(read: &mut BytesMut) -> Result<Option<Self>, Broken> {
        let mut ahead = &read[..];
        let Some(length) = get_varint(&mut ahead) else { return Ok(None) };
        if length > LONGEST {
            return Err(Broken::Long(length));
        }
        let (prefix, length) = (read.len() - ahead.len(), length as usize);
        if ahead.len() < length {
            read.reserve(length - ahead.len());
            return Ok(None);
        }
        read.advance(prefix);
        let mut body = read.split_to(length).freeze();
        match body.try_get_u8().map_err(|_| Broken::Short)? {
            JSON => Ok(Some(Self::Json(body))),
            BINARY => Self::binary(body).map(Some),
            kind => Err(Broken::Kind(kind)),
        }
    }
}

/// A QUIC varint (RFC 9000, 16), or nothing if it is not all there yet.
fn get_varint(from: &mut impl Buf) -> Option<u64> {
    let first = *from.chunk().first()?;
    let length = 1 << (first >> 6);
    if from.remaining() < length {
        return None;
    }
    let its_own_length = 0b11 << (8 * length - 2); // the two bits in front say how long it is
    Some(from.get_uint(length) & !its_own_length)
}

fn put_varint(out: &mut BytesMut, value: u64) {
    match varint_size(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 0x4000),
        4 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

fn varint_size(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_those_of_rfc_9000() {
        for (value, bytes) in [
            (37, &[0x25][..]),
            (15_293, &[0x7b, 0xbd]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
        ] {
            assert_eq!(get_varint(&mut &bytes[..]), Some(value));
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(get_varint(&mut &bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn records_come_back_however_they_are_cut() {
        let records = [
            Raw::Json(Bytes::from_static(b"{\"type\":\"ping\"}")),
            Raw::Binary { header: Bytes::from_static(b"{}"), data: Bytes::from(vec![7; 70_000]) },
            Raw::Binary { header: Bytes::from_static(b"{}"), data: Bytes::new() },
        ];
        let all: Vec<u8> = records.iter().flat_map(Raw::record).collect();
        for step in [1, 3, 1000, all.len()] {
            let (mut read, mut found) = (BytesMut::new(), Vec::new());
            for piece in all.chunks(step) {
                read.extend_from_slice(piece);
                while let Some(record) = Raw::next_record(&mut read).unwrap() {
                    found.push(record);
                }
            }
            assert_eq!(found, records);
            assert!(read.is_empty());
        }
    }

    #[test]
    fn broken_records_are_refused_and_never_panic() {
        let next = |bytes: &[u8]| Raw::next_record(&mut BytesMut::from(bytes));
        assert_eq!(next(&[0]), Err(Broken::Short));
        assert_eq!(next(&[1, 3]), Err(Broken::Kind(3)));
        assert_eq!(next(&[2, 2, 5]), Err(Broken::Short));
        assert_eq!(next(&[0xff; 8]), Err(Broken::Long((1 << 62) - 1)));
        assert_eq!(next(&[]), Ok(None));
    }
}
