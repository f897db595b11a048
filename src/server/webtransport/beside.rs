//! What comes beside the main stream: datagrams, streams with one request each, and the end.
//!
//! All of it is polled from the session's one task. The end is why this goes on for as long as
//! the session lives: a client's close code is found here and nowhere else.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::time::timeout;

use super::h3::{self, Beginning, Session};
use super::record;
use crate::protocol::BodyKind;
use crate::room::Side;

/// The code of an answer that nobody took.
const GIVEN_UP: VarInt = VarInt::from_u32(0);

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Streams = (SendStream, RecvStream);
type Request = (BodyKind, Bytes, SendStream);

/// What came.
pub(super) enum What {
    Datagram(Bytes),
    Request(Side, BodyKind, Bytes),
    Gone(Gone),
}

/// How the client's side ended.
pub(super) enum Gone {
    /// It closed the session.
    Closed(u32),
    /// The connection is no more.
    Ended(ConnectionError),
}

/// Everything of a session but its main stream.
pub(super) struct Beside {
    session: Session,
    message_bytes: usize,
    /// How long a request may take to arrive, and its answer to be taken.
    patience: Duration,
    datagram: Later<Result<Bytes, ConnectionError>>,
    streams: Later<Result<Streams, ConnectionError>>,
    one_way: Later<Result<RecvStream, ConnectionError>>,
    /// One-way streams: HTTP/3's own. QUIC's limit of streams is theirs.
    forgotten: Vec<RecvStream>,
    /// Streams whose request has not arrived; likewise.
    arriving: Vec<Later<Option<Request>>>,
    /// Streams whose request is being answered.
    unanswered: BTreeMap<Side, SendStream>,
    next_side: u64,
}

impl Beside {
    pub(super) fn new(session: Session, message_bytes: usize, patience: Duration) -> Self {
        let connection = session.connection().clone();
        Self {
            datagram: datagram(connection.clone()),
            streams: streams(connection.clone()),
            one_way: one_way(connection),
            session,
            message_bytes,
            patience,
            forgotten: Vec::new(),
            arriving: Vec::new(),
            unanswered: BTreeMap::new(),
            next_side: 0,
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The next thing that comes. Not to be asked again after [`What::Gone`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<What> {
        let next = self.poll_all(cx);
        next.map(|next| next.unwrap_or_else(|error| What::Gone(Gone::Ended(error))))
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<What, ConnectionError>> {
        let connection = self.session.connection().clone();
        while let Poll::Ready(datagram) = self.datagram.as_mut().poll(cx) {
            self.datagram = self::datagram(connection.clone());
            if let Some(body) = self.session.datagram(datagram?) {
                return Poll::Ready(Ok(What::Datagram(body)));
            }
        }
        while let Poll::Ready(streams) = self.streams.as_mut().poll(cx) {
            let (send, mut recv) = streams?;
            self.streams = self::streams(connection.clone());
            let (session, message_bytes, patience) =
                (self.session.id(), self.message_bytes, self.patience);
            let (connection, visitor) = (connection.clone(), self.session.visitor().clone());
            self.arriving.push(Box::pin(async move {
                match h3::begins(&mut recv, patience).await {
                    Beginning::Stream(id) if id == session => {
                        request(send, recv, message_bytes, patience).await
                    }
                    other => {
                        visitor.answer(&connection, other, send, recv).await;
                        None
                    }
                }
            }));
        }
        while let Poll::Ready(stream) = self.one_way.as_mut().poll(cx) {
            self.forgotten.push(stream?);
            self.one_way = self::one_way(connection.clone());
        }
        self.forgotten.retain_mut(|stream| h3::poll_forget(stream, cx).is_pending());
        if let Poll::Ready(what) = self.poll_requests(cx) {
            return Poll::Ready(Ok(what));
        }
        // Last: whoever says something and then goodbye is heard first. A connection that ended
        // says how in the streams' own answers, above.
        match self.session.poll_goodbye(cx) {
            Poll::Ready(code) => {
                let gone = match connection.close_reason() {
                    Some(error) => Gone::Ended(error),
                    None => Gone::Closed(code),
                };
                Poll::Ready(Ok(What::Gone(gone)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<What> {
        let mut at = 0;
        while at < self.arriving.len() {
            match self.arriving[at].as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(arrived) => {
                    drop(self.arriving.swap_remove(at));
                    // Whoever sends no whole request gets no answer: the streams are dropped.
                    if let Some((kind, body, send)) = arrived {
                        self.next_side += 1;
                        let side = Side(self.next_side);
                        self.unanswered.insert(side, send);
                        return Poll::Ready(What::Request(side, kind, body));
                    }
                }
            }
        }
        Poll::Pending
    }

    /// Waits for the end, dropping what comes before.
    pub(super) async fn gone(&mut self) {
        std::future::poll_fn(|cx| {
            loop {
                match self.poll(cx) {
                    Poll::Ready(What::Gone(_)) => return Poll::Ready(()),
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    /// Answers a request on its stream; nobody waits for the client to take it.
    pub(super) fn reply(&mut self, side: Side, frame: Bytes) {
        let Some(mut send) = self.unanswered.remove(&side) else { return };
        let patience = self.patience;
        tokio::spawn(async move {
            let answer = async {
                send.write_all(&frame).await.ok()?;
                send.finish().ok()?;
                send.stopped().await.ok()
            };
            if timeout(patience, answer).await.is_err() {
                // Merely dropped, the stream would be finished: half an answer that looks like a
                // whole one, and bytes that count against `send_window` until they are taken.
                let _ = send.reset(GIVEN_UP);
            }
        });
    }
}

fn datagram(connection: Connection) -> Later<Result<Bytes, ConnectionError>> {
    Box::pin(async move { connection.read_datagram().await })
}

fn streams(connection: Connection) -> Later<Result<Streams, ConnectionError>> {
    Box::pin(async move { connection.accept_bi().await })
}

fn one_way(connection: Connection) -> Later<Result<RecvStream, ConnectionError>> {
    Box::pin(async move { connection.accept_uni().await })
}

/// The request on a stream of the session's; nothing when it does not arrive in time.
async fn request(
    send: SendStream,
    mut recv: RecvStream,
    message_bytes: usize,
    patience: Duration,
) -> Option<Request> {
    let mut read = BytesMut::new();
    let arrive = async {
        let mut buffer = [0; 512]; // a history request has some 60 bytes
        loop {
            if let Some((kind, body)) = record(&mut read, message_bytes).ok()? {
                return Some((kind, body));
            }
            let count = recv.read(&mut buffer).await.ok()??;
            read.extend_from_slice(&buffer[..count]);
        }
    };
    let (kind, body) = timeout(patience, arrive).await.ok()??;
    Some((kind, body, send))
}
