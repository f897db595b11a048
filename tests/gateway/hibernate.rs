//! Falling asleep, waking, and what does neither.

use std::time::Duration;

use serde_json::json;

use crate::support::{Transport, both, house};

const SOON: Duration = Duration::from_millis(50);

both! {
    /// Sleep is invisible: nobody can tell a room that dozed off from one that stayed up.
    async fn a_message_wakes_a_sleeping_room_and_reaches_everyone(transport) {
        let house = house(|config| config.keeper.sleep_after = SOON).await;
        let mut ann = house.join(transport, "meadow", "ann").await;
        let mut bob = house.join(transport.other(), "meadow", "bob").await;
        ann.say("still up?").await;
        house.until("meadow", |room| room["state"] == "asleep").await;

        ann.say("good morning").await;

        for client in [&mut ann, &mut bob] {
            assert_eq!(client.text().await, "still up?");
            let message = client.message().await;
            assert_eq!(message["data"]["text"], "good morning");
            assert_eq!((&message["seq"], &message["from"]["name"]), (&2.into(), &"ann".into()));
        }
        assert!(house.metric("dormouse_room_wakes_total{cause=\"publish\"}").await >= 2.0);
    }

    async fn joining_leaving_pings_resuming_and_inspection_do_not_wake(transport) {
        let house = house(|config| config.keeper.sleep_after = SOON).await;
        let mut ann = house.join(transport, "meadow", "ann").await;
        ann.say("one").await;
        house.until("meadow", |room| room["state"] == "asleep").await;
        let wakes = house.metric("dormouse_room_wakes_total{cause=\"publish\"}").await;

        let mut bob = house.connect(transport, "meadow").await;
        assert_eq!(bob.hello(json!({ "name": "bob" })).await.len(), 1, "history without waking");
        assert!(bob.hears_nothing().await);
        let session = bob.welcome["session"].clone();
        bob.drop_connection();
        let mut back = house.connect(transport.other(), "meadow").await;
        let since = json!({ "epoch": ann.position["epoch"], "seq": 0 });
        back.hello(json!({ "session": session, "since": since })).await;
        assert_eq!(back.welcome["seat"], "kept");
        back.close(1000).await;
        house.seed("meadow").await.send(json!({ "type": "join", "name": "cyd" })).await;
        let room = house.until("meadow", |room| room["seats"] == 1).await;

        assert_eq!((&room["state"], &room["why_awake"]), (&"asleep".into(), &json!(null)));
        assert_eq!(house.metric("dormouse_room_wakes_total{cause=\"publish\"}").await, wakes);
    }

    async fn a_sleeping_room_has_its_history_and_its_keys(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "meadow", "ann").await;
        let keyed = json!({ "type": "publish", "id": 7, "key": "k", "data": { "text": "once" } });
        ann.send(keyed.clone()).await;
        assert_eq!(ann.next_of("ok").await["seq"], 1);
        house.hibernate("meadow").await;
        ann.send(keyed).await;
        let again = ann.next_of("ok").await;
        assert_eq!((&again["seq"], &again["dup"]), (&1.into(), &true.into()));
        house.hibernate("meadow").await;
        let mut bob = house.connect(transport.other(), "meadow").await;
        let history = bob.hello(json!({})).await;
        assert_eq!(history.len(), 1);
        assert_eq!(history[0]["data"]["text"], "once");
    }

    async fn watchers_are_told_about_sleep_and_waking(transport) {
        let house = house(|config| config.keeper.sleep_after = SOON).await;
        let mut ann = house.connect(transport, "meadow").await;
        ann.hello(json!({ "watch": true })).await;
        assert_eq!(ann.next_of("room").await["state"], "asleep", "as it is on joining");
        ann.publish(1, json!(1)).await;
        let awake = ann.next_of("room").await;
        assert_eq!((&awake["state"], &awake["cause"]), (&"awake".into(), &"publish".into()));
        assert_eq!(ann.next_of("room").await["state"], "asleep");
    }

    async fn an_operator_puts_a_room_to_sleep_and_wakes_it(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "meadow", "ann").await;
        ann.say("hi").await;
        let why = house.inspect("meadow").await["why_awake"].clone();
        assert_eq!(why["holder"], "publish");
        let sleeps_in_ms = why["sleeps_in_ms"].as_u64().unwrap();
        assert!((1..=10_000).contains(&sleeps_in_ms), "{why}");

        let asleep = house.operate("meadow", "hibernate").await;
        assert_eq!((&asleep["state"], &asleep["why_awake"]), (&"asleep".into(), &json!(null)));
        let awake = house.operate("meadow", "wake").await;
        assert_eq!(awake["state"], "awake");
        assert_eq!(awake["last_wake"]["cause"], "wake");
        assert_eq!(awake["why_awake"]["holder"], "wake");
        assert!(ann.message().await["data"]["text"] == "hi" && ann.hears_nothing().await);
    }

    async fn a_thousand_publishes_through_naps_arrive_once_and_in_order(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "meadow", "ann").await;
        let mut bob = house.join(transport.other(), "meadow", "bob").await;
        for round in 0..10u64 {
            let naps = house.operate("meadow", "hibernate");
            let says = async {
                for n in 0..100u64 {
                    ann.publish(n, json!(round * 100 + n)).await;
                }
            };
            tokio::join!(naps, says);
        }
        for n in 0..1_000u64 {
            let message = bob.message().await;
            assert_eq!((&message["seq"], &message["data"]), (&(n + 1).into(), &n.into()));
        }
    }
}

#[tokio::test]
async fn a_room_that_never_had_a_message_leaves_nothing() {
    let house = house(|_| {}).await;
    for transport in Transport::BOTH {
        let ann = house.join(transport, "empty", "ann").await;
        assert_eq!(house.inspect("empty").await["state"], "asleep");
        ann.close(1000).await;
        let gone = async {
            let mut interval = tokio::time::interval(Duration::from_millis(5));
            while house.operator("GET", "/v1/rooms/empty", "").await.status != 404 {
                interval.tick().await;
            }
        };
        tokio::time::timeout(crate::support::DEADLINE, gone).await.unwrap();
    }
}

#[tokio::test]
async fn a_room_without_members_is_cold_and_wakes_for_an_operator_alone() {
    let house = house(|_| {}).await;
    let missing = house.operator("POST", "/v1/rooms/nowhere/wake", "content-length: 0\r\n").await;
    assert_eq!(missing.status, 404);
    let mut ann = house.join(Transport::WebSocket, "attic", "ann").await;
    ann.say("dust").await;
    house.hibernate("attic").await;
    ann.close(1000).await;
    let cold = house.until("attic", |room| room["state"] == "cold").await;
    assert_eq!((&cold["seats"], &cold["head"]["seq"]), (&0.into(), &1.into()));
    assert_eq!(house.operate("attic", "wake").await["state"], "awake");
    house.hibernate("attic").await;
    house.until("attic", |room| room["state"] == "cold").await;
}
