//! The plainest HTTP/3 client there is: for requests that no WebTransport client makes, and for
//! what no library would send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use dormouse::protocol::framing::{put_varint, varint};
use quinn::{Connection, RecvStream, SendStream};
use wtransport::ClientConfig;
use wtransport::tls::Sha256Digest;
use wtransport_proto::frame::Frame;
use wtransport_proto::headers::Headers;

use super::client::LITTLE;
use super::http::Answer;
use super::{DEADLINE, House, Takes};

const DATA: u64 = 0;
const HEADERS: u64 = 1;
/// A control stream, and a frame of settings without any.
const SETTINGS: &[u8] = &[0, 4, 0];

pub struct Http3 {
    authority: String,
    connection: Connection,
    _control: SendStream,
    _endpoint: quinn::Endpoint,
}

/// A WebTransport session, as bare streams.
pub struct Session {
    pub id: u64,
    pub fields: String,
    _send: SendStream,
    _recv: RecvStream,
}

impl House {
    /// A QUIC connection on which nothing was asked yet.
    pub async fn http3(&self) -> Http3 {
        Http3::open(self.address(), &self.hashes(), Takes::Plenty).await
    }

    /// One that takes next to nothing while nobody reads from it.
    pub async fn http3_slow(&self) -> Http3 {
        Http3::open(self.address(), &self.hashes(), Takes::Little).await
    }
}

impl Http3 {
    pub async fn open(address: SocketAddr, hashes: &[[u8; 32]], takes: Takes) -> Self {
        Self::open_from(Ipv4Addr::LOCALHOST.into(), address, hashes, takes).await
    }

    /// A connection whose packets come from that address of this machine.
    pub async fn open_from(
        from: IpAddr,
        address: SocketAddr,
        hashes: &[[u8; 32]],
        takes: Takes,
    ) -> Self {
        let hashes = hashes.iter().copied().map(Sha256Digest::new);
        let config =
            ClientConfig::builder().with_bind_default().with_server_certificate_hashes(hashes);
        let mut config = config.build().quic_config().clone();
        if takes == Takes::Little {
            let mut transport = quinn::TransportConfig::default();
            transport.stream_receive_window(LITTLE.into());
            config.transport_config(Arc::new(transport));
        }
        let mut endpoint = quinn::Endpoint::client((from, 0).into()).unwrap();
        endpoint.set_default_client_config(config);
        // An unspecified address is one to listen on only.
        let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
        let mut control = connection.open_uni().await.unwrap();
        control.write_all(SETTINGS).await.unwrap();
        let authority = address.to_string();
        Self { authority, connection, _control: control, _endpoint: endpoint }
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(&[(":method", "GET"), (":path", path)]).await
    }

    /// A request with these fields; `:scheme` and `:authority` are the gateway's own unless given.
    pub async fn ask(&self, fields: &[(&str, &str)]) -> Answer {
        let (mut send, mut recv) = self.begin(&self.head(fields)).await;
        send.finish().unwrap();
        answer(&mut recv).await
    }

    /// Bytes on a stream of their own, which stays open.
    pub async fn begin(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let open = tokio::time::timeout(DEADLINE, self.connection.open_bi()).await;
        let (mut send, recv) = open.expect("QUIC permits another stream in time").unwrap();
        send.write_all(bytes).await.unwrap();
        (send, recv)
    }

    /// Asks for a WebTransport session; a refusal comes back as it was answered.
    pub async fn session(&self, path: &str, fields: &[(&str, &str)]) -> Result<Session, Answer> {
        let connect = [(":method", "CONNECT"), (":protocol", "webtransport"), (":path", path)];
        let head = self.head(&[&connect[..], fields].concat());
        let (send, mut recv) = self.begin(&head).await;
        let (kind, payload) = frame(&mut recv).await.expect("an answer");
        assert_eq!(kind, HEADERS);
        let (status, fields) = read(payload);
        match status {
            200 => {
                let id = quinn::VarInt::from(send.id()).into_inner();
                Ok(Session { id, fields, _send: send, _recv: recv })
            }
            status => Err(Answer { status, head: fields, body: body(&mut recv).await }),
        }
    }

    /// The frame of a request's head.
    pub fn head(&self, fields: &[(&str, &str)]) -> Vec<u8> {
        let usual = [(":scheme", "https"), (":authority", &*self.authority)];
        let fields = usual.iter().chain(fields).copied().collect::<Headers>();
        let frame = fields.generate_frame();
        let mut bytes = Vec::with_capacity(frame.write_size());
        frame.write(&mut bytes).unwrap();
        bytes
    }
}

/// What stands in front of everything on a stream of a session.
pub fn prefix(session: u64) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    put_varint(0x41, &mut bytes);
    put_varint(session, &mut bytes);
    bytes.to_vec()
}

/// Reads an answer to its end.
pub async fn answer(recv: &mut RecvStream) -> Answer {
    let (kind, payload) = frame(recv).await.expect("an answer");
    assert_eq!(kind, HEADERS);
    let (status, head) = read(payload);
    Answer { status, head, body: body(recv).await }
}

async fn body(recv: &mut RecvStream) -> String {
    let mut body = Vec::new();
    while let Some((kind, payload)) = frame(recv).await {
        assert_eq!(kind, DATA);
        body.extend(payload);
    }
    String::from_utf8(body).unwrap()
}

/// The status, and the other fields as lines.
fn read(payload: Vec<u8>) -> (u16, String) {
    let fields = Headers::with_frame(&Frame::new_headers(payload.into())).unwrap();
    let status = fields.get(":status").expect("a status").parse().unwrap();
    let lines = fields.as_ref().iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    (status, lines.collect())
}

/// The next frame; `None` at the end of the stream.
async fn frame(recv: &mut RecvStream) -> Option<(u64, Vec<u8>)> {
    let reading = async {
        let (kind, length) = (number(recv).await?, number(recv).await?);
        let mut payload = vec![0; length as usize];
        recv.read_exact(&mut payload).await.ok()?;
        Some((kind, payload))
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("a frame in time")
}

async fn number(recv: &mut RecvStream) -> Option<u64> {
    let mut bytes = [0; 8];
    recv.read_exact(&mut bytes[..1]).await.ok()?;
    let length = 1 << (bytes[0] >> 6);
    recv.read_exact(&mut bytes[1..length]).await.ok()?;
    varint(&bytes[..length]).map(|(number, _)| number)
}
