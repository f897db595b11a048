//! Which pages may connect, and under which names a gateway answers: over both transports.

use std::io::Read as _;

use rustix::process::Signal;

use crate::support::http3::Http3;
use crate::support::process::{ANYWHERE, dormouse, find, open, run};
use crate::support::{Answer, HANDSHAKE, House, Knock, Takes, Transport, ask, both, house, speak};

/// The status with which a room lets in a request with this `Host` and `Origin`, 200 for both
/// transports when it does.
async fn enter(house: &House, transport: Transport, host: &str, origin: Option<&str>) -> u16 {
    enter_at(house, transport, "/rooms/den", host, origin).await
}

pub async fn enter_at(
    house: &House,
    transport: Transport,
    room: &str,
    host: &str,
    origin: Option<&str>,
) -> u16 {
    let knock = Knock { room, host: Some(host), origin, ..Knock::over(transport) };
    knock.status(house).await
}

/// A document over the transport's own HTTP.
async fn get(house: &House, transport: Transport, path: &str, host: &str) -> Answer {
    match transport {
        Transport::WebSocket => house.get(path, &format!("host: {host}\r\n")).await,
        Transport::WebTransport => {
            let fields = [(":method", "GET"), (":path", path), (":authority", host)];
            house.http3().await.ask(&fields).await
        }
    }
}

/// How many requests of pages were refused for their `origin` or `host`.
async fn refused(house: &House, reason: &str) -> f64 {
    house.metric(&format!("dormouse_pages_refused_total{{reason=\"{reason}\"}}")).await
}

both! {
    async fn a_listed_origin_may_connect_however_it_was_written(transport) {
        let house = house(|config| {
            let listed = "https://*.example.org, HTTPS://app.example:443, http://plain.example:80, \
                          https://bücher.example, null";
            config.server.origins = listed.parse().unwrap();
        })
        .await;
        for origin in [
            "https://a.example.org",
            "https://a.b.example.org",
            "https://app.example",
            "http://plain.example",
            "https://xn--bcher-kva.example",
            "null",
        ] {
            assert_eq!(enter(&house, transport, "127.0.0.1", Some(origin)).await, 200, "{origin}");
        }
        let others = ["https://example.org", "http://app.example", "https://app.example.org:8443"];
        for origin in others {
            assert_eq!(enter(&house, transport, "127.0.0.1", Some(origin)).await, 403, "{origin}");
        }
        assert_eq!(refused(&house, "origin").await, others.len() as f64);
    }

    async fn pages_of_this_machine_may_connect_to_a_loopback_listener(transport) {
        let house = house(|_| {}).await;
        for origin in [
            "http://localhost:3000",
            "http://app.localhost:5173",
            "https://a.b.localhost",
            "http://127.0.0.1:8080",
            "http://127.8.9.1",
            "http://[::1]:3000",
        ] {
            assert_eq!(enter(&house, transport, "127.0.0.1", Some(origin)).await, 200, "{origin}");
        }
        for origin in ["null", "http://localhost.evil.example", "https://evil.example"] {
            assert_eq!(enter(&house, transport, "127.0.0.1", Some(origin)).await, 403, "{origin}");
        }
    }

    /// A page of `evil.example:4433`, whose name points at 127.0.0.1, is of the same origin to its
    /// browser: `Host` and `Origin` agree.
    async fn a_page_that_has_its_name_point_at_loopback_is_refused(transport) {
        let house = house(|config| {
            config.server.hosts = "rooms.example, *.apps.example".parse().unwrap();
        })
        .await;
        let page = |host: &str| format!("http://{host}");
        for host in ["evil.example:4433", "localhost.evil.example", "apps.example", "192.0.2.1:4433"] {
            assert_eq!(enter(&house, transport, host, Some(&page(host))).await, 403, "{host}");
            assert_eq!(enter(&house, transport, host, None).await, 403, "{host}");
            for path in ["/.well-known/dormouse", "/", "/dormouse.js", "/demo/rooms", "/attic"] {
                let answer = get(&house, transport, path, host).await;
                assert_eq!(answer.status, 403, "{host} {path}");
                assert!(answer.body.contains("gateway.hosts"), "{}", answer.body);
            }
        }
        assert_eq!(refused(&house, "host").await, 4.0 * 7.0);
        let own = ["localhost:4433", "app.localhost", "127.0.0.1", "127.3.2.1:80", "[::1]:4433"];
        for host in own.into_iter().chain(["ROOMS.example", "a.apps.example:443"]) {
            assert_eq!(enter(&house, transport, host, Some(&page(host))).await, 200, "{host}");
            assert_eq!(get(&house, transport, "/", host).await.status, 200, "{host}");
        }
        assert_eq!(refused(&house, "host").await, 4.0 * 7.0);
    }

    /// It has no name of its own that it could know.
    async fn a_public_listener_answers_to_every_name(transport) {
        let house = house(|config| config.listen = vec!["0.0.0.0:0".parse().unwrap()]).await;
        for host in ["rooms.example", "192.0.2.1:4433", "localhost"] {
            let origin = format!("https://{host}");
            assert_eq!(enter(&house, transport, host, Some(&origin)).await, 200, "{host}");
            assert_eq!(get(&house, transport, "/", host).await.status, 200, "{host}");
        }
        assert_eq!(enter(&house, transport, "rooms.example", Some("http://localhost")).await, 403);
    }

    async fn everything_is_served_below_the_base_path_as_well(transport) {
        let house = house(|config| config.server.base_path = "/real/time/".parse().unwrap()).await;
        let (port, host) = (house.address().port(), format!("{}", house.address()));
        for base in ["", "/real/time"] {
            let room = format!("{base}/rooms/den");
            assert_eq!(enter_at(&house, transport, &room, &host, None).await, 200, "{room}");
            let told = get(&house, transport, &format!("{base}/.well-known/dormouse"), &host).await;
            let url = format!("https://127.0.0.1:{port}/real/time");
            assert_eq!(told.json()["webtransport"]["url"], url, "complete, wherever it is asked");
            for path in ["/", "/app.js", "/dormouse.js", "/examples/plain.html", "/demo/rooms"] {
                let path = format!("{base}{path}");
                assert_eq!(get(&house, transport, &path, &host).await.status, 200, "{path}");
            }
        }
        let page = get(&house, transport, "/real/time?room=den", &host).await;
        assert_eq!((page.status, page.header("location")), (308, "/real/time/?room=den"));
        for elsewhere in ["/real/", "/real/time/attic", "/real/timeless/", "/real/time/real/time/"] {
            assert_eq!(get(&house, transport, elsewhere, &host).await.status, 404, "{elsewhere}");
        }
        let evil = get(&house, transport, "/real/time/", "evil.example").await;
        assert_eq!(evil.status, 403, "the same rules hold there");
    }
}

/// The links of pages are relative, so that they are right below a base path and behind a proxy
/// that takes it off.
#[tokio::test]
async fn no_file_of_the_pages_names_a_path_from_the_root() {
    let house = house(|_| {}).await;
    for path in
        ["/", "/app.js", "/rooms.js", "/place.js", "/examples/plain.html", "/examples/seed.html"]
    {
        let body = house.get(path, "").await.body;
        for rooted in ["src=\"/", "href=\"/", "from \"/", "fetch(\"/", "location.origin"] {
            assert!(!body.contains(rooted), "{path} has {rooted}");
        }
    }
}

#[tokio::test]
async fn the_operator_listener_answers_to_the_same_names() {
    let house = house(|config| config.server.hosts = "ops.example".parse().unwrap()).await;
    let status = async |host: &str| {
        let answer = house.operator("GET", "/readyz", &format!("host: {host}\r\n")).await;
        assert!(answer.status == 200 || answer.body.contains("gateway.hosts"), "{answer:?}");
        answer.status
    };
    for own in
        ["localhost:4434", "app.localhost", "127.0.0.1:1", "127.0.0.2", "[::1]", "ops.example"]
    {
        assert_eq!(status(own).await, 200, "{own}");
    }
    for foreign in
        ["evil.example:4434", "192.0.2.1", "localhost, evil.example", "a b", "local\u{e9}"]
    {
        assert_eq!(status(foreign).await, 403, "{foreign}");
    }
    assert_eq!(refused(&house, "host").await, 5.0);
}

/// Health checks of old send no `Host`; browsers always do.
#[tokio::test]
async fn a_program_that_names_no_host_is_answered() {
    let house = house(|_| {}).await;
    for request in
        ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n"]
    {
        let stream = tokio::net::TcpStream::connect(house.address()).await.unwrap();
        assert_eq!(speak(stream, request).await.status, 200, "{request:?}");
    }
    let two = "host: localhost\r\nhost: localhost\r\n";
    assert_eq!(house.get("/", two).await.status, 403, "of two none is the one");
    let stream = tokio::net::TcpStream::connect(house.address()).await.unwrap();
    let other = "GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(speak(stream, other).await.status, 403, "the target's host is the one");
}

#[test]
fn an_entry_that_could_never_match_is_said_by_check_and_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["check"][..], &["serve"]] {
        for (entry, why) in [
            ("https://user@h", "an origin has no user and no password"),
            ("https://a b", "that is no name and no address of a host"),
            ("https://\"app.example\"", "that is no name and no address of a host"),
        ] {
            let arguments = [command, &["--gateway-origins", entry], &ANYWHERE].concat();
            let (code, said) = run(dir.path(), &arguments);
            assert_ne!(code, Some(0), "{command:?} {entry}");
            assert!(said.contains(&format!("{entry:?}: {why}")), "{said}");
            assert!(said.contains("expected web origins like"), "{said}");
        }
    }
    let good = "https://*.example.org,https://bücher.example,https://app.example.com:443,null";
    let (code, said) = run(dir.path(), &["check", "--gateway-origins", good]);
    assert_eq!(code, Some(0), "{said}");
}

/// Browsers show a page no status and no text: an operator has to find the cause in the log.
#[tokio::test]
async fn a_refusal_is_one_line_of_the_log_that_names_what_was_refused_and_the_setting() {
    let dir = tempfile::tempdir().unwrap();
    let (mut running, line) = open(dormouse(dir.path(), &ANYWHERE));
    let (address, hashes) = find(&line).await;
    let evil = |n| format!("https://evil-{n}.example");
    for n in 0..3 {
        let headers = format!("{HANDSHAKE}origin: {}\r\n", evil(n));
        assert_eq!(ask(address, "GET", "/rooms/den/ws", &headers).await.status, 403);
        let http3 = Http3::open(address, &hashes, Takes::Plenty).await;
        let fields = [("origin", &*evil(n))];
        assert!(http3.session("/rooms/den/wt", &fields).await.is_err());
        assert_eq!(ask(address, "GET", "/", "host: proxy.example\r\n").await.status, 403);
    }
    let mut stderr = running.0.stderr.take().unwrap();
    assert_eq!(running.told(Signal::TERM), Some(0));
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let lines = |setting: &str| {
        let lines = said.lines().filter(|line| line.contains(setting)).collect::<Vec<_>>();
        assert_eq!(lines.len(), 1, "of three and more, one: {said}");
        assert!(lines[0].contains("WARN") && lines[0].contains("left_out=0"), "{}", lines[0]);
        lines[0].to_owned()
    };
    let origin = lines("gateway.origins");
    assert!(origin.contains(&format!("origin=\"{}\"", evil(0))), "{origin}");
    assert!(
        origin.contains(&format!("host=\"{address}\"")),
        "a proxy may have changed it: {origin}"
    );
    let host = lines("gateway.hosts");
    assert!(host.contains("host=\"proxy.example"), "{host}");
}
