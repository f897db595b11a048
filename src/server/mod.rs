//! The doors: what listens, and what is answered before a session begins.
//!
//! [`door`] asks the same of everybody whichever transport they come by; [`websocket`] and
//! [`webtransport`] make links of whoever passes. [`http`] is the TCP side around the WebSocket
//! door, [`operator`] a listener of its own for whoever runs this. Bytes in, bytes out: policy
//! that must hold for every client lives in [`session`] or below.

pub mod addresses;
pub mod base_path;
pub mod demo;
pub mod door;
pub mod hosts;
pub mod http;
pub mod listener;
pub mod operator;
pub mod origins;
pub mod page;
pub mod refusals;
pub mod tls;
pub mod upgrade;
pub mod websocket;
pub mod webtransport;
pub mod well_known;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;

use crate::dispatcher::Dispatcher;
use crate::session;
use crate::store::Store;
use crate::supervision::Supervisor;
use crate::telemetry::Metrics;

/// The doors' settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The kernel's send buffer of a TCP connection, in bytes.
    pub send_buffer: usize,
    /// Sessions of this process.
    pub connections: usize,
    /// What one address may.
    pub addresses: addresses::Settings,
    /// Origins whose pages may connect, beside our own.
    pub origins: origins::Origins,
    /// Hosts that a loopback listener answers to, beside loopback's own.
    pub hosts: hosts::Hosts,
    /// Where everything is served once more.
    pub base_path: base_path::BasePath,
    /// Whether the demo page is served.
    pub demo: bool,
}

/// QUIC's settings.
#[derive(Debug, Clone)]
pub struct QuicSettings {
    /// How long a connection may take until it has asked for its session. No setting; tests change
    /// it.
    pub handshake: Duration,
    /// How often a silent connection is kept alive.
    pub keep_alive: Duration,
    /// The silence after which a connection is gone.
    pub idle_timeout: Duration,
    /// Unread bytes a client may send on one stream.
    pub stream_window: usize,
    /// Unacknowledged bytes kept per connection.
    pub send_window: usize,
}

/// A setting that may be another one from now on.
pub struct Reloadable<T>(RwLock<Arc<T>>);

impl<T> Reloadable<T> {
    /// What it is at first.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// What it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it, for all who look from now on.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// What every door has at hand.
pub struct Context {
    /// What the doors go by.
    pub settings: Settings,
    /// What QUIC goes by.
    pub quic: QuicSettings,
    /// What sessions go by.
    pub session: Arc<session::Settings>,
    /// The store.
    pub store: Store,
    /// The way to a room.
    pub dispatcher: Dispatcher,
    /// Who is inside.
    pub sessions: session::Sessions,
    /// And from where.
    pub addresses: addresses::Addresses,
    /// What handshakes are answered with.
    pub certificates: Arc<tls::Certificates>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Refusals that the log speaks of.
    pub refusals: refusals::Refusals,
    /// Origins whose pages may connect, beside our own.
    pub origins: Reloadable<origins::Origins>,
    /// Keeps the gateway's tasks alive.
    pub supervisor: Supervisor,
}

impl Context {
    /// What a session needs of the world, once the door let its client in.
    pub fn place(&self, admission: door::Admission) -> session::Place {
        let (room, entered) = admission.into_parts();
        session::Place {
            room,
            dispatcher: self.dispatcher.clone(),
            store: self.store.clone(),
            settings: self.session.clone(),
            metrics: self.metrics.clone(),
            entered,
        }
    }
}

/// An answer over HTTP. All of ours are small and known when they begin.
pub type Response = hyper::Response<Full<Bytes>>;

/// A short text, the body of every refusal.
pub(crate) fn text(status: u16, body: impl Into<Bytes>) -> Response {
    answer(status, "text/plain; charset=utf-8", body)
}

pub(crate) fn answer(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    hyper::Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("x-content-type-options", "nosniff")
        .body(Full::new(body.into()))
        .expect("status and content type are ours and valid")
}

/// Adds a header whose value is ours, hence valid.
pub(crate) fn with(mut response: Response, name: &'static str, value: &str) -> Response {
    let value = value.parse().expect("header values are made of visible ASCII");
    response.headers_mut().insert(name, value);
    response
}

/// A header as text, if it is there and is text.
pub(crate) fn header<'a, T>(request: &'a hyper::Request<T>, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}
