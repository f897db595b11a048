//! `dormouse::client` where things are not as they should be: proxies, addresses, calls that cannot be taken, and
//! rooms that are given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dormouse::client::{Data, Error, Event, Limits, Options, Pages, Transport as Over, connect};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::rust_client::{enter, impatient, options};
use crate::support::proxy::{Proxy, Says};
use crate::support::{DEADLINE, Front, Transport, both, house};

/// Longer than any test waits: what takes as long as this is not "at once".
const FAR: Duration = Duration::from_secs(3_600);

fn any() -> Options {
    let limits = Limits { connect: FAR, ..impatient() };
    Options { limits, ..Options::named("ada") }
}

/// An answer with this status and body.
macro_rules! answer {
    ($status:literal, $kind:literal, $body:literal) => {
        Says::This(concat!(
            "HTTP/1.1 ",
            $status,
            "\r\ncontent-type: ",
            $kind,
            "\r\nconnection: close\r\n\r\n",
            $body
        ))
    };
}

/// A proxy that knows `/rooms/` only, and something else that answers for the rest, or does not: it took until
/// the connection's limit, and then failed.
#[tokio::test]
async fn where_nothing_says_what_there_is_there_is_a_websocket() {
    let house = house(|_| {}).await;
    for says in [
        answer!("404 Not Found", "text/plain", "no such page"),
        answer!("403 Forbidden", "text/html", "<h1>dot paths are not for you</h1>"),
        answer!("200 OK", "text/html", "<!doctype html><title>An application</title>"),
        answer!("200 OK", "application/json", "[1, 2]"),
        answer!("200 OK", "application/json", "{\"webtransport\": 7, \"policy\": \"none\"}"),
        answer!("200 OK", "application/json", "{}"),
        answer!("302 Found\r\nlocation: https://login.example/", "text/html", ""),
        answer!("500 Internal Server Error", "text/plain", ""),
        Says::This("what is this?\r\n\r\n"),
        Says::Closes,
        Says::Waits,
    ] {
        let proxy = Proxy::of(house.address(), "/rooms/", says).await;
        let (room, _events) = enter(&format!("http://{}/rooms/lobby", proxy.address), any()).await;
        assert_eq!(room.transport(), Some(Over::WebSocket));
        assert_eq!(proxy.asked(), ["/.well-known/dormouse", "/rooms/lobby/ws"]);
        room.close().await;
    }
}

#[tokio::test]
async fn a_path_before_the_rooms_is_kept_for_everything() {
    let house = house(|_| {}).await;
    let nothing = answer!("404 Not Found", "text/plain", "");
    let proxy = Proxy::of(house.address(), "/realtime/", nothing).await;
    let (room, _events) =
        enter(&format!("ws://{}/realtime/rooms/lobby", proxy.address), any()).await;
    assert_eq!(room.transport(), Some(Over::WebSocket), "no UDP leads through this proxy");
    let asked = proxy.asked();
    assert_eq!(asked[0], "/realtime/.well-known/dormouse");
    assert!(asked[1..].iter().all(|path| path == "/realtime/rooms/lobby/ws"), "{asked:?}");
    let mut bob = house.join(Transport::WebSocket, "lobby", "bob").await;
    room.publish("hi").await.unwrap();
    assert_eq!(bob.message().await["data"], "hi");
}

both! {
    async fn a_gateway_that_serves_under_a_path_is_found_there(transport) {
        let base = "/realtime";
        let house = house(move |config| config.server.base_path = base.parse().unwrap()).await;
        let address = format!("http://{}{base}/rooms/lobby", house.address());
        let (room, _events) = enter(&address, options(transport, "ada")).await;
        assert_eq!(room.publish("hi").await.unwrap().seq, 1);
    }
}

/// The connection is open, the gateway has not answered the upgrade, and the program goes on without the room.
#[tokio::test]
async fn a_connect_that_is_given_up_seats_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("ws://{}/rooms/lobby/ws", listener.local_addr().unwrap());
    let connecting = tokio::spawn(async move { connect(&address, any()).await.map(drop) });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    connecting.abort();
    let _ = connecting.await; // it was aborted
    let answered = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
    let _ = stream.write_all(answered).await; // perhaps nobody reads it any more
    let mut rest = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it lets go");
    assert!(read.is_err() || rest.is_empty(), "nothing more is said: {rest:?}");
    assert!(
        timeout(Duration::from_millis(50), listener.accept()).await.is_err(),
        "nor tried again"
    );
}

/// A port where nobody listens: the system says so, and so do we.
#[tokio::test]
async fn a_refused_connection_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/rooms/lobby", listener.local_addr().unwrap());
    drop(listener);
    for transport in [Transport::WebSocket, Transport::WebTransport] {
        let options = Options { limits: any().limits, ..options(transport, "ada") };
        let refused = timeout(DEADLINE, connect(&address, options)).await.expect("at once");
        assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
    }
}

both! {
    async fn one_call_that_cannot_be_taken_fails_alone_with_and_without_a_connection(transport) {
        let house = house(|_| {}).await;
        let front = Front::of(house.address()).await;
        let (room, mut events) = enter(&front.room("lobby"), options(transport, "ada")).await;
        let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
        let map = BTreeMap::from([((1, 2), "a place")]);
        for is_connected in [true, false] {
            if !is_connected {
                front.cut();
            }
            // It is owed an answer, so a connection that is silent is given up in a moment.
            let good = room.publish("before");
            let is_lost = |event: &Event| matches!(event, Event::Disconnected { .. });
            if !is_connected {
                while !is_lost(&timeout(DEADLINE, events.next()).await.unwrap().unwrap()) {}
            }
            assert!(matches!(room.publish(deep.clone()).await, Err(Error::TooDeep)));
            let named = json!({ "a": { "b": deep.clone() } });
            assert!(matches!(room.publish(named).await, Err(Error::TooDeep)));
            let refused = room.direct(dormouse::client::To::Sid(room.sid()), deep.clone()).await;
            assert!(matches!(refused, Err(Error::TooDeep)));
            assert!(matches!(room.ephemeral("k", deep.clone()), Err(Error::TooDeep)));
            assert!(matches!(room.set(Some(deep.clone()), None).await, Err(Error::TooDeep)));
            let large = bytes::Bytes::from(vec![0; 70_000]);
            assert!(matches!(room.publish(large.clone()).await, Err(Error::TooLarge { .. })));
            assert!(Data::json(&json!({ "x": 1 })).is_ok());
            assert!(Data::json(&vec![Some(f64::NAN)]).is_err() && Data::json(&map).is_err());
            let more = room.publish("after");
            if !is_connected {
                front.lead_to(house.address());
            }
            for publishing in [good, more] {
                timeout(DEADLINE, publishing).await.unwrap().unwrap();
            }
        }
        let page = room.history(Pages::Before(u64::MAX), 9).await.unwrap();
        assert_eq!(page.messages.len(), 4, "a number beyond the protocol's is no fault of the call");
        let options = Options { attachment: Some(deep), ..options(transport, "ada") };
        let refused = connect(&front.room("lobby"), options).await;
        assert!(matches!(refused, Err(Error::TooDeep)));
    }

    // A publish that waited was over the limit of the gateway that came back: it ended the session for good, and
    // everything that waited behind it was lost.
    async fn what_a_restarted_gateway_takes_no_longer_fails_alone(transport) {
        let limit = Arc::new(AtomicUsize::new(65_536));
        let now = limit.clone();
        let mut house = house(move |config| {
            let bytes = now.load(Ordering::SeqCst);
            config.session.message_bytes = bytes;
            config.keeper.message_bytes = bytes;
        }).await;
        let front = Front::of(house.address()).await;
        let (room, mut events) = enter(&front.room("lobby"), options(transport, "ada")).await;
        while !matches!(timeout(DEADLINE, events.next()).await.unwrap(), Some(Event::Live)) {}
        front.cut();
        let (small, large, last) = (
            room.publish("small"),
            room.publish(bytes::Bytes::from(vec![0; 20_000])),
            room.publish("last"),
        );
        limit.store(10_000, Ordering::SeqCst);
        house.restart().await;
        front.lead_to(house.address());
        assert_eq!(timeout(DEADLINE, small).await.unwrap().unwrap().seq, 1);
        let refused = timeout(DEADLINE, large).await.unwrap();
        assert!(matches!(refused, Err(Error::TooLarge { limit: 10_000, .. })), "{refused:?}");
        assert_eq!(timeout(DEADLINE, last).await.unwrap().unwrap().seq, 2);
        room.flush().await;
    }

    async fn a_wait_for_events_ends_when_the_room_is_closed(transport) {
        let house = house(|_| {}).await;
        let address = format!("http://{}/rooms/lobby", house.address());
        let (room, mut events) = enter(&address, options(transport, "ada")).await;
        while !matches!(timeout(DEADLINE, events.next()).await.unwrap(), Some(Event::Live)) {}
        let waiting = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                assert!(!matches!(event, Event::Ended(_)), "{event:?}");
            }
        });
        let (first, second) = (room.clone(), room);
        timeout(DEADLINE, async { tokio::join!(first.close(), second.close()) }).await.expect("both return");
        timeout(DEADLINE, waiting).await.expect("at once").unwrap();
        let answer: Result<Value, _> = second.members().await.map(|_| json!(0));
        assert!(matches!(answer, Err(Error::Ended)));
    }
}
