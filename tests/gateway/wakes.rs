//! Promise 9, case by case: what needs a room wakes it, and nothing else does; promise 6 with it:
//! nor does anything else keep a room awake.
//!
//! Each deed below is done twice in the same room, over both transports: while the room is awake,
//! when it must leave what the room is held by as it was, and while the room sleeps, when it must
//! not wake it. Each deed ends with an answer, so that it has reached whatever it could have woken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dormouse::clock::Clock;
use dormouse::config::Config;
use dormouse::session::AutoResponses;
use serde_json::{Value, json};

use crate::alarms::reminder;
use crate::support::{Client, DEADLINE, House, Transport, both, house};

const ROOM: &str = "meadow";

/// What is answered below the room.
const KNOCK: &str = "anybody?";

fn settings(config: &mut Config) {
    config.keeper.sleep_after = Duration::from_secs(3_600); // nothing here takes so long
    config.keeper.grace = Duration::from_millis(10);
    config.keeper.resume_window = Duration::from_millis(20);
    config.quic.keep_alive = Duration::from_millis(20);
    let pairs = vec![(KNOCK.to_owned(), r#"{"type":"somebody"}"#.to_owned())];
    config.session.auto_responses = std::sync::Arc::new(AutoResponses::new(pairs).unwrap().into());
}

/// The room with somebody in it, over `transport`.
struct Meadow {
    house: House,
    ann: Client,
    transport: Transport,
}

impl Meadow {
    async fn awake(transport: Transport) -> Self {
        Self::built(transport, settings).await
    }

    async fn built(
        transport: Transport,
        change: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> Self {
        let house = house(change).await;
        let mut ann = house.join(transport, ROOM, "ann").await;
        ann.say("good evening").await;
        ann.message().await;
        Self { house, ann, transport }
    }

    async fn wakes(&self, cause: &str) -> f64 {
        let line = format!("dormouse_room_wakes_total{{cause=\"{cause}\"}}");
        self.house.metric(&line).await
    }

    async fn seats(&self, count: usize) {
        self.house.until(ROOM, |room| room["seats"] == count).await;
    }

    /// Does it twice, and holds the room against what it was.
    async fn left_alone_by(mut self, deed: impl AsyncFn(&mut Self)) {
        let why = self.house.inspect(ROOM).await["why_awake"].clone();
        assert_eq!(why["holder"], "publish");
        let is_past = || now_ms() > why["since"].as_u64().unwrap();
        while !is_past() {
            tokio::task::yield_now().await; // a later need would have a later time
        }
        deed(&mut self).await;
        let after = self.house.inspect(ROOM).await;
        assert_eq!(after["state"], "awake");
        assert_eq!(after["why_awake"]["holder"], "publish", "it keeps nothing awake");
        assert_eq!(after["why_awake"]["since"], why["since"], "it keeps nothing awake");

        self.house.hibernate(ROOM).await;
        let wakes = self.house.wakes().await;
        deed(&mut self).await;
        let after = self.house.inspect(ROOM).await;
        assert_eq!((&after["state"], &after["why_awake"]), (&"asleep".into(), &Value::Null));
        assert_eq!(self.house.wakes().await, wakes, "it wakes nothing");
    }

    /// Does it to the sleeping room, which is woken once, and for this.
    async fn woken_by(mut self, cause: &str, deed: impl AsyncFn(&mut Self)) {
        self.house.hibernate(ROOM).await;
        let (all, of_cause) = (self.house.wakes().await, self.wakes(cause).await);
        deed(&mut self).await;
        let after = self.house.inspect(ROOM).await;
        assert_eq!(
            (&after["state"], &after["last_wake"]["cause"]),
            (&"awake".into(), &cause.into())
        );
        assert_eq!(after["why_awake"]["holder"], cause);
        let now = (self.house.wakes().await, self.wakes(cause).await);
        assert_eq!(now, (all + 1.0, of_cause + 1.0));
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

mod nothing_is_woken_or_kept_awake {
    use super::*;

    both! {
        async fn by_protocol_pings(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| match meadow.transport {
                Transport::WebSocket => meadow.ann.is_heard().await,
                Transport::WebTransport => {
                    let pings = |ann: &Client| {
                        ann.connection().quic_connection().stats().frame_rx.ping
                    };
                    let before = pings(&meadow.ann);
                    let pinged = async {
                        while pings(&meadow.ann) == before {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    };
                    tokio::time::timeout(DEADLINE, pinged).await.unwrap();
                }
            })
            .await;
        }

        async fn by_v1_pings(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                assert!(meadow.ann.hears_nothing().await);
            })
            .await;
        }

        async fn by_auto_responses(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                meadow.ann.send_text(KNOCK).await;
                meadow.ann.next_of("somebody").await;
            })
            .await;
        }

        async fn by_ephemerals(transport) {
            let meadow = Meadow::awake(transport).await;
            let bob = meadow.house.join(transport.other(), ROOM, "bob").await;
            let bob = tokio::sync::Mutex::new(bob);
            meadow.left_alone_by(async |meadow| {
                let cursor = json!({ "type": "ephemeral", "key": "cursor", "data": [3, 4] });
                meadow.ann.send(cursor).await;
                bob.lock().await.next_of("ephemeral").await;
            })
            .await;
        }

        async fn by_set(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                let set = json!({ "type": "set", "id": 5, "attachment": { "mood": "sleepy" } });
                meadow.ann.send(set).await;
                assert_eq!(meadow.ann.next_of("ok").await["id"], 5);
            })
            .await;
        }

        async fn by_joining_and_leaving(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                let bob = meadow.house.join(meadow.transport, ROOM, "bob").await;
                meadow.seats(2).await;
                bob.close(1000).await;
                meadow.seats(1).await;
            })
            .await;
        }

        async fn by_a_seat_that_expires(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                let bob = meadow.house.join(meadow.transport, ROOM, "bob").await;
                meadow.seats(2).await;
                bob.drop_connection();
                meadow.seats(1).await;
            })
            .await;
        }

        async fn by_resuming(transport) {
            let meadow = Meadow::awake(transport).await;
            meadow.left_alone_by(async |meadow| {
                let session = meadow.ann.welcome["session"].clone();
                let since = json!({ "epoch": meadow.ann.position["epoch"], "seq": 0 });
                let mut back = meadow.house.connect(meadow.transport.other(), ROOM).await;
                let missed = back.hello(json!({ "session": session, "since": since })).await;
                assert_eq!((missed.len(), &back.welcome["resumed"]), (1, &true.into()));
                assert_eq!(back.welcome["seat"], "kept");
                meadow.ann.closed_with(4508, "taken_over").await;
                meadow.transport = meadow.transport.other();
                meadow.ann = back;
            })
            .await;
        }

        async fn by_pages_of_history(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                let history = json!({ "type": "history", "id": 3, "limit": 10 });
                meadow.ann.send(history.clone()).await;
                assert_eq!(meadow.ann.next_of("page").await["messages"].as_array().unwrap().len(), 1);
                if meadow.transport == Transport::WebTransport {
                    assert_eq!(meadow.ann.ask_aside(history).await["type"], "page");
                }
            })
            .await;
        }

        async fn by_pages_of_members(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                meadow.ann.send(json!({ "type": "members", "id": 4 })).await;
                assert_eq!(meadow.ann.next_of("members").await["members"][0]["name"], "ann");
            })
            .await;
        }

        async fn by_whoever_comes_goes_and_takes_a_name_in_the_seed_profile(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                let mut cyd = meadow.house.seed_join(ROOM, "cyd").await;
                cyd.send(json!({ "type": "update-name", "name": "eve" })).await;
                assert!(cyd.only_users().await.contains(&"eve".to_owned()));
                cyd.send_text(KNOCK).await;
                cyd.next_of("somebody").await;
                cyd.close(1000).await;
                meadow.seats(1).await;
            })
            .await;
        }

        async fn by_metrics_and_whatever_operators_read(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                for path in [
                    "/healthz",
                    "/readyz",
                    "/metrics",
                    "/v1/rooms",
                    "/v1/rooms?state=awake",
                    "/v1/rooms?state=cold&after=a&limit=1",
                    "/v1/rooms/meadow",
                    "/v1/rooms/meadow/messages?after=0&limit=10",
                    "/v1/rooms/meadow/presence",
                ] {
                    assert_eq!(meadow.house.operator("GET", path, "").await.status, 200, "{path}");
                }
                for path in ["/demo/rooms", "/.well-known/dormouse"] {
                    assert_eq!(meadow.house.get(path, "").await.status, 200, "{path}");
                }
            })
            .await;
        }

        /// The room sleeps with a message that is too old in a while; then something of the room is
        /// moved, and retention trims on the way.
        async fn by_retention(transport) {
            let house = house(|config| {
                config.store.retention.age = Duration::from_millis(100);
                config.store.journal_age = Duration::from_millis(5);
            })
            .await;
            let mut ann = house.join(transport, ROOM, "ann").await;
            ann.say("good evening").await;
            ann.message().await;
            house.hibernate(ROOM).await;
            let wakes = house.wakes().await;
            let path = format!("/v1/rooms/{ROOM}/messages");
            let trims = async {
                while house.operator("GET", &path, "").await.json()["messages"] != json!([]) {
                    ann.send(json!({ "type": "set", "id": 5, "attachment": {} })).await;
                    ann.next_of("ok").await;
                }
            };
            tokio::time::timeout(DEADLINE, trims).await.unwrap();
            let room = house.inspect(ROOM).await;
            assert_eq!((&room["state"], &room["head"]["seq"]), (&"asleep".into(), &1.into()));
            assert_eq!(house.wakes().await, wakes);
        }

        /// Nobody does anything, and nothing is moved: its time is over, and it goes.
        async fn by_history_that_becomes_too_old(transport) {
            let house = house(|config| {
                config.store.retention.age = Duration::from_millis(200);
            })
            .await;
            let mut ann = house.join(transport, ROOM, "ann").await;
            ann.say("good evening").await;
            ann.message().await;
            house.hibernate(ROOM).await;
            let wakes = house.wakes().await;
            let path = format!("/v1/rooms/{ROOM}/messages");
            let goes = async {
                let mut interval = tokio::time::interval(Duration::from_millis(10));
                while house.operator("GET", &path, "").await.json()["messages"] != json!([]) {
                    interval.tick().await;
                }
            };
            tokio::time::timeout(DEADLINE, goes).await.unwrap();
            assert!(ann.hears_nothing().await);
            let room = house.inspect(ROOM).await;
            assert_eq!((&room["state"], &room["head"]["seq"]), (&"asleep".into(), &1.into()));
            assert_eq!(house.wakes().await, wakes);
        }

        async fn by_a_publish_that_is_refused(transport) {
            Meadow::awake(transport).await.left_alone_by(async |meadow| {
                let long = "k".repeat(65);
                let publish = json!({ "type": "publish", "id": 9, "key": long, "data": 1 });
                meadow.ann.send(publish).await;
                assert_eq!(meadow.ann.next_of("error").await["code"], "too_large");
            })
            .await;
        }
    }
}

mod a_room_is_woken {
    use super::*;

    both! {
        async fn by_a_publish(transport) {
            Meadow::awake(transport).await.woken_by("publish", async |meadow| {
                assert_eq!(meadow.ann.say("good morning").await, 2);
            })
            .await;
        }

        async fn by_a_direct_message(transport) {
            Meadow::awake(transport).await.woken_by("publish", async |meadow| {
                let to = json!({ "sid": meadow.ann.welcome["sid"] });
                meadow.ann.send(json!({ "type": "publish", "id": 8, "to": to, "data": 1 })).await;
                assert_eq!(meadow.ann.next_of("ok").await["reached"], 1);
            })
            .await;
        }

        async fn by_a_chat_of_the_seed_profile(transport) {
            let meadow = Meadow::awake(transport).await;
            let cyd = tokio::sync::Mutex::new(meadow.house.seed_join(ROOM, "cyd").await);
            meadow.woken_by("publish", async |meadow| {
                cyd.lock().await.chat("good morning").await;
                meadow.ann.message().await;
            })
            .await;
        }

        async fn by_an_alarm_that_is_due(transport) {
            let clock = Clock::movable();
            let of_the_house = clock.clone();
            let change = move |config: &mut Config| {
                settings(config);
                config.keeper.behaviour = reminder;
                config.clock = of_the_house.clone();
            };
            let mut meadow = Meadow::built(transport, change).await;
            meadow.ann.say("remind 600000").await;
            meadow.ann.message().await;
            meadow.woken_by("alarm", async |meadow| {
                clock.advance(Duration::from_secs(600));
                assert_eq!(meadow.ann.text().await, "after 600000");
            })
            .await;
        }

        async fn by_an_operators_word(transport) {
            Meadow::awake(transport).await.woken_by("wake", async |meadow| {
                assert_eq!(meadow.house.operate(ROOM, "wake").await["state"], "awake");
            })
            .await;
        }
    }
}
