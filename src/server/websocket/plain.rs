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
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Stream;
use crate::outbox::{PIECES, Unsent, Wire};

/// Without waiting, and without a signal where one could come: std switches that off on macOS.
#[cfg(not(target_vendor = "apple"))]
const NOW: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
#[cfg(target_vendor = "apple")]
const NOW: SendFlags = SendFlags::DONTWAIT;

/// The link's end of it. It reads by tokio's half, which knows from a short read that there is no
/// more, and asks the kernel once where a shared socket asks twice.
pub(super) struct Plain {
    read: OwnedReadHalf,
    write: Arc<Writing>,
}

/// The end that is shared.
struct Writing(OwnedWriteHalf);

impl Writing {
    fn socket(&self) -> &TcpStream {
        self.0.as_ref()
    }
}

impl From<TcpStream> for Plain {
    fn from(socket: TcpStream) -> Self {
        let (read, write) = socket.into_split();
        Self { read, write: Arc::new(Writing(write)) }
    }
}

/// Past tokio, which need not know: what the socket does not take the link offers once more, and
/// waits for it as always.
impl Wire for Writing {
    fn try_write(&self, unsent: &mut Unsent) -> bool {
        while !unsent.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = unsent.slices(&mut pieces);
            let sent = match &pieces[..count] {
                [piece] => send(self.socket(), piece, NOW), // costs less than a list of one
                pieces => sendmsg(self.socket(), pieces, &mut SendAncillaryBuffer::default(), NOW),
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
        Some(self.write.clone())
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
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
        let socket = self.write.socket();
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let written = match pieces {
                [piece] => socket.try_write(piece),
                pieces => socket.try_write_vectored(pieces),
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
        Poll::Ready(shutdown(self.write.socket(), Shutdown::Write).map_err(Into::into))
    }
}
