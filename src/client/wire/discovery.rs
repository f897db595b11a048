//! What a gateway says of itself: where WebTransport is, and which certificates to trust.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::timeout;
use wtransport::tls::Sha256Digest;

use super::io::Io;
use crate::client::address::Address;

/// The answer's longest length: it is a few hundred bytes.
const LONGEST: usize = 64 << 10;

/// What of `/.well-known/dormouse` a client like this one needs.
#[derive(Debug, Deserialize)]
pub(super) struct Gateway {
    pub webtransport: Option<Place>,
    #[serde(default)]
    pub policy: Policy,
}

/// Where WebTransport is.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    /// `https://host:port`.
    pub url: String,
    /// SHA-256, base64; empty where the web's authorities vouch for it.
    #[serde(default)]
    certificate_hashes: Vec<String>,
}

/// How a client chooses between the transports.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Policy {
    failures_before_websocket: u32,
    head_start_ms: u64,
    ready_timeout_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { failures_before_websocket: 2, head_start_ms: 200, ready_timeout_ms: 3_000 }
    }
}

impl Policy {
    pub fn failures_before_websocket(&self) -> u32 {
        self.failures_before_websocket
    }

    pub fn head_start(&self) -> Duration {
        Duration::from_millis(self.head_start_ms)
    }

    pub fn ready_timeout(&self) -> Duration {
        Duration::from_millis(self.ready_timeout_ms)
    }
}

impl Place {
    /// The hashes that can be read; one that cannot is one certificate less to trust.
    pub fn hashes(&self) -> Vec<Sha256Digest> {
        let hash = |text: &String| {
            let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
            Some(Sha256Digest::new(bytes))
        };
        self.certificate_hashes.iter().filter_map(hash).collect()
    }
}

/// How long it may take to say. A proxy that holds the request is as good as one that refuses it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks. A gateway that does not say has WebSockets: perhaps it is behind a proxy that shows only rooms, and
/// another program answers for the rest, with a page of its own, a redirect, an error or nothing at all.
pub(super) async fn ask(address: &Address, io: Box<dyn Io>) -> Option<Gateway> {
    timeout(PATIENCE, said(address, io)).await.ok()?
}

async fn said(address: &Address, io: Box<dyn Io>) -> Option<Gateway> {
    let (mut door, connection) = http1::handshake(TokioIo::new(io)).await.ok()?;
    let request = Request::get(address.well_known())
        .header(HOST, address.authority())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let answer = async move {
        let answer = door.send_request(request).await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await.ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        gateway = &mut answer => gateway,
        _ = &mut connection => answer.await, // its last words are already with us
    }
}
