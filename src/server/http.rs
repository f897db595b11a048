//! What the TCP side of a gateway answers.
//!
//! | path | answer |
//! | --- | --- |
//! | `/rooms/{name}/ws` | a WebSocket ([`upgrade`](mod@super::upgrade)) |
//! | `/.well-known/dormouse` | what a client needs to know first ([`well_known`]) |
//! | `/dormouse.js` | the client, for every page ([`page`]) |
//! | `/` and its files | the demo and the examples ([`page`]) |
//! | `/demo/rooms` | what the demo shows of all rooms, to this machine only ([`demo`]) |
//!
//! Everything else is 404, another method on one of these 405. No answer reads a body.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Method;
use tokio::sync::watch;

use super::door::{self, Caller, Door, Refusal};
use super::listener::{self, Request, Setup, Slot};
use super::upgrade::{Fault, Handshake};
use super::{Context, Response, demo, header, page, text, websocket, well_known, with};

/// Serves one TCP listener until `stop`; `address` is what it was configured as.
pub async fn listen(
    cx: Arc<Context>,
    slot: Slot,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
) {
    let setup =
        Setup { tls: cx.certificates.tcp_tls(), send_buffer: Some(cx.settings.send_buffer) };
    listener::serve(slot, setup, stop, move |request, peer| {
        let cx = cx.clone();
        async move { respond(cx, address, request, peer).await }
    })
    .await;
}

async fn respond(
    cx: Arc<Context>,
    listener: SocketAddr,
    request: Request,
    peer: SocketAddr,
) -> Response {
    let path = request.uri().path();
    if path.starts_with("/rooms/") {
        return enter(cx, listener, request, peer).unwrap_or_else(No::answer);
    }
    let known = match path {
        well_known::PATH => Some(well_known::answer(&cx, listener, &request)),
        demo::PATH if cx.settings.demo && demo::may_see(&request, listener, peer) => {
            Some(demo::rooms(&cx).await)
        }
        _ => page::answer(&request, cx.settings.demo),
    };
    match known {
        None => No::Door(Refusal::NotFound).answer(),
        Some(response) if matches!(*request.method(), Method::GET | Method::HEAD) => response,
        Some(_) => with(text(405, "only GET and HEAD"), "allow", "GET, HEAD"),
    }
}

/// Begins a session over WebSocket.
fn enter(
    cx: Arc<Context>,
    listener: SocketAddr,
    mut request: Request,
    peer: SocketAddr,
) -> Result<Response, No> {
    let room = door::room(&cx, Door::WebSocket, request.uri().path()).map_err(No::Door)?;
    if request.method() != Method::GET {
        return Err(No::Method);
    }
    let handshake = Handshake::read(&request).map_err(No::Handshake)?;
    let host = header(&request, "host");
    // Text or not, whoever sends an origin is a browser.
    let origin = request.headers().get("origin").map(|value| value.to_str().unwrap_or("?"));
    let caller = Caller { origin, host, listener, peer: peer.ip() };
    let entered = door::admit(&cx, caller).map_err(No::Door)?;

    let upgrade = hyper::upgrade::on(&mut request);
    let profile = handshake.profile;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => websocket::serve(&cx, io, room, profile, peer, entered),
            Err(error) => tracing::debug!(%peer, %error, "the upgrade was not taken"),
        }
    });
    Ok(handshake.accept())
}

/// Why there is no WebSocket.
enum No {
    Door(Refusal),
    Method,
    Handshake(Fault),
}

impl No {
    fn answer(self) -> Response {
        match self {
            Self::Method => with(text(405, "only GET"), "allow", "GET"),
            Self::Handshake(fault) => fault.answer(),
            Self::Door(refusal) => {
                let response = text(refusal.status(), refusal.to_string());
                match refusal.retry_after() {
                    Some(wait) => {
                        with(response, "retry-after", &wait.as_millis().div_ceil(1_000).to_string())
                    }
                    None => response,
                }
            }
        }
    }
}
