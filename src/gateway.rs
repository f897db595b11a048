//! Assembly: opens what there is to open, starts what there is to start, and takes it all
//! down again in the right order.
//!
//! Starting is all or nothing: whatever is missing is one [`StartError`], a sentence and a
//! hint, before anybody is let in. Stopping keeps every promise made so far: nobody new, each
//! client told when to come back, commits finished, the store closed.

mod bind;
pub mod reload;
mod timekeeping;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::dispatcher::{self, Dispatcher};
use crate::protocol::{Kinds, RoomName};
use crate::server::addresses::Addresses;
use crate::server::listener::Slot;
use crate::server::refusals::Refusals;
use crate::server::tls::{self, Certificates};
use crate::server::{Context, Reloadable, http, operator, webtransport};
use crate::session::Sessions;
use crate::store::{self, MAKE_DIRECTORY, Redb, Store};
use crate::supervision::{Supervisor, Task};
use crate::telemetry::Metrics;

pub use bind::BindError;

/// What the sessions may take beyond the spread before they are left behind.
const DRAIN_PATIENCE: Duration = Duration::from_secs(15);

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] tls::Error),
    /// Another process has the store.
    #[error(transparent)]
    InUse(store::Error),
    /// No store.
    #[error("cannot open the data directory {dir}")]
    Store {
        /// Where it should be.
        dir: PathBuf,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// No listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No QUIC endpoint on a bound socket.
    #[error("cannot listen for WebTransport on {address}")]
    WebTransport {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Certificate(_) => {
                "without tls_cert and tls_key a development certificate is made"
            }
            Self::InUse(_) => {
                "stop the other dormouse, or choose another directory with --data-dir"
            }
            Self::Store { source: store::Error::Denied { .. }, .. } => {
                "check that this user may write there, or choose another with --data-dir"
            }
            Self::Store { source: store::Error::Unwell { doing: MAKE_DIRECTORY, .. }, .. } => {
                "choose another directory with --data-dir"
            }
            Self::Store { dir, .. } => {
                return format!(
                    "dormouse check --data-dir {} says what is wrong; put back a copy, or choose \
                     another directory",
                    dir.display()
                );
            }
            Self::Bind(error) => error.hint(),
            Self::WebTransport { .. } => "choose another address with --listen",
        };
        hint.to_owned()
    }
}

/// A running gateway. Dropped without [`shutdown`](Self::shutdown) it lets nobody in any more,
/// and tells nobody: whoever is inside stays until the runtime ends.
pub struct Gateway {
    cx: Arc<Context>,
    addresses: Vec<SocketAddr>,
    operator_address: Option<SocketAddr>,
    /// Ends the listeners.
    stop: watch::Sender<bool>,
    http: JoinSet<()>,
    webtransport: JoinSet<()>,
    operator: JoinSet<()>,
    /// The rooms' clock, and the look at the machine's with the renewal of certificates.
    beside: JoinSet<()>,
    /// The longest spread of returns after a drain.
    drain_spread: Duration,
}

impl Gateway {
    /// Starts a gateway. When this returns, clients can connect.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let certificates = Arc::new(certificates(&config)?);
        // The ports first: they are the quicker to find out, and are given back on failure.
        let doors = bind::doors(&config.listen)?;
        let operator_door = config.operator_listen.map(bind::operator).transpose()?;
        let metrics = Arc::new(Metrics::default());
        let supervisor = Supervisor::new(metrics.clone());
        let store = open_store(&config, &supervisor).await?;
        let (seated, spread_ms) = found_seats(&config, &store).await?;

        let kinds = Kinds::new(config.keeper, config.kinds);
        let rooms = dispatcher::Settings {
            kinds,
            rooms_awake: config.rooms_awake,
            rooms_hibernating: config.rooms_hibernating,
            clock: config.clock,
        };
        let cx = Arc::new(Context {
            dispatcher: Dispatcher::new(rooms, store.clone(), metrics.clone()),
            sessions: Sessions::new(config.server.connections),
            addresses: Addresses::new(config.server.addresses.clone()),
            store,
            certificates,
            metrics,
            refusals: Refusals::default(),
            supervisor,
            origins: Reloadable::new(config.server.origins.clone()),
            settings: config.server,
            quic: config.quic,
            session: Arc::new(config.session),
        });
        let mut gateway = Self {
            addresses: Vec::new(),
            operator_address: None,
            stop: watch::Sender::new(false),
            http: JoinSet::new(),
            webtransport: JoinSet::new(),
            operator: JoinSet::new(),
            beside: JoinSet::new(),
            drain_spread: config.drain_spread,
            cx,
        };
        // Before anybody is let in: who was here has its seat, and its windows begin anew.
        gateway.cx.dispatcher.begin(seated, spread_ms);
        let dispatcher = gateway.cx.dispatcher.clone();
        let keep_time = move || {
            let dispatcher = dispatcher.clone();
            async move {
                dispatcher.keep_time().await;
                Ok(())
            }
        };
        gateway.beside.spawn(gateway.keeps(Task::Clock, keep_time));
        for door in doors {
            gateway.open(door)?;
        }
        if let Some((listener, address)) = operator_door {
            gateway.open_operator(listener, address);
        }
        timekeeping::begin(&gateway.cx);
        let cx = gateway.cx.clone();
        let look = move || {
            let cx = cx.clone();
            async move {
                timekeeping::keep(cx).await;
                Ok(())
            }
        };
        gateway.beside.spawn(gateway.keeps(Task::Certificates, look));
        Ok(gateway)
    }

    /// A task that is begun anew when it fails.
    fn keeps<F>(
        &self,
        task: Task,
        begin: impl FnMut() -> F + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.cx.supervisor.clone().keep(task, begin)
    }

    fn open(&mut self, door: bind::Door) -> Result<(), StartError> {
        let bind::Door { address, tcp, udp } = door;
        let tls = self.cx.certificates.quic_tls();
        let listener = webtransport::Listener::new(self.cx.clone(), udp, tls)
            .map_err(|source| StartError::WebTransport { address, source })?;
        let serve = move || listener.clone().serve();
        self.webtransport.spawn(self.keeps(Task::QuicEndpoint, serve));
        let (cx, slot, stop) = (self.cx.clone(), Slot::of(tcp), self.stop.subscribe());
        let listen = move || {
            let (cx, slot, stop) = (cx.clone(), slot.clone(), stop.clone());
            async move {
                http::listen(cx, slot, address, stop).await;
                Ok(())
            }
        };
        self.http.spawn(self.keeps(Task::TcpListener, listen));
        self.addresses.push(address);
        tracing::info!(%address, "listening, TCP and UDP");
        Ok(())
    }

    fn open_operator(&mut self, listener: TcpListener, address: SocketAddr) {
        let (cx, slot, stop) = (self.cx.clone(), Slot::of(listener), self.stop.subscribe());
        let listen = move || {
            let (cx, slot, stop) = (cx.clone(), slot.clone(), stop.clone());
            async move {
                operator::listen(cx, slot, address, stop).await;
                Ok(())
            }
        };
        self.operator.spawn(self.keeps(Task::OperatorListener, listen));
        self.operator_address = Some(address);
        tracing::info!(%address, "listening for operators");
    }

    /// Where browsers come in, with the ports the system chose if 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where operators come in.
    pub fn operator_address(&self) -> Option<SocketAddr> {
        self.operator_address
    }

    /// What every door has at hand: for tests, and for embedding.
    pub fn context(&self) -> &Arc<Context> {
        &self.cx
    }

    /// Looks at the wall clock now; it is looked at every few seconds anyway.
    pub fn look_at_the_clock(&self) {
        timekeeping::look(&self.cx);
    }

    /// The address to open in a browser.
    pub fn url(&self) -> String {
        let scheme = if self.cx.certificates.tcp_tls().is_some() { "https" } else { "http" };
        let first = self.addresses.first().expect("a gateway has at least one address");
        // A page on `localhost` may use WebTransport without a certificate; one on a bare
        // address of the network may not, and 0.0.0.0 is nowhere to go.
        match first.ip() {
            ip if ip.is_loopback() || ip.is_unspecified() => {
                format!("{scheme}://localhost:{}", first.port())
            }
            _ => format!("{scheme}://{first}"),
        }
    }

    /// Waits until a task of the gateway is given up, and says which. What is left of the gateway
    /// is to be shut down then.
    pub async fn failed(&self) -> Task {
        self.cx.supervisor.given_up().await
    }

    /// Stops: not ready and nobody new, every client told its own moment to return, commits in
    /// flight finished, the store closed.
    pub async fn shutdown(mut self) {
        let cx = self.cx.clone();
        let spread_cap = self.drain_spread;
        let drained =
            tokio::time::timeout(spread_cap + DRAIN_PATIENCE, cx.sessions.drain(spread_cap));
        let spread = drained.await.unwrap_or_else(|_| {
            tracing::warn!("some sessions would not leave and are cut");
            spread_cap
        });
        self.webtransport.shutdown().await;
        self.beside.shutdown().await;
        cx.dispatcher.close().await;
        let spread_ms = spread.as_millis() as u64;
        if let Err(error) = cx.store.run(move |engine| engine.close(spread_ms)).await {
            tracing::error!(%error, "the store did not close in order; it is whole all the same");
        }
        self.stop.send_replace(true);
        for listeners in [&mut self.http, &mut self.operator] {
            while listeners.join_next().await.is_some() {}
        }
        tracing::info!("closed");
    }
}

fn certificates(config: &Config) -> Result<Certificates, tls::Error> {
    if let Some(files) = &config.certificate {
        return Certificates::from_files(files);
    }
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    for address in &config.listen {
        let name = address.ip().to_string();
        if !address.ip().is_unspecified() && !names.contains(&name) {
            names.push(name);
        }
    }
    Certificates::development(&config.certs_dir, names, config.clock.outside())
}

async fn open_store(config: &Config, supervisor: &Supervisor) -> Result<Store, StartError> {
    let (dir, clock) = (config.data_dir.clone(), config.clock.clone());
    let supervisor = supervisor.clone();
    let settings = store::Settings { clock, supervisor, ..config.store.clone() };
    let failed = |error| match error {
        store::Error::InUse { .. } => StartError::InUse(error),
        source => StartError::Store { dir: config.data_dir.clone(), source },
    };
    let open = tokio::task::spawn_blocking(move || Redb::open(&dir, settings));
    let engine =
        open.await.unwrap_or_else(|_| Err(store::Error::Corrupt { what: "the store".to_owned() }));
    engine.map(Store::new).map_err(failed)
}

/// The rooms in which somebody was seated, and how much later than usual they may return.
async fn found_seats(config: &Config, store: &Store) -> Result<(Vec<RoomName>, u64), StartError> {
    let found = store.run(|engine| Ok((engine.seated()?, engine.take_drain_spread_ms()?))).await;
    found.map_err(|source| StartError::Store { dir: config.data_dir.clone(), source })
}
