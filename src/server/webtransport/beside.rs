//! What comes beside the main stream: datagrams, streams with one request each, and the end.
//!
//! The end is why this is polled for as long as the session lives: a client's close code is
//! found in the errors of these calls and nowhere else.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;
use wtransport::error::ConnectionError;
use wtransport::{Connection, RecvStream, SendStream, VarInt};

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
    Gone(ConnectionError),
}

/// Everything of a connection but its main stream.
pub(super) struct Beside {
    connection: Connection,
    message_bytes: usize,
    /// How long a request may take to arrive, and its answer to be taken.
    patience: Duration,
    datagram: Later<Result<Bytes, ConnectionError>>,
    streams: Later<Result<Streams, ConnectionError>>,
    /// Streams whose request has not arrived; QUIC's limit of streams is theirs.
    arriving: Vec<Later<Option<Request>>>,
    /// Streams whose request is being answered.
    unanswered: BTreeMap<Side, SendStream>,
    next_side: u64,
}

impl Beside {
    pub(super) fn new(connection: Connection, message_bytes: usize, patience: Duration) -> Self {
        Self {
            datagram: datagram(connection.clone()),
            streams: streams(connection.clone()),
            connection,
            message_bytes,
            patience,
            arriving: Vec::new(),
            unanswered: BTreeMap::new(),
            next_side: 0,
        }
    }

    /// The next thing that comes. Not to be asked again after [`What::Gone`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<What> {
        if let Poll::Ready(datagram) = self.datagram.as_mut().poll(cx) {
            return Poll::Ready(match datagram {
                Ok(body) => {
                    self.datagram = self::datagram(self.connection.clone());
                    What::Datagram(body)
                }
                Err(error) => What::Gone(error),
            });
        }
        while let Poll::Ready(streams) = self.streams.as_mut().poll(cx) {
            match streams {
                Ok((send, recv)) => {
                    self.arriving.push(request(send, recv, self.message_bytes, self.patience));
                    self.streams = self::streams(self.connection.clone());
                }
                Err(error) => return Poll::Ready(What::Gone(error)),
            }
        }
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
                send.finish().await.ok()
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
    Box::pin(async move { Ok(connection.receive_datagram().await?.payload()) })
}

fn streams(connection: Connection) -> Later<Result<Streams, ConnectionError>> {
    Box::pin(async move { connection.accept_bi().await })
}

fn request(
    send: SendStream,
    mut recv: RecvStream,
    message_bytes: usize,
    patience: Duration,
) -> Later<Option<Request>> {
    Box::pin(async move {
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
    })
}
