//! A WebSocket written by hand, for what no library would send.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{DEADLINE, HANDSHAKE, House};

pub struct Raw {
    stream: TcpStream,
    read: BytesMut,
}

/// How the other end closed: the frame in-band, if the profile has one, and the close frame.
#[derive(Debug)]
pub struct Closed {
    pub in_band: Value,
    pub code: Option<u16>,
    pub reason: String,
}

/// A client's frame, whole and masked; `first` is its first byte.
pub fn masked(first: u8, body: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match body.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(body.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

impl House {
    /// A WebSocket in hand; `protocol` is its subprotocol, if it offers one.
    pub async fn raw(&self, room: &str, protocol: Option<&str>) -> Raw {
        let address = self.address();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let offer =
            protocol.map_or(String::new(), |name| format!("sec-websocket-protocol: {name}\r\n"));
        let request =
            format!("GET /rooms/{room}/ws HTTP/1.1\r\nhost: {address}\r\n{HANDSHAKE}{offer}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Raw { stream, read: BytesMut::new() };
        loop {
            if let Some(end) = raw.read.windows(4).position(|four| four == b"\r\n\r\n") {
                assert!(raw.read.starts_with(b"HTTP/1.1 101 "), "{:?}", raw.read);
                raw.read.advance(end + 4);
                return raw;
            }
            assert!(raw.more().await, "an answer to the handshake");
        }
    }
}

impl Raw {
    /// Bytes as they are. A gateway that has closed already may not take them.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.send(&masked(0x81, text.as_bytes())).await;
    }

    /// Writes for as long as the other end takes it, at most `bytes`; says how many it took
    /// before it had enough for a while.
    pub async fn flood(&mut self, piece: &[u8], bytes: usize) -> usize {
        let (mut taken, mut at) = (0, 0);
        while taken < bytes {
            // Whole pieces: what follows a flood begins at a frame.
            let write = timeout(Duration::from_millis(300), self.stream.write(&piece[at..])).await;
            let Ok(Ok(count)) = write else { return taken };
            taken += count;
            at = (at + count) % piece.len();
        }
        taken
    }

    /// The next frame's first byte and body; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.frame() {
                return Some(frame);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads to the end.
    pub async fn closed(&mut self) -> Closed {
        let mut closed = Closed { in_band: Value::Null, code: None, reason: String::new() };
        while let Some((first, body)) = self.next().await {
            match first {
                0x81 => {
                    let frame: Value = serde_json::from_slice(&body).unwrap();
                    if frame["type"] == "close" {
                        closed.in_band = frame;
                    }
                }
                0x88 => {
                    assert_eq!(closed.code, None, "one close frame");
                    closed.code = body.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                    closed.reason = String::from_utf8(body[2.min(body.len())..].to_vec()).unwrap();
                }
                _ => {}
            }
        }
        closed
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, short) = (*self.read.first()?, *self.read.get(1)?);
        assert_eq!(short & 0x80, 0, "a server does not mask");
        let (header, length) = match short {
            126 => (4, u16::from_be_bytes(self.read.get(2..4)?.try_into().unwrap()).into()),
            127 => (10, u64::from_be_bytes(self.read.get(2..10)?.try_into().unwrap()) as usize),
            length => (2, usize::from(length)),
        };
        let body = self.read.get(header..header + length)?.to_vec();
        self.read.advance(header + length);
        Some((first, body))
    }

    async fn more(&mut self) -> bool {
        let reading = timeout(DEADLINE, self.stream.read_buf(&mut self.read));
        reading.await.expect("bytes or an end in time").unwrap_or(0) > 0
    }
}
