//! A slow reader beside the log: who is here told anew instead of change by change, nothing old
//! of what may be dropped, and no pong asked of somebody who is still being sent something.

use std::time::Duration;

use dormouse::room::Rate;
use serde_json::{Value, json};

use crate::slow::{MANY, chatter, frugal};
use crate::support::{Client, RawWebSocket, Seen, Transport, both, house};

/// Changes its attachment and waits until everybody who keeps up has been told.
async fn sets(ann: &mut Client, attachment: Value) {
    ann.send(json!({ "type": "set", "id": 9, "attachment": attachment })).await;
    ann.next_of("ok").await;
    loop {
        let frame = ann.next_of("presence").await;
        let updates = frame["update"].as_array().into_iter().flatten();
        if updates.into_iter().any(|member| member["attachment"] == attachment) {
            return;
        }
    }
}

/// Waits until `ann` has been told of somebody.
async fn is_told(ann: &mut Client, what: &str, sid: &Value) {
    loop {
        let frame = ann.next_of("presence").await;
        let mut told = frame[what].as_array().into_iter().flatten();
        if told.any(|told| told == sid || &told["sid"] == sid) {
            return;
        }
    }
}

const LOST: &str = "dormouse_sessions_closed_total{reason=\"heartbeat_lost\"}";

both! {
    async fn a_reader_off_both_rings_gets_every_message_and_the_whole_of_who_is_here(transport) {
        let house = house(|config| {
            frugal(config);
            config.keeper.presence_every = Duration::from_millis(1);
            config.keeper.outbox.presence_bytes = 8 * 1024;
            config.session.ephemeral_rate = Rate::OFF;
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow", "presence": "full" })).await;
        let mut view = Seen::of(&slow.welcome);
        let mut ann = house.connect(transport.other(), "lobby").await;
        ann.hello(json!({ "name": "ann", "presence": "full" })).await;
        let dan = house.join(transport, "lobby", "dan").await;
        is_told(&mut ann, "join", &dan.welcome["sid"]).await;
        chatter(&mut ann, 0).await; // from here on it takes nothing
        for n in 0..50 {
            ann.send(json!({ "type": "ephemeral", "key": "cursor", "data": n })).await;
        }
        // Each change has six kilobytes in both its forms: only the newest is kept.
        for n in 0..5 {
            sets(&mut ann, json!([n, "x".repeat(3_000)])).await;
        }
        let gone = dan.welcome["sid"].clone();
        dan.close(1000).await;
        is_told(&mut ann, "leave", &gone).await;
        let cyd = house.join(transport, "lobby", "cyd").await;
        is_told(&mut ann, "join", &cyd.welcome["sid"]).await;
        ann.say("end").await;
        house.hibernate("lobby").await; // nothing can come from the ring

        slow.hears_presence = true;
        let mut seq = 0;
        while seq <= MANY || view.resets == 0 {
            let frame = slow.next().await;
            match frame["type"].as_str() {
                Some("message") => {
                    seq += 1;
                    assert_eq!(frame["seq"], seq);
                }
                Some("presence") => view.see(&frame),
                Some("ephemeral") => assert_eq!(frame["data"], 49, "an old one"),
                other => panic!("{other:?}: {frame}"),
            }
        }
        assert_eq!(view.resets, 1, "once the whole, not again and again");
        assert_eq!(view.names(), ["ann", "cyd", "slow"]);
        assert_eq!(view.named("ann")["attachment"][0], 4);

        // From here on it keeps up: changes, not the whole; and what may be dropped is shown.
        sets(&mut ann, json!("small")).await;
        while view.named("ann")["attachment"] != "small" {
            view.see(&slow.next_of("presence").await);
        }
        assert_eq!(view.resets, 1);
        let shows = async {
            loop {
                ann.send(json!({ "type": "ephemeral", "key": "cursor", "data": "new" })).await;
                tokio::time::sleep(Duration::from_millis(100)).await; // a datagram may get lost
            }
        };
        let sees = async { while slow.next_of("ephemeral").await["data"] != "new" {} };
        tokio::select! {
            () = shows => unreachable!(),
            () = sees => {}
        }
        assert_eq!(house.inspect("lobby").await["state"], "asleep", "none of that wakes a room");
    }

    /// Above the limit it is a number that is told anew.
    async fn a_reader_that_wants_a_number_gets_the_number_anew(transport) {
        let house = house(|config| {
            frugal(config);
            config.keeper.presence_every = Duration::from_millis(1);
            config.keeper.outbox.presence_bytes = 8 * 1024;
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow", "presence": "count" })).await;
        let mut ann = house.join(transport.other(), "lobby", "ann").await;
        chatter(&mut ann, 0).await;
        for n in 0..5 {
            sets(&mut ann, json!([n, "x".repeat(3_000)])).await;
        }
        let told = loop {
            let frame = slow.next_of("presence").await;
            if frame["reset"] == true {
                break frame;
            }
        };
        assert_eq!((&told["count"], told.get("members")), (&2.into(), None), "{told}");
        sets(&mut ann, json!("small")).await;
        let next = slow.next_of("presence").await;
        assert_eq!(next["version"].as_u64(), told["version"].as_u64().map(|version| version + 1));
        assert_eq!(next.get("reset"), None);
    }

    /// While it is owed something, progress stands in for the pong.
    async fn no_pong_is_asked_of_one_that_is_still_owed_something(transport) {
        let house = house(|config| {
            frugal(config);
            config.session.ping_every = Duration::from_millis(300);
            config.session.pong_timeout = Duration::from_millis(700);
        })
        .await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow" })).await;
        let mut ann = house.join(transport.other(), "lobby", "ann").await;
        chatter(&mut ann, 0).await;
        ann.close(1000).await;
        // Two that owe us a pong and nothing else are given up meanwhile, one after the other.
        for silent in [1.0, 2.0] {
            let mut raw = RawWebSocket::open(house.address(), "lobby").await;
            while raw.next().await.is_some() {}
            assert_eq!(house.metric(LOST).await, silent);
        }
        for n in 0..MANY {
            assert_eq!(slow.message().await["data"]["n"], n);
        }
        assert!(slow.hears_nothing().await, "it is still there");
        assert_eq!(house.metric(LOST).await, 2.0);
    }
}
