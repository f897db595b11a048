//! Alarms: a room that wants to be woken is, whatever happened meanwhile.
//!
//! The built-in room sets none, so these houses have another one: whoever says `remind <ms>` in it
//! is reminded after as many milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dormouse::config::Config;
use dormouse::protocol::{Payload, Timestamp};
use dormouse::room::{Act, Behaviour, Happened};
use serde_json::{Value, json};

use crate::support::{House, Transport, both, house};

/// Reminds of all that was asked for, in order of time.
#[derive(Debug)]
struct Reminder(Vec<(u64, String)>);

pub fn reminder(knows: &Bytes) -> Box<dyn Behaviour> {
    Box::new(Reminder(serde_json::from_slice(knows).unwrap_or_default()))
}

impl Behaviour for Reminder {
    fn handle(&mut self, now: Timestamp, happened: Happened<'_>, acts: &mut Vec<Act>) {
        match happened {
            Happened::Published(publish) => {
                let Payload::Json(json) = &publish.payload else { return };
                let said: Value = serde_json::from_str(json).unwrap();
                let Some(ms) = said["text"].as_str().and_then(|it| it.strip_prefix("remind "))
                else {
                    return;
                };
                self.0.push((now.0 + ms.parse::<u64>().unwrap(), format!("after {ms}")));
                self.0.sort();
            }
            Happened::Alarm => {
                while self.0.first().is_some_and(|(at, _)| *at <= now.0) {
                    let (_, text) = self.0.remove(0);
                    let payload = Payload::Json(json!({ "text": text }).to_string());
                    acts.push(Act::Say { name: "reminder".into(), payload });
                }
            }
        }
        acts.push(Act::SetAlarm(self.0.first().map(|(at, _)| Timestamp(*at))));
    }

    fn snapshot(&self) -> Bytes {
        match self.0.is_empty() {
            true => Bytes::new(),
            false => serde_json::to_vec(&self.0).unwrap().into(),
        }
    }
}

fn reminds(config: &mut Config) {
    config.keeper.behaviour = reminder;
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

async fn rung(house: &House) -> f64 {
    house.metric("dormouse_room_wakes_total{cause=\"alarm\"}").await
}

both! {
    async fn an_alarm_rings_in_time_and_in_order_awake_and_asleep(transport) {
        let house = house(reminds).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        for (sleeps, wakes) in [(false, 0.0), (true, 1.0)] {
            let begun = wall_ms();
            for ms in [700, 500] {
                ann.say(&format!("remind {ms}")).await;
                ann.message().await;
            }
            let due = house.inspect("lobby").await["alarm"]["due"].as_u64().unwrap();
            assert!((begun + 500..wall_ms() + 500).contains(&due), "the first of them");
            if sleeps {
                house.hibernate("lobby").await;
                assert_eq!(house.inspect("lobby").await["alarm"]["due"], due, "seen while it sleeps");
            }
            let first = ann.message().await;
            assert!(wall_ms() >= due, "never early");
            assert_eq!((&first["data"]["text"], &first["from"]["name"]), (&"after 500".into(), &"reminder".into()));
            assert_eq!(ann.text().await, "after 700");
            assert_eq!(house.inspect("lobby").await.get("alarm"), None);
            assert_eq!(rung(&house).await, wakes, "only an asleep room is woken");
        }
    }

    async fn an_alarm_rings_in_a_room_that_everybody_has_left(transport) {
        let house = house(reminds).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.say("remind 400").await;
        ann.close(1000).await;
        house.hibernate("lobby").await;
        house.until("lobby", |room| room["head"]["seq"] == 2).await;
        let mut bob = house.connect(transport, "lobby").await;
        let log = bob.hello(json!({ "name": "bob" })).await;
        assert_eq!(log[1]["data"]["text"], "after 400");
    }

    async fn what_came_due_while_the_process_was_down_rings_when_it_is_back(transport) {
        for moved in [true, false] {
            let mut house = house(reminds).await;
            let mut ann = house.join(transport, "lobby", "ann").await;
            ann.say("remind 1").await;
            ann.say("remind 100000000").await;
            assert_eq!(ann.message().await["seq"], 1);
            if moved {
                house.hibernate("lobby").await;
            }
            house.shutdown().await;
            house.open().await;
            // Perhaps it rang before the shutdown; then it does not ring again.
            house.until("lobby", |room| room["head"]["seq"] == 3).await;
            let mut bob = house.connect(transport, "lobby").await;
            let log = bob.hello(json!({ "name": "bob" })).await;
            let mut texts: Vec<_> = log.iter().map(|it| it["data"]["text"].as_str().unwrap()).collect();
            texts.sort_unstable();
            assert_eq!(texts, ["after 1", "remind 1", "remind 100000000"]);
            let left = house.inspect("lobby").await["alarm"]["due"].as_u64().unwrap();
            assert!(left > wall_ms() + 90_000_000);
        }
    }

    async fn a_deleted_rooms_alarm_does_not_ring_in_its_successor(transport) {
        let house = house(reminds).await;
        let mut ann = house.join(transport, "lobby", "ann").await;
        ann.say("remind 300").await;
        assert_eq!(house.delete("lobby").await, 204);
        let mut bob = house.join(transport, "lobby", "bob").await;
        bob.say("remind 500").await;
        bob.message().await;
        assert_eq!(bob.text().await, "after 500");
    }
}
