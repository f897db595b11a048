//! A TCP socket with TLS, which may be written to from two places, as the
//! [plain](super::plain) one. TLS has a state that both change: it is behind a lock, which nobody
//! ever waits for, because whoever touches it has the session's cursor.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::{Stream, poll_write};
use crate::outbox::{Unsent, Wire};

/// The link's end of it.
pub(super) struct Tls<T>(Arc<Shared<T>>);

struct Shared<T>(Mutex<TlsStream<T>>);

impl<T> From<TlsStream<T>> for Tls<T> {
    fn from(stream: TlsStream<T>) -> Self {
        Self(Arc::new(Shared(Mutex::new(stream))))
    }
}

impl<T> Shared<T> {
    fn stream(&self) -> MutexGuard<'_, TlsStream<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for Shared<T> {
    /// Nobody is woken for what does not go out now: the session's link asks again.
    fn try_write(&self, unsent: &mut Unsent) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = self.stream();
        while !unsent.is_empty() {
            if !matches!(poll_write(&mut *stream, &mut cx, unsent), Poll::Ready(Ok(_))) {
                return false;
            }
        }
        matches!(Pin::new(&mut *stream).poll_flush(&mut cx), Poll::Ready(Ok(())))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for Tls<T> {
    fn wire(&self) -> Option<Arc<dyn Wire>> {
        Some(self.0.clone())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tls<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream()).poll_read(cx, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tls<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.stream()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.stream()).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream()).poll_shutdown(cx)
    }
}
