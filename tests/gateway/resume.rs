//! Coming back: every missed message in order, or the reason and where to start again.

use serde_json::{Value, json};

use crate::support::{Client, House, Transport, both, house};

async fn back(house: &House, transport: Transport, since: &Value) -> (Client, Vec<Value>) {
    let mut client = house.connect(transport, "lobby").await;
    let missed = client.hello(json!({ "since": since })).await;
    (client, missed)
}

fn seqs(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["seq"].as_u64().unwrap()).collect()
}

both! {
    async fn who_returns_over_the_other_transport_gets_what_was_missed(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut bob = house.join(transport, "lobby", "bob").await;
        ann.say("heard").await;
        assert_eq!(bob.text().await, "heard");
        let position = bob.position.clone();
        bob.drop_connection();
        for n in 0..5 {
            ann.say(&format!("missed {n}")).await;
        }
        let (mut bob, missed) = back(&house, transport.other(), &position).await;
        assert_eq!((&bob.welcome["resumed"], bob.welcome.get("why")), (&true.into(), None));
        assert_eq!(seqs(&missed), [2, 3, 4, 5, 6]);
        assert_eq!(bob.welcome["position"]["seq"], 6);
        ann.say("live").await;
        assert_eq!(bob.text().await, "live");
    }

    async fn nothing_is_lost_through_a_nap_or_a_restart(transport) {
        let mut house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.say("one").await;
        ann.message().await;
        let position = ann.position.clone();
        ann.say("two").await;
        house.hibernate("lobby").await;
        assert_eq!(seqs(&back(&house, transport, &position).await.1), [2]);
        house.restart().await;
        let (mut ann, missed) = back(&house, transport, &position).await;
        assert_eq!(seqs(&missed), [2]);
        assert_eq!(ann.say("three").await, 3);
    }

    async fn a_position_before_the_first_message_is_a_position(transport) {
        let house = house(|_| {}).await;
        let early = house.join(transport, "lobby", "early").await;
        let position = early.position.clone();
        assert_eq!(position["seq"], 0);
        early.drop_connection();
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.say("first").await;
        let (client, missed) = back(&house, transport, &position).await;
        assert_eq!((&client.welcome["resumed"], seqs(&missed)), (&true.into(), vec![1]));
    }

    async fn a_position_of_another_log_or_ahead_of_this_one_is_told_so(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.say("one").await;
        let ahead = json!({ "epoch": ann.position["epoch"], "seq": 99 });
        for since in [json!({ "epoch": "k3f9-0", "seq": 1 }), json!({ "epoch": "?", "seq": 1 }), ahead] {
            let (client, shown) = back(&house, transport, &since).await;
            let welcome = &client.welcome;
            assert_eq!((&welcome["resumed"], &welcome["why"]), (&false.into(), &"epoch".into()));
            assert_eq!((&welcome["oldest"], seqs(&shown)), (&1.into(), vec![1]), "a fresh start");
        }
    }

    /// Retention trims whole chunks when a room is moved.
    async fn a_position_behind_retention_is_told_so(transport) {
        let house = house(|config| config.store.retention.messages = 10).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let position = ann.position.clone();
        for n in 0..300u64 {
            ann.publish(n, json!(n)).await;
        }
        while ann.position["seq"] != 300 {
            ann.next().await;
        }
        house.hibernate("lobby").await;
        let (client, shown) = back(&house, transport, &position).await;
        let welcome = &client.welcome;
        assert_eq!((&welcome["resumed"], &welcome["why"]), (&false.into(), &"retention".into()));
        let oldest = welcome["oldest"].as_u64().unwrap();
        assert!((2..=291).contains(&oldest), "{oldest}");
        assert_eq!(seqs(&shown), (oldest.max(201)..=300).collect::<Vec<_>>());
    }

    async fn a_long_gap_comes_in_order_with_live_messages_behind_it(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let position = ann.position.clone();
        const GAP: u64 = 2_000;
        for n in 0..GAP {
            ann.publish(n, json!({ "n": n, "padding": "x".repeat(200) })).await;
            if n % 50 == 0 {
                while ann.position["seq"].as_u64().unwrap() < n {
                    ann.next().await;
                }
            }
        }
        while ann.position["seq"] != GAP {
            ann.next().await;
        }
        let mut bob = house.connect(transport.other(), "lobby").await;
        bob.send(json!({ "type": "hello", "since": position })).await;
        for n in 0..100 {
            ann.publish(n, json!({ "n": GAP + n })).await;
        }
        let mut live_at = None;
        for expected in 1..=GAP + 100 {
            let message = loop {
                let frame = bob.next().await;
                match frame["type"].as_str().unwrap() {
                    "welcome" => {}
                    "live" => live_at = Some((frame["seq"].clone(), expected)),
                    "message" => break frame,
                    other => panic!("{other}"),
                }
            };
            assert_eq!((&message["seq"], &message["data"]["n"]), (&expected.into(), &(expected - 1).into()));
        }
        // On a busy machine the hello may come behind all of them.
        let (live, next) = match live_at {
            Some(live) => live,
            None => (bob.next_of("live").await["seq"].clone(), GAP + 101),
        };
        assert_eq!(live, next - 1, "live stands where the replay ended");
    }

    async fn history_on_joining_is_as_long_as_asked_for(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        for n in 0..120u64 {
            ann.publish(n, json!(n)).await;
        }
        while ann.position["seq"] != 120 {
            ann.next().await;
        }
        for (asked, first) in [(json!({}), 21), (json!({ "history": 3 }), 118), (json!({ "history": 5_000 }), 1)] {
            let mut bob = house.connect(transport, "lobby").await;
            assert_eq!(seqs(&bob.hello(asked).await), (first..=120).collect::<Vec<_>>());
        }
        let mut none = house.connect(transport, "lobby").await;
        assert_eq!(none.hello(json!({ "history": 0 })).await, [json!({}); 0]);
        assert_eq!(none.position["seq"], 120, "live is a position too");
    }
}
