//! HTTP/3 as far as one WebTransport session per connection needs it, directly on quinn.
//!
//! The words (QPACK, settings, requests and answers) are `wtransport-proto`'s. The session on
//! top of them is not wtransport's own: that keeps a task and eight channels for each
//! connection, more memory than quinn takes for the connection itself (`docs/memory.md`).
//!
//! - We open a control stream with our settings, read one extended CONNECT, and answer it.
//! - What the client's one-way streams say (its settings, QPACK) changes nothing we do: with no
//!   dynamic table and no push there is nothing to agree on. They are read and forgotten.
//! - The CONNECT stream ends the session: with the code of a capsule, or without one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, ReadBuf};
use wtransport_proto::error::ErrorCode;
use wtransport_proto::frame::Frame;
use wtransport_proto::headers::Headers;
use wtransport_proto::session::{HeadersParseError, SessionRequest, SessionResponse};
use wtransport_proto::settings::Settings;
use wtransport_proto::varint::VarInt as ProtoVarInt;

use crate::protocol::framing::{put_varint, varint};

/// The longest frame that is read: a request's headers.
const FRAME_BYTES: usize = 4_096;

/// The type of a control stream, and of frames.
const CONTROL: u64 = 0x00;
const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
/// What a stream of a session begins with instead of a frame: this, and the session's id.
const WEBTRANSPORT_STREAM: u64 = 0x41;
/// The capsule with which a client says goodbye.
const CLOSE_SESSION: u64 = 0x2843;

/// Somebody who asks for a session.
pub(super) struct Request {
    /// What it says about itself.
    pub(super) asked: SessionRequest,
    session: Session,
}

/// A session's own streams. Dropped, they end; they are there as long as it is.
pub(super) struct Session {
    connection: Connection,
    /// Our settings went out on it; HTTP/3 wants it open.
    _control: SendStream,
    send: SendStream,
    recv: RecvStream,
    /// The beginning of a frame on the CONNECT stream.
    read: BytesMut,
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

/// Why nothing more is read from a stream.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It ended, or the connection did.
    Over,
    /// It says what it must not.
    Rule(ErrorCode),
}

impl Request {
    /// Waits for the request of a new connection; nothing when the connection ends instead.
    /// What breaks HTTP/3 ends it.
    pub(super) async fn read(connection: Connection) -> Option<Self> {
        let mut control = connection.open_uni().await.ok()?;
        control.write_all(&settings()).await.ok()?;
        loop {
            let (mut send, mut recv) = connection.accept_bi().await.ok()?;
            let refusal = match request(&mut recv).await {
                Ok(Ok(asked)) => {
                    let read = BytesMut::new();
                    let session = Session { connection, _control: control, send, recv, read };
                    return Some(Self { asked, session });
                }
                Ok(Err(HeadersParseError::MethodNotConnect)) => ErrorCode::RequestRejected,
                Ok(Err(_)) => ErrorCode::Message,
                Err(Fault::Over) => continue,
                Err(Fault::Rule(code)) => {
                    connection.close(number(code), b"");
                    return None;
                }
            };
            // Whatever else is asked over HTTP/3 is not answered here.
            let _ = (recv.stop(number(refusal)), send.reset(number(refusal)));
        }
    }

    /// Refuses with one of the few statuses there are, and waits until the client has it.
    pub(super) async fn refuse(mut self, status: u16) {
        let response = match status {
            403 => SessionResponse::forbidden(),
            429 => SessionResponse::too_many_requests(),
            _ => SessionResponse::not_found(),
        };
        if self.session.answer(&response).await.is_some() && self.session.send.finish().is_ok() {
            let _ = self.session.send.stopped().await;
        }
    }

    /// Accepts, and says which protocol was chosen if some were offered.
    pub(super) async fn accept(mut self, protocol: Option<&str>) -> Option<Session> {
        let mut response = SessionResponse::ok();
        if let Some(protocol) = protocol {
            response.add("wt-protocol", format!("\"{protocol}\""));
        }
        self.session.answer(&response).await?;
        Some(self.session)
    }
}

impl Session {
    /// The connection it is on.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The next stream that the client opened for the session.
    pub(super) async fn stream(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        loop {
            let (send, mut recv) = self.connection.accept_bi().await?;
            if begins(&mut recv, self.id()).await {
                return Ok((send, recv));
            }
        }
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

    async fn answer(&mut self, response: &SessionResponse) -> Option<()> {
        self.send.write_all(&encoded(&response.headers().generate_frame())).await.ok()
    }
}

/// Whether a stream that the client opened belongs to a session. One that does not is refused.
pub(super) async fn begins(recv: &mut RecvStream, session: u64) -> bool {
    let read = async { Ok::<_, Fault>((number_from(recv).await?, number_from(recv).await?)) };
    match read.await {
        Ok((WEBTRANSPORT_STREAM, id)) if id == session => true,
        Ok((WEBTRANSPORT_STREAM, _)) => {
            let _ = recv.stop(number(ErrorCode::BufferedStreamRejected));
            false
        }
        Ok(_) => {
            let _ = recv.stop(number(ErrorCode::RequestRejected));
            false
        }
        Err(_) => false,
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

async fn request(
    recv: &mut RecvStream,
) -> Result<Result<SessionRequest, HeadersParseError>, Fault> {
    loop {
        let kind = number_from(recv).await?;
        let length = number_from(recv).await? as usize;
        if kind == WEBTRANSPORT_STREAM {
            return Err(Fault::Over); // a stream of no session: it is dropped
        }
        if length > FRAME_BYTES {
            return Err(Fault::Rule(ErrorCode::ExcessiveLoad));
        }
        let mut payload = vec![0; length];
        recv.read_exact(&mut payload).await.map_err(|_| Fault::Over)?;
        match kind {
            HEADERS => {
                let frame = Frame::new_headers(payload.into());
                let headers = Headers::with_frame(&frame).map_err(Fault::Rule)?;
                return Ok(SessionRequest::try_from(headers));
            }
            DATA => return Err(Fault::Rule(ErrorCode::FrameUnexpected)),
            _ => {} // unknown kinds are to be passed over (RFC 9114, 9)
        }
    }
}

async fn number_from(recv: &mut RecvStream) -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    recv.read_exact(&mut bytes[..1]).await.map_err(|_| Fault::Over)?;
    let length = 1 << (bytes[0] >> 6);
    recv.read_exact(&mut bytes[1..length]).await.map_err(|_| Fault::Over)?;
    varint(&bytes[..length]).map(|(number, _)| number).ok_or(Fault::Over)
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

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
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
