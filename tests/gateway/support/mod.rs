//! A gateway in a directory of its own: real listeners on ports of their own, redb on disk.
//!
//! Everything waits for an event, with a deadline; nothing waits by the clock. A panic inside
//! the gateway fails the test whose house it happened in, or the next one.

mod by_hand;
pub mod checker;
mod client;
mod door;
#[cfg(feature = "client")]
mod front;
mod here;
pub mod http;
pub mod http3;
pub mod process;
pub mod proxy;
mod raw;
mod relay;
mod view;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use dormouse::config::Config;
use dormouse::gateway::Gateway;
use dormouse::keeper::Rates;
use dormouse::room::Rate;
use dormouse::server::tls::Files;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tempfile::TempDir;

pub use by_hand::{Opcode, RawWebSocket};
pub use client::{Bare, Client, Last, Takes, Transport, session};
pub use door::Knock;
#[cfg(feature = "client")]
pub use front::Front;
pub use here::View;
pub use http::{Answer, HANDSHAKE, ask, speak};
pub use raw::masked;
pub use relay::Relay;
pub use view::View as Seen;

/// Longer than anything here takes: than QUIC's idle timeout of 20 s above all, after which a gateway learns
/// of a client whose last datagram was lost.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a scenario over both transports: `both!(async fn name(transport) { … })`.
macro_rules! both {
    ($($(#[$doc:meta])* async fn $name:ident($transport:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn scenario($transport: Transport) $body

            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn websocket() {
                scenario(Transport::WebSocket).await;
            }

            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn webtransport() {
                scenario(Transport::WebTransport).await;
            }
        }
    )*};
}
pub(crate) use both;

/// Runs a scenario over every transport that the gateway has, one after the other, in one test:
/// `over_every_transport!(async fn name(transport) { … })`. Another transport needs no new line
/// there, only a client of its own here.
macro_rules! over_every_transport {
    ($($(#[$doc:meta])* async fn $name:ident($transport:ident) $body:block)*) => {$(
        $(#[$doc])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            async fn scenario($transport: Transport) $body

            for transport in Transport::all() {
                println!("over {transport:?}");
                scenario(transport).await;
            }
        }
    )*};
}
pub(crate) use over_every_transport;

pub struct House {
    gateway: Option<Gateway>,
    change: Arc<dyn Fn(&mut Config) + Send + Sync>,
    dir: TempDir,
}

/// A configuration that collides with nobody's, and in which tests may talk as fast as they
/// like.
pub fn config(dir: &TempDir) -> Config {
    let mut config = Config::default();
    config.store.reserve = None; // 16 MiB to write for each house would be its slowest part
    config.keeper.rates = Rates { publishes: Rate::OFF, requests: Rate::OFF, room: Rate::OFF };
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        operator_listen: Some("127.0.0.1:0".parse().unwrap()),
        data_dir: dir.path().join("data"),
        certs_dir: dir.path().join("certs"),
        ..config
    }
}

/// An operator's certificate for these names, in files that go with the directory.
pub fn certificate(names: &[&str]) -> (TempDir, Files, CertificateDer<'static>) {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let pair = rcgen::generate_simple_self_signed(names).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = Files { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&files.cert, pair.cert.pem()).unwrap();
    std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    (dir, files, pair.cert.der().clone())
}

pub async fn house(change: impl Fn(&mut Config) + Send + Sync + 'static) -> House {
    listen_for_panics();
    let mut house =
        House { gateway: None, change: Arc::new(change), dir: tempfile::tempdir().unwrap() };
    house.open().await;
    house
}

impl House {
    /// Starts in the directory of the one before.
    pub async fn open(&mut self) {
        let mut config = config(&self.dir);
        (self.change)(&mut config);
        self.gateway = Some(Gateway::start(config).await.unwrap());
    }

    /// Writes nonsense over what the store has of a room, while the house is closed.
    pub fn damage(&self, room: &str) {
        const ROOMS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("rooms");
        let db = redb::Database::open(self.data_dir().join("rooms.redb")).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(ROOMS).unwrap().insert(room, &b"nonsense"[..]).unwrap();
        txn.commit().unwrap();
    }

    pub fn data_dir(&self) -> std::path::PathBuf {
        config(&self.dir).data_dir
    }

    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("the house is open")
    }

    pub fn into_gateway(mut self) -> Gateway {
        self.gateway.take().expect("the house is open")
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway().addresses()[0]
    }

    /// Stops in order and starts again in the same directory, at another port.
    pub async fn restart(&mut self) {
        self.shutdown().await;
        self.open().await;
    }

    pub async fn shutdown(&mut self) {
        let gateway = self.gateway.take().expect("the house is open");
        tokio::time::timeout(DEADLINE, gateway.shutdown()).await.expect("an orderly end in time");
    }

    /// A connection that has not said anything yet.
    pub async fn connect(&self, transport: Transport, room: &str) -> Client {
        Client::connect(transport, self.address(), room, &self.hashes(), Takes::Plenty).await
    }

    /// One that takes next to nothing while nobody reads from it.
    pub async fn connect_slow(&self, transport: Transport, room: &str) -> Client {
        Client::connect(transport, self.address(), room, &self.hashes(), Takes::Little).await
    }

    /// The hashes of the development certificate.
    pub fn hashes(&self) -> Vec<[u8; 32]> {
        self.gateway().context().certificates.hashes()
    }

    /// A member that was welcomed and shown everything.
    pub async fn join(&self, transport: Transport, room: &str, name: &str) -> Client {
        let mut client = self.connect(transport, room).await;
        client.hello(serde_json::json!({ "name": name })).await;
        client
    }

    /// A client of the seed profile that has not joined yet.
    pub async fn seed(&self, room: &str) -> Client {
        Client::seed(self.address(), room).await
    }

    /// A client of the seed profile that has joined and seen itself in the list of users.
    pub async fn seed_join(&self, room: &str, name: &str) -> Client {
        let mut client = self.seed(room).await;
        client.seed_join(name).await;
        client
    }

    /// A WebTransport session without a stream; `None` if it was refused.
    pub async fn session(&self, path: &str) -> Option<wtransport::Connection> {
        session(self.address(), path, &self.gateway().context().certificates.hashes()).await
    }

    /// What an operator sees of a room.
    pub async fn inspect(&self, room: &str) -> Value {
        let answer = self.operator("GET", &format!("/v1/rooms/{room}"), "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// An operator's word about a room: `hibernate` or `wake`.
    pub async fn operate(&self, room: &str, what: &str) -> Value {
        let path = format!("/v1/rooms/{room}/{what}");
        let answer = self.operator("POST", &path, "content-length: 0\r\n").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub async fn hibernate(&self, room: &str) {
        assert_ne!(self.operate(room, "hibernate").await["state"], "awake");
    }

    /// Has a room deleted; says with which status.
    pub async fn delete(&self, room: &str) -> u16 {
        self.operator("DELETE", &format!("/v1/rooms/{room}"), "").await.status
    }

    /// Waits until a room is in a state.
    pub async fn until(&self, room: &str, is: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            let mut interval = tokio::time::interval(Duration::from_millis(5));
            loop {
                interval.tick().await;
                let room = self.inspect(room).await;
                if is(&room) {
                    return room;
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the room gets there in time")
    }

    /// Waits until `/readyz` answers with this status.
    pub async fn until_ready(&self, status: u16) {
        let waiting = async {
            let mut interval = tokio::time::interval(Duration::from_millis(5));
            while self.operator("GET", "/readyz", "").await.status != status {
                interval.tick().await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("it gets there in time");
    }

    /// Waits until a line of the metrics is at least so much.
    pub async fn until_metric(&self, line: &str, least: f64) {
        let waiting = async {
            let mut interval = tokio::time::interval(Duration::from_millis(5));
            while self.metric(line).await < least {
                interval.tick().await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the metric gets there in time");
    }

    /// Waits until a line of the metrics is beyond `from` and stands still, and says where.
    /// It may go on later: this is for what must *not* grow.
    pub async fn until_still(&self, line: &str, from: f64) -> f64 {
        let waiting = async {
            let mut interval = tokio::time::interval(Duration::from_millis(100));
            let mut before = from;
            loop {
                interval.tick().await;
                let now = self.metric(line).await;
                if now == before && now > from {
                    return now;
                }
                before = now;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the metric comes to rest in time")
    }

    /// The value of a line of the metrics, 0 if it is not there.
    pub async fn metric(&self, line: &str) -> f64 {
        let metrics = self.operator("GET", "/metrics", "").await.body;
        let value = metrics.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let panics = std::mem::take(&mut *PANICS.lock().unwrap());
        if !panics.is_empty() && !std::thread::panicking() {
            panic!("the gateway panicked: {panics:?}");
        }
    }
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers panics that do not come from the tests themselves.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // The kit's assertions are the tests' own.
            let is_theirs = |file: &str| file.contains("tests/") || file.contains("src/testkit");
            let in_tests = panic.location().is_some_and(|at| is_theirs(at.file()));
            // A test that ends takes its runtime along, and in it wtransport's driver; who asks
            // the driver at that moment panics. A driver that did panic has said so itself.
            let is_over = panic.payload_as_str() == Some("Driver worker panic!");
            let is_planted = panic.payload_as_str() == Some("the panic that was planted");
            if !in_tests && !is_over && !is_planted {
                PANICS.lock().unwrap().push(panic.to_string());
            }
            usual(panic);
        }));
    });
}
