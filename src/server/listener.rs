//! A TCP listener that speaks HTTP/1.1: accepting, TLS, time limits, and stopping.
//!
//! - Accepting never ends before it is told to: an error (too many open files, above all) is
//!   said, waited out, and forgotten.
//! - Who has not yet become a session holds one of [`VISITORS`] places, and not for long: the
//!   head of a request is due in ten seconds, idle connections included, and a visit ends after
//!   two minutes. An upgrade ends the visit, too: the session has its own limits.
//! - When every place is taken nobody is accepted; the kernel's backlog queues and then refuses.
//! - A listener that fails leaves its socket in its [`Slot`], for the next one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Response;

/// Connections of one listener that are not, or not yet, sessions.
pub const VISITORS: usize = 1_024;
/// How long the head of a request may take, waiting for its first byte included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may be used for plain requests, and how slowly answers be read.
const VISIT: Duration = Duration::from_secs(120);
/// How long an answer under way may take once the visit is over.
const LEAVE: Duration = Duration::from_secs(5);
/// Bytes of a request's head. Browsers send every cookie ever set on `localhost`.
const HEAD_BYTES: usize = 32 * 1024;
/// The first wait after an accept error; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A request, and who sent it.
pub type Request = hyper::Request<Incoming>;

/// How connections of a listener are set up.
#[derive(Clone)]
pub struct Setup {
    /// TLS, if TCP is not plain.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// SO_SNDBUF, in bytes.
    pub send_buffer: Option<usize>,
}

/// A listening socket, until it is closed, and the places of its visitors: who is still inside when
/// a listener fails has its place with the next one, too. Cheap to clone.
#[derive(Clone)]
pub struct Slot {
    listener: Arc<Mutex<Option<Arc<TcpListener>>>>,
    places: Arc<Semaphore>,
}

impl Slot {
    /// Keeps a socket.
    pub fn of(listener: TcpListener) -> Self {
        let listener = Arc::new(Mutex::new(Some(Arc::new(listener))));
        Self { listener, places: Arc::new(Semaphore::new(VISITORS)) }
    }

    fn listener(&self) -> Option<Arc<TcpListener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Answers every request with `respond` until `stop` says so or its sender is gone.
pub async fn serve<F, A>(slot: Slot, setup: Setup, mut stop: watch::Receiver<bool>, respond: F)
where
    F: Fn(Request, SocketAddr) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let Some(listener) = slot.listener() else { return };
    let places = &slot.places;
    let mut visits = JoinSet::new();
    let mut wait = FIRST_WAIT;
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await.expect("places are never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                wait = FIRST_WAIT;
                // A dual-stack socket shows 127.0.0.1 as ::ffff:127.0.0.1.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let visit = visit(stream, peer, setup.clone(), stop.clone(), respond.clone());
                visits.spawn(async move {
                    visit.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection, trying again");
                tokio::time::sleep(wait).await;
                wait = LONGEST_WAIT.min(wait * 2);
            }
        }
        while visits.try_join_next().is_some() {}
    }
    slot.close();
    drop(listener); // the last handle: who comes now is refused
    let all_gone = async { while visits.join_next().await.is_some() {} };
    if timeout(LEAVE, all_gone).await.is_err() {
        tracing::debug!("connections that would not leave are cut");
    }
}

async fn visit<F, A>(
    stream: TcpStream,
    peer: SocketAddr,
    setup: Setup,
    stop: watch::Receiver<bool>,
    respond: F,
) where
    F: Fn(Request, SocketAddr) -> A,
    A: Future<Output = Response> + Send + 'static,
{
    prepare(&stream, &setup);
    let respond = |request| respond(request, peer);
    match setup.tls {
        None => converse(stream, stop, respond).await,
        Some(tls) => match timeout(TLS_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => converse(stream, stop, respond).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
        },
    }
}

fn prepare(stream: &TcpStream, setup: &Setup) {
    // Neither is worth refusing somebody for.
    let _ = stream.set_nodelay(true);
    if let Some(bytes) = setup.send_buffer {
        let _ = socket2::SockRef::from(stream).set_send_buffer_size(bytes);
    }
}

async fn converse<T, F, A>(stream: T, mut stop: watch::Receiver<bool>, respond: F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request) -> A,
    A: Future<Output = Response> + Send + 'static,
{
    let service = service_fn(|request| {
        let response = respond(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let over = async {
        let told = stop.wait_for(|stop| *stop);
        let _ = timeout(VISIT, told).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = over => {
            connection.as_mut().graceful_shutdown();
            timeout(LEAVE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended badly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_the_send_buffer_that_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        for kib in [16, 64] {
            let asked = kib * 1024;
            prepare(&stream, &Setup { tls: None, send_buffer: Some(asked) });
            let has = socket2::SockRef::from(&stream).send_buffer_size().unwrap();
            // Linux counts its own bookkeeping in, and says twice what it was asked for.
            assert!((asked..=2 * asked).contains(&has), "{has} of {asked}");
        }
        assert!(stream.nodelay().unwrap());
    }
}
