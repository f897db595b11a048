//! A QUIC connection from its first packet to its session, and the requests that it makes besides.
//!
//! A client may ask for the small documents that the TCP side serves, before its session, beside
//! it, and without ever having one. They are answered by the same function as over TCP
//! ([`http::document`]).
//!
//! - The session has to be asked for within [`QuicSettings::handshake`](crate::server::QuicSettings);
//!   then no further request is read, and the connection ends when those under way are answered.
//! - A connection has one session. A CONNECT beside it is answered 429.
//! - Requests under way at once are streams, of which QUIC permits
//!   [`BIDI_STREAMS`](super::BIDI_STREAMS). Each has to arrive and be taken within
//!   `session.hello_timeout`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Incoming, RecvStream, SendStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use wtransport_proto::error::ErrorCode;

use super::h3::{self, Beginning, Requests, Session};
use super::head::{self, Head};
use super::{WebTransportLink, code};
use crate::protocol::{CloseReason, Profile, v1};
use crate::server::door::{self, Admission, Refusal};
use crate::server::{Context, Response, http, text};
use crate::session::{self, Transport};

/// Where a connection is from and came to, and what its requests are answered with.
pub(super) struct Visitor {
    cx: Arc<Context>,
    listener: SocketAddr,
    peer: SocketAddr,
}

pub(super) async fn serve(
    cx: Arc<Context>,
    incoming: Incoming,
    listener: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let peer = incoming.remote_address();
    // A dual-stack socket shows 127.0.0.1 as ::ffff:127.0.0.1.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let visitor = Arc::new(Visitor { cx: cx.clone(), listener, peer });
    let Some((session, mut admission)) = until_session(&visitor, incoming).await else {
        debug!(%peer, "a QUIC connection ended without a session");
        return;
    };
    // The stream that carries everything; a client that opens none never says hello.
    let first = tokio::select! {
        first = timeout(cx.session.hello_timeout, session.stream()) => {
            first.map_err(|_| CloseReason::NoHello)
        }
        _ = admission.drained() => Err(CloseReason::Drain),
    };
    let (send, recv) = match first {
        Ok(Some(streams)) => streams,
        Ok(None) => return,
        Err(reason) => {
            cx.metrics.sessions_closed.of(reason.slug()).inc();
            let code = code(reason.code(Profile::V1));
            session.connection().close(code, reason.slug().as_bytes());
            return;
        }
    };
    drop(place); // it is a session now, and counted as one
    debug!(%peer, "a WebTransport session opened");
    let (message_bytes, patience) = (cx.session.message_bytes, cx.session.hello_timeout);
    let link = WebTransportLink::new(session, send, recv, message_bytes, patience);
    // In a task of its own: this one carried the handshake, and is larger than a session needs.
    tokio::spawn(session::run(link, Profile::V1, cx.place(admission)));
}

/// The session of a connection; nothing when the connection ends without one.
async fn until_session(visitor: &Arc<Visitor>, incoming: Incoming) -> Option<(Session, Admission)> {
    let deadline = Instant::now() + visitor.cx.quic.handshake;
    let open = async { Requests::open(incoming.await.ok()?, visitor.clone()).await };
    let mut requests = timeout_at(deadline, open).await.ok()??;
    loop {
        let Ok(connect) = timeout_at(deadline, requests.next()).await else {
            requests.leave().await;
            return None;
        };
        let connect = connect?;
        match visitor.admit(&connect.head) {
            Ok((admission, protocol)) => {
                let session = timeout_at(deadline, requests.accept(connect, protocol));
                return Some((session.await.ok()??, admission));
            }
            Err(refusal) => requests.refuse(connect, refusal),
        }
    }
}

impl Visitor {
    /// How long a request may take to arrive, and its answer to be taken.
    pub(super) fn patience(&self) -> Duration {
        self.cx.session.hello_timeout
    }

    /// A place in the room that a CONNECT asks for, and the protocol to answer with if it offers any.
    fn admit(&self, head: &Head) -> Result<(Admission, Option<&'static str>), Refusal> {
        let (cx, request) = (&self.cx, &head.request);
        let room = door::room(cx, Transport::WebTransport, request, self.listener)?;
        let admission = door::admit(cx, room, request, self.listener, self.peer.ip())?;
        let offered = crate::server::header(request, "wt-available-protocols");
        match offered.map(|offered| head::offers(offered, v1::NAME)) {
            Some(false) => Err(Refusal::NotFound), // it speaks nothing that we do
            offers => Ok((admission, offers.map(|_| v1::NAME))),
        }
    }

    /// Answers what was begun on a stream of its own and belongs to no session of this connection;
    /// `connection` is closed if it breaks HTTP/3.
    pub(super) async fn answer(
        &self,
        connection: &quinn::Connection,
        beginning: Beginning,
        mut send: SendStream,
        mut recv: RecvStream,
    ) {
        let (response, to_head) = match beginning {
            Beginning::Request(head) => {
                let to_head = *head.request.method() == hyper::Method::HEAD;
                (self.respond(&head).await, to_head)
            }
            Beginning::TooLarge => {
                let most = h3::FRAME_BYTES;
                (text(431, format!("the head of a request may have {most} bytes")), false)
            }
            Beginning::Stream(_) => {
                return h3::reset(&mut send, &mut recv, ErrorCode::BufferedStreamRejected);
            }
            Beginning::Malformed => return h3::reset(&mut send, &mut recv, ErrorCode::Message),
            Beginning::Late => return h3::reset(&mut send, &mut recv, ErrorCode::RequestRejected),
            Beginning::Over => return,
            Beginning::Rule(code) => return connection.close(h3::number(code), b""),
        };
        h3::answer(response, to_head, send, recv, self.patience()).await;
    }

    async fn respond(&self, head: &Head) -> Response {
        if head.is_for_a_session() {
            let refusal = Refusal::OneSession;
            door::count(&self.cx, refusal);
            return refusal.answer();
        }
        if head.is_for_another_protocol() {
            return text(501, "CONNECT is for WebTransport here"); // RFC 9220, 3
        }
        let document = http::document(&self.cx, self.listener, &head.request, self.peer).await;
        document.unwrap_or_else(|| Refusal::NotFound.answer())
    }

    /// The answer to a CONNECT that is refused.
    pub(super) fn refusal(refusal: Refusal) -> Response {
        let mut response = refusal.answer();
        *response.status_mut() = hyper::StatusCode::from_u16(refusal.webtransport_status())
            .expect("statuses of refusals are valid");
        response
    }
}
