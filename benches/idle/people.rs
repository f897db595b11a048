//! The clients: each joins, is live, and then only answers what keeps a connection alive.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use dormouse::protocol::framing::{put_varint, varint};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Kind;
use super::server::Server;

/// Handshakes under way at once.
const AT_ONCE: usize = 32;

const HELLO: &str = r#"{"type":"hello","name":"ada","history":0}"#;
const BYE: &str = r#"{"type":"bye"}"#;

pub struct People {
    kind: Kind,
    address: SocketAddr,
    per_room: usize,
    count: usize,
    tls: tokio_rustls::TlsConnector,
    quinn: quinn::Endpoint,
    webtransport: Arc<wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>>,
    all: JoinSet<()>,
    /// How many may stay.
    stay: watch::Sender<usize>,
}

impl People {
    pub fn new(kind: Kind, server: &Server, per_room: usize) -> Self {
        let tls = trusting(&server.certificate);
        let mut h3 = tls.clone();
        h3.alpn_protocols = vec![b"h3".to_vec()];
        let mut quinn = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let h3 = quinn::crypto::rustls::QuicClientConfig::try_from(h3).unwrap();
        quinn.set_default_client_config(quinn::ClientConfig::new(Arc::new(h3)));
        let webtransport = wtransport::ClientConfig::builder()
            .with_bind_default()
            .with_no_cert_validation()
            .build();
        Self {
            kind,
            address: server.address,
            per_room,
            count: 0,
            tls: Arc::new(tls).into(),
            quinn,
            webtransport: Arc::new(wtransport::Endpoint::client(webtransport).unwrap()),
            all: JoinSet::new(),
            stay: watch::Sender::new(usize::MAX),
        }
    }

    /// So many more come.
    pub async fn come(&mut self, count: usize) {
        let (live, mut lively) = mpsc::channel(AT_ONCE);
        let mut under_way = 0;
        for number in self.count..self.count + count {
            if under_way == AT_ONCE {
                lively.recv().await.expect("nobody is turned away");
                under_way -= 1;
            }
            self.one(number, live.clone());
            under_way += 1;
        }
        for _ in 0..under_way {
            lively.recv().await.expect("nobody is turned away");
        }
        self.count += count;
    }

    /// So many leave, the last ones first.
    pub async fn leave(&mut self, count: usize) {
        self.count -= count;
        self.stay.send_replace(self.count);
        for _ in 0..count {
            self.all.join_next().await;
        }
    }

    fn one(&mut self, number: usize, live: mpsc::Sender<()>) {
        let (address, room) = (self.address, number / self.per_room);
        let mut stay = self.stay.subscribe();
        let leave = async move { drop(stay.wait_for(|stay| *stay <= number).await) };
        match self.kind {
            Kind::WebSocket => self.all.spawn(async move {
                websocket(TcpStream::connect(address).await.unwrap(), room, live, leave).await;
            }),
            Kind::Tls => {
                let tls = self.tls.clone();
                self.all.spawn(async move {
                    let tcp = TcpStream::connect(address).await.unwrap();
                    let name = ServerName::try_from("localhost").unwrap();
                    websocket(tls.connect(name, tcp).await.unwrap(), room, live, leave).await;
                })
            }
            Kind::WebTransport => {
                let endpoint = self.webtransport.clone();
                self.all.spawn(async move {
                    let url = format!("https://{address}/rooms/r{room}/wt");
                    let connection = endpoint.connect(url).await.unwrap();
                    let (mut send, mut receive) =
                        connection.open_bi().await.unwrap().await.unwrap();
                    send.write_all(&frame(HELLO)).await.unwrap();
                    let mut read = BytesMut::new();
                    let mut buffer = [0; 1024];
                    let listen = async {
                        while let Ok(Some(count)) = receive.read(&mut buffer).await {
                            read.extend_from_slice(&buffer[..count]);
                            while let Some((length, taken)) = varint(&read)
                                && read.len() >= taken + length as usize
                            {
                                let frame = read.split_to(taken + length as usize);
                                say_if_live(&frame[taken + 1..], &live).await;
                            }
                        }
                    };
                    tokio::select! { () = listen => panic!("sent away"), () = leave => {} }
                    let _ = send.write_all(&frame(BYE)).await;
                    while let Ok(Some(_)) = receive.read(&mut [0; 64]).await {}
                    connection.close(0_u32.into(), b"");
                })
            }
            Kind::Quinn => {
                let connecting = self.quinn.connect(address, "localhost").unwrap();
                self.all.spawn(async move {
                    let connection = connecting.await.unwrap();
                    let (mut send, mut receive) = connection.open_bi().await.unwrap();
                    send.write_all(b"hello").await.unwrap();
                    receive.read(&mut [0; 64]).await.unwrap();
                    live.send(()).await.unwrap();
                    leave.await;
                    connection.close(0_u32.into(), b"");
                })
            }
        };
    }
}

async fn websocket(
    io: impl AsyncRead + AsyncWrite + Unpin,
    room: usize,
    live: mpsc::Sender<()>,
    leave: impl Future<Output = ()>,
) {
    let mut request = format!("ws://localhost/rooms/r{room}/ws").into_client_request().unwrap();
    let protocol = "dormouse.v1".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let config = WebSocketConfig::default().read_buffer_size(1024);
    let connected = client_async_with_config(request, io, Some(config)).await;
    let (mut socket, _) = connected.unwrap();
    socket.send(Message::text(HELLO)).await.unwrap();
    {
        let listen = async {
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Text(text) = message {
                    say_if_live(text.as_bytes(), &live).await;
                }
            }
        };
        tokio::select! { () = listen => panic!("sent away"), () = leave => {} }
    }
    let _ = socket.send(Message::text(BYE)).await;
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
}

async fn say_if_live(body: &[u8], live: &mpsc::Sender<()>) {
    if body.starts_with(br#"{"type":"live""#) {
        live.send(()).await.unwrap();
    }
}

/// A record of the main stream.
fn frame(json: &str) -> Vec<u8> {
    let mut record = BytesMut::new();
    put_varint(json.len() as u64 + 1, &mut record);
    record.extend_from_slice(&[1]);
    record.extend_from_slice(json.as_bytes());
    record.chunk().to_vec()
}

fn trusting(certificate: &CertificateDer<'static>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
