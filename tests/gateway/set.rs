//! What a seat says of itself: its attachment and its tags, durable, and never worth a wake.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, House, Transport, View, both, house};

/// A house that tells changes as they come, and does not wait long for clients that stay.
async fn prompt() -> House {
    house(|config| {
        config.keeper.presence_every = Duration::from_millis(5);
        config.session.close_linger = Duration::from_millis(50);
    })
    .await
}

async fn join(house: &House, transport: Transport, hello: Value) -> Client {
    let mut client = house.connect(transport, "lobby").await;
    client.hello(hello).await;
    client
}

/// Asks for a change and waits until it is durable.
async fn set(client: &mut Client, mut set: Value) {
    set["type"] = "set".into();
    set["id"] = 7.into();
    client.send(set).await;
    assert_eq!(client.next_of("ok").await, json!({ "type": "ok", "id": 7 }));
}

/// Tags and attachment of a member as a newcomer is shown them.
async fn shown(house: &House, transport: Transport, name: &str) -> (Value, Value) {
    let late = house.join(transport, "lobby", "late").await;
    let view = View::of(&late);
    let member = view.member(name);
    let shown = (member["tags"].clone(), member["attachment"].clone());
    late.close(1000).await;
    shown
}

both! {
    async fn what_is_set_is_shown_and_outlives_connections_naps_and_restarts(transport) {
        let mut house = prompt().await;
        let hello = json!({ "name": "ann", "tags": ["mod"], "attachment": { "color": "red" } });
        let mut ann = join(&house, transport, hello).await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let mut view = View::of(&bob);
        house.slept("lobby", &mut ann).await;
        let wakes = house.wakes().await;

        set(&mut ann, json!({ "attachment": ["é", null] })).await;
        view.until(&mut bob, |view| view.member("ann")["attachment"] == json!(["é", null])).await;
        assert_eq!(view.member("ann")["tags"], json!(["mod"]), "what is absent stays");
        set(&mut ann, json!({ "tags": ["vip", "mod"] })).await;
        view.until(&mut bob, |view| view.member("ann")["tags"] == json!(["vip", "mod"])).await;
        assert_eq!(view.member("ann")["attachment"], json!(["é", null]));
        set(&mut ann, json!({})).await;
        let expected = (json!(["vip", "mod"]), json!(["é", null]));
        assert_eq!(shown(&house, transport, "ann").await, expected);

        assert_eq!(house.wakes().await, wakes);
        assert_eq!(house.inspect("lobby").await["state"], "asleep");
        house.operate("lobby", "wake").await;
        house.hibernate("lobby").await;
        assert_eq!(shown(&house, transport.other(), "ann").await, expected);
        house.restart().await;
        assert_eq!(shown(&house, transport, "ann").await, expected);

        let mut ann = join(&house, transport, json!({ "session": ann.welcome["session"] })).await;
        assert_eq!(ann.welcome["seat"], "kept");
        assert_eq!(shown(&house, transport, "ann").await, expected);
        set(&mut ann, json!({ "tags": [] })).await;
        assert_eq!(shown(&house, transport, "ann").await, (json!([]), expected.1.clone()));
        let hello = json!({ "session": ann.welcome["session"], "tags": ["x"] });
        let _ann = join(&house, transport.other(), hello).await;
        assert_eq!(shown(&house, transport, "ann").await, (json!(["x"]), expected.1));
    }

    async fn at_the_limit_it_is_taken_and_one_past_it_refused_whole(transport) {
        let house = prompt().await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        house.slept("lobby", &mut ann).await;
        let wakes = house.wakes().await;
        // Two bytes a letter: it is bytes that count.
        let (long, longer) = ("é".repeat(128), format!("{}x", "é".repeat(128)));
        let most_tags = vec![long.clone(); 10];
        let most = json!("x".repeat(16 * 1024 - 2));
        set(&mut ann, json!({ "tags": most_tags, "attachment": most })).await;
        let expected = (json!(most_tags), most.clone());
        assert_eq!(shown(&house, transport, "ann").await, expected);

        let too_many = vec!["t"; 11];
        let too_much = json!("x".repeat(16 * 1024 - 1));
        let refused = [
            (json!({ "tags": too_many }), "too_large",
                "the list of tags may have 10 tags, this one has 11"),
            (json!({ "tags": ["t", longer] }), "too_large",
                "a tag may have 256 bytes, this one has 257"),
            (json!({ "tags": ["t"], "attachment": too_much }), "too_large",
                "an attachment may have 16384 bytes, this one has 16385"),
            (json!({ "tags": "t" }), "bad_request", "tags should be a list of texts"),
            (json!({ "tags": [1], "attachment": 1 }), "bad_request",
                "tags should be a list of texts"),
        ];
        for (mut set, code, reason) in refused.clone() {
            (set["type"], set["id"]) = ("set".into(), 8.into());
            ann.send(set).await;
            let error = json!({ "type": "error", "id": 8, "code": code, "reason": reason });
            assert_eq!(ann.next_of("error").await, error);
        }
        assert_eq!(shown(&house, transport, "ann").await, expected, "all of it or nothing");

        // A hello past a limit is refused; the next one is the first.
        let mut bob = house.connect(transport, "lobby").await;
        for (mut hello, code, reason) in refused {
            hello["type"] = "hello".into();
            bob.send(hello).await;
            let error = json!({ "type": "error", "code": code, "reason": reason });
            assert_eq!(bob.next().await, error);
        }
        bob.hello(json!({ "name": "bob", "tags": most_tags, "attachment": most })).await;
        assert_eq!(shown(&house, transport, "bob").await, expected);
        assert_eq!(house.wakes().await, wakes);
        assert_eq!(house.inspect("lobby").await["state"], "asleep");
    }

    async fn of_several_in_flight_the_last_one_counts(transport) {
        let mut house = prompt().await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let mut view = View::of(&bob);
        for n in 0..60 {
            let what = if n % 2 == 0 { json!(n) } else { json!([n.to_string()]) };
            let key = if n % 2 == 0 { "attachment" } else { "tags" };
            ann.send(json!({ "type": "set", "id": n, key: what })).await;
        }
        for n in 0..60 {
            assert_eq!(ann.next_of("ok").await["id"], n, "answered in order");
        }
        let expected = (json!(["59"]), json!(58));
        view.until(&mut bob, |view| {
            let member = view.member("ann");
            (&member["tags"], &member["attachment"]) == (&expected.0, &expected.1)
        })
        .await;
        assert_eq!(shown(&house, transport, "ann").await, expected);
        house.restart().await;
        assert_eq!(shown(&house, transport, "ann").await, expected, "on disk as well");
    }

    /// The connection goes behind the request, in order: a close frame, or the end of the stream.
    async fn said_just_before_the_connection_is_lost_it_still_counts(transport) {
        let house = prompt().await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let mut view = View::of(&bob);
        for asleep in [false, true] {
            let mut ann = house.join(transport, "lobby", "ann").await;
            let session = ann.welcome["session"].clone();
            if asleep {
                house.hibernate("lobby").await;
            }
            ann.send(json!({ "type": "set", "attachment": "last" })).await;
            match transport {
                Transport::WebSocket => ann.close(1001).await,
                Transport::WebTransport => ann.finish().await,
            }
            view.until(&mut bob, |view| {
                view.members.values().any(|m| m["away"] == true && m["attachment"] == "last")
            })
            .await;
            let ann = join(&house, transport, json!({ "session": session })).await;
            assert_eq!(View::of(&ann).member("ann")["attachment"], "last");
            ann.close(1000).await;
            view.until_here(&mut bob, &["bob"]).await;
        }
    }

    async fn said_just_before_a_goodbye_it_does_not_bring_the_seat_back(transport) {
        let mut house = prompt().await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let mut view = View::of(&bob);
        let mut ann = house.join(transport, "lobby", "ann").await;
        let session = ann.welcome["session"].clone();
        view.until_here(&mut bob, &["ann", "bob"]).await;
        ann.send(json!({ "type": "set", "attachment": "last" })).await;
        ann.send(json!({ "type": "bye" })).await;
        ann.closed_with(1000, "ended").await;
        view.until_here(&mut bob, &["bob"]).await;
        house.restart().await;
        let ann = join(&house, transport, json!({ "session": session, "name": "ann" })).await;
        assert_eq!(ann.welcome["seat"], "new");
        let view = View::of(&ann);
        assert_eq!(view.names(), ["ann", "bob"]);
        assert_eq!(view.member("ann")["attachment"], json!({}));
    }

    /// A second connection takes the seat over while the first still has a change on its way:
    /// both are kept, for they are of one seat.
    async fn on_its_way_during_a_takeover_it_is_kept(transport) {
        let house = prompt().await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut second = house.connect(transport.other(), "lobby").await;
        for n in 0..20 {
            ann.send(json!({ "type": "set", "id": n, "attachment": n })).await;
        }
        second.hello(json!({ "session": ann.welcome["session"], "tags": ["second"] })).await;
        let mut answered = Value::Null;
        while let Ok(frame) = ann.next_or_last().await {
            match frame["type"].as_str() {
                Some("ok") => answered = frame["id"].clone(),
                Some("close") => break,
                _ => {}
            }
        }
        let (tags, attachment) = shown(&house, transport, "ann").await;
        assert_eq!(tags, json!(["second"]));
        let least = answered.as_i64().unwrap_or(-1);
        assert!(attachment.as_i64().unwrap_or(-1) >= least, "{attachment} after {answered}");
    }
}
