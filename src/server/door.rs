//! What is asked of everybody before the upgrade, whichever transport they come by.
//!
//! Is there such a room? May this page be here? Is there a place? [`room`] answers the
//! first, [`admit`] the others; each transport asks both, in that order, and has no session
//! without the [`Admission`] that comes of it. Refusals protect the process or somebody else's
//! place in it, so they are cheap and say little; what a *client* should act on is said in-band,
//! after the upgrade, because browsers hide these answers from pages.
//!
//! Browsers send `Origin`, and pages cannot forge it, so it is checked ([`origins`](super::origins));
//! a client that sends none is no browser and could say anything, so it is let pass. A loopback
//! listener looks at `Host` too, before anything is answered: see [`hosts`](super::hosts).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::Request;

use super::addresses::TooMuch;
use super::origins::{Origin, Origins};
use super::{Context, Response, hosts, text, with};
use crate::protocol::RoomName;
use crate::session::{Entered, NotNow, Transport};

/// When a drained or full gateway is worth another try. Deploys take seconds.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// A client that may enter: its room, and its place among the sessions of the process and of its
/// address for as long as this is kept.
///
/// Only [`admit`] makes one, and a transport makes a session of nothing else.
pub struct Admission {
    room: RoomName,
    entered: Entered,
}

impl Admission {
    /// The room and the place in it, for the session.
    pub(super) fn into_parts(self) -> (RoomName, Entered) {
        (self.room, self.entered)
    }

    /// Waits until everybody is sent home.
    pub(super) async fn drained(&mut self) {
        self.entered.drained().await;
    }
}

/// What a request says of the page that it is from.
#[derive(Debug, Clone, Copy)]
struct Caller<'a> {
    /// The `Origin` header.
    origin: Option<&'a str>,
    /// The `Host` header or `:authority`.
    host: Option<&'a str>,
    /// The address we listen on, as configured.
    listener: SocketAddr,
}

/// Why somebody does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400: no room can have that name.
    #[error("a room name is 1 to 128 letters, digits or any of . _ ~ -")]
    BadName,
    /// 403: a loopback listener under another name than its own.
    #[error("this gateway listens on loopback and does not answer to this Host: see gateway.hosts")]
    Host,
    /// 403: the page they come from may not.
    #[error("pages of this origin may not connect: see gateway.origins")]
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
    /// 429: their connection has a session already.
    #[error("this connection has a session: open another connection")]
    OneSession,
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
            Self::Host | Self::Origin => 403,
            Self::NotFound => 404,
            Self::OneSession | Self::TooOften { .. } | Self::TooMany => 429,
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
            Self::Host | Self::Origin => "403",
            Self::NotFound => "404",
            Self::OneSession | Self::TooOften { .. } | Self::TooMany => "429",
            Self::Draining | Self::Full => "503",
        }
    }

    /// When to try again, if that makes sense.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::TooOften { retry_after_ms } => Some(Duration::from_millis(retry_after_ms)),
            Self::TooMany | Self::Draining | Self::Full => Some(TRY_AGAIN),
            Self::BadName | Self::Host | Self::Origin | Self::NotFound | Self::OneSession => None,
        }
    }

    /// The answer that says so.
    pub fn answer(self) -> Response {
        let response = text(self.status(), self.to_string());
        match self.retry_after() {
            Some(wait) => {
                with(response, "retry-after", &wait.as_millis().div_ceil(1_000).to_string())
            }
            None => response,
        }
    }
}

/// The host that a request names, as it was sent: in its target if it stands there, as over HTTP/3,
/// else in `Host`. `None` and `""` are those of programs; browsers always name one.
pub fn host<T>(request: &Request<T>) -> Option<Cow<'_, str>> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str().into());
    }
    let mut sent = request.headers().get_all("host").into_iter();
    match (sent.next(), sent.next()) {
        (Some(_), Some(_)) => Some("two Host headers".into()), // no host that could be listed
        (only, _) => only.map(|value| String::from_utf8_lossy(value.as_bytes())),
    }
}

/// Whether a listener answers to the host that a request names: at a loopback listener no foreign
/// name may, for a page can have its own name point there. A refusal is counted and logged.
pub fn answers_to<T>(
    cx: &Context,
    listener: SocketAddr,
    request: &Request<T>,
) -> Result<(), Refusal> {
    let Some(host) = host(request).filter(|host| !host.is_empty()) else { return Ok(()) };
    if host_may(listener, &host, &cx.settings.hosts) {
        return Ok(());
    }
    cx.refusals.host(&cx.metrics, &host);
    Err(Refusal::Host)
}

fn host_may(listener: SocketAddr, host: &str, listed: &hosts::Hosts) -> bool {
    let is_own = |host: String| hosts::is_loopback(&host) || listed.has(&host);
    !is_loopback(listener) || hosts::authority(host).is_some_and(|(host, _)| is_own(host))
}

fn is_loopback(listener: SocketAddr) -> bool {
    listener.ip().to_canonical().is_loopback()
}

/// The room whose door for a transport a request is at, below the root or the base path, if the
/// listener answers to the request's host. A refusal is counted.
pub fn room<T>(
    cx: &Context,
    transport: Transport,
    request: &Request<T>,
    listener: SocketAddr,
) -> Result<RoomName, Refusal> {
    let is_found = |room: &Result<_, _>| *room != Err(Refusal::NotFound);
    let find = |path| Some(find_room(transport, path)).filter(is_found);
    let at = |path| cx.settings.base_path.find(path, find).unwrap_or(Err(Refusal::NotFound));
    let room = answers_to(cx, listener, request).and_then(|()| at(request.uri().path()));
    room.inspect_err(|refusal| count(cx, *refusal))
}

/// Admits the client of a request to a room, which takes a place among all sessions and among those
/// of its address `peer`. A refusal is counted, and has taken no place.
pub fn admit<T>(
    cx: &Context,
    room: RoomName,
    request: &Request<T>,
    listener: SocketAddr,
    peer: IpAddr,
) -> Result<Admission, Refusal> {
    let host = host(request);
    // Text or not, a client that sends an origin is a browser.
    let origin =
        request.headers().get("origin").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let caller = Caller { origin: origin.as_deref(), host: host.as_deref(), listener };
    let admitted = || {
        if !origin_may(caller, &cx.origins.get()) {
            let (origin, host) = (caller.origin.unwrap_or(""), caller.host.unwrap_or(""));
            cx.refusals.origin(&cx.metrics, origin, host);
            return Err(Refusal::Origin);
        }
        cx.addresses.knock(peer)?;
        let mut entered = cx.sessions.enter().map_err(|not_now| match not_now {
            NotNow::Full => Refusal::Full,
            NotNow::Draining => Refusal::Draining,
        })?;
        if let Some(counted) = cx.addresses.enter(peer)? {
            entered.keep(counted);
        }
        Ok(Admission { room, entered })
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

/// Counts a refusal before the upgrade.
pub fn count(cx: &Context, refusal: Refusal) {
    cx.metrics.refusals.of(refusal.label()).inc();
}

fn find_room(transport: Transport, path: &str) -> Result<RoomName, Refusal> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let end = match transport {
        Transport::WebSocket => "/ws",
        Transport::WebTransport => "/wt",
    };
    let segment = path.strip_prefix("/rooms/").and_then(|rest| rest.strip_suffix(end));
    let segment = segment.filter(|segment| !segment.contains('/')).ok_or(Refusal::NotFound)?;
    RoomName::from_path_segment(segment).map_err(|_| Refusal::BadName)
}

fn origin_may(caller: Caller<'_>, allowed: &Origins) -> bool {
    let Some(origin) = caller.origin else { return true };
    if allowed.have(origin) {
        return true;
    }
    let Some(page) = Origin::read(origin) else { return false };
    let own = caller.host.and_then(hosts::authority);
    own.is_some_and(|(host, port)| page.is_of(&host, port))
        || (is_loopback(caller.listener) && page.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_two_doors_and_nothing_else_is_one() {
        let at = |path| find_room(Transport::WebSocket, path).map(|room| room.as_str().to_owned());
        assert_eq!(at("/rooms/lobby/ws"), Ok("lobby".into()));
        assert_eq!(at("/rooms/l%6Fbby/ws?token=x/y"), Ok("lobby".into()));
        for elsewhere in ["/", "/rooms/lobby", "/rooms/lobby/wt", "/rooms/a/b/ws", "/rooms/ws"] {
            assert_eq!(at(elsewhere), Err(Refusal::NotFound), "{elsewhere}");
        }
        for bad in ["/rooms//ws", "/rooms/../ws", "/rooms/a%2Fb/ws", "/rooms/%252e/ws"] {
            assert_eq!(at(bad), Err(Refusal::BadName), "{bad}");
        }
        assert!(find_room(Transport::WebTransport, "/rooms/lobby/wt?a=1").is_ok());
    }

    fn may(listener: &str, host: &str, origin: &str, allowed: &str) -> bool {
        let allowed = allowed.parse().unwrap();
        let listener = listener.parse().unwrap();
        origin_may(Caller { origin: Some(origin), host: Some(host), listener }, &allowed)
    }

    const PUBLIC: &str = "0.0.0.0:4433";
    const LOOPBACK: &str = "127.0.0.1:4433";

    #[test]
    fn a_page_of_the_same_origin_may() {
        assert!(may(PUBLIC, "example.org", "https://example.org", ""));
        assert!(may(PUBLIC, "example.org:443", "https://example.org", ""));
        assert!(may(PUBLIC, "Example.org:4433", "http://example.ORG:4433", ""));
        assert!(may(PUBLIC, "[2001:db8::1]:4433", "https://[2001:db8::1]:4433", ""));
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
            assert!(!may(PUBLIC, "example.org:4433", other, ""), "{other}");
        }
    }

    #[test]
    fn a_loopback_page_may_only_on_a_loopback_listener() {
        for page in [
            "http://localhost:3000",
            "http://app.localhost:5173",
            "https://a.b.localhost",
            "http://127.0.0.1",
            "http://127.1.2.3:8080",
            "https://[::1]:8443",
        ] {
            assert!(may(LOOPBACK, "127.0.0.1:4433", page, ""), "{page}");
            assert!(!may(PUBLIC, "example.org", page, ""), "{page}");
        }
        for other in ["http://localhost.evil.example", "http://0.0.0.0:3000", "null"] {
            assert!(!may(LOOPBACK, "127.0.0.1:4433", other, ""), "{other}");
        }
    }

    #[test]
    fn listed_origins_may_and_programs_without_an_origin_too() {
        assert!(may(PUBLIC, "a.example", "https://App.example", "https://app.example"));
        assert!(may(PUBLIC, "a.example", "null", "null"));
        assert!(may(PUBLIC, "a.example", "https://any.example", "*"));
        assert!(!may(PUBLIC, "a.example", "https://app.example:8443", "https://app.example"));
        let program = Caller { origin: None, host: None, listener: PUBLIC.parse().unwrap() };
        assert!(origin_may(program, &Origins::default()));
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_names_and_listed_ones() {
        let may = |listener: &str, host, listed: &str| {
            host_may(listener.parse().unwrap(), host, &listed.parse().unwrap())
        };
        for listener in [LOOPBACK, "[::1]:4433", "[::ffff:127.0.0.1]:4433"] {
            for own in [
                "localhost",
                "LOCALHOST.:1",
                "app.localhost:4433",
                "127.0.0.1:80",
                "127.5.5.5",
                "[::1]:4433",
                "[0:0::1]",
            ] {
                assert!(may(listener, own, ""), "{listener} {own}");
            }
            for foreign in [
                "evil.example:4433",
                "localhost.evil.example",
                "192.0.2.1:4433",
                "0.0.0.0:4433",
                "user@localhost",
                "localhost, evil.example",
                "localhost:x",
                "a b",
            ] {
                assert!(!may(listener, foreign, ""), "{listener} {foreign}");
                assert!(may(PUBLIC, foreign, ""), "{foreign}");
            }
            assert!(may(listener, "Rooms.example:443", "rooms.example"));
            assert!(may(listener, "a.rooms.example", "*.rooms.example"));
            assert!(!may(listener, "evil.example", "rooms.example, *.rooms.example"));
        }
    }

    #[test]
    fn the_host_of_a_request_stands_in_its_target_or_its_header() {
        let of = |uri: &str, hosts: &[&[u8]]| {
            let mut request = Request::builder().uri(uri).body(()).unwrap();
            for host in hosts {
                request.headers_mut().append("host", (*host).try_into().unwrap());
            }
            host(&request).map(Cow::into_owned)
        };
        assert_eq!(of("/", &[]), None);
        assert_eq!(of("/", &[b""]).as_deref(), Some(""));
        assert_eq!(of("/", &[b"localhost:1"]).as_deref(), Some("localhost:1"));
        assert_eq!(of("http://evil.example/", &[b"localhost"]).as_deref(), Some("evil.example"));
        for bad in [&[&b"localhost"[..], b"localhost"][..], &[b"local\xffhost"]] {
            let host = of("/", bad).unwrap();
            assert!(!host_may(LOOPBACK.parse().unwrap(), &host, &hosts::Hosts::default()));
        }
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
