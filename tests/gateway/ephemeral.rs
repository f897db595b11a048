//! Cursors and "is typing": shown to whoever looks, and dropped before anything else is.

use std::time::Duration;

use dormouse::room::Rate;
use serde_json::{Value, json};

use crate::support::{Client, House, Transport, both, house};

const DROPPED: &str = "dormouse_ephemerals_dropped_total ";

async fn join(house: &House, transport: Transport, name: &str) -> Client {
    let mut client = house.connect(transport, "lobby").await;
    client.hello(json!({ "name": name, "presence": "count" })).await;
    client
}

fn cursor(n: u64) -> Value {
    json!({ "type": "ephemeral", "key": "cursor", "data": n })
}

/// Sends an ephemeral until it is seen: any one of them may get lost.
async fn seen_by(author: &mut Client, reader: &mut Client, frame: Value, loose: bool) -> Value {
    let again = async {
        loop {
            match loose {
                true => author.send_loose(frame.clone()).await,
                false => author.send(frame.clone()).await,
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    };
    let reads = async {
        loop {
            let shown = reader.next_of("ephemeral").await;
            if (&shown["data"], &shown["key"]) == (&frame["data"], &frame["key"]) {
                return shown;
            }
        }
    };
    tokio::select! {
        shown = reads => shown,
        () = again => unreachable!("it is sent for ever"),
    }
}

both! {
    /// From each transport to each, by datagram where there are any, and never to its author.
    async fn it_is_shown_to_everybody_else_over_either_transport(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann").await;
        let mut bob = join(&house, transport, "bob").await;
        let mut cyd = join(&house, transport.other(), "cyd").await;
        house.slept("lobby", &mut ann).await;
        let wakes = house.wakes().await;
        for (n, loose) in [(1, false), (2, true)] {
            for reader in [&mut bob, &mut cyd] {
                let shown = seen_by(&mut ann, reader, cursor(n), loose).await;
                let from = &ann.welcome["sid"];
                assert_eq!(shown, json!({
                    "type": "ephemeral", "key": "cursor", "from": from, "data": n,
                }));
            }
        }
        assert!(ann.hears_nothing().await, "its author knows it");
        assert_eq!(house.wakes().await, wakes);
        assert_eq!(house.inspect("lobby").await["state"], "asleep");
        let reader = if transport == Transport::WebTransport { &bob } else { &cyd };
        let stats = reader.connection().quic_connection().stats();
        assert!(stats.frame_rx.datagram >= 2, "where there are datagrams they are used");
    }

    async fn it_keeps_no_room_awake(transport) {
        let house = house(|config| config.keeper.sleep_after = Duration::from_millis(300)).await;
        let mut ann = join(&house, transport, "ann").await;
        let mut bob = join(&house, transport.other(), "bob").await;
        ann.say("awake").await;
        let mut n = 0;
        while house.inspect("lobby").await["state"] != "asleep" {
            n += 1;
            seen_by(&mut ann, &mut bob, cursor(n), n % 2 == 0).await;
        }
    }

    async fn it_is_not_stored_and_nothing_to_the_seed_profile(transport) {
        let house = house(|_| {}).await;
        let mut ada = house.seed_join("lobby", "ada").await;
        let mut ann = join(&house, transport, "ann").await;
        let mut bob = join(&house, transport.other(), "bob").await;
        let text = json!({ "type": "ephemeral", "key": "typing", "data": { "text": "typing" } });
        seen_by(&mut ann, &mut bob, text, false).await;
        assert_eq!(ann.say("of the log").await, 1);
        assert_eq!(ada.next_of("chat").await["message"], "of the log", "the first chat it sees");
        let mut late = house.connect(transport, "lobby").await;
        assert_eq!(late.hello(json!({ "history": 1_000 })).await.len(), 1);
        assert!(late.hears_nothing().await, "what was shown before it came is nothing to it");
    }

    async fn bytes_and_what_is_too_large_for_a_datagram_come_as_frames(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann").await;
        let mut bob = join(&house, transport.other(), "bob").await;
        let mut cyd = join(&house, transport, "cyd").await;
        for bytes in [1_000, 1_200, 20_000] {
            let data = "x".repeat(bytes);
            let large = json!({ "type": "ephemeral", "key": "cursor", "data": data });
            for reader in [&mut bob, &mut cyd] {
                assert_eq!(seen_by(&mut ann, reader, large.clone(), false).await["data"], data);
            }
        }
        let bytes: Vec<u8> = (0..=255).collect();
        ann.send_binary(json!({ "type": "ephemeral", "key": "raw" }), &bytes).await;
        for reader in [&mut bob, &mut cyd] {
            let mut shown = reader.next_of("ephemeral").await;
            while shown["key"] != "raw" {
                shown = reader.next_of("ephemeral").await;
            }
            assert_eq!((&shown["from"], &shown["data"]), (&ann.welcome["sid"], &Value::Null));
            assert_eq!(reader.bytes, bytes);
        }
    }

    async fn so_many_keys_and_so_long_ones_and_no_more(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann").await;
        let mut bob = join(&house, transport.other(), "bob").await;
        let keyed = |key: &str| json!({ "type": "ephemeral", "key": key, "data": key });
        let (long, longer) = ("é".repeat(32), format!("{}x", "é".repeat(32)));
        let keys: Vec<_> = (0..7).map(|n| format!("key {n}")).chain([long]).collect();
        let refused = |reason: &str| {
            json!({ "type": "error", "code": "too_large", "reason": reason })
        };
        for loose in [false, true] {
            for key in &keys {
                seen_by(&mut ann, &mut bob, keyed(key), loose).await;
            }
            for (key, reason) in [
                ("ninth", "a session may use 8 ephemeral keys"),
                (&longer, "a key may have 64 bytes, this one has 65"),
            ] {
                ann.send_loose(keyed(key)).await;
                assert_eq!(ann.next_of("error").await, refused(reason));
            }
        }
        ann.send(json!({ "type": "ephemeral", "data": 1 })).await;
        assert_eq!(ann.next_of("error").await["code"], "bad_request");
        ann.send(json!({ "type": "ephemeral", "key": "key 1" })).await;
        assert_eq!(ann.next_of("error").await["code"], "bad_request");
        seen_by(&mut ann, &mut bob, keyed(&keys[0]), false).await;
    }

    async fn more_than_the_rate_is_dropped_without_a_word(transport) {
        let house = house(|config| {
            config.session.ephemeral_rate = Rate { per_second: 1, burst: 5 };
        })
        .await;
        let mut ann = join(&house, transport, "ann").await;
        for n in 0..5 {
            ann.send(cursor(n)).await;
        }
        assert!(ann.hears_nothing().await);
        assert_eq!(house.metric(DROPPED).await, 0.0, "as many as the rate allows");
        for n in 5..100 {
            ann.send(cursor(n)).await;
        }
        assert!(ann.hears_nothing().await, "nobody waits for an answer");
        let dropped = house.metric(DROPPED).await;
        assert!((75.0..=95.0).contains(&dropped), "{dropped}");
    }

    /// Datagrams that are no ephemerals are let pass, and so is one before the hello.
    async fn what_else_comes_in_a_datagram_is_nothing(transport) {
        if transport == Transport::WebSocket {
            return;
        }
        let house = house(|_| {}).await;
        let mut ann = house.connect(transport, "lobby").await;
        ann.send_loose(cursor(1)).await;
        house.until_metric("dormouse_frames_ignored_total ", 1.0).await;
        ann.hello(json!({ "name": "ann" })).await;
        ann.send_loose(json!({ "type": "publish", "id": 1, "data": 1 })).await;
        ann.send_loose(json!({ "type": "bye" })).await;
        ann.send_loose(json!("nothing")).await;
        for bad in [
            &br#"{"type":"ephemeral","key":"cursor","data":NaN}"#[..],
            br#"{"type":"ephemeral","key":"\ud800","data":1}"#,
            br#"{"type":"ephemeral","key":"cursor","key":"cursor","data":1}"#,
            b"{\"type\":\"ephemeral\",\"key\":\"\xff\",\"data\":1}",
            b"{",
            b"",
        ] {
            ann.connection().send_datagram(bad).unwrap();
        }
        house.until_metric("dormouse_frames_ignored_total ", 10.0).await;
        assert!(ann.hears_nothing().await);
    }

    /// While it does not read there is one slot, and in it the newest.
    async fn a_slow_reader_gets_every_message_and_no_old_cursor(transport) {
        let house = house(|config| {
            config.keeper.outbox.ring_bytes = 64 * 1024;
            config.server.send_buffer = 4 * 1024;
            config.quic.send_window = 16 * 1024;
            config.session.ephemeral_rate = Rate::OFF;
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow", "presence": "count" })).await;
        let mut ann = join(&house, transport.other(), "ann").await;
        let mut bob = join(&house, transport, "bob").await;
        let padding = "x".repeat(10_000);
        let message = |n: u64| json!({ "n": n, "padding": padding });
        let chatter = async |ann: &mut Client, first: u64| {
            for n in first..first + 100 {
                ann.publish(n, message(n)).await;
                if n % 20 == 19 {
                    for n in n - 19..=n {
                        assert_eq!(ann.message().await["data"]["n"], n);
                    }
                }
            }
        };
        chatter(&mut ann, 0).await;
        for n in 1..=50 {
            seen_by(&mut ann, &mut bob, cursor(n), n % 2 == 0).await;
        }
        chatter(&mut ann, 100).await;
        let (mut messages, mut cursors) = (0, Vec::new());
        while messages < 200 {
            let frame = slow.next().await;
            match frame["type"].as_str() {
                Some("message") => {
                    assert_eq!(frame["data"]["n"], messages);
                    messages += 1;
                }
                Some("ephemeral") => cursors.push(frame["data"].as_u64().unwrap()),
                _ => {}
            }
        }
        assert!(cursors.len() <= 1 && cursors.iter().all(|n| *n == 50), "{cursors:?}");
        seen_by(&mut ann, &mut slow, cursor(51), false).await;
    }
}
