//! The clients: the same for both servers, on one thread. The first one publishes, all hear.

use std::any::Any;
use std::cell::Cell;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use dormouse::protocol::framing::{put_varint, varint};
use quinn::{Connection, Endpoint, EndpointConfig};
use rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
use socket2::SockRef;
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_local;
use tokio::time::{sleep_until, timeout};
use wtransport::endpoint::endpoint_side::Client;

use super::server::Server;
use super::{Carrier, Kind, MESSAGE_BYTES, PUBLISH_BYTES, Push};

/// Connections that share a socket: as many as its receive buffer surely has room for.
const SHARE: usize = 16;

const RECEIVE_BUFFER: usize = 1 << 20;

/// Handshakes under way at once.
const AT_ONCE: usize = 16;

/// Longer than a benchmark.
const IDLE: Duration = Duration::from_secs(120);

/// Whoever is not here by then never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// When nothing was heard for so long, what is missing is lost.
const LOST: Duration = Duration::from_millis(200);

/// What all clients have had and sent so far.
#[derive(Debug, Default, Clone, Copy)]
pub struct Look {
    pub messages: u64,
    pub deliveries: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Packets that came, and their bytes.
    pub packets: u64,
    pub packet_bytes: u64,
    /// Packets that went, acknowledgements mostly, and their bytes.
    pub answers: u64,
    pub answer_bytes: u64,
}

impl Look {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            messages: self.messages - earlier.messages,
            deliveries: self.deliveries - earlier.deliveries,
            bytes: self.bytes - earlier.bytes,
            packets: self.packets - earlier.packets,
            packet_bytes: self.packet_bytes - earlier.packet_bytes,
            answers: self.answers - earlier.answers,
            answer_bytes: self.answer_bytes - earlier.answer_bytes,
        }
    }
}

/// What was heard.
#[derive(Default)]
struct Heard {
    here: Cell<usize>,
    deliveries: Cell<u64>,
    bytes: Cell<u64>,
    /// At so many deliveries there is something to do.
    awaited: Cell<u64>,
    changed: Notify,
}

impl Heard {
    fn come(&self) {
        self.here.set(self.here.get() + 1);
        self.changed.notify_waiters();
    }

    fn deliveries(&self, count: usize, bytes: usize) {
        self.deliveries.set(self.deliveries.get() + count as u64);
        self.bytes.set(self.bytes.get() + bytes as u64);
        if self.deliveries.get() >= self.awaited.get() {
            self.changed.notify_waiters();
        }
    }
}

/// A stream, one way. wtransport lends quinn's, and keeps it.
enum Stream<Bare, Session> {
    Bare(Bare),
    Session(Session),
}

type Mouth = Stream<quinn::SendStream, wtransport::SendStream>;
type Ear = Stream<quinn::RecvStream, wtransport::RecvStream>;

impl Mouth {
    async fn say(&mut self, bytes: Bytes) {
        let stream = match self {
            Self::Bare(stream) => stream,
            Self::Session(stream) => stream.quic_stream_mut(),
        };
        stream.write_chunk(bytes).await.unwrap();
    }
}

impl Ear {
    async fn hear(&mut self) -> Option<Bytes> {
        let stream = match self {
            Self::Bare(stream) => stream,
            Self::Session(stream) => stream.quic_stream_mut(),
        };
        Some(stream.read_chunk(usize::MAX, true).await.ok()??.bytes)
    }
}

pub struct Clients {
    kind: Kind,
    carrier: Carrier,
    heard: Rc<Heard>,
    connections: Vec<Connection>,
    /// The first one publishes.
    mouths: Vec<Mutex<Mouth>>,
    messages: Cell<u64>,
    bare: Option<Endpoint>,
    door: Option<Rc<wtransport::Endpoint<Client>>>,
    /// What would end if it were dropped.
    kept: Vec<Box<dyn Any>>,
}

impl Clients {
    /// Connects so many, and waits until all are here.
    pub async fn come(server: &Server, kind: Kind, carrier: Carrier, count: usize) -> Self {
        let mut clients = Self {
            kind,
            carrier,
            heard: Rc::default(),
            connections: Vec::new(),
            mouths: Vec::new(),
            messages: Cell::new(0),
            bare: None,
            door: None,
            kept: Vec::new(),
        };
        for number in 0..count {
            if number.is_multiple_of(SHARE) {
                clients.open(server);
            }
            let (mut mouth, ear, hello) = match kind {
                Kind::Quinn => {
                    let (mouth, ear) = clients.bare(server).await;
                    (mouth, ear, Bytes::from_static(&[0; PUBLISH_BYTES]))
                }
                Kind::Gateway => {
                    let (mouth, ear) = clients.session(server).await;
                    let name = format!(r#""name":"b{number}","history":0,"presence":"count""#);
                    (mouth, ear, frame(&format!(r#"{{"type":"hello",{name}}}"#)))
                }
            };
            mouth.say(hello).await;
            clients.mouths.push(Mutex::new(mouth));
            clients.listen(ear, server.record_bytes);
            // Who publishes is there first.
            let under_way = if number == 0 { 0 } else { AT_ONCE };
            clients.until(|here| here + under_way > number).await;
        }
        clients.until(|here| here == count).await;
        clients
    }

    async fn until(&self, is_so: impl Fn(usize) -> bool) {
        let wait = async {
            while !is_so(self.heard.here.get()) {
                self.heard.changed.notified().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("all come");
    }

    /// Opens another socket.
    fn open(&mut self, server: &Server) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
        let mut transport = quinn::TransportConfig::default();
        transport.max_idle_timeout(Some(IDLE.try_into().unwrap()));
        match self.kind {
            Kind::Quinn => {
                let (config, runtime) = (EndpointConfig::default(), Arc::new(quinn::TokioRuntime));
                let mut endpoint = Endpoint::new(config, None, socket, runtime).unwrap();
                let tls = quinn::crypto::rustls::QuicClientConfig::try_from(trusting(server));
                let mut config = quinn::ClientConfig::new(Arc::new(tls.unwrap()));
                config.transport_config(Arc::new(transport));
                endpoint.set_default_client_config(config);
                self.bare = Some(endpoint);
            }
            Kind::Gateway => {
                let config = wtransport::ClientConfig::builder()
                    .with_bind_socket(socket)
                    .with_custom_tls_and_transport(trusting(server), transport)
                    .build();
                self.door = Some(Rc::new(wtransport::Endpoint::client(config).unwrap()));
            }
        }
    }

    async fn bare(&mut self, server: &Server) -> (Mouth, Ear) {
        let endpoint = self.bare.as_ref().expect("it is open");
        let connecting = endpoint.connect(server.address, "localhost").unwrap();
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        if self.carrier == Carrier::Datagram {
            let (connection, heard) = (connection.clone(), self.heard.clone());
            spawn_local(async move {
                while let Ok(datagram) = connection.read_datagram().await {
                    heard.deliveries(1, datagram.len());
                }
            });
        }
        self.connections.push(connection);
        (Stream::Bare(send), Stream::Bare(receive))
    }

    async fn session(&mut self, server: &Server) -> (Mouth, Ear) {
        let door = self.door.clone().expect("it is open");
        let url = format!("https://127.0.0.1:{}/rooms/bench/wt", server.address.port());
        let session = door.connect(url).await.unwrap();
        let (send, receive) = session.open_bi().await.unwrap().await.unwrap();
        self.connections.push(session.quic_connection().clone());
        if self.carrier == Carrier::Datagram {
            let (session, heard) = (session.clone(), self.heard.clone());
            spawn_local(async move {
                while let Ok(datagram) = session.receive_datagram().await {
                    heard.deliveries(1, datagram.payload().len());
                }
            });
        }
        self.kept.push(Box::new((door, session)));
        (Stream::Session(send), Stream::Session(receive))
    }

    fn listen(&self, mut ear: Ear, record_bytes: usize) {
        let (heard, kind, carrier) = (self.heard.clone(), self.kind, self.carrier);
        spawn_local(async move {
            if kind == Kind::Quinn {
                return hear_records(&heard, &mut ear, record_bytes).await;
            }
            let mut read = BytesMut::new();
            while let Some(chunk) = ear.hear().await {
                read.extend_from_slice(&chunk);
                hear_frames(&heard, carrier, &mut read);
            }
        });
    }

    /// Publishes for so long.
    pub async fn push(&self, push: Push, each: Duration) {
        let begun = Instant::now();
        let hearers = self.hearers();
        let before = self.heard.deliveries.get();
        let (mut said, mut lost) = (0, 0);
        while begun.elapsed() < each {
            match push {
                Push::Rate(rate) => {
                    self.publish().await;
                    said += 1;
                    sleep_until((begun + Duration::from_secs_f64(said as f64 / rate)).into()).await;
                }
                Push::UnderWay(count) => {
                    let heard = self.heard.deliveries.get() - before + lost;
                    if said < heard / hearers + count {
                        self.publish().await;
                        said += 1;
                        continue;
                    }
                    self.heard.awaited.set(before + (heard / hearers + 1) * hearers - lost);
                    let is_heard = timeout(LOST, self.heard.changed.notified()).await.is_ok();
                    if !is_heard && self.carrier == Carrier::Datagram {
                        lost = said * hearers - (self.heard.deliveries.get() - before);
                    }
                }
            }
        }
    }

    /// Waits until what is under way has come, or does not come.
    pub async fn settle(&self) {
        self.heard.awaited.set(0);
        while timeout(LOST, self.heard.changed.notified()).await.is_ok() {}
    }

    /// Everybody, but the publisher of something ephemeral.
    pub fn hearers(&self) -> u64 {
        let echoes = self.kind == Kind::Quinn || self.carrier == Carrier::Stream;
        self.connections.len() as u64 - u64::from(!echoes)
    }

    async fn publish(&self) {
        self.messages.set(self.messages.get() + 1);
        let data = "x".repeat(MESSAGE_BYTES);
        let message = match (self.kind, self.carrier) {
            (Kind::Quinn, _) => Bytes::from_static(&[7; PUBLISH_BYTES]),
            (_, Carrier::Stream) => frame(&format!(r#"{{"type":"publish","data":"{data}"}}"#)),
            (_, Carrier::Datagram) => {
                frame(&format!(r#"{{"type":"ephemeral","key":"k","data":"{data}"}}"#))
            }
        };
        self.mouths[0].lock().await.say(message).await;
    }

    pub fn look(&self) -> Look {
        let mut look = Look {
            messages: self.messages.get(),
            deliveries: self.heard.deliveries.get(),
            bytes: self.heard.bytes.get(),
            ..Look::default()
        };
        for connection in &self.connections {
            let stats = connection.stats();
            look.packets += stats.udp_rx.datagrams;
            look.packet_bytes += stats.udp_rx.bytes;
            look.answers += stats.udp_tx.datagrams;
            look.answer_bytes += stats.udp_tx.bytes;
        }
        look
    }
}

/// Hears the server of nothing but quinn: a byte that says that it is here, then records.
async fn hear_records(heard: &Heard, ear: &mut Ear, record_bytes: usize) {
    let (mut begun, mut is_here) = (0, false);
    while let Some(chunk) = ear.hear().await {
        begun += chunk.len();
        if !is_here {
            is_here = true;
            begun -= 1;
            heard.come();
        }
        let records = begun / record_bytes;
        begun %= record_bytes;
        if records > 0 {
            heard.deliveries(records, records * record_bytes);
        }
    }
}

/// Takes from what was read of a gateway's stream.
fn hear_frames(heard: &Heard, carrier: Carrier, read: &mut BytesMut) {
    let message: &[u8] = match carrier {
        Carrier::Stream => br#"{"type":"message""#,
        Carrier::Datagram => br#"{"type":"ephemeral""#,
    };
    let (mut records, mut bytes) = (0, 0);
    while let Some((length, taken)) = varint(read)
        && read.len() >= taken + length as usize
    {
        let end = taken + length as usize;
        let body = &read[taken + 1..end]; // behind its kind
        if body.starts_with(message) {
            (records, bytes) = (records + 1, bytes + end);
        } else if body.starts_with(br#"{"type":"live""#) {
            heard.come();
        }
        read.advance(end);
    }
    if records > 0 {
        heard.deliveries(records, bytes);
    }
}

/// A record of the main stream.
fn frame(json: &str) -> Bytes {
    let mut record = BytesMut::new();
    put_varint(json.len() as u64 + 1, &mut record);
    record.extend_from_slice(&[1]);
    record.extend_from_slice(json.as_bytes());
    record.freeze()
}

/// Prefers the cipher that browsers prefer; and HTTP/3.
fn trusting(server: &Server) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.certificate.clone()).unwrap();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != TLS13_AES_128_GCM_SHA256);
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls
}
