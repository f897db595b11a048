//! What is asked of everybody before the upgrade, whichever transport they come by.
//!
//! Is there such a room? May this page be here? Is there a place? [`room`] answers the
//! first, [`admit`] the others; each transport asks both, in that order. Refusals protect the
//! process or somebody else's place in it, so they are cheap and say little; what a *client* should act on is said in-band,
//! after the upgrade, because browsers hide these answers from pages.
//!
//! Origins: browsers send `Origin`, and pages cannot forge it, so it is checked; whoever sends
//! none is no browser and could say anything, so it is let pass.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::http::uri::Authority;

use super::Context;
use super::addresses::TooMuch;
use crate::protocol::RoomName;
use crate::session::{Entered, NotNow};

/// When a drained or full gateway is worth another try. Deploys take seconds.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Which of the two doors of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `/rooms/{name}/ws`
    WebSocket,
    /// `/rooms/{name}/wt`
    WebTransport,
}

/// What is known of somebody at the door.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The `Origin` header.
    pub origin: Option<&'a str>,
    /// The `Host` header or `:authority`.
    pub host: Option<&'a str>,
    /// The address we listen on, as configured.
    pub listener: SocketAddr,
    /// The address they come from.
    pub peer: IpAddr,
}

/// Why somebody does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400: no room can have that name.
    #[error("a room name is 1 to 128 letters, digits or any of . _ ~ -")]
    BadName,
    /// 403: the page they come from may not.
    #[error("pages of this origin may not connect")]
    Origin,
    /// 404: no such door.
    #[error("not found")]
    NotFound,
    /// 429: their address knocks too often.
    #[error("too many connections from your address in a short time, try again")]
    TooOften {
        /// When to.
        retry_after_ms: u64,
    },
    /// 429: their address has as many sessions as it may.
    #[error("too many connections from your address")]
    TooMany,
    /// 503: we are leaving.
    #[error("shutting down, try again")]
    Draining,
    /// 503: every place is taken.
    #[error("full, try again")]
    Full,
}

impl Refusal {
    /// The status an HTTP/1.1 client gets.
    pub fn status(self) -> u16 {
        match self {
            Self::BadName => 400,
            Self::Origin => 403,
            Self::NotFound => 404,
            Self::TooOften { .. } | Self::TooMany => 429,
            Self::Draining | Self::Full => 503,
        }
    }

    /// The status a WebTransport client gets: one of few. Browsers show none of them.
    pub fn webtransport_status(self) -> u16 {
        match self.status() {
            400 => 404,
            503 => 429,
            status => status,
        }
    }

    /// The status as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::BadName => "400",
            Self::Origin => "403",
            Self::NotFound => "404",
            Self::TooOften { .. } | Self::TooMany => "429",
            Self::Draining | Self::Full => "503",
        }
    }

    /// When to try again, if that makes sense.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::TooOften { retry_after_ms } => Some(Duration::from_millis(retry_after_ms)),
            Self::TooMany | Self::Draining | Self::Full => Some(TRY_AGAIN),
            Self::BadName | Self::Origin | Self::NotFound => None,
        }
    }
}

/// The room whose door `path` is. A refusal is counted.
pub fn room(cx: &Context, door: Door, path: &str) -> Result<RoomName, Refusal> {
    find_room(door, path).inspect_err(|refusal| count(cx, *refusal))
}

/// A place for somebody at an existing door, among all and among those of their address, for as
/// long as they keep the answer. A refusal is counted.
pub fn admit(cx: &Context, caller: Caller<'_>) -> Result<Entered, Refusal> {
    let admitted = || {
        if !origin_may(caller, &cx.origins.get()) {
            return Err(Refusal::Origin);
        }
        cx.addresses.knock(caller.peer)?;
        let mut entered = cx.sessions.enter().map_err(|not_now| match not_now {
            NotNow::Full => Refusal::Full,
            NotNow::Draining => Refusal::Draining,
        })?;
        if let Some(counted) = cx.addresses.enter(caller.peer)? {
            entered.keep(counted);
        }
        Ok(entered)
    };
    admitted().inspect_err(|refusal| count(cx, *refusal))
}

impl From<TooMuch> for Refusal {
    fn from(too_much: TooMuch) -> Self {
        match too_much {
            TooMuch::Connects(retry_after_ms) => Self::TooOften { retry_after_ms },
            TooMuch::Connections => Self::TooMany,
        }
    }
}

fn count(cx: &Context, refusal: Refusal) {
    cx.metrics.refusals.of(refusal.label()).inc();
}

fn find_room(door: Door, path: &str) -> Result<RoomName, Refusal> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let end = match door {
        Door::WebSocket => "/ws",
        Door::WebTransport => "/wt",
    };
    let segment = path.strip_prefix("/rooms/").and_then(|rest| rest.strip_suffix(end));
    let segment = segment.filter(|segment| !segment.contains('/')).ok_or(Refusal::NotFound)?;
    RoomName::from_path_segment(segment).map_err(|_| Refusal::BadName)
}

fn origin_may(caller: Caller<'_>, allowed: &[String]) -> bool {
    let Some(origin) = caller.origin else { return true };
    let origin = origin.to_ascii_lowercase();
    if allowed.iter().any(|entry| *entry == origin || entry == "*") {
        return true;
    }
    let Some((host, port)) = parse_origin(&origin) else { return false };
    let same = caller.host.and_then(parse_authority).is_some_and(|(own_host, own_port)| {
        // Who names no port means the scheme's, and a proxy in front may have changed the
        // scheme: the page's is the one that counts.
        own_host == host && own_port.unwrap_or(port) == port
    });
    same || (caller.listener.ip().is_loopback() && is_loopback_name(&host))
}

/// The host and port of an origin; of the schemes that have pages of their own.
fn parse_origin(origin: &str) -> Option<(String, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let (host, port) = parse_authority(rest)?;
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some((host, port.unwrap_or(usual)))
}

/// The host, in lower case and with the brackets of IPv6, and the port that is named.
pub fn parse_authority(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    if text.contains('@') || authority.host().is_empty() {
        return None;
    }
    let named = text.len() > authority.host().len();
    match authority.port_u16() {
        None if named => None, // a colon with something else than a port after it
        port => Some((authority.host().to_ascii_lowercase(), port)),
    }
}

/// Whether a page of that host can only come from the visitor's own machine.
pub fn is_loopback_name(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_two_doors_and_nothing_else_is_one() {
        let at = |path| find_room(Door::WebSocket, path).map(|room| room.as_str().to_owned());
        assert_eq!(at("/rooms/lobby/ws"), Ok("lobby".into()));
        assert_eq!(at("/rooms/l%6Fbby/ws?token=x/y"), Ok("lobby".into()));
        for elsewhere in ["/", "/rooms/lobby", "/rooms/lobby/wt", "/rooms/a/b/ws", "/rooms/ws"] {
            assert_eq!(at(elsewhere), Err(Refusal::NotFound), "{elsewhere}");
        }
        for bad in ["/rooms//ws", "/rooms/../ws", "/rooms/a%2Fb/ws", "/rooms/%252e/ws"] {
            assert_eq!(at(bad), Err(Refusal::BadName), "{bad}");
        }
        assert!(find_room(Door::WebTransport, "/rooms/lobby/wt?a=1").is_ok());
    }

    fn may(listener: &str, host: &str, origin: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<_> = allowed.iter().map(|&s| s.to_owned()).collect();
        let listener = listener.parse().unwrap();
        let peer = IpAddr::from([192, 0, 2, 1]);
        origin_may(Caller { origin: Some(origin), host: Some(host), listener, peer }, &allowed)
    }

    const PUBLIC: &str = "0.0.0.0:4433";
    const LOOPBACK: &str = "127.0.0.1:4433";

    #[test]
    fn a_page_of_the_same_origin_may() {
        assert!(may(PUBLIC, "example.org", "https://example.org", &[]));
        assert!(may(PUBLIC, "example.org:443", "https://example.org", &[]));
        assert!(may(PUBLIC, "Example.org:4433", "http://example.ORG:4433", &[]));
        assert!(may(PUBLIC, "[2001:db8::1]:4433", "https://[2001:db8::1]:4433", &[]));
        for other in [
            "https://example.org:8443",
            "https://evil.example",
            "https://example.org.evil.example:4433",
            "null",
            "file://",
            "https://user@example.org:4433",
            "garbage",
            "",
        ] {
            assert!(!may(PUBLIC, "example.org:4433", other, &[]), "{other}");
        }
    }

    #[test]
    fn a_loopback_page_may_only_on_a_loopback_listener() {
        for page in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"] {
            assert!(may(LOOPBACK, "127.0.0.1:4433", page, &[]), "{page}");
            assert!(!may(PUBLIC, "example.org", page, &[]), "{page}");
        }
        assert!(!may(LOOPBACK, "127.0.0.1:4433", "http://localhost.evil.example", &[]));
    }

    #[test]
    fn listed_origins_may_and_programs_without_an_origin_too() {
        assert!(may(PUBLIC, "a.example", "https://App.example", &["https://app.example"]));
        assert!(may(PUBLIC, "a.example", "null", &["null"]));
        assert!(may(PUBLIC, "a.example", "https://any.example", &["*"]));
        assert!(!may(PUBLIC, "a.example", "https://app.example:8443", &["https://app.example"]));
        let listener = PUBLIC.parse().unwrap();
        let peer = IpAddr::from([192, 0, 2, 1]);
        let program = Caller { origin: None, host: None, listener, peer };
        assert!(origin_may(program, &[]));
    }

    #[test]
    fn webtransport_says_the_nearest_status_it_can() {
        let of = |refusal: Refusal| (refusal.status(), refusal.webtransport_status());
        assert_eq!(of(Refusal::BadName), (400, 404));
        assert_eq!(of(Refusal::Full), (503, 429));
        assert_eq!(of(Refusal::TooMany), (429, 429));
        assert_eq!(of(Refusal::Origin), (403, 403));
    }
}
