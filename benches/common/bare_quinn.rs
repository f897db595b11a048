//! How a server of nothing but quinn is set up, for what is measured beside the gateway.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// With the certificate that lies in the working directory.
pub fn config() -> quinn::ServerConfig {
    let cert = CertificateDer::from_pem_file("cert.pem").unwrap();
    let key = PrivateKeyDer::from_pem_file("key.pem").unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    config
}

/// As the gateway sets it.
fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Duration::from_secs(20).try_into().ok())
        .keep_alive_interval(Some(Duration::from_secs(12)))
        .max_concurrent_bidi_streams(8_u32.into())
        .max_concurrent_uni_streams(3_u32.into())
        .stream_receive_window(131_072_u32.into())
        .receive_window(524_288_u32.into())
        .send_window(1 << 20)
        .datagram_receive_buffer_size(Some(64 * 1024))
        .datagram_send_buffer_size(32 * 1024);
    transport
}
