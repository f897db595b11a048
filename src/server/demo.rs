//! What the demo page shows of all rooms of this gateway.
//!
//! Names of rooms are nobody else's business, so this is for a browser on the very machine: a
//! loopback peer on a loopback listener that asks for a loopback name. Who comes through a proxy
//! has a loopback address too, but mostly another name or a header that says whom it speaks for;
//! and a page of elsewhere that had its name point here asks for that name. Everybody else gets
//! 404. A proxy that hides itself cannot be told from a person: beside one, `demo` is to be off.

use std::net::SocketAddr;

use hyper::Request;
use serde_json::json;

use super::{Context, Response, answer, door, hosts, with};
use crate::dispatcher::Listed;

/// Where the page asks.
pub const PATH: &str = "/demo/rooms";

/// As many as a page can show and a visitor look at.
const ROOMS: usize = 50;

/// Headers by which proxies say whom they speak for.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Whether who asks sits at this machine.
pub fn may_see<T>(request: &Request<T>, listener: SocketAddr, peer: SocketAddr) -> bool {
    let host = door::host(request).and_then(|host| hosts::authority(&host));
    listener.ip().to_canonical().is_loopback()
        && peer.ip().to_canonical().is_loopback()
        && host.is_some_and(|(host, _)| hosts::is_loopback(&host))
        && !FORWARDED.iter().any(|name| request.headers().contains_key(*name))
}

/// The first rooms by name, and how each of them is. Nothing wakes.
pub async fn rooms(cx: &Context) -> Response {
    let rooms = cx.dispatcher.first_rooms(ROOMS).await.into_iter().map(|(room, listed)| {
        let seen = match &listed {
            Some(Listed::Seen(seen)) => Some(seen),
            _ => None,
        };
        let mut shown = json!({
            "room": room.as_str(),
            "state": listed.as_ref().map_or("cold", Listed::state),
            "seats": seen.map_or(0, |seen| seen.seats),
        });
        if let Some(why) = seen.and_then(|seen| seen.why_awake) {
            shown["sleeps_in_ms"] = why.sleeps_in_ms.into();
        }
        shown
    });
    let body = json!({ "rooms": rooms.collect::<Vec<_>>() }).to_string();
    with(answer(200, "application/json", body), "cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(listener: &str, peer: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        may_see(&request.body(()).unwrap(), listener.parse().unwrap(), peer.parse().unwrap())
    }

    #[test]
    fn only_a_browser_on_this_machine_sees_the_rooms() {
        let here = ("127.0.0.1:4433", "127.0.0.1:50000");
        assert!(may(here.0, here.1, &[("host", "localhost:4433")]));
        assert!(may("[::1]:4433", "[::1]:50000", &[("host", "[::1]:4433")]));
        assert!(may(here.0, here.1, &[("host", "app.localhost:4433")]));
        assert!(!may("0.0.0.0:4433", here.1, &[("host", "localhost:4433")]), "a public listener");
        assert!(!may(here.0, "192.0.2.7:50000", &[("host", "localhost:4433")]), "a stranger");
        for (name, value) in [
            ("host", "rooms.example"), // a proxy that hands the name on, or a page's own name
            ("accept", "*/*"),
        ] {
            assert!(!may(here.0, here.1, &[(name, value)]), "{name}: {value}");
        }
        for name in FORWARDED {
            let headers = [("host", "localhost:4433"), (name, "for=192.0.2.7")];
            assert!(!may(here.0, here.1, &headers), "through a proxy: {name}");
        }
    }
}
