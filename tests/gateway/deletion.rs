//! Deleting a room: everybody is told, nothing is left, and nothing old resumes into what comes
//! after it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{House, Transport, both, house};

/// A member with something to come back with: its position and its session.
async fn member(house: &House, transport: Transport, room: &str) -> (Value, Value) {
    let mut ann = house.join(transport, room, "ann").await;
    for n in 0..3 {
        ann.say(&format!("old {n}")).await;
        ann.message().await;
    }
    let met = (ann.position.clone(), ann.welcome["session"].clone());
    ann.close(1000).await;
    met
}

async fn is_gone(house: &House, room: &str) {
    assert_eq!(house.operator("GET", &format!("/v1/rooms/{room}"), "").await.status, 404);
    assert_eq!(house.delete(room).await, 404);
}

both! {
    async fn its_members_are_told_and_its_successor_knows_none_of_them(transport) {
        let house = house(|_| {}).await;
        let (position, session) = member(&house, transport, "attic").await;
        let mut bob = house.join(transport, "attic", "bob").await;
        let mut cyd = house.join(transport.other(), "attic", "cyd").await;
        let mut dee = house.seed_join("attic", "dee").await;
        assert_eq!(house.delete("attic").await, 204);
        bob.closed_with(4505, "room_deleted").await;
        cyd.closed_with(4505, "room_deleted").await;
        let (_, last) = dee.closed().await;
        assert!(format!("{last:?}").contains("1011"), "{last:?}");
        is_gone(&house, "attic").await;

        for _ in 0..2 {
            let mut ann = house.connect(transport, "attic").await;
            let hello = json!({ "name": "ann", "since": position, "session": session });
            let replayed = ann.hello(hello).await;
            assert!(replayed.is_empty() || replayed[0]["data"]["text"] == "new", "{replayed:?}");
            let welcome = &ann.welcome;
            assert_eq!((&welcome["resumed"], &welcome["why"]), (&false.into(), &"epoch".into()));
            assert_eq!(welcome["seat"], "new");
            assert_ne!(welcome["position"]["epoch"], position["epoch"]);
            if replayed.is_empty() {
                assert_eq!(ann.say("new").await, 1);
            }
            ann.close(1000).await;
            house.hibernate("attic").await;
        }
        assert_eq!(house.metric("dormouse_rooms_deleted_total{cause=\"operator\"}").await, 1.0);
    }

    async fn whatever_state_it_is_in_it_can_be_deleted_and_stays_so_through_a_restart(transport) {
        let mut house = house(|_| {}).await;
        for room in ["cold", "awake", "asleep", "moved"] {
            member(&house, transport, room).await;
        }
        house.hibernate("moved").await;
        house.hibernate("cold").await;
        house.until("cold", |room| room["state"] == "cold").await;
        let mut asleep = house.join(transport, "asleep", "bob").await;
        house.hibernate("asleep").await;
        let mut awake = house.join(transport, "awake", "bob").await;
        awake.say("up").await;
        for room in ["cold", "awake", "asleep", "moved"] {
            assert_eq!(house.delete(room).await, 204, "{room}");
            is_gone(&house, room).await;
        }
        asleep.closed_with(4505, "room_deleted").await;
        awake.closed_with(4505, "room_deleted").await;
        assert_eq!(house.delete("never").await, 404);
        house.restart().await;
        for room in ["cold", "awake", "asleep", "moved"] {
            is_gone(&house, room).await;
        }
        let mut ann = house.join(transport, "awake", "ann").await;
        assert_eq!(ann.say("first").await, 1);
        house.shutdown().await;
        let found = dormouse::store::check(&house.data_dir()).unwrap();
        assert_eq!((found.damaged, found.rooms, found.messages), (vec![], 1, 1));
    }

    /// Whoever was heard of got an answer: a place in the log before it went, or an error.
    async fn publishes_in_flight_are_answered_or_cut_and_none_of_them_comes_back(transport) {
        let house = house(|config| config.session.publishes_in_flight = 1_000).await;
        let mut ann = house.join(transport, "attic", "ann").await;
        for n in 0..200u64 {
            ann.publish(n, json!({ "text": format!("old {n}") })).await;
        }
        let twice = tokio::join!(house.delete("attic"), house.delete("attic"));
        assert!([(204, 204), (204, 404), (404, 204)].contains(&twice), "{twice:?}");
        let mut errors = 0;
        loop {
            match ann.next_or_last().await {
                Ok(frame) if frame["type"] == "error" => {
                    assert_eq!((&frame["code"], frame.get("retry_after")), (&"room_deleted".into(), None));
                    errors += 1;
                }
                Ok(frame) if frame["type"] == "close" => {
                    assert_eq!(frame["code"], 4505, "{frame}");
                    break;
                }
                Ok(frame) => assert!(["ok", "message", "presence"].contains(&frame["type"].as_str().unwrap()), "{frame}"),
                Err(last) => panic!("{last:?} before the close, {errors} errors"),
            }
        }
        let mut bob = house.connect(transport, "attic").await;
        assert_eq!(bob.hello(json!({ "name": "bob" })).await, [] as [Value; 0]);
        assert_eq!(bob.say("first").await, 1);
    }

    async fn a_room_that_cannot_be_read_can_be_deleted(transport) {
        let mut house = house(|_| {}).await;
        member(&house, transport, "bad").await;
        house.until("bad", |room| room["seats"] == 0).await;
        house.hibernate("bad").await;
        house.shutdown().await;
        house.damage("bad");
        house.open().await;
        let mut bob = house.connect(transport, "bad").await;
        bob.send(json!({ "type": "hello", "name": "bob" })).await;
        bob.closed_with(4007, "store_unavailable").await;
        assert_eq!(house.delete("bad").await, 204);
        is_gone(&house, "bad").await;
        let mut bob = house.join(transport, "bad", "bob").await;
        assert_eq!(bob.say("as new").await, 1);
    }

    async fn a_room_that_nobody_uses_goes_by_itself_and_one_with_a_member_stays(transport) {
        let house = house(|config| {
            config.store.retention.idle_delete = Some(Duration::from_millis(200));
        })
        .await;
        let mut ann = house.join(transport, "used", "ann").await;
        ann.say("here I am").await;
        let dee = house.seed_join("quiet", "dee").await;
        member(&house, transport, "quiet").await;
        member(&house, transport, "empty").await;
        for room in ["used", "quiet", "empty"] {
            house.hibernate(room).await;
        }
        house.until_metric("dormouse_rooms_deleted_total{cause=\"idle\"}", 1.0).await;
        is_gone(&house, "empty").await;
        assert_eq!(house.inspect("used").await["state"], "asleep");
        assert_eq!(house.inspect("quiet").await["seats"], 1, "a seed member writes nothing");
        drop(dee);
        house.until_metric("dormouse_rooms_deleted_total{cause=\"idle\"}", 2.0).await;
        is_gone(&house, "quiet").await;
        assert_eq!(ann.say("still here").await, 2);
    }
}

/// A seed seat leaves no record, so its room was of the newest epoch there is, and another one's
/// deletion made that another: the first message was taken for one of another log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_rooms_deletion_is_nothing_to_who_waits_in_an_empty_room() {
    let house = house(|config| config.keeper.outbox.ring_age = Duration::from_millis(10)).await;
    let mut dee = house.seed_join("lobby", "dee").await;
    member(&house, Transport::WebSocket, "attic").await;
    assert_eq!(house.delete("attic").await, 204);
    for n in 0..3 {
        dee.chat(&format!("hello {n}")).await;
        house.hibernate("lobby").await;
        assert_eq!(dee.next_of("chat").await["message"], format!("hello {n}"));
    }
    assert_eq!(house.inspect("lobby").await["head"]["seq"], 3);
}
