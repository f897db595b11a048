//! A WebTransport session as a link.
//!
//! The first bidirectional stream that the client opens carries everything, both ways; its end
//! is the session's. A browser learns our close code only from the frame in-band, so a goodbye
//! waits until the client has had it: the stream is finished, then the client is given time to
//! leave, and only then is the connection closed.

mod beside;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::debug;
use wtransport::endpoint::{IncomingSession, SessionRequest};
use wtransport::error::ConnectionError;
use wtransport::{Connection, Endpoint, RecvStream, SendStream, VarInt};

use self::beside::{Beside, What};
use super::door::{self, Admitted, Caller, Door, Refusal};
use super::websocket::{HANDSHAKE, advance};
use super::{Context, QuicSettings};
use crate::protocol::framing::{kind_of, varint};
use crate::protocol::{BodyKind, CloseReason, Framing, Profile, v1};
use crate::room::Side;
use crate::session::{self, End, Farewell, Link, Received};
use crate::telemetry::WEBTRANSPORT;

/// What is read from the stream at once.
const READ_BUFFER: usize = 4 * 1024;

/// The most pieces given to the stream in one write.
const PIECES: usize = 32;

/// Streams of each kind that a client may have open: CONNECT, ours and a few for requests;
/// control and the two of QPACK. quinn keeps memory for every permitted one.
const BIDI_STREAMS: u32 = 8;
const UNI_STREAMS: u32 = 3;

/// A datagram of this size gets through both ways, whatever the path's MTU turns out to be.
const DATAGRAM_BYTES: usize = 1_150;

/// Handshakes under way at once, as at the TCP door.
const VISITORS: usize = 1_024;

/// Serves the WebTransport clients of one socket; ends when it is dropped.
pub fn listen(
    cx: Arc<Context>,
    socket: UdpSocket,
    tls: rustls::ServerConfig,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let listener = socket.local_addr()?;
    let mut config = wtransport::ServerConfig::builder()
        .with_bind_socket(socket)
        .with_custom_tls_and_transport(tls, transport(&cx.quic))
        .build();
    config.quic_config_mut().incoming_buffer_size(64 * 1024).incoming_buffer_size_total(16 << 20);
    let endpoint = Endpoint::server(config)?;
    let visitors = Arc::new(Semaphore::new(VISITORS));
    Ok(async move {
        loop {
            let incoming = endpoint.accept().await;
            // A busy door asks for proof of the address first (RFC 9000, 8.1.2): whoever made
            // it up never hears the question.
            let is_busy = visitors.available_permits() < VISITORS / 2;
            if is_busy && !incoming.remote_address_validated() {
                incoming.retry();
                continue;
            }
            match visitors.clone().try_acquire_owned() {
                Ok(visitor) => drop(tokio::spawn(serve(cx.clone(), incoming, listener, visitor))),
                Err(_) => incoming.refuse(),
            }
        }
    })
}

fn transport(quic: &QuicSettings) -> quinn::TransportConfig {
    let window = |bytes: usize| quinn::VarInt::from_u64(bytes as u64).unwrap_or(quinn::VarInt::MAX);
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(quic.idle_timeout.try_into().ok())
        .keep_alive_interval(Some(quic.keep_alive))
        .max_concurrent_bidi_streams(BIDI_STREAMS.into())
        .max_concurrent_uni_streams(UNI_STREAMS.into())
        .stream_receive_window(window(quic.stream_window))
        .receive_window(window(quic.stream_window * 4))
        .send_window(quic.send_window as u64)
        .datagram_receive_buffer_size(Some(64 * 1024))
        .datagram_send_buffer_size(32 * 1024);
    transport
}

async fn serve(
    cx: Arc<Context>,
    incoming: IncomingSession,
    listener: SocketAddr,
    visitor: OwnedSemaphorePermit,
) {
    let peer = incoming.remote_address();
    let accepted = timeout(HANDSHAKE, async {
        let request = incoming.await?;
        Ok::<_, ConnectionError>(accept(&cx, request, listener, peer).await)
    });
    let Ok(Ok(Some((connection, room, admitted)))) = accepted.await else {
        debug!(%peer, "a WebTransport handshake came to nothing");
        return;
    };
    let Admitted { mut entered, counted: _counted } = admitted;
    // The stream that carries everything; a client that opens none never says hello.
    let first = tokio::select! {
        first = timeout(cx.session.hello_timeout, connection.accept_bi()) => {
            first.map_err(|_| CloseReason::NoHello)
        }
        _ = entered.drained() => Err(CloseReason::Drain),
    };
    let (send, recv) = match first {
        Ok(Ok(streams)) => streams,
        Ok(Err(_)) => return,
        Err(reason) => {
            cx.metrics.sessions_closed.of(reason.slug()).inc();
            connection.close(code(reason.code(Profile::V1)), reason.slug().as_bytes());
            return;
        }
    };
    drop(visitor); // it is a session now, and counted as one
    debug!(%peer, "a WebTransport session opened");
    let (message_bytes, patience) = (cx.session.message_bytes, cx.session.hello_timeout);
    let link = WebTransportLink::new(connection, send, recv, message_bytes, patience);
    session::run(link, Profile::V1, cx.place(room, entered)).await;
}

/// Answers a request; nothing if it was refused.
async fn accept(
    cx: &Context,
    request: SessionRequest,
    listener: SocketAddr,
    peer: SocketAddr,
) -> Option<(Connection, crate::protocol::RoomName, Admitted)> {
    let (origin, host) = (request.origin(), Some(request.authority()));
    let caller = Caller { origin, host, listener, peer: peer.ip() };
    let admitted = door::room(cx, Door::WebTransport, request.path())
        .and_then(|room| Ok((room, door::admit(cx, caller)?)));
    let offered = request.headers().get("wt-available-protocols").map(String::as_str);
    let admitted = admitted.and_then(|admitted| match offered.map(offers_v1) {
        Some(false) => Err(Refusal::NotFound), // it speaks nothing that we do
        other => Ok((admitted, other.is_some())),
    });
    let ((room, admitted), answers) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            match refusal.webtransport_status() {
                403 => request.forbidden().await,
                429 => request.too_many_requests().await,
                _ => request.not_found().await,
            }
            return None;
        }
    };
    let connection = match answers {
        true => request.accept_with_headers([("wt-protocol", format!("\"{}\"", v1::NAME))]).await,
        false => request.accept().await,
    };
    Some((connection.ok()?, room, admitted))
}

/// Whether a list of protocols (structured-field strings, RFC 8941) has ours in it.
fn offers_v1(list: &str) -> bool {
    let name =
        |item: &str| item.split(';').next().map(|name| name.trim().trim_matches('"') == v1::NAME);
    list.split(',').filter_map(name).any(|is_ours| is_ours)
}

fn code(code: u16) -> VarInt {
    VarInt::from_u32(code.into())
}

/// The server's end of a WebTransport session.
pub struct WebTransportLink {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    message_bytes: usize,
    read: BytesMut,
    beside: Beside,
    is_over: bool,
}

impl WebTransportLink {
    fn new(
        connection: Connection,
        send: SendStream,
        recv: RecvStream,
        message_bytes: usize,
        patience: Duration,
    ) -> Self {
        let beside = Beside::new(connection.clone(), message_bytes, patience);
        let read = BytesMut::new();
        Self { connection, send, recv, message_bytes, read, beside, is_over: false }
    }
}

/// The record at the front of what was read: `None` while it is not complete.
fn record(
    read: &mut BytesMut,
    message_bytes: usize,
) -> Result<Option<(BodyKind, Bytes)>, CloseReason> {
    let Some((length, taken)) = varint(read) else { return Ok(None) };
    let Some(body_bytes) = length.checked_sub(1) else {
        return Err(CloseReason::ProtocolError); // there is not even a kind
    };
    if body_bytes > message_bytes as u64 {
        return Err(CloseReason::MessageTooLarge);
    }
    let Some(&kind) = read.get(taken) else { return Ok(None) };
    let kind = kind_of(kind).ok_or(CloseReason::ProtocolError)?;
    let end = taken + 1 + body_bytes as usize;
    if read.len() < end {
        read.reserve(end - read.len());
        return Ok(None);
    }
    let mut record = read.split_to(end);
    record.advance(taken + 1);
    if read.is_empty() {
        *read = BytesMut::new(); // an idle link holds no buffer
    }
    Ok(Some((kind, record.freeze())))
}

fn end_of(error: &ConnectionError) -> End {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            End::Closed(u32::try_from(close.code().into_inner()).ok())
        }
        _ => End::Broken,
    }
}

impl WebTransportLink {
    fn poll_beside(&mut self, cx: &mut Cx<'_>) -> Poll<Received> {
        self.beside.poll(cx).map(|what| match what {
            What::Datagram(body) => Received::Datagram(body),
            What::Request(side, kind, body) => Received::Request(side, kind, body),
            What::Gone(error) => {
                self.is_over = true;
                Received::End(end_of(&error))
            }
        })
    }
}

impl Link for WebTransportLink {
    const TRANSPORT: &'static str = WEBTRANSPORT;

    fn framing(_profile: Profile) -> Framing {
        Framing::V1WebTransport
    }

    fn poll_recv(&mut self, cx: &mut Cx<'_>) -> Poll<Received> {
        loop {
            match record(&mut self.read, self.message_bytes) {
                Ok(Some((kind, body))) => return Poll::Ready(Received::Frame(kind, body)),
                Ok(None) => {}
                Err(reason) => return Poll::Ready(Received::End(End::Refused(reason))),
            }
            if let Poll::Ready(received) = self.poll_beside(cx) {
                return Poll::Ready(received);
            }
            let mut buffer = [0; READ_BUFFER];
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(self.recv.quic_stream_mut()).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Poll::Ready(Received::End(End::Broken)); // the stream is finished
                }
                Poll::Ready(Ok(())) => self.read.extend_from_slice(buffer.filled()),
                // The connection is ending: `beside` is about to say how. A stream that was only
                // reset ends the session as well.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NotConnected => {
                    return self.poll_beside(cx);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Received::End(End::Broken)),
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Cx<'_>,
        unsent: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        if unsent.is_empty() {
            return Poll::Pending;
        }
        // quinn keeps the pieces themselves: nothing is copied.
        let mut pieces = [const { Bytes::new() }; PIECES];
        let count = unsent.len().min(PIECES);
        for (piece, bytes) in pieces.iter_mut().zip(unsent.iter()) {
            *piece = bytes.clone();
        }
        let write = self.send.quic_stream_mut().write_chunks(&mut pieces[..count]);
        match pin!(write).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(written)) => {
                advance(unsent, written.bytes);
                Poll::Ready(Ok(written.bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
        }
    }

    fn take_control(&mut self) -> Option<Bytes> {
        None
    }

    fn send_datagram(&mut self, body: Bytes) -> bool {
        body.len() <= DATAGRAM_BYTES && self.connection.send_datagram(body).is_ok()
    }

    fn reply(&mut self, side: Side, frame: Bytes) {
        self.beside.reply(side, frame);
    }

    /// QUIC keeps itself alive, and ends after its idle timeout.
    fn ping() -> Option<Bytes> {
        None
    }

    async fn close(mut self, farewell: Farewell) {
        let Farewell { unsent, close, linger } = farewell;
        if self.is_over {
            return;
        }
        let say = async {
            for bytes in &unsent {
                self.send.write_all(bytes).await.ok()?;
            }
            self.send.finish().await.ok() // waits until all of it is acknowledged
        };
        if timeout(linger, say).await.is_ok() && close.is_some() {
            // Acknowledged is not read: the client leaves once it has read our goodbye.
            let _ = timeout(linger, self.beside.gone()).await;
        }
        let (number, text) = close.unwrap_or((0, ""));
        self.connection.close(code(number), text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_protocol_is_found_among_those_offered() {
        assert!(offers_v1("\"dormouse.v1\""));
        assert!(offers_v1("\"other\", \"dormouse.v1\""));
        assert!(offers_v1("\"dormouse.v1\";q=1, \"other\""));
        assert!(!offers_v1("\"dormouse.v2\""));
        assert!(!offers_v1(""));
    }
}
