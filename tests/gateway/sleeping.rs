//! Promises 8 and 10 from outside: what comes at the very moment of falling asleep or waking.
//!
//! The runtime here has one thread for what waits for the store, and a test can hold it. So the
//! moment lasts for as long as it takes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::{StoreIsBusy, with_one_reader};
use crate::support::{Client, House, Transport, house};

const ROOM: &str = "meadow";

async fn pair(house: &House, transport: Transport) -> (Client, Client) {
    let ann = house.join(transport, ROOM, "ann").await;
    let bob = house.join(transport.other(), ROOM, "bob").await;
    (ann, bob)
}

/// The next so many messages, in their order and without a gap from `first` on.
async fn hears(client: &mut Client, first: u64, count: u64) -> Vec<Value> {
    let mut heard = Vec::new();
    for seq in first..first + count {
        let message = client.message().await;
        assert_eq!(message["seq"], seq);
        heard.push(message["data"].clone());
    }
    heard
}

#[test]
fn what_is_said_at_the_moment_of_falling_asleep_is_heard_and_the_room_stays_awake() {
    with_one_reader(async |transport| {
        let house = house(|config| config.keeper.sleep_after = Duration::from_millis(50)).await;
        let (mut ann, mut bob) = pair(&house, transport).await;
        ann.say("good night").await;
        assert_eq!(
            (ann.text().await, bob.text().await),
            ("good night".into(), "good night".into())
        );
        let wakes = house.wakes().await;
        let busy = StoreIsBusy::of(&house).await;
        // Its time is over, and it is being moved: for as long as the store does not answer.
        let leaving = house.until(ROOM, |room| room["why_awake"]["holder"] == "store").await;
        assert_eq!(leaving["why_awake"]["sleeps_in_ms"], 0, "{leaving}");
        ann.publish(7, json!("wait")).await;
        bob.publish(8, json!("for us")).await;
        assert!(ann.hears_nothing().await && bob.hears_nothing().await);
        drop(busy);
        assert_eq!(ann.next_of("ok").await["id"], 7);
        assert_eq!(bob.next_of("ok").await["id"], 8);
        let heard = hears(&mut ann, 2, 2).await;
        assert_eq!(heard, hears(&mut bob, 2, 2).await, "in one order");
        assert_eq!(house.wakes().await, wakes, "it did not fall asleep for that");
    });
}

#[test]
fn two_at_the_moment_of_waking_wake_it_once() {
    with_one_reader(async |transport| {
        let house = house(|_| {}).await;
        let (mut ann, mut bob) = pair(&house, transport).await;
        let busy = StoreIsBusy::of(&house).await;
        ann.publish(7, json!("good")).await;
        bob.publish(8, json!("morning")).await;
        let waking = house.until(ROOM, |room| room["state"] == "waking").await;
        assert_eq!(waking["why_awake"]["holder"], "publish", "{waking}");
        // An operator as well.
        let dispatcher = house.gateway().context().dispatcher.clone();
        let woken = tokio::spawn(async move { dispatcher.wake(&ROOM.parse().unwrap()).await });
        assert!(ann.hears_nothing().await && bob.hears_nothing().await, "pings are answered");
        drop(busy);
        assert_eq!(ann.next_of("ok").await["id"], 7);
        assert_eq!(bob.next_of("ok").await["id"], 8);
        assert_eq!(hears(&mut ann, 1, 2).await, hears(&mut bob, 1, 2).await);
        assert_eq!(woken.await.unwrap().unwrap().unwrap().state, "awake");
        assert_eq!(house.wakes().await, 1.0);
    });
}

#[test]
fn a_thousand_publishes_that_wait_for_one_wake_are_all_heard() {
    with_one_reader(async |transport| {
        let house = house(|_| {}).await;
        let mut people = Vec::new();
        for n in 0..20 {
            let transport = if n % 2 == 0 { transport } else { transport.other() };
            people.push(house.join(transport, ROOM, &format!("p{n}")).await);
        }
        let mut reader = house.join(transport, ROOM, "reader").await;
        let busy = StoreIsBusy::of(&house).await;
        for n in 0..50u64 {
            for (who, client) in people.iter_mut().enumerate() {
                client.publish(n, json!([who, n])).await;
            }
        }
        assert!(reader.hears_nothing().await);
        drop(busy);
        let mut next = vec![0u64; people.len()];
        for said in hears(&mut reader, 1, 1_000).await {
            let (who, n) = (said[0].as_u64().unwrap() as usize, said[1].as_u64().unwrap());
            assert_eq!(n, next[who], "what one client says stays in its order");
            next[who] += 1;
        }
        for client in &mut people {
            for n in 0..50u64 {
                assert_eq!(client.next_of("ok").await["id"], n);
            }
        }
        assert_eq!(house.wakes().await, 1.0);
    });
}
