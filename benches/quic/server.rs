//! The servers: the real gateway, and one of nothing but quinn that does the least for a fan-out.

use std::future::poll_fn;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::machine::{self, CLIENTS, SERVER};
use super::{Carrier, Kind, PUBLISH_BYTES, bare_quinn};

/// How this program is asked to be the server of nothing but quinn.
pub const BARE: &str = "--bare-quinn";

/// What `dormouse bench` switches off, too.
const LIFTED: &[&str] = &[
    "--room-publish-rate=off",
    "--session-publish-rate=off",
    "--session-requests-rate=off",
    "--session-ephemeral-rate=off",
    "--session-publishes-in-flight=1024",
    "--room-members=10000",
    "--gateway-connections=20000",
];

/// The most that is written to a stream at once, in records.
const GATHERED: usize = 64;

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
    /// Of what the bare one sends.
    pub record_bytes: usize,
    _dir: TempDir,
}

impl Server {
    /// Starts one on its core. The bare one sends records of so many bytes.
    pub fn start(kind: Kind, carrier: Carrier, record_bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ])
        .unwrap();
        std::fs::write(dir.path().join("cert.pem"), pair.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
        let mut command = match kind {
            Kind::Quinn => Command::new(std::env::current_exe().unwrap()),
            Kind::Gateway => Command::new(env!("CARGO_BIN_EXE_dormouse")),
        };
        match kind {
            Kind::Quinn => command.args([BARE, carrier.name(), &record_bytes.to_string()]),
            Kind::Gateway => command
                .args(["--listen", "127.0.0.1:0", "--operator-listen", "off"])
                .args(["--tls-cert", "cert.pem", "--tls-key", "key.pem"])
                .args(LIFTED),
        };
        command.current_dir(dir.path()).env("RUST_LOG", "warn").stdout(Stdio::piped());
        machine::pin(SERVER); // what is started inherits our place
        let mut child = command.spawn().unwrap();
        machine::pin(CLIENTS);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').expect("an address in its line").1;
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        Self { child, address, certificate: pair.cert.der().clone(), record_bytes, _dir: dir }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Accepts connections, each with a stream; what comes on a stream are messages, and each goes to
/// everybody as a record, or as a datagram. One task does it all, as soon as it can.
pub fn bare(mut arguments: impl Iterator<Item = String>) {
    let carrier = Carrier::named(&arguments.next().unwrap());
    let record_bytes = arguments.next().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let endpoint =
            Endpoint::server(bare_quinn::config(), "127.0.0.1:0".parse().unwrap()).unwrap();
        println!("bare quinn at {}", endpoint.local_addr().unwrap());
        let (came, coming) = mpsc::channel(64);
        tokio::spawn(FanOut::new(carrier, record_bytes).run(coming));
        while let Some(incoming) = endpoint.accept().await {
            let came = came.clone();
            tokio::spawn(async move {
                let connection = incoming.await.ok()?;
                let (send, mut receive) = connection.accept_bi().await.ok()?;
                receive.read_exact(&mut [0; PUBLISH_BYTES]).await.ok()?; // its hello
                came.send(Member { connection, send, receive, owed: 1 }).await.ok()
            });
        }
    });
}

struct Member {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    /// Bytes of the stream that are to be written to it: its first one says that it is here.
    owed: usize,
}

struct FanOut {
    carrier: Carrier,
    record_bytes: usize,
    /// Records, all alike.
    records: Bytes,
    members: Vec<Member>,
    /// Bytes of a message that has not all come.
    begun: usize,
}

impl FanOut {
    fn new(carrier: Carrier, record_bytes: usize) -> Self {
        let records = vec![7; record_bytes * GATHERED].into();
        Self { carrier, record_bytes, records, members: Vec::new(), begun: 0 }
    }

    async fn run(mut self, mut coming: mpsc::Receiver<Member>) {
        poll_fn(|cx| {
            while let Some(member) = ready_now(coming.poll_recv(cx)) {
                self.members.push(member);
            }
            while let Some(messages) = ready_now(self.poll_messages(cx)) {
                self.owe(messages);
            }
            self.write(cx);
            Poll::<()>::Pending
        })
        .await;
    }

    /// How many messages have come from one member.
    fn poll_messages(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        // Only the first one speaks.
        let Some(Member { receive, .. }) = self.members.first_mut() else { return Poll::Pending };
        let mut buffer = [0; 64 * PUBLISH_BYTES];
        let read = ready!(pin!(receive.read(&mut buffer)).poll(cx)).ok().flatten().unwrap_or(0);
        if read == 0 {
            return Poll::Pending; // it has left
        }
        self.begun += read;
        let messages = self.begun / PUBLISH_BYTES;
        self.begun %= PUBLISH_BYTES;
        Poll::Ready(Some(messages))
    }

    fn owe(&mut self, messages: usize) {
        for member in &mut self.members {
            match self.carrier {
                Carrier::Stream => member.owed += messages * self.record_bytes,
                Carrier::Datagram => {
                    for _ in 0..messages {
                        let record = self.records.slice(..self.record_bytes);
                        let _ = member.connection.send_datagram(record);
                    }
                }
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        for member in &mut self.members {
            while member.owed > 0 {
                let bytes = self.records.slice(..member.owed.min(self.records.len()));
                match pin!(member.send.write_chunks(&mut [bytes])).poll(cx) {
                    Poll::Ready(Ok(written)) => member.owed -= written.bytes,
                    Poll::Ready(Err(_)) => member.owed = 0, // it has left
                    Poll::Pending => break,
                }
            }
        }
    }
}

fn ready_now<T>(polled: Poll<Option<T>>) -> Option<T> {
    match polled {
        Poll::Ready(ready) => ready,
        Poll::Pending => None,
    }
}
