//! One client for both transports: frames out, frames in, each with a deadline.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use dormouse::protocol::framing::{put_varint, varint};
use dormouse::protocol::v1::split_binary;
use dormouse::session;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async};
use wtransport::endpoint::endpoint_side;
use wtransport::error::ConnectingError;
use wtransport::tls::Sha256Digest;
use wtransport::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt};

use super::DEADLINE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    WebTransport,
}

impl Transport {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::WebSocket => Self::WebTransport,
            Self::WebTransport => Self::WebSocket,
        }
    }

    pub const BOTH: [Self; 2] = [Self::WebSocket, Self::WebTransport];

    /// Those that the gateway has.
    pub fn all() -> impl Iterator<Item = Self> {
        session::Transport::all().map(|transport| match transport {
            session::Transport::WebSocket => Self::WebSocket,
            session::Transport::WebTransport => Self::WebTransport,
        })
    }
}

/// What came last on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Last {
    /// A close with its code, the transport's own (WebSocket) or none (QUIC).
    Closed(Option<u16>, String),
    /// The connection broke.
    Broken,
}

pub struct Client {
    wire: Wire,
    /// Frames that were read while another was waited for.
    put_back: VecDeque<Value>,
    /// News of who is here, which may come at any time: read by `next_of("presence")` only,
    /// unless `hears_presence`.
    presence: VecDeque<Value>,
    /// Whether `next` gives news of who is here like any other frame.
    pub hears_presence: bool,
    /// The bytes behind the last binary frame's header.
    pub bytes: Vec<u8>,
    /// The answer to `hello`.
    pub welcome: Value,
    /// Where this client's copy of the log ends.
    pub position: Value,
}

enum Wire {
    WebSocket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    WebTransport(Box<Quic>),
}

struct Quic {
    bare: Bare,
    send: SendStream,
    recv: RecvStream,
    read: BytesMut,
}

/// A WebTransport session on which no stream was opened yet.
pub struct Bare {
    pub connection: Connection,
    _endpoint: Endpoint<endpoint_side::Client>,
}

/// How much a connection takes from the gateway while nobody reads from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// What is usual.
    Plenty,
    /// As little as the system lets it.
    Little,
}

/// The receive window of a connection that takes little.
pub const LITTLE: u32 = 16 * 1024;

impl Client {
    pub async fn connect(
        transport: Transport,
        address: SocketAddr,
        room: &str,
        hashes: &[[u8; 32]],
        takes: Takes,
    ) -> Self {
        let client = Self::reach(transport, address, room, hashes, takes).await;
        client.unwrap_or_else(|| panic!("{address} lets nobody in over {transport:?}"))
    }

    /// `None` when nobody is there, or is gone before the connection is made.
    pub async fn try_connect(
        transport: Transport,
        address: SocketAddr,
        room: &str,
        hashes: &[[u8; 32]],
    ) -> Option<Self> {
        Self::reach(transport, address, room, hashes, Takes::Plenty).await
    }

    async fn reach(
        transport: Transport,
        address: SocketAddr,
        room: &str,
        hashes: &[[u8; 32]],
        takes: Takes,
    ) -> Option<Self> {
        match transport {
            Transport::WebSocket => {
                Self::websocket(address, room, Some("dormouse.v1"), takes).await
            }
            Transport::WebTransport => {
                let bare = Bare::open(address, room, hashes, takes).await.ok()?;
                Some(Self::over(Wire::WebTransport(Box::new(Quic::over(bare).await?))))
            }
        }
    }

    pub async fn seed(address: SocketAddr, room: &str) -> Self {
        let client = Self::websocket(address, room, None, Takes::Plenty).await;
        client.expect("the gateway lets people in")
    }

    async fn websocket(
        address: SocketAddr,
        room: &str,
        protocol: Option<&'static str>,
        takes: Takes,
    ) -> Option<Self> {
        let url = format!("ws://{address}/rooms/{room}/ws");
        let mut request = url.into_client_request().unwrap();
        if let Some(protocol) = protocol {
            let value = protocol.parse().unwrap();
            request.headers_mut().insert("sec-websocket-protocol", value);
        }
        let socket = TcpSocket::new_v4().unwrap();
        if takes == Takes::Little {
            socket.set_recv_buffer_size(LITTLE).unwrap();
            socket.set_send_buffer_size(LITTLE).unwrap();
        }
        let stream = socket.connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let stream = MaybeTlsStream::Plain(stream);
        let (socket, _) = client_async(request, stream).await.ok()?;
        Some(Self::over(Wire::WebSocket(Box::new(socket))))
    }

    fn over(wire: Wire) -> Self {
        Self {
            wire,
            put_back: VecDeque::new(),
            presence: VecDeque::new(),
            hears_presence: false,
            bytes: Vec::new(),
            welcome: Value::Null,
            position: Value::Null,
        }
    }

    // Out

    /// Says hello and is shown everything up to `live`; the messages come back.
    pub async fn hello(&mut self, mut hello: Value) -> Vec<Value> {
        hello["type"] = "hello".into();
        self.send(hello).await;
        self.welcome = self.next().await;
        assert_eq!(self.welcome["type"], "welcome", "nothing comes before it");
        self.position = json!({ "epoch": self.welcome["position"]["epoch"], "seq": 0 });
        self.until_live().await
    }

    /// Reads up to `live`; the messages come back.
    pub async fn until_live(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let frame = self.next().await;
            match frame["type"].as_str() {
                Some("message") => messages.push(frame),
                Some("live") => return messages,
                other => panic!("{other:?} before live: {frame}"),
            }
        }
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_bytes(1, frame.to_string().as_bytes()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send_bytes(1, text.as_bytes()).await;
    }

    /// A binary frame: a JSON header and bytes.
    pub async fn send_binary(&mut self, header: Value, bytes: &[u8]) {
        let header = header.to_string();
        let mut body = BytesMut::new();
        put_varint(header.len() as u64, &mut body);
        body.extend_from_slice(header.as_bytes());
        body.extend_from_slice(bytes);
        self.send_bytes(2, &body).await;
    }

    /// A frame of any kind and body. A WebSocket text frame must be UTF-8.
    pub async fn send_bytes(&mut self, kind: u8, body: &[u8]) {
        match &mut self.wire {
            Wire::WebSocket(socket) => {
                let message = match kind {
                    1 => Message::text(std::str::from_utf8(body).unwrap()),
                    _ => Message::binary(Bytes::copy_from_slice(body)),
                };
                let _ = socket.send(message).await; // a closing gateway may not take it
            }
            Wire::WebTransport(quic) => {
                let mut record = BytesMut::new();
                put_varint(body.len() as u64 + 1, &mut record);
                record.extend_from_slice(&[kind]);
                record.extend_from_slice(body);
                let _ = quic.send.write_all(&record).await;
            }
        }
    }

    /// Bytes as they are, below any framing; on WebTransport only.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let Wire::WebTransport(quic) = &mut self.wire else { panic!("not on a WebSocket") };
        let _ = quic.send.write_all(bytes).await;
    }

    /// A datagram, on WebTransport; a frame elsewhere.
    pub async fn send_loose(&mut self, frame: Value) {
        match &self.wire {
            Wire::WebSocket(_) => self.send(frame).await,
            Wire::WebTransport(quic) => {
                quic.bare.connection.send_datagram(frame.to_string()).unwrap();
            }
        }
    }

    /// Asks on a stream of its own, on WebTransport, and reads the answer there.
    pub async fn ask_aside(&mut self, frame: Value) -> Value {
        self.try_ask_aside(&frame.to_string()).await.expect("an answer")
    }

    /// Asks on a stream of its own, on WebTransport; nothing if there is no answer.
    pub async fn try_ask_aside(&mut self, body: &str) -> Option<Value> {
        let Wire::WebTransport(quic) = &mut self.wire else { panic!("not on a WebSocket") };
        let (mut send, recv) = quic.bare.connection.open_bi().await.unwrap().await.unwrap();
        let mut record = BytesMut::new();
        put_varint(body.len() as u64 + 1, &mut record);
        record.extend_from_slice(&[1]);
        record.extend_from_slice(body.as_bytes());
        let _ = send.write_all(&record).await; // what is too large is stopped as it comes
        let mut answer = Vec::new();
        let reading = async {
            let mut recv = recv;
            let mut buffer = [0; 16 * 1024];
            while let Ok(Some(count)) = recv.read(&mut buffer).await {
                answer.extend_from_slice(&buffer[..count]);
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("an answer in time");
        if answer.is_empty() {
            return None;
        }
        let (length, taken) = varint(&answer).unwrap();
        assert_eq!(answer.len(), taken + length as usize, "one record, and no more");
        Some(serde_json::from_slice(&answer[taken + 1..]).unwrap())
    }

    /// The QUIC connection itself; on WebTransport only.
    pub fn connection(&self) -> &Connection {
        let Wire::WebTransport(quic) = &self.wire else { panic!("not on a WebSocket") };
        &quic.bare.connection
    }

    /// Ends our direction of the stream; on WebTransport only.
    pub async fn finish(&mut self) {
        let Wire::WebTransport(quic) = &mut self.wire else { panic!("not on a WebSocket") };
        let _ = quic.send.finish().await;
    }

    /// Asks the session for a sign of life below all protocols, and waits for it: by then it
    /// has read everything before. On WebSocket only.
    pub async fn is_heard(&mut self) {
        let Wire::WebSocket(socket) = &mut self.wire else { panic!("not on WebTransport") };
        socket.send(Message::Ping(Bytes::from_static(b"?"))).await.unwrap();
        let pong = async {
            loop {
                match socket.next().await {
                    Some(Ok(Message::Pong(_))) => return,
                    Some(Ok(Message::Text(text))) => {
                        self.put_back.push_back(serde_json::from_str(&text).unwrap());
                    }
                    other => panic!("{other:?} instead of a pong"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, pong).await.expect("a pong in time");
    }

    /// Joins as a client of the seed profile; the chats it is shown come back.
    pub async fn seed_join(&mut self, name: &str) -> Vec<Value> {
        self.send(json!({ "type": "join", "name": name, "timestamp": 1 })).await;
        let mut history = Vec::new();
        loop {
            let frame = self.next().await;
            match frame["type"].as_str() {
                Some("chat") => history.push(frame),
                Some("system") => {
                    assert_eq!(frame["message"], format!("{name} joined the room"));
                    assert!(frame["timestamp"].is_u64(), "{frame}");
                    let users = self.next().await;
                    assert!(users["users"].as_array().unwrap().contains(&name.into()), "{users}");
                    return history;
                }
                other => panic!("{other:?} on joining: {frame}"),
            }
        }
    }

    /// Chats as a client of the seed profile.
    pub async fn chat(&mut self, message: &str) {
        self.send(json!({ "type": "chat", "message": message, "timestamp": 7 })).await;
    }

    /// The next list of users, sorted: who came in the same millisecond has no order. Nothing
    /// else may come before it but lines of who joined.
    pub async fn users(&mut self) -> Vec<String> {
        loop {
            let frame = self.next().await;
            match frame["type"].as_str() {
                Some("system") => {}
                _ => return sorted_users(&frame),
            }
        }
    }

    /// The list of users that comes next, and no line before it: nobody joined.
    pub async fn only_users(&mut self) -> Vec<String> {
        sorted_users(&self.next().await)
    }

    pub async fn publish(&mut self, id: u64, data: Value) {
        self.send(json!({ "type": "publish", "id": id, "data": data })).await;
    }

    /// Publishes and waits for the `ok`.
    pub async fn say(&mut self, text: &str) -> u64 {
        self.publish(1, json!({ "text": text })).await;
        let ok = self.next_of("ok").await;
        assert_eq!(ok["dup"], false);
        ok["seq"].as_u64().unwrap()
    }

    // In

    /// The next frame. Keeps the position up to date.
    pub async fn next(&mut self) -> Value {
        let frame = self.next_or_last().await;
        frame.unwrap_or_else(|last| panic!("expected a frame, got {last:?}"))
    }

    pub async fn next_or_last(&mut self) -> Result<Value, Last> {
        if let Some(frame) = self.put_back.pop_front() {
            return Ok(frame);
        }
        let frame = loop {
            let reading = tokio::time::timeout(DEADLINE, self.wire.read());
            let (frame, bytes) = reading.await.expect("a frame in time")?;
            self.bytes = bytes;
            if frame["type"] != "presence" || self.hears_presence {
                break frame;
            }
            self.presence.push_back(frame);
        };
        let moves = matches!(frame["type"].as_str(), Some("message" | "live"));
        if let (true, Some(seq)) = (moves, frame["seq"].as_u64()) {
            let before = self.position["seq"].as_u64().unwrap_or(0);
            assert!(seq > before || frame["type"] == "live", "{frame} after {before}");
            self.position["seq"] = seq.into();
        }
        Ok(frame)
    }

    /// The next frame of a type; others stay for later.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        self.next_that(|frame| frame["type"] == kind).await
    }

    /// The next frame that is so; others stay for later.
    pub async fn next_that(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.presence.iter().position(&is) {
            return self.presence.remove(at).unwrap();
        }
        let mut others = VecDeque::new();
        let usual = std::mem::replace(&mut self.hears_presence, true);
        let found = loop {
            let frame = self.next().await;
            if is(&frame) {
                break frame;
            }
            match frame["type"] == "presence" && !usual {
                true => self.presence.push_back(frame),
                false => others.push_back(frame),
            }
        };
        self.hears_presence = usual;
        others.append(&mut self.put_back);
        self.put_back = others;
        found
    }

    /// The next `ok` or `error`; others are let go.
    pub async fn answer(&mut self) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == "ok" || frame["type"] == "error" {
                return frame;
            }
        }
    }

    /// The next message.
    pub async fn message(&mut self) -> Value {
        self.next_of("message").await
    }

    /// The text of the next message.
    pub async fn text(&mut self) -> String {
        self.message().await["data"]["text"].as_str().unwrap().to_owned()
    }

    /// The names in the next `users` line, whatever comes before it; sorted.
    pub async fn roster(&mut self) -> Vec<String> {
        sorted_users(&self.next_of("users").await)
    }

    /// Whether nothing comes before the answer to a ping: nothing was on its way.
    pub async fn hears_nothing(&mut self) -> bool {
        self.send(json!({ "type": "ping", "id": 4242 })).await;
        let frame = self.next().await;
        frame["type"] == "pong" && frame["id"] == 4242
    }

    /// Reads to the end: the in-band close, then what the transport says of it.
    pub async fn closed(&mut self) -> (Value, Last) {
        let mut close = Value::Null;
        loop {
            match self.next_or_last().await {
                Ok(frame) if frame["type"] == "close" => {
                    close = frame;
                    // What a browser's client does when it reads the frame.
                    if let Wire::WebTransport(quic) = &self.wire {
                        quic.bare.connection.close(VarInt::from_u32(0), b"");
                        return (close, Last::Closed(None, String::new()));
                    }
                }
                Ok(_) => {}
                Err(last) => return (close, last),
            }
        }
    }

    /// Reads to the end and expects a close with this code, in-band and, where the transport
    /// says it too, there as well.
    pub async fn closed_with(&mut self, code: u16, reason: &str) -> Value {
        let (close, last) = self.closed().await;
        assert_eq!((&close["code"], &close["reason"]), (&code.into(), &reason.into()), "{last:?}");
        if let Wire::WebSocket(_) = self.wire {
            assert_eq!(last, Last::Closed(Some(code), reason.to_owned()));
        }
        close
    }

    // Away

    /// Closes without a code; on WebSocket only.
    pub async fn close_without_a_code(mut self) {
        let Wire::WebSocket(socket) = &mut self.wire else { panic!("not on WebTransport") };
        let _ = socket.close(None).await;
        while let Some(Ok(_)) = socket.next().await {}
    }

    /// Reads to the end and leaves, as a client does that is told to.
    pub async fn leave(mut self) -> (Value, Last) {
        self.closed().await
    }

    /// Closes with a code and waits until the gateway has noticed.
    pub async fn close(mut self, code: u16) {
        match &mut self.wire {
            Wire::WebSocket(socket) => {
                let frame = CloseFrame { code: code.into(), reason: "".into() };
                let _ = socket.close(Some(frame)).await;
                while let Some(Ok(_)) = socket.next().await {}
            }
            Wire::WebTransport(quic) => {
                quic.bare.connection.close(VarInt::from_u32(code.into()), b"");
            }
        }
    }

    /// Is gone without a word.
    pub fn drop_connection(self) {
        match self.wire {
            Wire::WebSocket(socket) => drop(socket),
            Wire::WebTransport(quic) => quic.bare.connection.close(VarInt::from_u32(0), b""),
        }
    }
}

impl Wire {
    async fn read(&mut self) -> Result<(Value, Vec<u8>), Last> {
        match self {
            Self::WebSocket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Ok((serde_json::from_str(&text).unwrap(), Vec::new()));
                    }
                    Some(Ok(Message::Binary(body))) => return Ok(binary(&body)),
                    Some(Ok(Message::Close(frame))) => {
                        let code = frame.as_ref().map(|frame| u16::from(frame.code));
                        let reason = frame.map(|frame| frame.reason.to_string());
                        while let Some(Ok(_)) = socket.next().await {}
                        return Err(Last::Closed(code, reason.unwrap_or_default()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(Last::Broken),
                }
            },
            Self::WebTransport(quic) => quic.read().await,
        }
    }
}

/// A WebTransport session without a stream; `None` if it was refused.
pub async fn session(address: SocketAddr, path: &str, hashes: &[[u8; 32]]) -> Option<Connection> {
    let hashes: Vec<_> = hashes.iter().map(|hash| Sha256Digest::new(*hash)).collect();
    let config = ClientConfig::builder()
        .with_bind_address("127.0.0.1:0".parse().unwrap())
        .with_server_certificate_hashes(hashes)
        .build();
    let endpoint = Endpoint::client(config).unwrap();
    endpoint.connect(format!("https://{address}{path}")).await.ok()
}

impl Bare {
    pub async fn open(
        address: SocketAddr,
        room: &str,
        hashes: &[[u8; 32]],
        takes: Takes,
    ) -> Result<Self, ConnectingError> {
        let hashes: Vec<_> = hashes.iter().map(|hash| Sha256Digest::new(*hash)).collect();
        let mut config = ClientConfig::builder()
            .with_bind_address("127.0.0.1:0".parse().unwrap())
            .with_server_certificate_hashes(hashes)
            .build();
        if takes == Takes::Little {
            let mut transport = quinn::TransportConfig::default();
            transport.stream_receive_window(LITTLE.into()).receive_window((2 * LITTLE).into());
            config.quic_config_mut().transport_config(Arc::new(transport));
        }
        let endpoint = Endpoint::client(config).unwrap();
        let url = format!("https://{address}/rooms/{room}/wt");
        let connection = endpoint.connect(url).await?;
        Ok(Self { connection, _endpoint: endpoint })
    }
}

impl Quic {
    async fn over(bare: Bare) -> Option<Self> {
        let (send, recv) = bare.connection.open_bi().await.ok()?.await.ok()?;
        Some(Self { bare, send, recv, read: BytesMut::new() })
    }

    async fn read(&mut self) -> Result<(Value, Vec<u8>), Last> {
        loop {
            if let Some((length, taken)) = varint(&self.read)
                && self.read.len() >= taken + length as usize
            {
                self.read.advance(taken);
                let record = self.read.split_to(length as usize);
                return Ok(match record[0] {
                    1 => (serde_json::from_slice(&record[1..]).unwrap(), Vec::new()),
                    2 => binary(&record[1..]),
                    other => panic!("kind {other}"),
                });
            }
            let mut buffer = [0; 16 * 1024];
            let read = tokio::select! {
                read = self.recv.read(&mut buffer) => read,
                Ok(datagram) = self.bare.connection.receive_datagram() => {
                    return Ok((serde_json::from_slice(&datagram).unwrap(), Vec::new()));
                }
            };
            match read {
                Ok(Some(count)) => self.read.extend_from_slice(&buffer[..count]),
                Ok(None) => return Err(Last::Closed(None, String::new())),
                Err(_) => return Err(Last::Broken),
            }
        }
    }
}

fn sorted_users(frame: &Value) -> Vec<String> {
    assert_eq!(frame["type"], "users", "{frame}");
    let mut users: Vec<String> = serde_json::from_value(frame["users"].clone()).unwrap();
    users.sort();
    users
}

fn binary(body: &[u8]) -> (Value, Vec<u8>) {
    let (header, bytes) = split_binary(body).unwrap();
    (serde_json::from_slice(header).unwrap(), bytes.to_vec())
}
