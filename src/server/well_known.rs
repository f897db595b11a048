//! `/.well-known/dormouse`: what a client asks before it chooses a transport.
//!
//! It is data, so that what is learnt about browsers reaches clients that were built earlier.
//! Open to pages of every origin: nothing in it is a secret, and whether they may connect is
//! decided at the door.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use serde_json::{Value, json};

use super::{Context, Response, door, hosts, text, with};
use crate::protocol::v1;

/// Where it is found.
pub const PATH: &str = "/.well-known/dormouse";

/// The answer to a request that came in at `listener`.
pub fn answer<T>(cx: &Context, listener: SocketAddr, request: &Request<T>) -> Response {
    let Some(host) = door::host(request).and_then(|host| hosts::authority(&host)) else {
        return text(400, "the Host header must name this gateway");
    };
    let tls = cx.certificates.tcp_tls().is_some();
    let base_path = cx.settings.base_path.as_str();
    let url = format!("{}{base_path}", webtransport_url(host, listener, tls));
    let mut webtransport = json!({ "url": url });
    let hashes = cx.certificates.hashes();
    if !hashes.is_empty() {
        let hashes: Vec<_> = hashes.iter().map(|hash| STANDARD.encode(hash)).collect();
        webtransport["certificate_hashes"] = hashes.into();
    }
    let body = json!({
        "versions": [v1::NAME],
        "webtransport": webtransport,
        "policy": policy(),
        "heartbeat": cx.session.heartbeat.as_millis() as u64,
    });
    let response = super::answer(200, "application/json", body.to_string());
    with(with(response, "access-control-allow-origin", "*"), "cache-control", "no-store")
}

/// WebTransport is on the same host and, UDP beside TCP, on the same port. `localhost` and the names
/// below it become 127.0.0.1: they may mean ::1 first, and a browser gives UDP no second try.
fn webtransport_url(host: (String, Option<u16>), listener: SocketAddr, tls: bool) -> String {
    let (name, port) = host;
    let is_local = name == "localhost" || name.ends_with(".localhost");
    let name = if is_local { "127.0.0.1" } else { &name };
    // Without a port the scheme's is meant: 80 when we are plain and stand there ourselves;
    // else somebody in front of us has a certificate.
    let port = port.unwrap_or(if !tls && listener.port() == 80 { 80 } else { 443 });
    format!("https://{name}:{port}")
}

/// Which browsers get WebTransport, and how hard a client tries. Safari wants settings that
/// ours does not send yet; the times are what was measured between browsers and this stack.
fn policy() -> Value {
    json!({
        "webtransport": { "chromium": true, "firefox": true, "safari": false },
        "head_start_ms": 200,
        "ready_timeout_ms": 3_000,
        "failures_before_websocket": 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, listener: &str, tls: bool) -> String {
        webtransport_url(hosts::authority(host).unwrap(), listener.parse().unwrap(), tls)
    }

    #[test]
    fn the_webtransport_address_is_the_one_the_page_came_from() {
        assert_eq!(url("localhost:4433", "127.0.0.1:4433", false), "https://127.0.0.1:4433");
        assert_eq!(url("app.localhost:4433", "127.0.0.1:4433", false), "https://127.0.0.1:4433");
        assert_eq!(url("[::1]:4433", "[::1]:4433", false), "https://[::1]:4433");
        assert_eq!(url("rooms.example", "0.0.0.0:443", true), "https://rooms.example:443");
        assert_eq!(url("rooms.example", "127.0.0.1:4433", false), "https://rooms.example:443");
        assert_eq!(url("rooms.example", "0.0.0.0:80", false), "https://rooms.example:80");
    }
}
