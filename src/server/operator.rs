//! The operator listener: health, metrics, and what may be done to a room.
//!
//! Whoever reaches it may do everything, so it stands on loopback by default and answers no
//! web page: a request with an `Origin`, or to a loopback listener under a foreign name (a page
//! that had its name point here, see [`hosts`](super::hosts)), is refused.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200, or 503 with the reason: draining, a task that is down, or the store |
//! | `GET /metrics` | everything counted, for Prometheus |
//! | `GET /v1/rooms?state=&after=&limit=` | `{"rooms":[each as below],"next"}`, by name |
//! | `GET /v1/rooms/{name}` | the room as it is, and what keeps it awake |
//! | `GET /v1/rooms/{name}/messages?before=&after=&limit=` | a page of its log |
//! | `GET /v1/rooms/{name}/presence?after=&limit=` | `{"members","count","more"}` |
//! | `DELETE /v1/rooms/{name}` | 204 once nothing of it is left, its members told 4505 |
//! | `POST /v1/rooms/{name}/hibernate`, `…/wake` | the room afterwards |
//!
//! None of the `GET`s wakes a room. Errors are problem details (RFC 9457).

mod reading;

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use super::listener::{self, Setup, Slot};
use super::{Context, Response, answer, door, with};
use crate::dispatcher::{Inspection, Unavailable};
use crate::protocol::RoomName;

/// Serves the operator listener until `stop`.
pub async fn listen(
    cx: Arc<Context>,
    slot: Slot,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
) {
    let setup = Setup { tls: None, send_buffer: None };
    listener::serve(slot, setup, stop, move |request, _peer: SocketAddr| {
        let cx = cx.clone();
        let own_name = door::answers_to(&cx, address, &request);
        async move {
            match own_name {
                Err(refusal) => problem(403, &refusal.to_string()),
                Ok(()) if request.headers().contains_key("origin") => {
                    problem(403, "the operator listener does not answer web pages")
                }
                Ok(()) => respond(&cx, &request).await,
            }
        }
    })
    .await;
}

async fn respond<T>(cx: &Context, request: &Request<T>) -> Response {
    let segments: Vec<_> = request.uri().path().split('/').skip(1).collect();
    let allow = match segments.as_slice() {
        ["healthz" | "readyz" | "metrics"]
        | ["v1", "rooms"]
        | ["v1", "rooms", _, "messages" | "presence"] => "GET, HEAD",
        ["v1", "rooms", _] => "GET, HEAD, DELETE",
        ["v1", "rooms", _, "hibernate" | "wake"] => "POST",
        _ => return problem(404, "there is no such resource"),
    };
    if !allow.split(", ").any(|method| method == request.method().as_str()) {
        return with(problem(405, &format!("allowed here: {allow}")), "allow", allow);
    }
    match segments.as_slice() {
        ["healthz"] => answer(200, JSON, json!({ "alive": true }).to_string()),
        ["readyz"] => readiness(cx),
        ["metrics"] => {
            let unwell = cx.store.engine().trouble().is_some();
            cx.metrics.store_unwell.set(i64::from(unwell));
            answer(200, "text/plain; version=0.0.4", cx.metrics.exposition())
        }
        ["v1", "rooms"] => reading::rooms(cx, request.uri().query()).await,
        ["v1", "rooms", name, deed @ ..] => match RoomName::from_path_segment(name) {
            Ok(room) if request.method() == Method::DELETE => {
                match cx.dispatcher.delete(&room).await {
                    Ok(Some(_)) => answer(204, JSON, ""),
                    other => inspection(&room, other),
                }
            }
            Ok(room) => match deed {
                ["messages"] => reading::messages(cx, &room, request.uri().query()).await,
                ["presence"] => reading::presence(cx, &room, request.uri().query()).await,
                deed => inspection(&room, perform(cx, &room, deed).await),
            },
            Err(bad_name) => problem(400, &bad_name.to_string()),
        },
        _ => unreachable!("other paths were answered above"),
    }
}

const JSON: &str = "application/json";

async fn perform(
    cx: &Context,
    room: &RoomName,
    deed: &[&str],
) -> Result<Option<Inspection>, Unavailable> {
    match deed {
        ["hibernate"] => cx.dispatcher.hibernate(room).await,
        ["wake"] => cx.dispatcher.wake(room).await,
        _ => cx.dispatcher.inspect(room).await,
    }
}

/// Whether new clients should be sent here.
fn readiness(cx: &Context) -> Response {
    let reason = if cx.sessions.is_draining() {
        "draining"
    } else if let Some(trouble) = cx.supervisor.trouble() {
        trouble
    } else if let Some(trouble) = cx.store.engine().trouble() {
        trouble
    } else {
        return answer(200, JSON, json!({ "ready": true }).to_string());
    };
    answer(503, JSON, json!({ "ready": false, "reason": reason }).to_string())
}

fn inspection<T: Serialize>(room: &RoomName, found: Result<Option<T>, Unavailable>) -> Response {
    match found {
        Ok(Some(seen)) => {
            let body = serde_json::to_vec(&seen).expect("what is shown of a room is plain data");
            answer(200, JSON, body)
        }
        Ok(None) => problem(404, &format!("there is no room {room}")),
        Err(error) => unavailable(&error),
    }
}

fn unavailable(Unavailable { retry_after_ms, reason }: &Unavailable) -> Response {
    let seconds = retry_after_ms.div_ceil(1_000).max(1);
    with(problem(503, reason), "retry-after", &seconds.to_string())
}

fn problem(status: u16, detail: &str) -> Response {
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let body = json!({
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    });
    answer(status, "application/problem+json", body.to_string())
}
