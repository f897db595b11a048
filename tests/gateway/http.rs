//! What the TCP side answers.

use serde_json::json;

use crate::support::{HANDSHAKE, Transport, certificate, house, speak};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_room_asked_for_without_an_upgrade_says_426_to_the_letter() {
    let house = house(|_| {}).await;
    let answer = house.get("/rooms/lobby/ws", "").await;
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("upgrade"), "websocket");
    assert_eq!(answer.body, "Upgrade header must be websocket");
}

#[tokio::test]
async fn a_handshake_is_answered_with_the_key_and_the_protocol_that_was_offered() {
    let house = house(|_| {}).await;
    let answer = house.websocket("lobby", "sec-websocket-protocol: x, dormouse.v1\r\n").await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(answer.header("sec-websocket-protocol"), "dormouse.v1");
    let seed = house.websocket("lobby", "").await;
    assert_eq!((seed.status, seed.header("sec-websocket-protocol")), (101, ""));
}

#[tokio::test]
async fn bad_names_unknown_paths_and_other_methods_are_refused() {
    let house = house(|_| {}).await;
    assert_eq!(house.websocket("a%2Fb", "").await.status, 400);
    assert_eq!(house.websocket("%252e", "").await.status, 400);
    assert_eq!(house.get("/rooms/lobby/wt", HANDSHAKE).await.status, 404);
    assert_eq!(house.get("/attic", "").await.status, 404);
    let post = house.ask("POST", "/.well-known/dormouse", "content-length: 0\r\n").await;
    assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"));
    let post = house.ask("POST", "/rooms/lobby/ws", HANDSHAKE).await;
    assert_eq!((post.status, post.header("allow")), (405, "GET"));
    assert_eq!(house.ask("POST", "/attic", "").await.status, 404);

    let metrics = house.operator("GET", "/metrics", "").await.body;
    assert!(metrics.contains("dormouse_refusals_total{status=\"400\"} 2"), "{metrics}");
    assert!(metrics.contains("dormouse_refusals_total{status=\"404\"} 1"), "{metrics}");
}

#[tokio::test]
async fn well_known_tells_a_client_how_to_come_in() {
    let house = house(|_| {}).await;
    let port = house.address().port();
    let answer = house.get("/.well-known/dormouse", &format!("host: localhost:{port}\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("cache-control"), "no-store");
    let told = answer.json();
    assert_eq!(told["versions"][0], "dormouse.v1");
    assert_eq!(told["heartbeat"], 25_000);
    assert_eq!(told["webtransport"]["url"], format!("https://127.0.0.1:{port}"));
    assert_eq!(told["webtransport"]["certificate_hashes"].as_array().unwrap().len(), 1);
    assert_eq!(told["policy"]["webtransport"]["safari"], false);
    let nobody = house.get("/.well-known/dormouse", "host: \r\n").await;
    assert_eq!(nobody.status, 400);
}

#[tokio::test]
async fn the_page_is_served_unless_it_is_off() {
    let open = house(|_| {}).await;
    let page = open.get("/", "").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let head = open.ask("HEAD", "/", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), page.body.len().to_string());
    let off = house(|config| config.server.demo = false).await;
    assert_eq!(off.get("/", "").await.status, 404);
}

#[tokio::test]
async fn the_demo_sees_all_rooms_from_this_machine_and_wakes_none() {
    let open = house(|_| {}).await;
    let mut ann = open.join(Transport::WebSocket, "meadow", "ann").await;
    ann.say("good night").await;
    open.hibernate("meadow").await;
    let _bob = open.join(Transport::WebTransport, "attic", "bob").await;
    let rooms = open.get("/demo/rooms", "").await;
    assert_eq!((rooms.status, rooms.header("cache-control")), (200, "no-store"));
    let asleep = |room| json!({ "room": room, "state": "asleep", "seats": 1 });
    assert_eq!(rooms.json(), json!({ "rooms": [asleep("attic"), asleep("meadow")] }));
    let stranger = open.get("/demo/rooms", "x-forwarded-for: 192.0.2.7\r\n").await;
    assert_eq!(stranger.status, 404);
    let off = house(|config| config.server.demo = false).await;
    assert_eq!(off.get("/demo/rooms", "").await.status, 404);
}

#[tokio::test]
async fn rude_requests_get_an_answer_or_the_door_and_nobody_else_notices() {
    let house = house(|_| {}).await;
    let many_cookies = format!("cookie: {}\r\n", "x".repeat(40_000));
    assert_eq!(house.get("/", &many_cookies).await.status, 431);
    for rude in
        ["\r\n\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\u{0}", "GET / HTTP/9.9\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(house.address()).await.unwrap();
        use tokio::io::AsyncWriteExt as _;
        stream.write_all(rude.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = speak(stream, "").await;
        assert!(matches!(answer.status, 0 | 400 | 505), "{rude:?}: {answer:?}");
    }
    assert_eq!(house.get("/", "").await.status, 200);
}

/// Both transports show the operator's certificate; here TCP, by a client that trusts it.
#[tokio::test]
async fn with_a_certificate_tcp_speaks_tls() {
    use std::sync::Arc;
    let (_certs, files, own) = certificate(&["localhost"]);
    let house = house(move |config| config.certificate = Some(files.clone())).await;
    assert_eq!(house.gateway().url(), format!("https://localhost:{}", house.address().port()));

    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(own).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(house.address()).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let request =
        "GET /.well-known/dormouse HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let told = speak(stream, request).await.json();
    assert_eq!(told["webtransport"], serde_json::json!({ "url": "https://127.0.0.1:443" }));
}
