//! A TCP socket without TLS, which may be written to from two places: by the link, and as a
//! [`Wire`] by whoever has borrowed the session's cursor. Never by both at once: the cursor is in
//! one place.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, send, sendmsg, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Stream;
use crate::outbox::{PIECES, Unsent, Wire};

/// The link's end of it.
pub(super) struct Plain(Arc<TcpStream>);

impl From<TcpStream> for Plain {
    fn from(socket: TcpStream) -> Self {
        Self(Arc::new(socket))
    }
}

/// Past tokio, which need not know: what the socket does not take the link offers once more, and
/// waits for it as always.
impl Wire for TcpStream {
    fn try_write(&self, unsent: &mut Unsent) -> bool {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while !unsent.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = unsent.slices(&mut pieces);
            let sent = match &pieces[..count] {
                [piece] => send(self, piece, flags), // costs less than a list of one
                pieces => sendmsg(self, pieces, &mut SendAncillaryBuffer::default(), flags),
            };
            match sent {
                Ok(count) if count > 0 => unsent.advance(count),
                _ => return false,
            }
        }
        true
    }
}

impl Stream for Plain {
    fn wire(&self) -> Option<Arc<dyn Wire>> {
        Some(self.0.clone())
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read_buf(buffer) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let written = match pieces {
                [piece] => self.0.try_write(piece),
                pieces => self.0.try_write_vectored(pieces),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&*self.0, Shutdown::Write).map_err(Into::into))
    }
}
