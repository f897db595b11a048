//! A WebSocket as a link.
//!
//! tungstenite reads: masks, fragments, UTF-8, limits. It never writes to the socket: what it
//! wants to answer (a pong, a close) lands in a buffer that the session sends between two
//! frames, so that there is one writer and no frame is cut in two.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Cx, Poll, Waker};
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

use super::Context;
use crate::protocol::framing::{websocket_close, websocket_ping};
use crate::protocol::{BodyKind, CloseReason, Framing, Profile, RoomName};
use crate::room::Side;
use crate::session::{self, End, Entered, Farewell, Link, Received};
use crate::telemetry::WEBSOCKET;

/// What is read from the socket at once. tungstenite's default is 128 KiB per connection.
const READ_BUFFER: usize = 4 * 1024;

/// The most pieces given to the socket in one write.
const PIECES: usize = 32;

/// Serves one WebSocket until it ends.
pub async fn serve(
    cx: Arc<Context>,
    io: Upgraded,
    room: RoomName,
    profile: Profile,
    peer: SocketAddr,
    entered: Entered,
) {
    tracing::debug!(%peer, ?profile, "a WebSocket opened");
    let message_bytes = cx.session.message_bytes;
    let place = cx.place(room, entered);
    match io.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let link = WebSocketLink::new(parts.io.into_inner(), &parts.read_buf, message_bytes);
            session::run(link, profile, place).await;
        }
        Err(io) => match io.downcast::<TokioIo<TlsStream<TcpStream>>>() {
            Ok(parts) => {
                let io = Box::new(parts.io.into_inner());
                let link = WebSocketLink::new(io, &parts.read_buf, message_bytes);
                session::run(link, profile, place).await;
            }
            Err(io) => {
                let link = WebSocketLink::new(TokioIo::new(io), &[], message_bytes);
                session::run(link, profile, place).await;
            }
        },
    }
}

/// The server's end of a WebSocket whose handshake is done.
pub struct WebSocketLink<S> {
    socket: WebSocket<Adapter<S>>,
    /// Whether the stream below may hold bytes that it has taken but not sent (TLS).
    unflushed: bool,
}

/// What tungstenite takes for its stream.
struct Adapter<S> {
    io: S,
    waker: Option<Waker>,
    control: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketLink<S> {
    /// Takes over after the handshake; `read` was read already.
    pub fn new(io: S, read: &[u8], message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(Some(message_bytes))
            .max_message_size(Some(message_bytes));
        let adapter = Adapter { io, waker: None, control: BytesMut::new() };
        let socket =
            WebSocket::from_partially_read(adapter, read.to_vec(), Role::Server, Some(config));
        Self { socket, unflushed: false }
    }

    fn io(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.socket.get_mut().io)
    }
}

impl<S: AsyncRead + Unpin> Read for Adapter<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(waker) = &self.waker else { return Err(io::ErrorKind::WouldBlock.into()) };
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.io).poll_read(&mut Cx::from_waker(waker), &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Adapter<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.control.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Link for WebSocketLink<S> {
    const TRANSPORT: &'static str = WEBSOCKET;

    fn framing(profile: Profile) -> Framing {
        match profile {
            Profile::V1 => Framing::V1WebSocket,
            Profile::Seed => Framing::Seed,
        }
    }

    fn poll_recv(&mut self, cx: &mut Cx<'_>) -> Poll<Received> {
        let waker = &mut self.socket.get_mut().waker;
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Ready(match self.socket.read() {
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
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Poll::Pending;
            }
            Err(error) => Received::End(end_of(&error)),
        })
    }

    fn poll_write(
        &mut self,
        cx: &mut Cx<'_>,
        unsent: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        if unsent.is_empty() {
            if self.unflushed && self.io().poll_flush(cx)?.is_ready() {
                self.unflushed = false;
            }
            return Poll::Pending;
        }
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let count = unsent.len().min(PIECES);
        for (piece, bytes) in pieces.iter_mut().zip(unsent.iter()) {
            *piece = IoSlice::new(bytes);
        }
        let written = match self.io().poll_write_vectored(cx, &pieces[..count]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        self.unflushed = true;
        advance(unsent, written);
        Poll::Ready(Ok(written))
    }

    fn take_control(&mut self) -> Option<Bytes> {
        let control = &mut self.socket.get_mut().control;
        (!control.is_empty()).then(|| control.split().freeze())
    }

    fn send_datagram(&mut self, _body: Bytes) -> bool {
        false
    }

    fn reply(&mut self, _side: Side, _frame: Bytes) {}

    fn ping() -> Option<Bytes> {
        Some(websocket_ping())
    }

    async fn close(self, farewell: Farewell) {
        let Farewell { mut unsent, close, linger } = farewell;
        unsent.extend(close.map(|(code, text)| websocket_close(code, text)));
        let mut io = self.socket.into_inner().io;
        let write = async {
            for bytes in &unsent {
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

async fn discard(io: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while io.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Drops the first `count` bytes.
pub(super) fn advance(unsent: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(front) = unsent.front_mut() {
        if front.len() > count {
            front.advance(count);
            return;
        }
        count -= front.len();
        unsent.pop_front();
    }
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
