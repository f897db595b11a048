//! What a gateway answers over HTTP.
//!
//! | path | answer |
//! | --- | --- |
//! | `/rooms/{name}/ws` | a WebSocket ([`upgrade`](mod@super::upgrade)), over TCP |
//! | `/.well-known/dormouse` | what a client needs to know first ([`well_known`]) |
//! | `/dormouse.js` | the client, for every page ([`page`]) |
//! | `/` and its files | the demo and the examples ([`page`]) |
//! | `/demo/rooms` | what the demo shows of all rooms, to this machine only ([`demo`]) |
//!
//! All of them stand below the base path as well, if there is one. Everything else is 404, another
//! method on one of these 405. No answer reads a body. [`document`] is all but the WebSocket, and
//! the same over TCP and QUIC.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Method;
use tokio::sync::watch;

use super::door::{self, Refusal};
use super::listener::{self, Request, Setup, Slot};
use super::page::File;
use super::upgrade::{Fault, Handshake};
use super::{Context, Response, demo, page, text, websocket, well_known, with};
use crate::session::Transport;

/// What the paths of rooms begin with.
const ROOMS: &str = "/rooms/";

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
    if let Some(response) = document(&cx, listener, &request, peer).await {
        return response;
    }
    let is_room = |path: &str| path.starts_with(ROOMS).then_some(());
    match cx.settings.base_path.find(request.uri().path(), is_room) {
        Some(()) => enter(cx, listener, request, peer).unwrap_or_else(No::answer),
        None => Refusal::NotFound.answer(),
    }
}

/// A small document, or the refusal of a request under a foreign name; `None` when nothing but a
/// room's door could be at its path.
pub(super) async fn document<T>(
    cx: &Context,
    listener: SocketAddr,
    request: &hyper::Request<T>,
    peer: SocketAddr,
) -> Option<Response> {
    if let Err(refusal) = door::answers_to(cx, listener, request) {
        door::count(cx, refusal);
        return Some(refusal.answer());
    }
    let document = Document::of(cx, request.uri().path())?;
    if matches!(document, Document::DemoRooms) && !demo::may_see(request, listener, peer) {
        return Some(Refusal::NotFound.answer());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(with(text(405, "only GET and HEAD"), "allow", "GET, HEAD"));
    }
    match document {
        Document::WellKnown => Some(well_known::answer(cx, listener, request)),
        Document::File(file) => Some(file.answer(request)),
        Document::ToThePage => Some(page::redirect(cx.settings.base_path.as_str(), request)),
        Document::DemoRooms => Some(demo::rooms(cx).await),
    }
}

/// What stands at a path.
#[derive(Clone, Copy)]
enum Document {
    WellKnown,
    DemoRooms,
    File(File),
    /// The base path without the slash behind it: links of a page there would lead elsewhere.
    ToThePage,
}

impl Document {
    fn of(cx: &Context, path: &str) -> Option<Self> {
        let (demo, base) = (cx.settings.demo, &cx.settings.base_path);
        let at = |path: &str| match path {
            well_known::PATH => Some(Self::WellKnown),
            demo::PATH if demo => Some(Self::DemoRooms),
            _ => page::find(path, demo).map(Self::File),
        };
        let is_base = demo && !path.is_empty() && path == base.as_str();
        base.find(path, at).or_else(|| is_base.then_some(Self::ToThePage))
    }
}

/// Begins a session over WebSocket.
fn enter(
    cx: Arc<Context>,
    listener: SocketAddr,
    mut request: Request,
    peer: SocketAddr,
) -> Result<Response, No> {
    let room = door::room(&cx, Transport::WebSocket, &request, listener).map_err(No::Door)?;
    if request.method() != Method::GET {
        return Err(No::Method);
    }
    let handshake = Handshake::read(&request).map_err(No::Handshake)?;
    let admission = door::admit(&cx, room, &request, listener, peer.ip()).map_err(No::Door)?;

    let upgrade = hyper::upgrade::on(&mut request);
    let profile = handshake.profile;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => websocket::serve(&cx, io, profile, peer, admission),
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
            Self::Door(refusal) => refusal.answer(),
        }
    }
}
