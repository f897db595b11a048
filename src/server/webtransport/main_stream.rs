//! The stream that carries everything, from our side: it may be written to from two places, by the
//! link and by whoever has borrowed the session's cursor. The lock is one that nobody ever waits
//! for, because there is one cursor.

use std::io;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quinn::{SendStream, WriteError};

use super::h3::Datagrams;
use crate::outbox::{PIECES, Unsent, Wire};

/// A datagram of this size gets through both ways, whatever the path's MTU turns out to be.
const DATAGRAM_BYTES: usize = 1_150;

/// The stream, and what leaves beside it.
pub(super) struct MainStream {
    stream: Mutex<SendStream>,
    datagrams: Datagrams,
}

impl MainStream {
    pub(super) fn new(stream: SendStream, datagrams: Datagrams) -> Self {
        Self { stream: Mutex::new(stream), datagrams }
    }

    /// Takes from the front of `unsent` what the stream takes now.
    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        unsent: &mut Unsent,
    ) -> Poll<Result<usize, WriteError>> {
        // quinn keeps the pieces themselves: nothing is copied.
        let mut pieces = [const { Bytes::new() }; PIECES];
        let mut count = 0;
        for (piece, bytes) in pieces.iter_mut().zip(unsent.iter()) {
            *piece = bytes.clone();
            count += 1;
        }
        let mut stream = self.stream();
        let written = std::task::ready!(pin!(stream.write_chunks(&mut pieces[..count])).poll(cx))?;
        unsent.advance(written.bytes);
        Poll::Ready(Ok(written.bytes))
    }

    /// Ends it behind all that was written, and waits until that is acknowledged.
    pub(super) async fn finish(&self) -> io::Result<()> {
        let stopped = {
            let mut stream = self.stream();
            stream.finish()?;
            stream.stopped()
        };
        stopped.await?;
        Ok(())
    }

    fn stream(&self) -> MutexGuard<'_, SendStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire for MainStream {
    /// Nobody is woken for what does not go out now: the session's link asks again.
    fn try_write(&self, unsent: &mut Unsent) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        while !unsent.is_empty() {
            if !matches!(self.poll_write(&mut cx, unsent), Poll::Ready(Ok(_))) {
                return false;
            }
        }
        true
    }

    fn send_datagram(&self, body: Bytes) -> bool {
        body.len() <= DATAGRAM_BYTES && self.datagrams.send(&body)
    }
}
