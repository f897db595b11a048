//! A WebSocket as a link.
//!
//! tungstenite reads: masks, fragments, UTF-8, limits. It never touches the socket: it is fed
//! with what was read, and what it wants to answer (a pong, a close) lands in a buffer that the
//! session sends between two frames, so that there is one writer and no frame is cut in two.
//!
//! Most connections are idle most of the time, and then hold no buffer at all: what came is read
//! onto the stack, tungstenite is made when there is something to read, and is let go at the end
//! of a message with nothing behind it.

mod boundary;
mod plain;
mod tls;

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Cx, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

use self::boundary::Boundary;
use self::plain::Plain;
use self::tls::Tls;
use super::Context;
use super::door::Admission;
use crate::outbox::{PIECES, Unsent, Wire};
use crate::protocol::framing::{websocket_close, websocket_ping};
use crate::protocol::{BodyKind, CloseReason, Framing, Profile};
use crate::room::Side;
use crate::session::{self, End, Farewell, Link, Received, Transport};

/// What is read from the socket at once, onto the stack.
const READ_BUFFER: usize = 8 * 1024;

/// What tungstenite takes at once from what was read; a longer message grows its buffer to fit.
const CODEC_BUFFER: usize = 1024;

/// Begins the session of one WebSocket, in a task of its own: the one that carried the
/// handshake is larger than a session needs for the rest of its life.
pub fn serve(cx: &Context, io: Upgraded, profile: Profile, peer: SocketAddr, admission: Admission) {
    tracing::debug!(%peer, ?profile, "a WebSocket opened");
    let message_bytes = cx.session.message_bytes;
    let place = cx.place(admission);
    match io.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let socket = Plain::from(parts.io.into_inner());
            let link = WebSocketLink::new(socket, &parts.read_buf, message_bytes);
            tokio::spawn(session::run(link, profile, place));
        }
        Err(io) => match io.downcast::<TokioIo<TlsStream<TcpStream>>>() {
            Ok(parts) => {
                let socket = Tls::from(parts.io.into_inner());
                let link = WebSocketLink::new(socket, &parts.read_buf, message_bytes);
                tokio::spawn(session::run(link, profile, place));
            }
            Err(io) => {
                let link = WebSocketLink::new(TokioIo::new(io), &[], message_bytes);
                tokio::spawn(session::run(link, profile, place));
            }
        },
    }
}

/// The server's end of a WebSocket whose handshake is done.
pub struct WebSocketLink<S> {
    io: S,
    /// There while something is half read, or owed.
    codec: Option<Box<Codec>>,
    message_bytes: usize,
}

/// What carries a WebSocket's bytes.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Its other end, if it has one.
    fn wire(&self) -> Option<Arc<dyn Wire>> {
        None
    }
}

impl Stream for TokioIo<Upgraded> {}

/// tungstenite, and how far it has come.
struct Codec {
    socket: WebSocket<Fed>,
    boundary: Boundary,
}

/// What tungstenite takes for its stream: what was read, and a place for what it says.
#[derive(Default)]
struct Fed {
    read: BytesMut,
    control: BytesMut,
}

impl Codec {
    fn new(message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(CODEC_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(Some(message_bytes))
            .max_message_size(Some(message_bytes));
        let socket = WebSocket::from_raw_socket(Fed::default(), Role::Server, Some(config));
        Self { socket, boundary: Boundary::default() }
    }

    fn feed(&mut self, read: &[u8]) {
        self.boundary.pass(read);
        self.socket.get_mut().read.extend_from_slice(read);
    }

    /// The next thing in what was fed, if it is whole.
    fn next(&mut self) -> Option<Received> {
        Some(match self.socket.read() {
            Ok(Message::Text(text)) => Received::Frame(BodyKind::Json, text.into()),
            Ok(Message::Binary(bytes)) => Received::Frame(BodyKind::Binary, bytes),
            Ok(Message::Close(frame)) => {
                let _ = self.socket.flush(); // its answer lands in `control`
                Received::End(End::Closed(frame.map(|frame| u16::from(frame.code).into())))
            }
            Ok(_) => {
                let _ = self.socket.flush(); // a ping's pong is due now, not with the next frame
                Received::Alive
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => Received::End(end_of(&error)),
        })
    }

    /// Whether a new one would know as much.
    fn is_idle(&self) -> bool {
        self.boundary.is_between_messages() && self.socket.get_ref().control.is_empty()
    }
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.read.len());
        self.read.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Write for Fed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.control.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Stream> WebSocketLink<S> {
    /// Takes over after the handshake; `read` was read already.
    pub fn new(io: S, read: &[u8], message_bytes: usize) -> Self {
        let mut link = Self { io, codec: None, message_bytes };
        if !read.is_empty() {
            link.codec().feed(read);
        }
        link
    }

    fn codec(&mut self) -> &mut Codec {
        self.codec.get_or_insert_with(|| Box::new(Codec::new(self.message_bytes)))
    }

    /// Reads what there is, once; says whether there was anything.
    fn poll_read(&mut self, cx: &mut Cx<'_>) -> Poll<io::Result<bool>> {
        let mut buffer = [const { MaybeUninit::uninit() }; READ_BUFFER];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        if !read.is_empty() {
            self.codec().feed(read);
        }
        Poll::Ready(Ok(!read.is_empty()))
    }
}

impl<S: Stream> Link for WebSocketLink<S> {
    const TRANSPORT: Transport = Transport::WebSocket;

    fn framing(profile: Profile) -> Framing {
        match profile {
            Profile::V1 => Framing::V1WebSocket,
            Profile::Seed => Framing::Seed,
        }
    }

    fn poll_recv(&mut self, cx: &mut Cx<'_>) -> Poll<Received> {
        loop {
            if let Some(codec) = &mut self.codec {
                if let Some(received) = codec.next() {
                    return Poll::Ready(received);
                }
                if codec.is_idle() {
                    self.codec = None;
                }
            }
            match ready!(self.poll_read(cx)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(Received::End(End::Broken)),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Cx<'_>, unsent: &mut Unsent) -> Poll<io::Result<usize>> {
        if unsent.is_empty() {
            // TLS may hold bytes that it has taken but not sent.
            let _ = Pin::new(&mut self.io).poll_flush(cx)?;
            return Poll::Pending;
        }
        poll_write(&mut self.io, cx, unsent)
    }

    fn take_control(&mut self) -> Option<Bytes> {
        let control = &mut self.codec.as_mut()?.socket.get_mut().control;
        (!control.is_empty()).then(|| std::mem::take(control).freeze())
    }

    fn send_datagram(&mut self, _body: Bytes) -> bool {
        false
    }

    fn reply(&mut self, _side: Side, _frame: Bytes) {}

    fn wire(&self) -> Option<Arc<dyn Wire>> {
        self.io.wire()
    }

    fn ping() -> Option<Bytes> {
        Some(websocket_ping())
    }

    async fn close(self, farewell: Farewell) {
        let Farewell { mut unsent, close, linger } = farewell;
        unsent.extend(close.map(|(code, text)| websocket_close(code, text)));
        let mut io = self.io;
        let write = async {
            for bytes in unsent.iter() {
                io.write_all(bytes).await?;
            }
            io.shutdown().await // flushes first, then ends our direction
        };
        if !matches!(timeout(linger, write).await, Ok(Ok(()))) {
            return;
        }
        // Unread input would turn our close into a reset: let the client finish first.
        let _ = timeout(linger, discard(&mut io)).await;
    }
}

/// Takes from the front of `unsent` what a stream takes now.
fn poll_write(
    io: &mut (impl AsyncWrite + Unpin),
    cx: &mut Cx<'_>,
    unsent: &mut Unsent,
) -> Poll<io::Result<usize>> {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    let count = unsent.slices(&mut pieces);
    let written = ready!(Pin::new(io).poll_write_vectored(cx, &pieces[..count]))?;
    if written == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    unsent.advance(written);
    Poll::Ready(Ok(written))
}

async fn discard(io: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while io.read(&mut buffer).await? > 0 {}
    Ok(())
}

fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::Refused(CloseReason::MessageTooLarge),
        Error::Utf8(_) => End::Refused(CloseReason::InvalidUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Broken,
        Error::Protocol(_) => End::Refused(CloseReason::BrokenFraming),
        _ => End::Broken,
    }
}

/// How long a connection may take to become a session.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
