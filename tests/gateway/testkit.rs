//! The test kit, as its users meet it: a house in their process, and hands for its time and its end.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use dormouse::config::Config;
use dormouse::testkit::House;
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::alarms::reminder;
use crate::support::{Client, DEADLINE, Last, Takes, Transport, View, both};

/// Far longer than any test here may take.
const DAY: Duration = Duration::from_secs(86_400);
/// More than is virtual of anything between two lines of a test, less than matters.
const MOMENT: Duration = Duration::from_millis(1);

async fn open(change: impl Fn(&mut Config) + Send + Sync + 'static) -> House {
    House::open(change).await.unwrap()
}

async fn connect(house: &House, transport: Transport) -> Client {
    let (address, hashes) = (house.address(), house.certificate_hashes());
    Client::connect(transport, address, "lobby", &hashes, Takes::Plenty).await
}

async fn join(house: &House, transport: Transport, name: &str) -> Client {
    let mut client = connect(house, transport).await;
    client.hello(json!({ "name": name })).await;
    client
}

async fn state(house: &House) -> &'static str {
    house.room("lobby").await.unwrap().state
}

/// Waits until it is so.
async fn until(house: &House, is: impl AsyncFn(&House) -> bool) {
    let waiting = async {
        while !is(house).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("the house gets there in time");
}

both! {
    async fn a_room_falls_asleep_by_the_houses_clock(transport) {
        let house = open(|config| config.keeper.sleep_after = DAY).await;
        let mut ann = join(&house, transport, "ann").await;
        for _ in 0..3 {
            ann.say("hello").await;
            house.advance(DAY / 2).await;
            assert_eq!(state(&house).await, "awake", "half a day");
            house.advance(DAY / 2).await;
            house.assert_asleep_within("lobby", DEADLINE).await;
        }
        assert_eq!(house.room("lobby").await.unwrap().seats, 1, "she was here all the time");
        ann.say("and is").await;
    }

    async fn a_room_is_asleep_and_awake_when_it_is_told_to_be(transport) {
        let house = open(|config| config.keeper.sleep_after = DAY).await;
        let mut ann = join(&house, transport, "ann").await;
        ann.say("hello").await;
        house.hibernate("lobby").await;
        assert_eq!(state(&house).await, "asleep");
        house.wake("lobby").await;
        assert_eq!(state(&house).await, "awake");
        assert!(house.room("attic").await.is_none());
    }

    async fn an_assertion_that_fails_says_why_the_room_is_awake(transport) {
        let house = open(|config| config.keeper.sleep_after = DAY).await;
        let mut ann = join(&house, transport, "ann").await;
        house.assert_asleep_within("lobby", Duration::ZERO).await;
        ann.say("hello").await;
        house.advance(DAY / 4).await;
        let asserted = house.assert_asleep_within("lobby", MOMENT);
        let panic = AssertUnwindSafe(asserted).catch_unwind().await.unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        assert!(said.starts_with("room \"lobby\" is awake: publish needed it 216"), "{said}");
        assert!(said.contains("s ago, and it sleeps in 64"), "{said}");
        assert!(said.ends_with("if nothing happens, after 1ms"), "{said}");
        let asserted = house.assert_asleep_within("attic", DEADLINE);
        let panic = AssertUnwindSafe(asserted).catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "there is no room \"attic\"");
    }

    async fn grace_and_resume_window_end_by_the_houses_clock(transport) {
        let house = open(|config| {
            config.keeper.grace = DAY;
            config.keeper.resume_window = 2 * DAY;
        }).await;
        let mut bob = join(&house, transport.other(), "bob").await;
        let mut view = View::of(&bob);
        let ann = join(&house, transport, "ann").await;
        let session = ann.welcome["session"].clone();
        view.until_here(&mut bob, &["ann", "bob"]).await;
        ann.drop_connection();
        view.until(&mut bob, |view| view.is_away("ann")).await;

        house.advance(DAY).await;
        view.until_here(&mut bob, &["bob"]).await;
        assert_eq!(house.room("lobby").await.unwrap().seats, 2, "she can come back");
        let mut ann = connect(&house, transport).await;
        ann.hello(json!({ "session": session })).await;
        assert_eq!(ann.welcome["seat"], "kept");
        view.until_here(&mut bob, &["ann", "bob"]).await;
        ann.drop_connection();
        view.until(&mut bob, |view| view.is_away("ann")).await;

        house.advance(2 * DAY).await;
        view.until_here(&mut bob, &["bob"]).await;
        let mut ann = connect(&house, transport).await;
        ann.hello(json!({ "session": session })).await;
        assert_eq!(ann.welcome["seat"], "new");
        assert!(bob.hears_nothing().await, "three days have ended no connection");
    }

    async fn an_alarm_rings_a_day_later_awake_and_asleep_and_after_a_crash(transport) {
        let mut house = open(|config| config.keeper.behaviour = reminder).await;
        let day = DAY.as_millis();
        let mut ann = join(&house, transport, "ann").await;
        for sleeps in [false, true] {
            ann.say(&format!("remind {day}")).await;
            ann.message().await;
            if sleeps {
                house.hibernate("lobby").await;
            }
            house.advance(DAY / 2).await;
            assert!(ann.hears_nothing().await, "half a day");
            house.advance(DAY / 2 + MOMENT).await;
            let rung = ann.message().await;
            assert_eq!(rung["data"]["text"], format!("after {day}"));
        }
        ann.say(&format!("remind {day}")).await;
        let due = house.room("lobby").await.unwrap().alarm.unwrap().due;
        house.crash().await;
        house.reopen().await.unwrap();
        assert_eq!(house.room("lobby").await.unwrap().alarm.unwrap().due, due);
        let mut bob = join(&house, transport, "bob").await;
        house.advance(DAY).await;
        assert_eq!(bob.text().await, format!("after {day}"));
    }

    async fn an_idle_room_is_deleted_by_the_houses_clock_and_not_before(transport) {
        let house = open(|config| config.store.retention.idle_delete = Some(DAY)).await;
        for _ in 0..2 {
            let mut ann = join(&house, transport, "ann").await;
            assert_eq!(ann.say("hello").await, 1, "nothing was here before");
            ann.close(1000).await;
            let is_gone = async |house: &House| house.room("lobby").await.unwrap().seats == 0;
            until(&house, is_gone).await;
            house.hibernate("lobby").await;
            house.advance(DAY / 2).await;
            assert!(house.room("lobby").await.is_some(), "half a day");
            house.advance(DAY / 2).await;
            until(&house, async |house| house.room("lobby").await.is_none()).await;
        }
    }

    async fn what_was_acknowledged_outlives_a_crash_and_seats_come_back_away(transport) {
        let mut house = open(|_| {}).await;
        let mut ann = join(&house, transport, "ann").await;
        for round in 0..3u64 {
            let said = ann.say(&format!("{round}")).await;
            assert_eq!(ann.message().await["seq"], said);
            if round == 1 {
                house.hibernate("lobby").await; // so that some of it lies in either file
            }
            let (session, position) = (ann.welcome["session"].clone(), ann.position.clone());
            house.crash().await;
            house.reopen().await.unwrap();
            let seen = house.room("lobby").await.unwrap();
            assert_eq!((seen.head.seq, seen.seats), (said, 1), "{seen:?}");
            let bob = join(&house, transport.other(), "bob").await;
            assert!(View::of(&bob).is_away("ann"), "{:?}", bob.welcome);
            bob.close(1000).await;
            ann = connect(&house, transport).await;
            let missed = ann.hello(json!({ "session": session, "since": position })).await;
            assert_eq!((&ann.welcome["seat"], missed.len()), (&"kept".into(), 0));
            View::of(&ann).until_here(&mut ann, &["ann"]).await; // bob's goodbye is on disk, too
        }
        let mut eve = connect(&house, transport).await;
        let log = eve.hello(json!({ "name": "eve", "history": 10 })).await;
        let texts: Vec<_> = log.iter().map(|it| it["data"]["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["0", "1", "2"]);
    }

    async fn a_crash_tells_nobody(transport) {
        let mut house = open(|config| {
            config.quic.idle_timeout = Duration::from_secs(3);
            config.quic.keep_alive = Duration::from_secs(1);
        }).await;
        let ann = join(&house, transport, "ann").await;
        house.crash().await;
        assert_eq!(ann.leave().await, (Value::Null, Last::Broken));
    }

    async fn a_shutdown_tells_everybody(transport) {
        let mut house = open(|_| {}).await;
        let ann = join(&house, transport, "ann").await;
        let (told, ()) = tokio::join!(ann.leave(), house.shutdown());
        assert_eq!(told.0["code"], 4000);
        house.reopen().await.unwrap();
        let view = View::of(&join(&house, transport, "bob").await);
        assert!(view.is_away("ann"));
    }
}

/// Nothing of a house depends on the runtime that a test happens to have.
#[tokio::test(start_paused = true)]
async fn a_house_stands_under_any_runtime_and_leaves_nothing_behind() {
    let mut house = open(|_| {}).await;
    let place = house.data_dir().parent().unwrap().to_owned();
    house.advance(DAY).await;
    house.crash().await;
    assert!(place.is_dir());
    house.reopen().await.unwrap();
    house.shutdown().await;
    house.reopen().await.unwrap();
    assert!(house.room("lobby").await.is_none());
    drop(house);
    assert!(!place.exists());
}
