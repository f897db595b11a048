//! HTTP/3 as far as one WebTransport session per connection needs it, directly on quinn.
//!
//! The words (QPACK, settings, requests and answers) are `wtransport-proto`'s. The session on
//! top of them is not wtransport's own: that keeps a task and eight channels for each
//! connection, more memory than quinn takes for the connection itself (`docs/memory.md`).
//!
//! - We open a control stream with our settings, read requests until one is an extended CONNECT for
//!   a session, and answer it. Other requests are answered beside it, before and after:
//!   see [`visit`](super::visit).
//! - What the client's one-way streams say (its settings, QPACK) changes nothing we do: with no
//!   dynamic table and no push there is nothing to agree on. They are read and forgotten.
//! - The CONNECT stream ends the session: with the code of a capsule, or without one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wtransport_proto::error::ErrorCode;
use wtransport_proto::frame::Frame;
use wtransport_proto::headers::Headers;
use wtransport_proto::session::SessionResponse;
use wtransport_proto::settings::Settings;
use wtransport_proto::varint::VarInt as ProtoVarInt;

use super::head::{self, Head};
use super::visit::Visitor;
use crate::protocol::framing::{put_varint, varint};
use crate::server::Response;
use crate::server::door::Refusal;

/// The longest frame that is read: a request's headers. A request with longer ones is answered 431.
pub(super) const FRAME_BYTES: usize = 4_096;

/// The type of a control stream, and of frames.
const CONTROL: u64 = 0x00;
pub(super) const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
/// What a stream of a session begins with instead of a frame: this, and the session's id.
const WEBTRANSPORT_STREAM: u64 = 0x41;
/// The capsule with which a client says goodbye.
const CLOSE_SESSION: u64 = 0x2843;

/// The requests of a connection that has no session yet.
pub(super) struct Requests {
    connection: Connection,
    control: SendStream,
    visitor: Arc<Visitor>,
    /// Answers under way.
    answers: JoinSet<()>,
}

/// A request for a session.
pub(super) struct Connect {
    /// What it says about itself.
    pub(super) head: Box<Head>,
    send: SendStream,
    recv: RecvStream,
}

/// A session's own streams. Dropped, they end; they are there as long as it is.
pub(super) struct Session {
    connection: Connection,
    /// Our settings went out on it; HTTP/3 wants it open.
    _control: SendStream,
    visitor: Arc<Visitor>,
    send: SendStream,
    recv: RecvStream,
    /// The beginning of a frame on the CONNECT stream.
    read: BytesMut,
}

/// What a stream that the client opened begins with.
pub(super) enum Beginning {
    /// The head of a request.
    Request(Box<Head>),
    /// A head that is longer than [`FRAME_BYTES`].
    TooLarge,
    /// Fields that are no request.
    Malformed,
    /// A stream of the session with that id.
    Stream(u64),
    /// Nothing: it ended, or the connection did.
    Over,
    /// Nothing for too long.
    Late,
    /// Something that breaks HTTP/3, for which the connection is to end.
    Rule(ErrorCode),
}

/// Where the datagrams of a session leave.
pub(super) struct Datagrams {
    connection: Connection,
    session: u64,
}

impl Datagrams {
    /// Sends one, if it fits and the client takes any.
    pub(super) fn send(&self, body: &[u8]) -> bool {
        let mut datagram = BytesMut::with_capacity(8 + body.len());
        put_varint(self.session / 4, &mut datagram);
        datagram.extend_from_slice(body);
        self.connection.send_datagram(datagram.freeze()).is_ok()
    }
}

impl Requests {
    /// Begins HTTP/3 on a new connection.
    pub(super) async fn open(connection: Connection, visitor: Arc<Visitor>) -> Option<Self> {
        let mut control = connection.open_uni().await.ok()?;
        control.write_all(&settings()).await.ok()?;
        Some(Self { connection, control, visitor, answers: JoinSet::new() })
    }

    /// Waits for the next request for a session, answering others; nothing when the connection
    /// ends instead.
    pub(super) async fn next(&mut self) -> Option<Connect> {
        loop {
            let (send, mut recv) = self.connection.accept_bi().await.ok()?;
            while self.answers.try_join_next().is_some() {}
            match begins(&mut recv, self.visitor.patience()).await {
                Beginning::Request(head) if head.is_for_a_session() => {
                    return Some(Connect { head, send, recv });
                }
                other => {
                    let (visitor, connection) = (self.visitor.clone(), self.connection.clone());
                    self.answers.spawn(async move {
                        visitor.answer(&connection, other, send, recv).await;
                    });
                }
            }
        }
    }

    /// Answers a request for a session with a refusal.
    pub(super) fn refuse(&mut self, connect: Connect, refusal: Refusal) {
        let Connect { send, recv, .. } = connect;
        let patience = self.visitor.patience();
        self.answers.spawn(answer(Visitor::refusal(refusal), false, send, recv, patience));
    }

    /// Answers a request for a session with the session, and says which protocol was chosen if some
    /// were offered.
    pub(super) async fn accept(
        mut self,
        connect: Connect,
        protocol: Option<&str>,
    ) -> Option<Session> {
        let Connect { mut send, recv, .. } = connect;
        let mut response = SessionResponse::ok();
        if let Some(protocol) = protocol {
            response.add("wt-protocol", format!("\"{protocol}\""));
        }
        send.write_all(&encoded(&response.headers().generate_frame())).await.ok()?;
        self.answers.detach_all();
        let (connection, visitor, read) = (self.connection, self.visitor, BytesMut::new());
        Some(Session { connection, _control: self.control, visitor, send, recv, read })
    }

    /// Ends the connection once the answers under way are with the client.
    pub(super) async fn leave(mut self) {
        while self.answers.join_next().await.is_some() {}
        self.connection.close(number(ErrorCode::NoError), b"");
    }
}

impl Session {
    /// The connection it is on.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The next stream that the client opened for the session; nothing when the connection ends.
    /// Other streams are answered beside it.
    pub(super) async fn stream(&self) -> Option<(SendStream, RecvStream)> {
        loop {
            let (send, mut recv) = self.connection.accept_bi().await.ok()?;
            match begins(&mut recv, self.visitor.patience()).await {
                Beginning::Stream(id) if id == self.id() => return Some((send, recv)),
                other => {
                    let (visitor, connection) = (self.visitor.clone(), self.connection.clone());
                    tokio::spawn(async move {
                        visitor.answer(&connection, other, send, recv).await;
                    });
                }
            }
        }
    }

    /// What answers the requests beside the session.
    pub(super) fn visitor(&self) -> &Arc<Visitor> {
        &self.visitor
    }

    /// What names the session on other streams: the number of its first.
    pub(super) fn id(&self) -> u64 {
        VarInt::from(self.send.id()).into_inner()
    }

    /// Where its datagrams leave.
    pub(super) fn datagrams(&self) -> Datagrams {
        Datagrams { connection: self.connection.clone(), session: self.id() }
    }

    /// What a datagram holds; nothing if it is not for this session.
    pub(super) fn datagram(&self, mut datagram: Bytes) -> Option<Bytes> {
        let (session, taken) = varint(&datagram)?;
        datagram.advance(taken);
        (session == self.id() / 4).then_some(datagram)
    }

    /// Waits for the client's goodbye on the CONNECT stream: its code, 0 when it gave none.
    pub(super) fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<u32> {
        loop {
            while let Some((kind, payload)) = self.next_frame() {
                if kind == DATA
                    && let Some(code) = goodbye(&payload)
                {
                    return Poll::Ready(code);
                }
            }
            let mut buffer = [0; 512];
            let mut buffer = ReadBuf::new(&mut buffer);
            let read = Pin::new(&mut self.recv).poll_read(cx, &mut buffer);
            match std::task::ready!(read) {
                Ok(()) if !buffer.filled().is_empty() && self.read.len() < 2 * FRAME_BYTES => {
                    self.read.extend_from_slice(buffer.filled());
                }
                _ => return Poll::Ready(0), // finished, reset, or more than anybody has to say
            }
        }
    }

    fn next_frame(&mut self) -> Option<(u64, Bytes)> {
        let (kind, first) = varint(&self.read)?;
        let (length, second) = varint(&self.read[first..])?;
        let head = first + second;
        let end = head.checked_add(usize::try_from(length).ok()?)?;
        if self.read.len() < end {
            return None;
        }
        let mut frame = self.read.split_to(end);
        frame.advance(head);
        if self.read.is_empty() {
            self.read = BytesMut::new(); // an idle session holds no buffer
        }
        Some((kind, frame.freeze()))
    }
}

/// Reads and forgets what comes on a one-way stream; ready when it has ended.
pub(super) fn poll_forget(recv: &mut RecvStream, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        let mut buffer = [0; 512];
        let mut buffer = ReadBuf::new(&mut buffer);
        match std::task::ready!(Pin::new(&mut *recv).poll_read(cx, &mut buffer)) {
            Ok(()) if !buffer.filled().is_empty() => {}
            _ => return Poll::Ready(()),
        }
    }
}

/// The number of an error, as quinn wants it.
pub(super) fn number(code: ErrorCode) -> VarInt {
    VarInt::from_u64(code.to_code().into_inner()).unwrap_or(VarInt::MAX)
}

/// Reads what a stream begins with, for at most so long.
pub(super) async fn begins(recv: &mut RecvStream, patience: Duration) -> Beginning {
    let beginning = timeout(patience, beginning(recv)).await;
    beginning.map_or(Beginning::Late, |read| read.unwrap_or(Beginning::Over))
}

/// `None` when the stream ends before it says what it is.
async fn beginning(recv: &mut RecvStream) -> Option<Beginning> {
    let mut kind = number_from(recv).await?;
    if kind == WEBTRANSPORT_STREAM {
        return Some(Beginning::Stream(number_from(recv).await?));
    }
    loop {
        let length = number_from(recv).await?;
        if length > FRAME_BYTES as u64 {
            return Some(match kind {
                HEADERS => Beginning::TooLarge,
                _ => Beginning::Rule(ErrorCode::ExcessiveLoad),
            });
        }
        let mut payload = vec![0; length as usize];
        recv.read_exact(&mut payload).await.ok()?;
        match kind {
            HEADERS => return Some(request(payload)),
            DATA => return Some(Beginning::Rule(ErrorCode::FrameUnexpected)),
            _ => {} // unknown kinds are to be passed over (RFC 9114, 9)
        }
        kind = number_from(recv).await?;
    }
}

fn request(payload: Vec<u8>) -> Beginning {
    match Headers::with_frame(&Frame::new_headers(payload.into())) {
        Ok(headers) => Head::read(&headers)
            .map_or(Beginning::Malformed, |head| Beginning::Request(head.into())),
        Err(code) => Beginning::Rule(code),
    }
}

/// Answers a request and waits until the client has the answer, for at most so long.
pub(super) async fn answer(
    response: Response,
    to_head: bool,
    mut send: SendStream,
    mut recv: RecvStream,
    patience: Duration,
) {
    let answer = async {
        let (head, body) = head::encoded(response, to_head).await;
        send.write_chunk(head).await.ok()?;
        if !body.is_empty() {
            send.write_chunk(body).await.ok()?;
        }
        send.finish().ok()?;
        // The rest of the request changes nothing (RFC 9114, 4.1).
        let _ = recv.stop(number(ErrorCode::NoError));
        send.stopped().await.ok()
    };
    if timeout(patience, answer).await.is_err() {
        // Merely dropped, the stream would be finished: half an answer that looks like a whole one.
        reset(&mut send, &mut recv, ErrorCode::RequestRejected);
    }
}

/// Ends a stream both ways.
pub(super) fn reset(send: &mut SendStream, recv: &mut RecvStream, code: ErrorCode) {
    let _ = (recv.stop(number(code)), send.reset(number(code))); // it may have ended
}

/// `None` when the stream ends.
async fn number_from(recv: &mut RecvStream) -> Option<u64> {
    let mut bytes = [0; 8];
    recv.read_exact(&mut bytes[..1]).await.ok()?;
    let length = 1 << (bytes[0] >> 6);
    recv.read_exact(&mut bytes[1..length]).await.ok()?;
    varint(&bytes[..length]).map(|(number, _)| number)
}

/// The code of the capsule with which a session is closed.
fn goodbye(mut capsule: &[u8]) -> Option<u32> {
    let (kind, taken) = varint(capsule)?;
    capsule = &capsule[taken..];
    let (length, taken) = varint(capsule)?;
    capsule = &capsule[taken..];
    let code = capsule.get(..4).filter(|_| kind == CLOSE_SESSION && length >= 4)?;
    code.try_into().ok().map(u32::from_be_bytes)
}

fn settings() -> Vec<u8> {
    let nothing = ProtoVarInt::from_u32(0);
    let settings = Settings::builder()
        .qpack_max_table_capacity(nothing)
        .qpack_blocked_streams(nothing)
        .enable_connect_protocol()
        .enable_webtransport()
        .enable_h3_datagrams()
        .webtransport_max_sessions(ProtoVarInt::from_u32(1))
        .build();
    let mut stream = BytesMut::new();
    put_varint(CONTROL, &mut stream);
    stream.extend_from_slice(&encoded(&settings.generate_frame()));
    stream.to_vec()
}

pub(super) fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frame.write_size());
    frame.write(&mut bytes).expect("a vector takes every write");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goodbye_is_found_in_its_capsule_and_nowhere_else() {
        let capsule = |kind: u64, body: &[u8]| {
            let mut capsule = BytesMut::new();
            put_varint(kind, &mut capsule);
            put_varint(body.len() as u64, &mut capsule);
            capsule.extend_from_slice(body);
            capsule.to_vec()
        };
        assert_eq!(goodbye(&capsule(CLOSE_SESSION, b"\0\0\x03\xe8bye")), Some(1000));
        assert_eq!(goodbye(&capsule(CLOSE_SESSION, b"\0\0\x03\xe8")), Some(1000));
        assert_eq!(goodbye(&capsule(CLOSE_SESSION, b"\0\0")), None);
        assert_eq!(goodbye(&capsule(0x3c, b"\0\0\x03\xe8")), None);
        assert_eq!(goodbye(b""), None);
    }

    #[test]
    fn our_settings_are_what_the_words_library_reads() {
        let settings = settings();
        assert_eq!(settings[0], 0, "a control stream");
        let frame = Frame::read(&mut &settings[1..]).unwrap().unwrap();
        assert!(Settings::with_frame(&frame).is_ok());
    }
}
