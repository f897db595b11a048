//! What is answered over HTTP/3 besides the one session of a connection.

use std::time::Duration;

use dormouse::config::Config;
use quinn::{ConnectionError, ReadError, ReadExactError};
use serde_json::{Value, json};

use crate::support::http3::{Http3, Session, answer, prefix};
use crate::support::{DEADLINE, House, Transport, house};

/// The code of a connection that ends in order (RFC 9114, 8.1), and of a request that was not read.
const NO_ERROR: u32 = 0x100;
const REQUEST_REJECTED: u32 = 0x10b;
const MESSAGE_ERROR: u32 = 0x10e;

/// Says hello on a new stream of the session, and reads its welcome.
async fn greet(http3: &Http3, session: &Session) -> Value {
    let hello = json!({ "type": "hello", "name": "ada" }).to_string();
    let record = [prefix(session.id), vec![hello.len() as u8 + 1, 1], hello.into_bytes()].concat();
    let (send, mut recv) = http3.begin(&record).await;
    let reading = async {
        let mut length = [0; 2];
        recv.read_exact(&mut length).await.unwrap();
        assert_eq!(length[0] >> 6, 1, "a welcome has 64 to 16,383 bytes");
        let mut body = vec![0; usize::from(u16::from_be_bytes(length) & 0x3fff)];
        recv.read_exact(&mut body).await.unwrap();
        serde_json::from_slice(&body[1..]).unwrap()
    };
    let welcome = tokio::time::timeout(DEADLINE, reading).await.expect("a welcome in time");
    std::mem::forget((send, recv)); // its end would be the session's
    welcome
}

/// Every document is the one that TCP serves, with the same fields.
async fn is_as_over_tcp(house: &House, http3: &Http3) {
    for (method, path) in [
        ("GET", "/.well-known/dormouse"),
        ("HEAD", "/.well-known/dormouse"),
        ("POST", "/.well-known/dormouse"),
        ("GET", "/dormouse.js"),
        ("HEAD", "/dormouse.js"),
        ("GET", "/"),
        ("GET", "/examples/plain.html?name=ada"),
        ("GET", "/demo/rooms"),
        ("PUT", "/"),
        ("GET", "/attic"),
        ("POST", "/attic"),
        ("GET", "/rooms/den/wt"),
    ] {
        let tcp = house.ask(method, path, "").await;
        let quic = http3.ask(&[(":method", method), (":path", path)]).await;
        assert_eq!((quic.status, &quic.body), (tcp.status, &tcp.body), "{method} {path}");
        for name in [
            "content-type",
            "content-length",
            "etag",
            "allow",
            "cache-control",
            "access-control-allow-origin",
            "content-security-policy",
            "x-content-type-options",
        ] {
            assert_eq!(quic.header(name), tcp.header(name), "{method} {path}: {name}");
        }
    }
    let tag = http3.get("/dormouse.js").await.header("etag").to_owned();
    let known = [(":method", "GET"), (":path", "/dormouse.js"), ("if-none-match", &*tag)];
    let known = http3.ask(&known).await;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    // A CONNECT that names nothing but a host is one to a proxy.
    assert_eq!(house.ask("CONNECT", "localhost:80", "").await.status, 404);
    assert_eq!(http3.ask(&[(":method", "CONNECT")]).await.status, 404);
    // Here is no WebSocket, whatever is said.
    let upgrade = [(":method", "GET"), (":path", "/rooms/den/ws"), ("sec-websocket-version", "13")];
    assert_eq!(http3.ask(&upgrade).await.status, 404);
    let websocket =
        [(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/rooms/den/ws")];
    assert_eq!(http3.ask(&websocket).await.status, 501);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_small_documents_are_there_before_and_beside_a_session() {
    let house = house(|_| {}).await;
    let http3 = house.http3().await;
    is_as_over_tcp(&house, &http3).await;
    let session = http3.session("/rooms/den/wt", &[]).await.unwrap();
    // Between the session and its first stream, too.
    assert_eq!(http3.get("/.well-known/dormouse").await.status, 200);
    let welcome = greet(&http3, &session).await;
    assert_eq!(welcome["type"], "welcome");
    is_as_over_tcp(&house, &http3).await;
    assert_eq!(house.inspect("den").await["seats"], 1, "the session goes on");
}

#[tokio::test]
async fn a_second_session_on_a_connection_is_refused_and_the_first_goes_on() {
    let house = house(|_| {}).await;
    let http3 = house.http3().await;
    let session = http3.session("/rooms/den/wt", &[]).await.unwrap();
    let second = async || http3.session("/rooms/attic/wt", &[]).await.err().expect("a refusal");
    assert_eq!(second().await.status, 429, "before the first has a stream");
    greet(&http3, &session).await;
    let answer = second().await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.body, "this connection has a session: open another connection");
    assert_eq!(house.metric("dormouse_refusals_total{status=\"429\"}").await, 2.0);
    assert_eq!(house.inspect("den").await["seats"], 1);
    let other = house.http3().await;
    assert!(other.session("/rooms/attic/wt", &[]).await.is_ok(), "another connection may");
}

#[tokio::test]
async fn a_refused_session_leaves_the_connection_for_another_try() {
    let house = house(|_| {}).await;
    let http3 = house.http3().await;
    for (path, fields, status) in [
        ("/rooms/a%2Fb/wt", &[][..], 404),
        ("/rooms/den", &[], 404),
        ("/rooms/den/wt", &[("origin", "https://evil.example")], 403),
        ("/rooms/den/wt", &[("wt-available-protocols", "\"other.v1\"")], 404),
    ] {
        let refused = http3.session(path, fields).await.err().expect("a refusal");
        assert_eq!(refused.status, status, "{path} {fields:?}");
    }
    let fields = [("wt-available-protocols", "\"dormouse.v1\"")];
    let session = http3.session("/rooms/den/wt", &fields).await.unwrap();
    assert!(session.fields.contains("wt-protocol: \"dormouse.v1\"\r\n"), "{}", session.fields);
    assert_eq!(greet(&http3, &session).await["type"], "welcome");
}

async fn ends_in_order(http3: &Http3) {
    let closed = tokio::time::timeout(DEADLINE, http3.connection().closed());
    match closed.await.expect("the connection ends in time") {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, NO_ERROR.into());
        }
        other => panic!("{other}"),
    }
}

/// Its keep-alive would hold it for ever.
#[tokio::test]
async fn a_connection_that_never_asks_for_a_session_ends() {
    let short = |config: &mut Config| config.quic.handshake = Duration::from_secs(2);
    let house = house(short).await;
    let silent = house.http3().await;
    let reader = house.http3().await;
    let stalled = house.http3().await;
    let refused = house.http3().await;
    assert_eq!(reader.get("/dormouse.js").await.status, 200);
    let _half = stalled.begin(&stalled.head(&[(":method", "GET"), (":path", "/")])[..3]).await;
    assert!(refused.session("/attic", &[]).await.is_err());
    let member = house.http3().await;
    let session = member.session("/rooms/den/wt", &[]).await.unwrap();
    assert_eq!(greet(&member, &session).await["type"], "welcome");
    for http3 in [silent, reader, stalled, refused] {
        ends_in_order(&http3).await;
    }
    assert_eq!(member.get("/dormouse.js").await.status, 200, "a session is not held to it");
}

#[tokio::test]
async fn a_head_has_so_many_bytes_and_one_that_is_longer_is_said_to_be() {
    let house = house(|_| {}).await;
    let http3 = house.http3().await;
    let session = http3.session("/rooms/den/wt", &[]).await.unwrap();
    greet(&http3, &session).await;
    // Not what QPACK could make shorter: the payload alone counts.
    let head = |payload: usize| {
        let mut bytes = vec![1, 0x40 | (payload >> 8) as u8, payload as u8];
        bytes.resize(payload + 3, 0);
        bytes
    };
    let (_send, mut recv) = http3.begin(&head(4_097)[..3]).await;
    let too_large = answer(&mut recv).await;
    assert_eq!(
        (too_large.status, too_large.header("content-type")),
        (431, "text/plain; charset=utf-8")
    );
    let long = "x".repeat(3_000);
    let fits = [(":method", "GET"), (":path", "/dormouse.js"), ("x-long", &*long)];
    assert_eq!(http3.ask(&fits).await.status, 200);
    assert_eq!(house.inspect("den").await["seats"], 1);
}

/// Whatever QUIC permits may be under way; each stream is given up alone.
#[tokio::test]
async fn requests_that_do_not_arrive_are_given_up() {
    let patience = Duration::from_millis(500);
    let house = house(move |config| config.session.hello_timeout = patience).await;
    let http3 = house.http3().await;
    let session = http3.session("/rooms/den/wt", &[]).await.unwrap();
    greet(&http3, &session).await;
    let whole = http3.head(&[(":method", "GET"), (":path", "/dormouse.js")]);
    let mut stalled = Vec::new();
    for cut in [1, 2, 3, whole.len() - 1] {
        stalled.push(http3.begin(&whole[..cut]).await);
    }
    for (_send, recv) in &mut stalled {
        assert_eq!(reset(recv).await, REQUEST_REJECTED);
    }
    drop(stalled); // a client that keeps its half open keeps the place
    let (no_request, mut recv) = http3.begin(&http3.head(&[(":method", "GE T")])).await;
    assert_eq!(reset(&mut recv).await, MESSAGE_ERROR);
    drop(no_request);
    // The places of all of them are free again, many times over.
    for _ in 0..20 {
        assert_eq!(http3.get("/dormouse.js").await.status, 200);
    }
    assert_eq!(house.inspect("den").await["seats"], 1);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up() {
    let patience = Duration::from_millis(500);
    let house = house(move |config| config.session.hello_timeout = patience).await;
    let http3 = house.http3_slow().await;
    let session = http3.session("/rooms/den/wt", &[]).await.unwrap();
    greet(&http3, &session).await;
    let whole = http3.head(&[(":method", "GET"), (":path", "/dormouse.js")]);
    let (_send, mut recv) = http3.begin(&whole).await;
    // Asked for and not read: what QUIC takes of it is less than all.
    let code = tokio::time::timeout(DEADLINE, recv.received_reset()).await;
    let code = code.expect("an end in time").unwrap().expect("a reset");
    assert_eq!(code, REQUEST_REJECTED.into());
    assert_eq!(house.inspect("den").await["seats"], 1);
}

/// With which code the gateway gives up a stream.
async fn reset(recv: &mut quinn::RecvStream) -> u32 {
    let read = tokio::time::timeout(DEADLINE, recv.read_exact(&mut [0])).await;
    match read.expect("an end in time") {
        Err(ReadExactError::ReadError(ReadError::Reset(code))) => {
            u32::try_from(code.into_inner()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// The streams of the session keep their order and their meaning between requests.
#[tokio::test]
async fn history_on_streams_of_their_own_goes_on_beside_requests() {
    let house = house(|_| {}).await;
    let mut ann = house.join(Transport::WebTransport, "den", "ann").await;
    ann.say("hi").await;
    let http3 = house.http3().await;
    let session = http3.session("/rooms/den/wt", &[]).await.unwrap();
    greet(&http3, &session).await;
    for id in 1..=10 {
        let (_send, mut recv) = http3.begin(&history(&session, id)).await;
        assert_eq!(http3.get("/.well-known/dormouse").await.status, 200);
        let page = tokio::time::timeout(DEADLINE, recv.read_to_end(64 * 1024)).await;
        let page = page.expect("a page in time").unwrap();
        let body = page.iter().position(|byte| *byte == b'{').unwrap();
        let page: Value = serde_json::from_slice(&page[body..]).unwrap();
        assert_eq!((&page["type"], &page["id"]), (&"page".into(), &id.into()));
    }
}

fn history(session: &Session, id: u64) -> Vec<u8> {
    let frame = json!({ "type": "history", "id": id }).to_string();
    [prefix(session.id), vec![frame.len() as u8 + 1, 1], frame.into_bytes()].concat()
}
