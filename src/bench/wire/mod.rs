//! Connections as a client makes them, over each transport.
//!
//! All of them become a [`Line`]: bytes both ways, and datagrams where there are any. The
//! handshakes are made by hand or by the libraries' clients; nothing of the server's own code
//! takes part but the framing of records.

mod frames;
mod quic;
mod tcp;
mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::ReadBuf;

use crate::protocol::Framing;

pub use frames::{Frame, Kind, Opcode, first, put};

/// What carries a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket on plain TCP.
    Ws,
    /// WebSocket on TLS.
    Wss,
    /// WebTransport: the main stream.
    Wt,
    /// WebTransport: ephemerals in datagrams.
    Datagram,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ws, Self::Wss, Self::Wt, Self::Datagram];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Wt => "wt",
            Self::Datagram => "datagram",
        }
    }

    /// Whether it is QUIC.
    pub fn is_quic(self) -> bool {
        matches!(self, Self::Wt | Self::Datagram)
    }

    /// How its frames are wrapped.
    pub fn framing(self) -> Framing {
        if self.is_quic() { Framing::V1WebTransport } else { Framing::V1WebSocket }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An open connection.
pub trait Line {
    /// Reads what has come; nothing read means the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Writes, and says how much was taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Sees to it that what was written leaves.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The next datagram.
    fn poll_datagram(&mut self, _cx: &mut Context<'_>) -> Poll<Bytes> {
        Poll::Pending
    }
}

/// A connection after its handshakes.
pub struct Opened {
    /// The connection.
    pub line: Box<dyn Line>,
    /// What was read behind the handshake already.
    pub read: Vec<u8>,
    /// Whether TLS went on from an earlier connection's secrets.
    pub resumed: bool,
}

/// What is to be opened.
#[derive(Debug, Clone)]
pub struct Door {
    /// The path of the request.
    pub path: String,
    /// The subprotocol to ask for.
    pub subprotocol: Option<&'static str>,
    /// So small a receive buffer that who does not read is noticed; the system's when `None`.
    pub receive_buffer: Option<usize>,
}

/// Opens connections to one server.
pub struct Opener {
    address: SocketAddr,
    transport: Transport,
    tls: tls::Client,
    endpoints: quic::Endpoints,
}

impl Opener {
    /// For a server at that address; `resumes` says whether TLS sessions are remembered.
    pub fn new(address: SocketAddr, transport: Transport, resumes: bool) -> Self {
        let tls = tls::Client::new(resumes);
        Self { address, transport, tls, endpoints: quic::Endpoints::default() }
    }

    /// What its connections go over.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Opens one, up to where the client may speak.
    pub async fn open(&self, door: &Door) -> io::Result<Opened> {
        match self.transport {
            Transport::Ws => tcp::plain(self.address, door).await,
            Transport::Wss => tcp::secure(self.address, door, &self.tls).await,
            Transport::Wt | Transport::Datagram => {
                self.endpoints.open(self.address, door, &self.tls).await
            }
        }
    }
}
