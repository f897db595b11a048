//! A WebSocket by hand, for what a well-behaved client would never do: not to answer a ping.

use std::net::SocketAddr;

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{DEADLINE, HANDSHAKE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn of(bits: u8) -> Self {
        let all = [Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];
        all.into_iter().find(|opcode| *opcode as u8 == bits).expect("an opcode of RFC 6455")
    }
}

pub struct RawWebSocket {
    stream: TcpStream,
    read: BytesMut,
}

impl RawWebSocket {
    /// A v1 connection that has not said anything yet.
    pub async fn open(address: SocketAddr, room: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /rooms/{room}/ws HTTP/1.1\r\nhost: {address}\r\n{HANDSHAKE}\
             sec-websocket-protocol: dormouse.v1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut socket = Self { stream, read: BytesMut::new() };
        loop {
            let end = socket.read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                assert!(socket.read.starts_with(b"HTTP/1.1 101"), "{:?}", socket.read);
                socket.read.advance(end + 4);
                return socket;
            }
            assert!(socket.more().await, "an answer to the handshake");
        }
    }

    /// One whole short frame, masked with zeros.
    pub async fn send(&mut self, opcode: Opcode, body: &[u8]) {
        let length = u8::try_from(body.len()).unwrap();
        assert!(length < 126, "a short frame");
        let mut frame = vec![0x80 | opcode as u8, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(body);
        let _ = self.stream.write_all(&frame).await; // a closing gateway may not take it
    }

    pub async fn say(&mut self, frame: Value) {
        self.send(Opcode::Text, frame.to_string().as_bytes()).await;
    }

    /// The next frame; nothing at the end of the connection.
    pub async fn next(&mut self) -> Option<(Opcode, Bytes)> {
        loop {
            if let Some(frame) = self.frame() {
                return Some(frame);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next frame of that kind, the others let pass.
    pub async fn next_of(&mut self, wanted: Opcode) -> Bytes {
        loop {
            let (opcode, body) = self.next().await.expect("another frame");
            let is_news = body.starts_with(b"{\"type\":\"presence\""); // it may come at any time
            if opcode == wanted && !is_news {
                return body;
            }
        }
    }

    fn frame(&mut self) -> Option<(Opcode, Bytes)> {
        let (&first, &second) = (self.read.first()?, self.read.get(1)?);
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (header, length) = match second {
            126 => (4, u16::from_be_bytes(self.read.get(2..4)?.try_into().unwrap()).into()),
            127 => (10, u64::from_be_bytes(self.read.get(2..10)?.try_into().unwrap())),
            short => (2, u64::from(short)),
        };
        let end = header + length as usize;
        if self.read.len() < end {
            return None;
        }
        let mut frame = self.read.split_to(end);
        frame.advance(header);
        Some((Opcode::of(first & 0x0f), frame.freeze()))
    }

    async fn more(&mut self) -> bool {
        let reading = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.read));
        reading.await.expect("bytes in time").unwrap_or(0) > 0
    }
}
