//! Who does not read: nobody else notices, nothing is lost, and it costs a bounded amount.

use std::time::Duration;

use dormouse::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Transport, both, house};

/// A message of about ten kilobytes.
fn large(n: u64) -> Value {
    json!({ "n": n, "padding": "x".repeat(10_000) })
}

/// So many of them are far more than all the buffers between two ends take.
pub const MANY: u64 = 200;

/// As little as can be kept for a reader that is behind.
pub fn frugal(config: &mut Config) {
    config.keeper.outbox.ring_bytes = 64 * 1024;
    config.keeper.outbox.ring_age = Duration::from_secs(60); // it is the bytes that are tested
    config.keeper.outbox.outbox_bytes = 16 * 1024;
    config.server.send_buffer = 4 * 1024;
    config.quic.send_window = 16 * 1024;
    config.session.close_linger = Duration::from_millis(50);
}

/// Publishes many large messages, a few at once, and hears every one of them.
pub async fn chatter(ann: &mut Client, first: u64) {
    const AT_ONCE: u64 = 4; // fewer than the ring holds
    for few in (first..first + MANY).step_by(AT_ONCE as usize).map(|n| n..n + AT_ONCE) {
        for n in few.clone() {
            ann.publish(n, large(n)).await;
        }
        for n in few {
            assert_eq!(ann.next_of("ok").await["seq"], n + 1);
            assert_eq!(ann.message().await["data"]["n"], n);
        }
    }
}

const TOO_SLOW: &str = "dormouse_sessions_closed_total{reason=\"too_slow\"}";

both! {
    /// The room sleeps before the slow one reads again: nothing can come from the ring.
    async fn a_slow_reader_slows_nobody_and_gets_everything_from_the_store(transport) {
        let house = house(frugal).await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow" })).await;
        let mut ann = house.join(transport.other(), "lobby", "ann").await;
        let mut bob = house.join(transport, "lobby", "bob").await;
        chatter(&mut ann, 0).await;
        for n in 0..MANY {
            assert_eq!(bob.message().await["data"]["n"], n, "bob is not held up");
        }
        house.hibernate("lobby").await;

        for n in 0..MANY {
            let message = slow.message().await;
            assert_eq!((&message["seq"], &message["data"]["n"]), (&(n + 1).into(), &n.into()));
        }
        ann.say("live").await;
        assert_eq!(slow.text().await, "live");
        assert_eq!(house.metric(TOO_SLOW).await, 0.0);
    }

    /// As above while the room stays busy: from the store and from the ring in turns.
    async fn a_slow_reader_that_reads_while_the_room_is_busy_misses_nothing(transport) {
        let house = house(frugal).await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow" })).await;
        let mut ann = house.join(transport.other(), "lobby", "ann").await;
        chatter(&mut ann, 0).await;
        let reads = async {
            for n in 0..2 * MANY {
                let message = slow.message().await;
                assert_eq!((&message["seq"], &message["data"]["n"]), (&(n + 1).into(), &n.into()));
            }
        };
        tokio::join!(chatter(&mut ann, MANY), reads);
    }

    async fn one_that_takes_nothing_is_closed_and_its_next_connection_resumes_whole(transport) {
        let house = house(|config| {
            frugal(config);
            // Long enough that a busy machine does not make a stalled client of ann.
            config.session.stalled_after = Duration::from_secs(2);
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow" })).await;
        let (session, since) = (slow.welcome["session"].clone(), slow.position.clone());
        let mut ann = house.join(transport.other(), "lobby", "ann").await;
        chatter(&mut ann, 0).await;
        house.until_metric(TOO_SLOW, 1.0).await;
        assert_eq!(ann.say("still here").await, MANY + 1, "who keeps up stays");

        let mut back = house.connect(transport, "lobby").await;
        let mut missed = back.hello(json!({ "session": session, "since": since })).await;
        assert_eq!(missed.pop().unwrap()["data"]["text"], "still here");
        assert_eq!(back.welcome["seat"], "kept");
        assert_eq!(back.welcome["resumed"], true);
        let numbers: Vec<_> = missed.iter().map(|m| m["data"]["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..MANY).collect::<Vec<_>>());
    }

    /// What is no longer kept cannot be had from memory either: the ring held next to nothing.
    async fn one_that_falls_behind_what_is_kept_is_told_so_when_it_comes_back(transport) {
        let house = house(|config| {
            frugal(config);
            config.store.retention.messages = 10;
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow" })).await;
        let mut ann = house.join(transport.other(), "lobby", "ann").await;
        chatter(&mut ann, 0).await;
        house.hibernate("lobby").await;
        let oldest = {
            let room = "lobby".parse().unwrap();
            let store = &house.gateway().context().store;
            store.run(move |engine| engine.open(&room)).await.unwrap().oldest
        };
        assert!(oldest > 1, "the log was trimmed");

        let close = slow.closed_with(4002, "too_slow").await;
        assert!(slow.position["seq"].as_u64().unwrap() + 1 < oldest, "{close}");
        let mut back = house.connect(transport, "lobby").await;
        back.hello(json!({ "since": slow.position })).await;
        let welcome = &back.welcome;
        assert_eq!((&welcome["resumed"], &welcome["why"]), (&false.into(), &"retention".into()));
        assert_eq!(welcome["oldest"], oldest);
    }

    /// It asks and asks and never reads an answer.
    async fn one_that_owes_us_reading_is_not_read_from(transport) {
        let house = house(frugal).await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow" })).await;
        let frames = match transport {
            Transport::WebSocket => "dormouse_frames_received_total{transport=\"websocket\"}",
            Transport::WebTransport => "dormouse_frames_received_total{transport=\"webtransport\"}",
        };
        let hello = 1.0;
        let asks = async {
            loop {
                slow.send(json!({ "type": "ping", "id": 9_007_199_254_740_991u64 })).await;
            }
        };
        let answers = tokio::select! {
            () = asks => unreachable!(),
            still = house.until_still(frames, hello) => still,
        };
        // A pong has 40 bytes. 16 KiB of them are kept, and the buffers on the way take some.
        assert!(answers < 20_000.0, "{answers}");
    }

    /// It says and says and never reads an `ok`.
    async fn one_that_has_too_much_in_flight_is_not_read_from(transport) {
        let house = house(|config| {
            frugal(config);
            config.session.publishes_in_flight = 4;
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow" })).await;
        let mut ann = house.join(transport.other(), "lobby", "ann").await;
        let says = async {
            for n in 0.. {
                slow.publish(n, large(n)).await;
            }
        };
        let said = tokio::select! {
            () = says => unreachable!(),
            still = house.until_still("dormouse_messages_total", 0.0) => still as u64,
        };
        assert!(said < MANY, "{said}");
        for n in 0..said {
            assert_eq!(ann.message().await["data"]["n"], n, "what was read is in the log");
        }
    }
}
