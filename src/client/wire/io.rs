//! A byte stream to a gateway: TCP, with TLS where the address asks for it.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::Error;
use crate::client::address::Address;
use crate::client::options::Trust;

/// Either kind of stream.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Reaches the gateway of an address.
pub(super) async fn reach(
    address: &Address,
    roots: &Arc<RootCertStore>,
) -> Result<Box<dyn Io>, Error> {
    let unreachable = |error: io::Error| Error::Unreachable {
        gateway: address.authority(),
        source: Arc::new(error),
    };
    let tcp = TcpStream::connect((address.bare_host(), address.port)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?; // a frame is a whole thought: it should not wait for the next
    if !address.is_secure {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(address.bare_host().to_owned())
        .map_err(|error| unreachable(io::Error::other(error)))?;
    let tls = TlsConnector::from(Arc::new(tls(roots, b"http/1.1")));
    let stream = tls.connect(name, tcp).await.map_err(|error| {
        let (gateway, about) = (address.authority(), about_tls(&error).cloned());
        let source = Arc::new(error);
        match about {
            Some(rustls::Error::InvalidCertificate(_)) => Error::Untrusted { gateway, source },
            Some(rustls::Error::InvalidMessage(_)) => Error::Plain { gateway, source },
            _ => Error::Unreachable { gateway, source },
        }
    })?;
    Ok(Box::new(stream))
}

/// The roots that are trusted. The system's are many files: read once, off the runtime's threads.
pub(super) async fn roots(trust: Trust) -> Arc<RootCertStore> {
    let read = move || match trust {
        Trust::System => wtransport::tls::build_native_cert_store(),
        Trust::Only(certificates) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates);
            roots
        }
    };
    Arc::new(tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| RootCertStore::empty()))
}

pub(super) fn tls(roots: &Arc<RootCertStore>, alpn: &[u8]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

fn about_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
