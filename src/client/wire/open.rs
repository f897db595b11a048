//! Which transport: WebTransport gets a head start, and the first to open wins.

use std::io::{Error as IoError, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use tokio::time::{Instant, sleep, timeout};

use super::discovery::{Place, Policy};
use super::{Transport, Wire, discovery, io, websocket, webtransport};
use crate::client::Error;
use crate::client::address::{Address, Door};
use crate::client::options::{Choice, Options};

/// How to get to one gateway, and what was learned on the way.
pub(in crate::client) struct Route {
    address: Address,
    choice: Choice,
    roots: Arc<RootCertStore>,
    /// How long anything here may take.
    patience: Duration,
    /// How often WebTransport did not come about, or fell silent.
    failures: u32,
    /// When it last did.
    failed_at: Option<Instant>,
}

/// How long WebTransport is left alone once it has failed too often: what was wrong, a firewall or a certificate,
/// may have been mended.
const FORGIVEN_AFTER: Duration = Duration::from_secs(86_400);

impl Route {
    pub async fn new(address: Address, options: &Options) -> Self {
        let choice = match address.door {
            Door::Any => options.transport,
            Door::WebSocket => Choice::WebSocket,
            Door::WebTransport => Choice::WebTransport,
        };
        let roots = io::roots(options.trust.clone()).await;
        Self {
            address,
            choice,
            roots,
            patience: options.limits.connect,
            failures: 0,
            failed_at: None,
        }
    }

    /// What has held is not to be avoided for what was before.
    pub fn praise(&mut self, transport: Transport) {
        if transport == Transport::WebTransport {
            self.failures = 0;
        }
    }

    /// A connection that opened and then failed its promise counts like one that did not open.
    pub fn blame(&mut self, transport: Transport) {
        if transport == Transport::WebTransport {
            self.failures += 1;
            self.failed_at = Some(Instant::now());
        }
    }

    /// Whether WebTransport is worth an attempt.
    fn tries_webtransport(&mut self, failures_most: u32) -> bool {
        if self.failed_at.is_some_and(|at| at.elapsed() >= FORGIVEN_AFTER) {
            (self.failures, self.failed_at) = (0, None);
        }
        self.failures < failures_most
    }
}

/// Opens a connection.
pub(in crate::client) async fn open(route: &mut Route) -> Result<Wire, Error> {
    let (patience, gateway) = (route.patience, route.address.authority());
    let too_long = |_| {
        let source = Arc::new(IoError::new(ErrorKind::TimedOut, "it took too long"));
        Error::Unreachable { gateway, source }
    };
    timeout(patience, choose(route)).await.map_err(too_long)?
}

async fn choose(route: &mut Route) -> Result<Wire, Error> {
    if route.choice == Choice::WebSocket {
        return over_websocket(route).await;
    }
    if route.address.door == Door::WebTransport {
        return webtransport::open(&route.address.own_webtransport(), Vec::new(), &route.roots)
            .await;
    }
    let gateway =
        discovery::ask(&route.address, io::reach(&route.address, &route.roots).await?).await;
    let (place, policy) = match gateway {
        Some(gateway) => (gateway.webtransport, gateway.policy),
        None => (None, Policy::default()),
    };
    match (place, route.choice) {
        (Some(place), Choice::WebTransport) => over_webtransport(route, &place).await,
        (Some(place), _) if route.tries_webtransport(policy.failures_before_websocket()) => {
            race(route, &place, &policy).await
        }
        (None, Choice::WebTransport) => Err(Error::WebTransport {
            gateway: route.address.authority(),
            why: "the gateway does not say where it is".to_owned(),
        }),
        _ => over_websocket(route).await,
    }
}

async fn race(route: &mut Route, place: &Place, policy: &Policy) -> Result<Wire, Error> {
    let outcome = {
        let shared = &*route;
        let first = timeout(policy.ready_timeout(), over_webtransport(shared, place));
        let second = async {
            sleep(policy.head_start()).await;
            over_websocket(shared).await
        };
        tokio::pin!(first, second);
        tokio::select! {
            opened = &mut first => match opened {
                Ok(Ok(wire)) => Ok(wire),
                // At once, if it was still to come: there is nobody left to give a head start to.
                _ => Err(None),
            },
            opened = &mut second => match opened {
                Ok(wire) => Ok(wire),
                // TCP is shut, or says no. WebTransport may still come about; if not, this is why.
                Err(error) => match first.await {
                    Ok(Ok(wire)) => Ok(wire),
                    _ => Err(Some(error)),
                },
            },
        }
    };
    match outcome {
        Ok(wire) => Ok(wire),
        Err(why) => {
            route.blame(Transport::WebTransport);
            match why {
                Some(error) => Err(error),
                None => over_websocket(route).await,
            }
        }
    }
}

async fn over_webtransport(route: &Route, place: &Place) -> Result<Wire, Error> {
    let url = route.address.webtransport(&place.url);
    webtransport::open(&url, place.hashes(), &route.roots).await
}

async fn over_websocket(route: &Route) -> Result<Wire, Error> {
    let io = io::reach(&route.address, &route.roots).await?;
    websocket::open(&route.address, io).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that was over for ten minutes kept a program away for as long as it ran.
    #[tokio::test(start_paused = true)]
    async fn webtransport_that_failed_is_tried_again_after_a_day() {
        let address = Address::parse("http://localhost:1/rooms/x").unwrap();
        let trust = crate::client::Trust::Only(Vec::new());
        let options = Options { trust, ..Options::default() };
        let mut route = Route::new(address, &options).await;
        for _ in 0..2 {
            assert!(route.tries_webtransport(2));
            route.blame(Transport::WebTransport);
        }
        assert!(!route.tries_webtransport(2));
        tokio::time::advance(FORGIVEN_AFTER / 2).await;
        assert!(!route.tries_webtransport(2));
        tokio::time::advance(FORGIVEN_AFTER / 2).await;
        assert!(route.tries_webtransport(2));
        route.blame(Transport::WebTransport);
        assert!(route.tries_webtransport(2), "it begins anew");
        route.praise(Transport::WebTransport);
    }
}
