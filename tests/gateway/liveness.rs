//! Who is silent, who is gone, and how long it takes to find out.

use std::time::Duration;

use serde_json::{Value, json};
use wtransport::error::ConnectionError;

use crate::support::{
    Bare, Client, House, Opcode, RawWebSocket, Relay, Takes, Transport, both, house,
};

/// A house that pings soon and does not wait long for the answer.
async fn impatient() -> House {
    house(|config| {
        config.session.ping_every = Duration::from_millis(50);
        config.session.pong_timeout = Duration::from_millis(400);
        config.keeper.grace = Duration::from_millis(50);
    })
    .await
}

async fn greeted(house: &House) -> RawWebSocket {
    let mut ann = RawWebSocket::open(house.address(), "lobby").await;
    ann.say(json!({ "type": "hello", "name": "ann" })).await;
    while json_of(&ann.next_of(Opcode::Text).await)["type"] != "live" {}
    ann
}

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// A second ping comes only after something was heard since the first.
#[tokio::test]
async fn a_websocket_is_pinged_and_stays_while_it_shows_any_sign_of_life() {
    let house = impatient().await;
    let mut ann = greeted(&house).await;
    for sign in [Opcode::Pong, Opcode::Text, Opcode::Ping, Opcode::Pong] {
        ann.next_of(Opcode::Ping).await;
        match sign {
            Opcode::Text => ann.say(json!({ "type": "ping", "id": 1 })).await,
            other => ann.send(other, b"").await,
        }
    }
    ann.next_of(Opcode::Ping).await;
    assert_eq!(house.metric("dormouse_sessions{transport=\"websocket\"}").await, 1.0);
}

#[tokio::test]
async fn a_websocket_that_answers_no_ping_is_closed_and_leaves() {
    let house = impatient().await;
    let mut watcher = house.seed("lobby").await;
    watcher.send(json!({ "type": "join", "name": "watcher" })).await;
    watcher.next_of("users").await;
    let mut ann = greeted(&house).await;
    // The watcher answers its pings only while it reads: both are read side by side.
    let gone = async {
        assert_eq!(watcher.roster().await, ["ann", "watcher"]);
        assert_eq!(watcher.roster().await, ["watcher"]);
    };
    let closed = async {
        ann.next_of(Opcode::Ping).await;
        let close = json_of(&ann.next_of(Opcode::Text).await);
        let expected = json!({ "type": "close", "code": 4004, "reason": "heartbeat_lost" });
        assert_eq!(close, expected);
        let last = ann.next_of(Opcode::Close).await;
        assert_eq!((&last[..2], &last[2..]), (&4004u16.to_be_bytes()[..], &b"heartbeat_lost"[..]));
    };
    tokio::join!(gone, closed);
}

/// The network between them goes dead: nobody closes anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_webtransport_connection_is_noticed_and_leaves() {
    let house = house(|config| {
        config.quic.keep_alive = Duration::from_millis(100);
        config.quic.idle_timeout = Duration::from_secs(1);
        config.keeper.grace = Duration::from_millis(50);
    })
    .await;
    let mut watcher = house.seed("lobby").await;
    watcher.send(json!({ "type": "join", "name": "watcher" })).await;
    watcher.next_of("users").await;
    let relay = Relay::to(house.address()).await;
    let hashes = house.hashes();
    let wire = Transport::WebTransport;
    let mut ann = Client::connect(wire, relay.address(), "lobby", &hashes, Takes::Plenty).await;
    ann.hello(json!({ "name": "ann" })).await;
    assert_eq!(watcher.roster().await, ["ann", "watcher"]);
    let session = ann.welcome["session"].clone();

    relay.go_dead();

    assert_eq!(watcher.roster().await, ["watcher"]);
    assert_eq!(house.metric("dormouse_sessions{transport=\"webtransport\"}").await, 0.0);
    let mut back = house.connect(wire, "lobby").await;
    back.hello(json!({ "session": session })).await;
    assert_eq!(back.welcome["seat"], "kept");
}

#[tokio::test]
async fn a_webtransport_client_that_opens_no_stream_is_told_in_the_close() {
    let house = house(|config| config.session.hello_timeout = Duration::from_millis(50)).await;
    let bare = Bare::open(house.address(), "lobby", &house.hashes(), Takes::Plenty).await.unwrap();
    match bare.connection.closed().await {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!((close.code().into_inner(), close.reason()), (4503, &b"no_hello"[..]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(house.metric("dormouse_sessions_closed_total{reason=\"no_hello\"}").await, 1.0);
}

both! {
    async fn a_client_that_never_says_hello_is_sent_away_and_a_seed_client_is_not(transport) {
        let house = house(|config| config.session.hello_timeout = Duration::from_millis(100)).await;
        let mut seed = house.seed("lobby").await;
        let greeted = house.join(transport, "lobby", "ann").await;
        let mut silent = house.connect(transport, "lobby").await;
        assert!(silent.hears_nothing().await, "a ping may come before hello");
        silent.closed_with(4503, "no_hello").await;
        seed.send(json!({ "type": "join", "name": "cyd" })).await;
        assert_eq!(seed.roster().await, ["ann", "cyd"]);
        let mut greeted = greeted;
        assert!(greeted.hears_nothing().await);
    }

    async fn a_ping_is_answered_awake_and_asleep_without_waking(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let wakes = "dormouse_room_wakes_total{cause=\"publish\"}";
        for (asleep, id) in [(true, 1u64), (false, 9_007_199_254_740_991), (true, 3)] {
            if !asleep {
                ann.say("awake").await;
                ann.message().await;
            } else {
                house.hibernate("lobby").await;
            }
            let before = house.metric(wakes).await;
            ann.send(json!({ "type": "ping", "id": id })).await;
            assert_eq!(ann.next().await, json!({ "type": "pong", "id": id }));
            let state = if asleep { "asleep" } else { "awake" };
            assert_eq!(house.inspect("lobby").await["state"], state);
            assert_eq!(house.metric(wakes).await, before);
        }
    }
}
