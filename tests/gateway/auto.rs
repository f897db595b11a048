//! Auto-responses: what an operator has answered below the room.

use std::sync::Arc;
use std::time::Duration;

use dormouse::config::Config;
use dormouse::protocol::Kinds;
use dormouse::session::AutoResponses;
use serde_json::json;

use crate::support::{Client, DEADLINE, Opcode, RawWebSocket, Transport, both, house};

fn responses(pairs: &[(&str, &str)]) -> AutoResponses {
    let owned = |(request, response): &(&str, &str)| ((*request).into(), (*response).into());
    AutoResponses::new(pairs.iter().map(owned).collect()).unwrap()
}

/// `ping` is answered in every room, and in those of one kind it is answered otherwise.
fn settings(config: &mut Config) {
    let usual = responses(&[("ping", r#"{"type":"here"}"#)]);
    let quiz =
        responses(&[("ping", r#"{"type":"what?"}"#), (r#"{"type":"ping"}"#, r#"{"type":"ours"}"#)]);
    let kinds = Kinds::new(usual, [("quiz-*".parse().unwrap(), quiz)]);
    config.session.auto_responses = Arc::new(kinds);
}

both! {
    async fn the_very_text_is_answered_and_anything_else_is_read(transport) {
        let house = house(settings).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.send_text("ping").await;
        assert_eq!(ann.next().await["type"], "here");
        ann.send_bytes(2, b"ping").await; // no text
        ann.closed_with(4504, "protocol_error").await;
        let mut bob = house.join(transport, "lobby", "bob").await;
        bob.send_text("ping ").await;
        bob.closed_with(4504, "protocol_error").await;
    }

    async fn each_kind_of_rooms_has_its_own(transport) {
        let house = house(settings).await;
        let mut ann = house.join(transport, "quiz-1", "ann").await;
        ann.send_text("ping").await;
        assert_eq!(ann.next().await["type"], "what?");
        ann.send_text(r#"{"type":"ping"}"#).await;
        assert_eq!(ann.next().await["type"], "ours", "also what a rule would have read");
    }

    async fn it_works_before_hello(transport) {
        let house = house(settings).await;
        let mut ann = house.connect(transport, "lobby").await;
        ann.send_text("ping").await;
        assert_eq!(ann.next().await["type"], "here");
        assert!(ann.hello(json!({ "name": "ann" })).await.is_empty());
    }

    async fn it_does_not_lengthen_the_time_for_hello(transport) {
        let house = house(|config| {
            settings(config);
            config.session.hello_timeout = Duration::from_millis(200);
        })
        .await;
        let mut ann = house.connect(transport, "lobby").await;
        let closed = async {
            loop {
                ann.send_text("ping").await;
                let frame = ann.next().await;
                if frame["type"] != "here" {
                    return frame;
                }
            }
        };
        let close = tokio::time::timeout(DEADLINE, closed).await.unwrap();
        assert_eq!((&close["type"], &close["code"]), (&"close".into(), &4503.into()));
    }

    async fn the_last_one_of_a_connection_can_be_seen(transport) {
        let house = house(settings).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut cyd = house.seed_join("lobby", "cyd").await;
        let when = async |name: &str| {
            let seen = house.operator("GET", "/v1/rooms/lobby/presence", "").await.json();
            let members = seen["members"].as_array().unwrap();
            let member = members.iter().find(|member| member["name"] == name).unwrap();
            member["auto_responded"].as_u64()
        };
        assert_eq!((when("ann").await, when("cyd").await), (None, None));
        ann.send_text("ping").await;
        ann.next_of("here").await;
        let first = when("ann").await.unwrap();
        assert!(first >= ann.welcome["time"].as_u64().unwrap());
        assert_eq!(when("cyd").await, None, "each connection has its own");
        cyd.send_text("ping").await;
        cyd.next_of("here").await;
        assert!(when("cyd").await.unwrap() >= first);
        // Members do not see it.
        ann.send(json!({ "type": "members", "id": 1 })).await;
        let members = ann.next_of("members").await;
        assert!(members["members"][0].get("auto_responded").is_none(), "{members}");
    }

    /// As with pings, what is owed is the limit: one that reads nothing is not read from.
    async fn one_that_reads_no_answers_is_not_read_from(transport) {
        let house = house(|config| {
            let long = format!(r#"{{"type":"here","x":"{}"}}"#, "x".repeat(2_000));
            config.session.auto_responses = Arc::new(responses(&[("ping", &long)]).into());
            config.keeper.outbox.outbox_bytes = 16 * 1024;
            config.server.send_buffer = 4 * 1024;
            config.quic.send_window = 16 * 1024;
            config.session.close_linger = Duration::from_millis(50);
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({})).await;
        let asks = tokio::spawn(async move {
            for _ in 0..2_000 {
                slow.send_text("ping").await;
            }
            slow
        });
        // Whoever is served meanwhile is not held up.
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        bob.send_text("ping").await;
        bob.next_of("here").await;
        let line = match transport {
            Transport::WebSocket => "dormouse_frames_received_total{transport=\"websocket\"}",
            Transport::WebTransport => "dormouse_frames_received_total{transport=\"webtransport\"}",
        };
        let read = house.metric(line).await;
        assert!(read < 500.0, "{read} were read, and few can be on their way back");
        let mut slow: Client = asks.await.unwrap();
        for _ in 0..2_000 {
            slow.next_of("here").await;
        }
        assert_eq!(slow.say("in the end each was answered").await, 1);
    }
}

/// Any traffic counts: a client that was pinged and sends this instead of the pong is there. It is
/// pinged again, which would not happen while the first pong is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_sign_of_life() {
    let house = house(|config| {
        settings(config);
        config.session.ping_every = Duration::from_millis(50);
        config.session.pong_timeout = Duration::from_secs(600);
    })
    .await;
    let mut ann = RawWebSocket::open(house.address(), "lobby").await;
    for _ in 0..2 {
        ann.next_of(Opcode::Ping).await;
        ann.send(Opcode::Text, b"ping").await;
        assert_eq!(ann.next_of(Opcode::Text).await, &br#"{"type":"here"}"#[..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_client_is_answered_before_it_joins_and_beside_its_rate() {
    let house = house(settings).await;
    let mut cyd = house.seed("lobby").await;
    cyd.send_text("ping").await;
    assert_eq!(cyd.next().await["type"], "here");
    cyd.seed_join("cyd").await;
    for _ in 0..30 {
        cyd.send_text("ping").await; // three times the burst of its chats
        assert_eq!(cyd.next().await["type"], "here");
    }
    cyd.chat("hello").await;
    assert_eq!(cyd.next_of("chat").await["message"], "hello");
}
