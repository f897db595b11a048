//! A WebTransport session as a link.
//!
//! The first bidirectional stream that the client opens carries everything, both ways; its end
//! is the session's. A browser learns our close code only from the frame in-band, so a goodbye
//! waits until the client has had it: the stream is finished, then the client is given time to
//! leave, and only then is the connection closed.

mod beside;
mod h3;
mod head;
mod main_stream;
mod visit;

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ConnectionError, Endpoint, EndpointConfig, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wtransport_proto::error::ErrorCode;

use self::beside::{Beside, Gone, What};
use self::h3::Session;
use self::main_stream::MainStream;
use super::{Context, QuicSettings};
use crate::outbox::{Unsent, Wire};
use crate::protocol::framing::{kind_of, varint};
use crate::protocol::{BodyKind, CloseReason, Framing, Profile};
use crate::room::Side;
use crate::session::{End, Farewell, Link, Received, Transport};

/// What is read from the stream at once.
const READ_BUFFER: usize = 4 * 1024;

/// Streams of each kind that a client may have open: CONNECT, ours and a few for requests, plain
/// ones of HTTP/3 too; control and the two of QPACK. quinn keeps memory for every permitted one.
const BIDI_STREAMS: u32 = 8;
const UNI_STREAMS: u32 = 3;

/// Connections without a session at once, as at the TCP door.
const VISITORS: usize = 1_024;

/// A UDP socket on which WebTransport clients come in.
pub struct Listener {
    cx: Arc<Context>,
    address: SocketAddr,
    socket: UdpSocket,
    config: quinn::ServerConfig,
    /// It outlives a failure of the task that accepts from it: connections need it, too.
    endpoint: Mutex<Option<Endpoint>>,
    /// The places of connections without a session: who is still inside when that task fails has its
    /// place with the next one, too.
    visitors: Arc<Semaphore>,
}

impl Listener {
    /// Listens on a socket.
    pub fn new(
        cx: Arc<Context>,
        socket: UdpSocket,
        tls: rustls::ServerConfig,
    ) -> io::Result<Arc<Self>> {
        let address = socket.local_addr()?;
        let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(Arc::new(transport(&cx.quic)));
        config.incoming_buffer_size(64 * 1024).incoming_buffer_size_total(16 << 20);
        let (endpoint, visitors) = (Mutex::default(), Arc::new(Semaphore::new(VISITORS)));
        let listener = Self { cx, address, socket, config, endpoint, visitors };
        listener.endpoint()?;
        Ok(Arc::new(listener))
    }

    /// The endpoint, a new one if the one before has ended.
    fn endpoint(&self) -> io::Result<Endpoint> {
        let mut slot = self.slot();
        if let Some(endpoint) = &*slot {
            return Ok(endpoint.clone());
        }
        let (config, runtime) = (Some(self.config.clone()), Arc::new(quinn::TokioRuntime));
        let socket = self.socket.try_clone()?;
        let endpoint = Endpoint::new(EndpointConfig::default(), config, socket, runtime)?;
        Ok(slot.insert(endpoint).clone())
    }

    fn slot(&self) -> MutexGuard<'_, Option<Endpoint>> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves clients until it is dropped. It ends by itself only when the endpoint does, which the
    /// socket's failure causes, and with it every connection.
    pub async fn serve(self: Arc<Self>) -> Result<(), String> {
        let endpoint = self.endpoint().map_err(|error| error.to_string())?;
        let visitors = &self.visitors;
        while let Some(incoming) = endpoint.accept().await {
            // A busy door asks for proof of the address first (RFC 9000, 8.1.2): whoever made
            // it up never hears the question.
            let is_busy = visitors.available_permits() < VISITORS / 2;
            if is_busy && !incoming.remote_address_validated() {
                let _ = incoming.retry(); // an address without proof may always be asked
                continue;
            }
            match visitors.clone().try_acquire_owned() {
                Ok(visitor) => {
                    let (cx, address) = (self.cx.clone(), self.address);
                    drop(tokio::spawn(visit::serve(cx, incoming, address, visitor)));
                }
                Err(_) => incoming.refuse(),
            }
        }
        *self.slot() = None;
        Err("the QUIC endpoint has ended".to_owned())
    }
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

fn code(code: u16) -> VarInt {
    VarInt::from_u32(code.into())
}

/// The server's end of a WebTransport session.
pub struct WebTransportLink {
    send: Arc<MainStream>,
    recv: RecvStream,
    message_bytes: usize,
    read: BytesMut,
    beside: Beside,
    is_over: bool,
}

impl WebTransportLink {
    fn new(
        session: Session,
        send: SendStream,
        recv: RecvStream,
        message_bytes: usize,
        patience: Duration,
    ) -> Self {
        let send = Arc::new(MainStream::new(send, session.datagrams()));
        let beside = Beside::new(session, message_bytes, patience);
        let read = BytesMut::new();
        Self { send, recv, message_bytes, read, beside, is_over: false }
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

fn end_of(gone: &Gone) -> End {
    match gone {
        Gone::Closed(code) => End::Closed(Some(*code)),
        Gone::Ended(ConnectionError::ApplicationClosed(close)) => {
            End::Closed(u32::try_from(close.error_code.into_inner()).ok())
        }
        Gone::Ended(_) => End::Broken,
    }
}

impl WebTransportLink {
    fn poll_beside(&mut self, cx: &mut Cx<'_>) -> Poll<Received> {
        self.beside.poll(cx).map(|what| match what {
            What::Datagram(body) => Received::Datagram(body),
            What::Request(side, kind, body) => Received::Request(side, kind, body),
            What::Gone(gone) => {
                self.is_over = true;
                Received::End(end_of(&gone))
            }
        })
    }
}

impl Link for WebTransportLink {
    const TRANSPORT: Transport = Transport::WebTransport;

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
            match Pin::new(&mut self.recv).poll_read(cx, &mut buffer) {
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

    fn poll_write(&mut self, cx: &mut Cx<'_>, unsent: &mut Unsent) -> Poll<io::Result<usize>> {
        if unsent.is_empty() {
            return Poll::Pending;
        }
        self.send.poll_write(cx, unsent).map_err(io::Error::other)
    }

    fn take_control(&mut self) -> Option<Bytes> {
        None
    }

    fn send_datagram(&mut self, body: Bytes) -> bool {
        self.send.send_datagram(body)
    }

    fn wire(&self) -> Option<Arc<dyn Wire>> {
        Some(self.send.clone())
    }

    fn reply(&mut self, side: Side, frame: Bytes) {
        self.beside.reply(side, frame);
    }

    /// QUIC keeps itself alive, and ends after its idle timeout.
    fn ping() -> Option<Bytes> {
        None
    }

    async fn close(mut self, farewell: Farewell) {
        let Farewell { mut unsent, close, linger } = farewell;
        let connection = self.beside.session().connection().clone();
        if self.is_over {
            connection.close(h3::number(ErrorCode::NoError), b"");
            return;
        }
        let say = async {
            while !unsent.is_empty() {
                poll_fn(|cx| self.send.poll_write(cx, &mut unsent)).await.ok()?;
            }
            self.send.finish().await.ok()
        };
        if timeout(linger, say).await.is_ok() && close.is_some() {
            // Acknowledged is not read: the client leaves once it has read our goodbye.
            let _ = timeout(linger, self.beside.gone()).await;
        }
        let (number, text) = close.unwrap_or((0, ""));
        connection.close(code(number), text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervision::Task;

    #[test]
    fn quic_is_held_to_what_is_set() {
        let quic = QuicSettings {
            handshake: Duration::from_secs(1),
            keep_alive: Duration::from_millis(1_001),
            idle_timeout: Duration::from_millis(2_002),
            stream_window: 3_003,
            send_window: 4_004,
        };
        let shown = format!("{:?}", transport(&quic)).replace("Some(", "").replace(')', "");
        for part in [
            "max_concurrent_bidi_streams: 8,",
            "max_concurrent_uni_streams: 3,",
            "max_idle_timeout: 2002,",
            "keep_alive_interval: 1.001s,",
            " stream_receive_window: 3003,",
            " receive_window: 12012,",
            " send_window: 4004,",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    /// TCP went on, `/readyz` said nothing, and nobody came in over QUIC any more.
    #[tokio::test]
    async fn an_endpoint_that_ends_is_noticed_and_another_one_takes_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = crate::config::Config {
            listen: vec![([127, 0, 0, 1], 0).into()],
            operator_listen: None,
            data_dir: dir.path().join("data"),
            certs_dir: dir.path().join("certs"),
            ..Default::default()
        };
        config.store.reserve = None;
        let gateway = crate::gateway::Gateway::start(config).await.unwrap();
        let cx = gateway.context().clone();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(cx.clone(), socket, cx.certificates.quic_tls()).unwrap();
        let serve = {
            let listener = listener.clone();
            move || listener.clone().serve()
        };
        tokio::spawn(cx.supervisor.clone().keep(Task::QuicEndpoint, serve));

        listener.endpoint().unwrap().close(0u32.into(), b"as an error of its socket would");
        // Before it ends, all the places it has are taken.
        let inside = listener.visitors.clone().try_acquire_many_owned(VISITORS as u32).unwrap();
        let failures = cx.metrics.task_failures.of(Task::QuicEndpoint.label());
        let noticed = async {
            while failures.get() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), noticed).await.expect("it is noticed");

        let hashes = cx.certificates.hashes().into_iter().map(wtransport::tls::Sha256Digest::new);
        let client = wtransport::ClientConfig::builder()
            .with_bind_default()
            .with_server_certificate_hashes(hashes)
            .build();
        let client = wtransport::Endpoint::client(client).unwrap();
        let enter = || {
            let entering = client.connect(format!("https://{address}/rooms/meadow/wt"));
            timeout(Duration::from_secs(60), entering)
        };
        assert!(enter().await.expect("in time").is_err(), "who was inside still has its place");
        drop(inside);
        enter().await.expect("in time").unwrap();
        assert_eq!(cx.supervisor.trouble(), None);
    }
}
