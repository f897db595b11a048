//! Kinds of rooms by their names, and how many rooms may be awake.

use std::time::Duration;

use dormouse::config::Config;
use dormouse::keeper;
use dormouse::protocol::Kinds;
use dormouse::store::RoomSettings;
use serde_json::json;

use crate::support::{Transport, both, house};

/// Rooms `game-*` are otherwise; `change` says how.
fn games(config: &mut Config, change: impl FnOnce(&mut keeper::Settings)) {
    let mut settings = config.keeper.clone();
    change(&mut settings);
    config.kinds.push(("game-*".parse().unwrap(), settings));
}

both! {
    async fn each_kind_sleeps_in_its_own_time_and_has_its_own_members(transport) {
        let house = house(|config| {
            config.keeper.sleep_after = Duration::from_secs(3_600);
            games(config, |settings| {
                settings.sleep_after = Duration::from_millis(50);
                settings.limits.members = 1;
            });
        })
        .await;
        for room in ["game-1", "lobby"] {
            house.join(transport, room, "ann").await.say("hi").await;
        }
        house.until("game-1", |room| room["state"] == "asleep").await;
        let why = house.inspect("lobby").await["why_awake"].clone();
        assert!(why["sleeps_in_ms"].as_u64().unwrap() > 1_000_000, "{why}");

        let _ann = house.join(transport, "game-2", "ann").await;
        let mut bob = house.connect(transport.other(), "game-2").await;
        bob.send(json!({ "type": "hello" })).await;
        bob.closed_with(4506, "room_full").await;
        house.join(transport.other(), "lobby", "bob").await;
    }

    async fn each_kind_keeps_its_own_history(transport) {
        let house = house(|config| {
            let retention = dormouse::store::Retention { messages: 10, ..config.store.retention.clone() };
            let kind = RoomSettings { journal_bytes: config.store.journal_bytes, retention };
            config.store.kinds = Kinds::new(None, [("game-*".parse().unwrap(), Some(kind))]);
        })
        .await;
        for (room, is_trimmed) in [("game-1", true), ("lobby", false)] {
            let mut ann = house.join(transport, room, "ann").await;
            for n in 0..300u64 {
                ann.publish(n, json!("x")).await;
            }
            for n in 0..300u64 {
                assert_eq!(ann.next_of("ok").await["id"], n);
            }
            house.hibernate(room).await;
            let path = format!("/v1/rooms/{room}/messages?after=0&limit=1");
            let oldest = house.operator("GET", &path, "").await.json()["messages"][0]["seq"].clone();
            assert_eq!(oldest != 1, is_trimmed, "{room}: {oldest}");
        }
    }

    async fn beyond_so_many_awake_the_longest_idle_sleeps_early(transport) {
        let house = house(|config| {
            config.keeper.sleep_after = Duration::from_secs(3_600);
            config.rooms_awake = 2;
        })
        .await;
        let mut one = house.join(transport, "one", "ann").await;
        let mut two = house.join(transport.other(), "two", "ann").await;
        let mut three = house.join(transport, "three", "ann").await;
        one.say("hi").await;
        two.say("hi").await;
        let states = async || {
            let rooms = house.operator("GET", "/v1/rooms", "").await.json();
            let state = |room: &serde_json::Value| (room["room"].to_string(), room["state"].to_string());
            rooms["rooms"].as_array().unwrap().iter().map(state).collect::<Vec<_>>()
        };
        assert_eq!(states().await.iter().filter(|(_, state)| state == "\"awake\"").count(), 2);
        assert_eq!(house.metric("dormouse_rooms_dozed_total").await, 0.0, "as many as may be");
        let since = house.inspect("two").await["why_awake"]["since"].as_u64().unwrap();
        while one.say("again").await > 0 {
            let why = house.inspect("one").await["why_awake"].clone();
            if why["since"].as_u64().unwrap() > since {
                break; // now two is the one that is idle the longest, to the millisecond
            }
        }
        three.say("hi").await;
        house.until("two", |room| room["state"] == "asleep").await;
        for room in ["one", "three"] {
            assert_eq!(house.inspect(room).await["state"], "awake", "{room}");
        }
        assert_eq!(house.metric("dormouse_rooms_dozed_total").await, 1.0);
        // It is a nap like any other.
        two.message().await;
        assert_eq!(two.say("good morning").await, 2);
        assert_eq!(two.text().await, "good morning");
    }
}
