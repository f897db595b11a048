//! A sleeping room is data and no task: whoever comes for it finds it as it was.

use std::time::Duration;

use dormouse::config::Config;
use dormouse::keeper::Letter;
use dormouse::keeper::state::Operation;
use dormouse::protocol::RoomName;
use serde_json::json;

use crate::support::{Client, DEADLINE, House, Transport, View, both, house};

const ROOM: &str = "meadow";

/// Rooms that sleep, and let go of what was broadcast, as soon as they may.
fn restless(config: &mut Config) {
    config.keeper.sleep_after = Duration::from_millis(1);
    config.keeper.presence_every = Duration::from_millis(1);
    config.keeper.outbox.ring_age = Duration::from_millis(1);
    config.keeper.grace = Duration::from_millis(10);
}

/// Waits until nobody is at work for the room.
async fn at_rest(house: &House) {
    let room: RoomName = ROOM.parse().unwrap();
    let (answer, _) = tokio::sync::oneshot::channel();
    let letter = Letter::Operate(Operation::Inspect, answer);
    let mailbox = house.gateway().context().dispatcher.deliver(&room, letter).await;
    let waiting = async {
        while !mailbox.is_at_rest() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("the room rests in time");
}

async fn wakes(house: &House) -> f64 {
    house.metric("dormouse_room_wakes_total{cause=\"publish\"}").await
}

both! {
    async fn whatever_comes_to_a_room_at_rest_finds_it_as_it_was(transport) {
        let house = house(restless).await;
        let mut ann = house.join(transport, ROOM, "ann").await;
        let mut bob = house.join(transport.other(), ROOM, "bob").await;
        let mut view = View::of(&ann);
        view.until(&mut ann, |view| view.names().contains(&"bob")).await;
        let keyed = json!({ "type": "publish", "id": 1, "key": "k", "data": { "text": "one" } });
        for dup in [false, true] {
            at_rest(&house).await;
            ann.send(keyed.clone()).await;
            let ok = ann.next_of("ok").await;
            assert_eq!((&ok["seq"], &ok["dup"]), (&1.into(), &dup.into()));
        }
        assert_eq!((ann.text().await, bob.text().await), ("one".into(), "one".into()));
        at_rest(&house).await;
        let (wakes_before, seen) = (wakes(&house).await, house.inspect(ROOM).await);
        assert_eq!((&seen["state"], &seen["seats"]), (&"asleep".into(), &2.into()));
        assert_eq!(seen["last_wake"]["cause"], "publish");

        at_rest(&house).await;
        bob.send(json!({ "type": "members", "id": 2 })).await;
        let members = bob.next_of("members").await;
        assert_eq!(members["members"].as_array().map(Vec::len), Some(2));
        at_rest(&house).await;
        bob.send(json!({ "type": "history", "id": 3 })).await;
        assert_eq!(bob.next_of("page").await["messages"][0]["data"]["text"], "one");
        at_rest(&house).await;
        bob.send(json!({ "type": "set", "id": 4, "tags": ["up"] })).await;
        assert_eq!(bob.next_of("ok").await["id"], 4);
        view.until(&mut ann, |view| view.member("bob")["tags"] == json!(["up"])).await;
        at_rest(&house).await;
        bob.send(json!({ "type": "ephemeral", "key": "cursor", "data": 7 })).await;
        assert_eq!(ann.next_of("ephemeral").await["data"], 7);
        at_rest(&house).await;
        let since = json!({ "epoch": ann.position["epoch"], "seq": 1 });
        let mut cyd = house.connect(transport, ROOM).await;
        cyd.hello(json!({ "name": "cyd", "since": since })).await;
        assert_eq!((&cyd.welcome["resumed"], &cyd.welcome["count"]), (&true.into(), &3.into()));
        view.until(&mut ann, |view| view.names().contains(&"cyd")).await;
        at_rest(&house).await;
        cyd.close(1000).await;
        view.until(&mut ann, |view| !view.names().contains(&"cyd")).await;
        assert_eq!(wakes(&house).await, wakes_before, "none of that needed the room");

        at_rest(&house).await;
        bob.say("two").await;
        assert_eq!((ann.text().await, bob.text().await), ("two".into(), "two".into()));
    }

    async fn a_seat_that_is_lost_while_the_room_rests_is_missed_in_time_and_kept(transport) {
        let house = house(restless).await;
        let mut ann = house.join(transport, ROOM, "ann").await;
        let bob = house.join(transport.other(), ROOM, "bob").await;
        let mut view = View::of(&ann);
        let session = bob.welcome["session"].clone();
        at_rest(&house).await;
        bob.drop_connection();
        view.until(&mut ann, |view| !view.names().contains(&"bob")).await;
        let mut back = house.connect(transport, ROOM).await;
        back.hello(json!({ "session": session })).await;
        assert_eq!(back.welcome["seat"], "kept");
        view.until(&mut ann, |view| view.names().contains(&"bob")).await;
        at_rest(&house).await;
    }

    async fn many_who_come_to_a_room_at_rest_at_once_find_one_keeper(transport) {
        const ROUNDS: u64 = 20;
        let house = house(restless).await;
        let mut members = Vec::new();
        for n in 0..4 {
            let transport = if n % 2 == 0 { transport } else { transport.other() };
            members.push(house.join(transport, ROOM, &format!("member {n}")).await);
        }
        for round in 0..ROUNDS {
            at_rest(&house).await;
            let [a, b, c, d] = &mut members[..] else { unreachable!("there are four") };
            tokio::join!(say(a, round), say(b, round), say(c, round), say(d, round));
        }
        for member in &mut members {
            for seq in 1..=4 * ROUNDS {
                let message = member.message().await;
                assert_eq!((&message["seq"], &message["data"]), (&seq.into(), &((seq - 1) / 4).into()));
            }
        }
    }
}

async fn say(member: &mut Client, what: u64) {
    member.publish(what, what.into()).await;
    assert_eq!(member.next_of("ok").await["dup"], false);
}
