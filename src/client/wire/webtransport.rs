//! Frames over WebTransport: records on one stream, and datagrams beside it.

use std::sync::Arc;

use bytes::BytesMut;
use rustls::RootCertStore;
use wtransport::config::IpBindConfig;
use wtransport::error::{ConnectingError, ConnectionError};
use wtransport::tls::Sha256Digest;
use wtransport::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt};

use super::{Heard, Lost, Raw, Transport, Wire, io};
use crate::client::Error;

/// How rustls begins what it says of a certificate; wtransport keeps nothing but the text.
const UNTRUSTED: &str = "invalid peer certificate";

/// The longest ephemeral that travels as a datagram.
const DATAGRAM: usize = 1_150;

pub(crate) struct Sender {
    stream: SendStream,
    connection: Connection,
}

pub(crate) struct Receiver {
    stream: RecvStream,
    connection: Connection,
    read: BytesMut,
}

/// Opens a session; with hashes, only a certificate with one of them is trusted.
pub(super) async fn open(
    url: &str,
    hashes: Vec<Sha256Digest>,
    roots: &Arc<RootCertStore>,
) -> Result<Wire, Error> {
    let failed = |why: String| Error::WebTransport { gateway: url.to_owned(), why };
    let endpoint = match endpoint(IpBindConfig::InAddrAnyDual, &hashes, roots) {
        Ok(endpoint) => endpoint,
        // A machine without IPv6.
        Err(_) => endpoint(IpBindConfig::InAddrAnyV4, &hashes, roots)
            .map_err(|error| failed(error.to_string()))?,
    };
    let connection = endpoint.connect(url).await.map_err(|error| match why(error) {
        why if why.contains(UNTRUSTED) => {
            let source = Arc::new(std::io::Error::other(why));
            Error::Untrusted { gateway: url.to_owned(), source }
        }
        why => failed(why),
    })?;
    let opening = connection.open_bi().await.map_err(|error| failed(error.to_string()))?;
    let (send, receive) = opening.await.map_err(|error| failed(error.to_string()))?;
    Ok(Wire {
        transport: Transport::WebTransport,
        sender: super::Sender::WebTransport(Sender {
            stream: send,
            connection: connection.clone(),
        }),
        receiver: super::Receiver::WebTransport(Receiver {
            stream: receive,
            connection,
            read: BytesMut::new(),
        }),
    })
}

fn endpoint(
    bind: IpBindConfig,
    hashes: &[Sha256Digest],
    roots: &Arc<RootCertStore>,
) -> std::io::Result<Endpoint<wtransport::endpoint::endpoint_side::Client>> {
    let config = ClientConfig::builder().with_bind_config(bind);
    let config = match hashes {
        [] => config.with_custom_tls(io::tls(roots, wtransport::proto::WEBTRANSPORT_ALPN)),
        hashes => config.with_server_certificate_hashes(hashes.iter().cloned()),
    };
    Endpoint::client(config.build())
}

fn why(error: ConnectingError) -> String {
    match error {
        // What the HTTP status was, wtransport does not tell.
        ConnectingError::SessionRejected => {
            "refused (no such room, full, or going away)".to_owned()
        }
        error => error.to_string(),
    }
}

impl Sender {
    pub async fn send(&mut self, frame: Raw) -> Result<(), Lost> {
        self.stream
            .write_all(&frame.record())
            .await
            .map_err(|error| Lost::Broken(error.to_string()))
    }

    pub async fn send_droppable(&mut self, frame: Raw) -> Result<(), Lost> {
        let fits = self.connection.max_datagram_size().unwrap_or(0).min(DATAGRAM);
        match &frame {
            Raw::Json(json) if json.len() <= fits => {
                let _ = self.connection.send_datagram(json); // it may be dropped, by us too
                Ok(())
            }
            _ => self.send(frame).await,
        }
    }

    pub fn end(self) {
        self.connection.close(VarInt::from_u32(1000), b"ended");
    }
}

impl Receiver {
    pub async fn next(&mut self) -> Result<Heard, Lost> {
        loop {
            if let Some(frame) = Raw::next_record(&mut self.read)? {
                return Ok(Heard::Frame(frame));
            }
            let mut piece = [0; 16 << 10];
            tokio::select! {
                read = self.stream.read(&mut piece) => match read {
                    Ok(Some(length)) => self.read.extend_from_slice(&piece[..length]),
                    Ok(None) => return Err(Lost::Broken("it ended".to_owned())),
                    Err(error) => return Err(self.broken(error.to_string())),
                },
                datagram = self.connection.receive_datagram() => match datagram {
                    Ok(datagram) => return Ok(Heard::Frame(Raw::Json(datagram.payload()))),
                    Err(error) => return Err(self.broken(error.to_string())),
                },
            }
        }
    }

    fn broken(&self, seen: String) -> Lost {
        let reason = self.connection.quic_connection().close_reason().map(ConnectionError::from);
        Lost::Broken(reason.map_or(seen, |reason| reason.to_string()))
    }
}
