//! The servers: the real gateway, and one of nothing but quinn.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::TempDir;

use super::Kind;

/// How this program is asked to be the server of nothing but quinn.
pub const BARE: &str = "--bare-quinn";

pub struct Server {
    child: Option<Child>,
    process: u32,
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
    _dir: Option<TempDir>,
}

impl Server {
    pub fn start(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let mut command = match kind {
            Kind::Quinn => Command::new(std::env::current_exe().unwrap()),
            _ => Command::new(env!("CARGO_BIN_EXE_dormouse")),
        };
        match kind {
            Kind::Quinn => command.args([BARE]),
            _ => command.args(["--listen", "127.0.0.1:0", "--operator-listen", "off"]),
        };
        if matches!(kind, Kind::Tls | Kind::WebTransport) {
            command.args(["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
        }
        command.current_dir(dir.path()).env("RUST_LOG", "warn").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').expect("an address in its line").1;
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let (process, certificate) = (child.id(), pair.cert.der().clone());
        Self { child: Some(child), process, address, certificate, _dir: Some(dir) }
    }

    /// One that runs already.
    pub fn running(address: &str, process: u32) -> Self {
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let certificate = certificate.unwrap().cert.der().clone(); // shown by nobody
        Self { child: None, process, address: address.parse().unwrap(), certificate, _dir: None }
    }

    pub fn id(&self) -> u32 {
        self.process
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Accepts connections, reads the first bytes of their first stream, answers, and keeps them.
pub fn bare() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
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
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        println!("bare quinn at {}", endpoint.local_addr().unwrap());
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await.ok()?;
                let (mut send, mut receive) = connection.accept_bi().await.ok()?;
                let mut buffer = [0; 64];
                while let Ok(Some(count)) = receive.read(&mut buffer).await {
                    send.write_all(&buffer[..count]).await.ok()?;
                }
                Some(())
            });
        }
    });
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
