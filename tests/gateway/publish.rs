//! Saying something: order, keys, and what everybody hears.

use serde_json::json;

use crate::support::{Transport, both, house};

both! {
    async fn everybody_hears_the_same_in_the_same_order(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        for n in 0..50 {
            ann.publish(n, json!({ "from": "ann", "n": n })).await;
            bob.publish(n, json!({ "from": "bob", "n": n })).await;
        }
        let (mut heard_by_ann, mut heard_by_bob) = (vec![], vec![]);
        for _ in 0..100 {
            heard_by_ann.push(ann.message().await);
            heard_by_bob.push(bob.message().await);
        }
        assert_eq!(heard_by_ann, heard_by_bob);
        let seqs: Vec<_> = heard_by_ann.iter().map(|m| m["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
        let times: Vec<_> = heard_by_ann.iter().map(|m| m["time"].as_u64().unwrap()).collect();
        assert!(times.is_sorted(), "time never runs backwards");
        for name in ["ann", "bob"] {
            let own: Vec<_> =
                heard_by_ann.iter().filter(|m| m["data"]["from"] == name).collect();
            assert!(own.iter().enumerate().all(|(n, m)| m["data"]["n"] == n), "{name}'s order");
            assert!(own.iter().all(|m| m["from"]["name"] == name && m["from"]["user"].is_null()));
        }
    }

    async fn an_ok_carries_the_seq_and_the_request_number(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        for id in [17, 9_007_199_254_740_991u64] {
            ann.publish(id, json!(null)).await;
        }
        let ok = ann.next_of("ok").await;
        assert_eq!(ok, json!({ "type": "ok", "id": 17, "seq": 1, "dup": false }));
        assert_eq!(ann.next_of("ok").await["id"], 9_007_199_254_740_991u64);
        assert_eq!(ann.message().await["data"], json!(null));
    }

    async fn a_key_takes_effect_once_across_connections_and_restarts(transport) {
        let mut house = house(|_| {}).await;
        let keyed = |text| json!({ "type": "publish", "id": 1, "key": "k", "data": text });
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.send(keyed("first")).await;
        ann.send(keyed("second thoughts")).await;
        assert_eq!(ann.next_of("ok").await["dup"], false);
        let dup = ann.next_of("ok").await;
        assert_eq!((&dup["seq"], &dup["dup"]), (&1.into(), &true.into()), "the first one stands");
        let session = ann.welcome["session"].clone();

        house.restart().await;
        let mut ann = house.connect(transport.other(), "lobby").await;
        let history = ann.hello(json!({ "session": session })).await;
        assert_eq!((history.len(), &history[0]["data"]), (1, &"first".into()));
        ann.send(keyed("again")).await;
        assert_eq!(ann.next_of("ok").await["seq"], 1);
        assert!(ann.hears_nothing().await);
    }

    async fn the_same_key_of_another_author_is_another_key(transport) {
        let house = house(|_| {}).await;
        let keyed = json!({ "type": "publish", "id": 1, "key": "k", "data": 1 });
        for (name, seq) in [("ann", 1), ("bob", 2)] {
            let mut member = house.join(transport, "lobby", name).await;
            member.send(keyed.clone()).await;
            let ok = member.next_of("ok").await;
            assert_eq!((&ok["seq"], &ok["dup"]), (&seq.into(), &false.into()));
        }
    }

    async fn bytes_arrive_as_bytes(transport) {
        let house = house(|_| {}).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        let mut bob = house.join(transport.other(), "lobby", "bob").await;
        let bytes: Vec<u8> = (0..=255).collect();
        ann.send_binary(json!({ "type": "publish", "id": 3 }), &bytes).await;
        for client in [&mut ann, &mut bob] {
            let message = client.next_of("message").await;
            assert_eq!((&message["seq"], message.get("data")), (&1.into(), None));
            assert_eq!(client.bytes, bytes);
        }
        house.hibernate("lobby").await;
        let mut late = house.connect(transport, "lobby").await;
        assert_eq!(late.hello(json!({ "history": 1 })).await.len(), 1);
    }
}

/// The publisher gets its own message like everyone, byte for byte: payloads keep the spelling
/// their author gave them.
#[tokio::test]
async fn a_payload_is_not_respelled() {
    let house = house(|_| {}).await;
    let mut ann = house.join(Transport::WebSocket, "lobby", "ann").await;
    let text = r#"{"type":"publish","id":1,"data":{"big":123456789012345678901234567890,"x":1.0}}"#;
    ann.send_text(text).await;
    let message = ann.message().await;
    assert!(message["data"].to_string().contains("\"x\":1.0"), "{message}");
}
