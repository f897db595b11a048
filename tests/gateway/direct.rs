//! Messages to a few: whoever is meant and connected gets them, in order, and nobody keeps them.

use std::time::Duration;

use dormouse::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, House, Transport, both, house};

async fn join(house: &House, transport: Transport, name: &str, tags: &[&str]) -> Client {
    let mut client = house.connect(transport, "lobby").await;
    client.hello(json!({ "name": name, "tags": tags, "presence": "count" })).await;
    client
}

/// Says something to a few; the answer comes back.
async fn tell(client: &mut Client, to: Value, data: Value) -> Value {
    client.send(json!({ "type": "publish", "id": 5, "to": to, "data": data })).await;
    loop {
        let frame = client.next_of_either("ok", "error").await;
        if frame["id"] == 5 {
            return frame;
        }
    }
}

fn reached(count: u64) -> Value {
    json!({ "type": "ok", "id": 5, "reached": count })
}

fn to_sid(client: &Client) -> Value {
    json!({ "sid": client.welcome["sid"] })
}

const WOKEN: &str = "dormouse_room_wakes_total{cause=\"publish\"}";

both! {
    async fn whoever_is_named_gets_it_asleep_or_awake(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann", &["all"]).await;
        let mut bob = join(&house, transport.other(), "bob", &["mod", "all"]).await;
        let mut cyd = join(&house, transport, "cyd", &["all"]).await;
        for asleep in [true, false] {
            let sleep = async || if asleep { house.hibernate("lobby").await };
            sleep().await;
            let wakes = house.metric(WOKEN).await;
            assert_eq!(tell(&mut ann, to_sid(&bob), json!({ "text": "psst" })).await, reached(1));
            let mut message = bob.message().await;
            assert!(message["time"].take().is_u64());
            assert_eq!(message, json!({
                "type": "message", "direct": true, "time": null, "data": { "text": "psst" },
                "from": { "sid": ann.welcome["sid"], "user": null, "name": "ann" },
            }));
            assert_eq!(house.metric(WOKEN).await, wakes + f64::from(u8::from(asleep)));
            assert_eq!(house.inspect("lobby").await["state"], "awake");

            sleep().await;
            assert_eq!(tell(&mut ann, json!({ "tag": "mod" }), json!(1)).await, reached(1));
            assert_eq!(bob.message().await["data"], 1);
            sleep().await;
            assert_eq!(tell(&mut ann, json!({ "tag": "all" }), json!(2)).await, reached(3));
            for client in [&mut ann, &mut bob, &mut cyd] {
                let message = client.message().await;
                assert_eq!((&message["data"], &message["direct"]), (&2.into(), &true.into()));
            }
            sleep().await;
            assert_eq!(tell(&mut ann, to_sid(&cyd), json!(3)).await, reached(1));
            let me = to_sid(&ann);
            assert_eq!(tell(&mut ann, me, json!(4)).await, reached(1));
            assert_eq!(ann.message().await["data"], 4, "oneself, if one is meant");
            for nobody in [json!({ "sid": "sAAAAAAAAAAA" }),
                json!({ "tag": "none" }), json!({ "tag": "" }), json!({ "user": "bob" })]
            {
                assert_eq!(tell(&mut ann, nobody, json!(5)).await, reached(0));
            }
            assert_eq!(cyd.message().await["data"], 3);
            for client in [&mut ann, &mut bob, &mut cyd] {
                assert!(client.hears_nothing().await, "nobody else got anything");
            }
        }
    }

    /// The tags are those of the moment at which it is said.
    async fn a_tag_reaches_those_who_have_it_now(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann", &[]).await;
        let mut bob = join(&house, transport.other(), "bob", &["old"]).await;
        bob.send(json!({ "type": "set", "id": 1, "tags": ["new"] })).await;
        bob.next_of("ok").await;
        assert_eq!(tell(&mut ann, json!({ "tag": "old" }), json!(1)).await, reached(0));
        assert_eq!(tell(&mut ann, json!({ "tag": "new" }), json!(2)).await, reached(1));
        assert_eq!(bob.message().await["data"], 2);
    }

    async fn it_is_nowhere_once_it_was_said(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann", &[]).await;
        let bob = join(&house, transport.other(), "bob", &["mod"]).await;
        let (session, to) = (bob.welcome["session"].clone(), to_sid(&bob));
        bob.drop_connection();
        house.until_metric("dormouse_sessions_closed_total{reason=\"lost\"}", 1.0).await;
        let answer = tell(&mut ann, to.clone(), json!("missed")).await;
        assert_eq!(answer, reached(0), "who is away is not reached");
        assert_eq!(tell(&mut ann, json!({ "tag": "mod" }), json!("missed")).await, reached(0));

        let mut bob = house.connect(transport, "lobby").await;
        let since = json!({ "epoch": ann.position["epoch"], "seq": 0 });
        let missed = bob.hello(json!({ "session": session, "since": since })).await;
        assert_eq!((missed.len(), &bob.welcome["seat"]), (0, &"kept".into()));
        assert_eq!(tell(&mut ann, to, json!("direct")).await, reached(1));
        assert_eq!(bob.message().await["data"], "direct");
        assert_eq!(ann.say("first of the log").await, 1, "it took no number");
        for asleep in [false, true] {
            if asleep {
                house.hibernate("lobby").await;
            }
            ann.send(json!({ "type": "history", "id": 1 })).await;
            let page = ann.next_of("page").await;
            assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{page}");
            let mut late = house.connect(transport, "lobby").await;
            assert_eq!(late.hello(json!({ "since": since })).await.len(), 1);
            late.close(1000).await;
        }
    }

    async fn it_comes_after_what_was_said_before_it_and_before_what_follows(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann", &[]).await;
        let mut bob = join(&house, transport.other(), "bob", &[]).await;
        let to = to_sid(&bob);
        for n in 0..20 {
            if n % 5 == 0 {
                house.hibernate("lobby").await;
            }
            ann.publish(1, json!("before")).await;
            ann.send(json!({ "type": "publish", "id": 2, "to": to, "data": "direct" })).await;
            ann.publish(3, json!("after")).await;
            for expected in ["before", "direct", "after"] {
                let message = bob.message().await;
                assert_eq!(message["data"], expected, "round {n}");
                assert_eq!(message["seq"].is_u64(), expected != "direct", "{message}");
            }
            for _ in 0..3 {
                ann.next_of("ok").await;
            }
        }
    }

    async fn what_names_nobody_or_too_much_is_a_bad_request_and_wakes_nothing(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann", &[]).await;
        house.slept("lobby", &mut ann).await;
        let wakes = house.wakes().await;
        for to in [json!({}), json!({ "sid": "s1", "tag": "x" }), json!({ "tag": 1 }),
            json!({ "sid": "" }), json!("s1"), json!([])]
        {
            let answer = tell(&mut ann, to.clone(), json!(1)).await;
            assert_eq!(answer["code"], "bad_request", "{to}");
        }
        let me = to_sid(&ann);
        ann.send(json!({ "type": "publish", "id": 6, "key": "k", "to": me, "data": 1 })).await;
        let error = ann.next_of("error").await;
        assert_eq!((&error["id"], &error["code"]), (&6.into(), &"bad_request".into()));
        ann.send(json!({ "type": "publish", "id": 7, "to": me })).await;
        assert_eq!(ann.next_of("error").await["reason"], "data is missing");
        assert!(ann.hears_nothing().await);
        assert_eq!(house.wakes().await, wakes);
        assert_eq!(house.inspect("lobby").await["state"], "asleep");
    }

    async fn bytes_arrive_as_bytes(transport) {
        let house = house(|_| {}).await;
        let mut ann = join(&house, transport, "ann", &[]).await;
        let mut bob = join(&house, transport, "bob", &["mod"]).await;
        let mut cyd = join(&house, transport.other(), "cyd", &["mod"]).await;
        let bytes: Vec<u8> = (0..=255).collect();
        let header = json!({ "type": "publish", "id": 5, "to": { "tag": "mod" } });
        ann.send_binary(header, &bytes).await;
        assert_eq!(ann.next_of("ok").await, reached(2));
        for client in [&mut bob, &mut cyd] {
            let message = client.message().await;
            assert_eq!((&message["direct"], &message["data"]), (&true.into(), &Value::Null));
            assert_eq!(client.bytes, bytes);
        }
    }

    /// Who is of the seed profile gets what it can show. It used to count as not keeping up
    /// when it could not show it, and the publisher was told to try again, for ever.
    async fn a_seed_member_gets_what_is_a_chat_and_nothing_else(transport) {
        let house = house(|_| {}).await;
        let mut ada = house.seed_join("lobby", "ada").await;
        let mut ann = join(&house, transport, "ann", &[]).await;
        ada.roster().await;
        let mut late = house.connect(transport, "lobby").await;
        late.hello(json!({ "name": "late" })).await;
        let members = late.welcome["members"].as_array().unwrap();
        let sid = members.iter().find(|m| m["name"] == "ada").unwrap()["sid"].clone();
        late.close(1000).await;
        let to = json!({ "sid": sid });
        house.hibernate("lobby").await;
        let data = json!({ "text": "psst", "timestamp": 9 });
        assert_eq!(tell(&mut ann, to.clone(), data).await, reached(1));
        assert_eq!(tell(&mut ann, to.clone(), json!({ "x": 1 })).await, reached(0));
        ann.send_binary(json!({ "type": "publish", "id": 5, "to": to }), b"bytes").await;
        assert_eq!(ann.next_of("ok").await, reached(0));
        assert_eq!(tell(&mut ann, to, json!("last")).await, reached(1));
        let psst = json!({ "type": "chat", "message": "psst", "from": "ann", "timestamp": 9 });
        assert_eq!(ada.next_of("chat").await, psst);
        assert_eq!(ada.next_of("chat").await["message"], "last");
        let history = house.seed("lobby").await.seed_join("bea").await;
        assert!(history.is_empty(), "not stored: {history:?}");
    }

    async fn who_does_not_keep_up_is_not_reached_and_the_publisher_is_told(transport) {
        let frugal = |config: &mut Config| {
            config.keeper.outbox.outbox_bytes = 32 * 1024;
            config.server.send_buffer = 4 * 1024;
            config.quic.send_window = 16 * 1024;
            config.keeper.presence_every = Duration::from_millis(5);
        };
        let house = house(frugal).await;
        let mut slow = house.connect_slow(transport, "lobby").await;
        slow.hello(json!({ "name": "slow", "tags": ["mod"], "presence": "count" })).await;
        let mut ann = join(&house, transport.other(), "ann", &[]).await;
        let mut bob = join(&house, transport, "bob", &["mod"]).await;
        let (to, padding) = (to_sid(&slow), "x".repeat(10_000));
        let mut taken = 0;
        let error = loop {
            let data = json!({ "n": taken, "padding": padding });
            let answer = tell(&mut ann, to.clone(), data).await;
            if answer["type"] == "error" {
                break answer;
            }
            assert_eq!(answer, reached(1));
            taken += 1;
            assert!(taken < 5_000, "it is bounded");
        };
        assert_eq!((&error["id"], &error["code"]), (&5.into(), &"recipient_busy".into()));
        assert!(error["retry_after"].is_u64(), "{error}");
        // Who is busy is not counted as reached, and the others are reached. The system may still take
        // some for the slow one; then it is counted.
        loop {
            let data = json!({ "n": taken, "padding": padding });
            let answer = tell(&mut ann, json!({ "tag": "mod" }), data).await;
            assert_eq!(bob.message().await["data"]["n"], taken, "the others are reached");
            match answer["reached"].as_u64() {
                Some(1) => break,
                count => assert_eq!(count, Some(2), "{answer}"),
            }
            taken += 1;
            assert!(taken < 5_000, "it is bounded");
        }

        for n in 0..taken {
            assert_eq!(slow.message().await["data"]["n"], n, "what was taken arrives, in order");
        }
        assert_eq!(tell(&mut ann, to, json!("again")).await, reached(1));
        assert_eq!(slow.message().await["data"], "again");
    }
}
