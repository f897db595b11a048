//! The servers: the real gateway, and one of nothing but quinn.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::{Kind, bare_quinn};

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
        let endpoint =
            quinn::Endpoint::server(bare_quinn::config(), "127.0.0.1:0".parse().unwrap()).unwrap();
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
