//! Promises 8 and 10 from outside: what comes at the very moment of falling asleep or waking.
//!
//! The store's mover can be held by a test, and so can its reader: where that matters the runtime
//! has one thread for whatever reads. So the moment lasts for as long as it takes.

use std::sync::mpsc;
use std::time::Duration;

use dormouse::config::Config;
use serde_json::{Value, json};

use crate::limits::{StoreIsBusy, with_one_reader};
use crate::support::{Client, House, Transport, both, house};

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

/// Holds up whatever is moved, and nothing else, while it lives.
struct MoverIsBusy(#[allow(dead_code, reason = "dropping it is the point")] mpsc::SyncSender<()>);

impl MoverIsBusy {
    async fn of(house: &House) -> Self {
        let (busy, free) = mpsc::sync_channel::<()>(1);
        let (begins, began) = tokio::sync::oneshot::channel();
        let moved = Box::new(move |_| {
            let _ = begins.send(());
            let _ = free.recv();
        });
        let store = house.gateway().context().store.clone();
        store.engine().move_room(&"nowhere".parse().unwrap(), None, moved);
        began.await.unwrap();
        Self(busy)
    }
}

fn soon(config: &mut Config) {
    config.keeper.sleep_after = Duration::from_millis(50);
}

/// Its time is over, and it is being moved: for as long as the mover is busy.
async fn is_leaving(house: &House, room: &str) {
    let leaving = house.until(room, |room| room["why_awake"]["holder"] == "store").await;
    assert_eq!(leaving["why_awake"]["sleeps_in_ms"], 0, "{leaving}");
}

both! {
    async fn what_is_said_at_the_moment_of_falling_asleep_is_heard_and_the_room_stays_awake(transport) {
        let house = house(soon).await;
        let (mut ann, mut bob) = pair(&house, transport).await;
        let busy = MoverIsBusy::of(&house).await;
        ann.say("good night").await;
        assert_eq!(
            (ann.text().await, bob.text().await),
            ("good night".into(), "good night".into())
        );
        let wakes = house.wakes().await;
        is_leaving(&house, ROOM).await;
        ann.publish(7, json!("wait")).await;
        bob.publish(8, json!("for us")).await;
        assert!(ann.hears_nothing().await && bob.hears_nothing().await);
        drop(busy);
        assert_eq!(ann.next_of("ok").await["id"], 7);
        assert_eq!(bob.next_of("ok").await["id"], 8);
        let heard = hears(&mut ann, 2, 2).await;
        assert_eq!(heard, hears(&mut bob, 2, 2).await, "in one order");
        assert_eq!(house.wakes().await, wakes, "it did not fall asleep for that");
    }

    /// Ten thousand rooms that fell idle together went to disk together, and whoever was awake
    /// waited for that.
    async fn so_many_fall_asleep_at_once_and_who_stands_in_line_is_awake(transport) {
        let house = house(|config| {
            soon(config);
            config.rooms_hibernating = 1;
        })
        .await;
        let mut ann = house.join(transport, "one", "ann").await;
        let mut bob = house.join(transport, "two", "bob").await;
        let mut cyd = house.join(transport.other(), "two", "cyd").await;
        let busy = MoverIsBusy::of(&house).await;
        ann.say("good night").await;
        is_leaving(&house, "one").await;
        bob.say("good night").await;
        let in_line = house.until("two", |room| room["why_awake"]["sleeps_in_ms"] == 0).await;
        assert_eq!(in_line["why_awake"]["holder"], "publish", "nothing is done to it: {in_line}");
        assert_eq!(bob.say("still here").await, 2);
        for client in [&mut bob, &mut cyd] {
            assert_eq!(client.text().await, "good night");
            assert_eq!(client.text().await, "still here", "at once");
        }
        let in_line = house.until("two", |room| room["why_awake"]["sleeps_in_ms"] == 0).await;
        assert_eq!(in_line["why_awake"]["holder"], "publish", "it keeps its place: {in_line}");
        drop(busy);
        for room in ["one", "two"] {
            house.until(room, |room| room["state"] == "asleep").await;
        }
        assert_eq!(house.wakes().await, 2.0, "each of them woke once");
    }
}

/// A room that was being moved took one of the threads that read, so that whoever wanted to wake
/// stood behind all that fell asleep.
#[test]
fn a_wake_does_not_stand_behind_those_that_fall_asleep() {
    with_one_reader(async |transport| {
        let house = house(soon).await;
        let mut ann = house.join(transport, ROOM, "ann").await;
        let mut sleepy = Vec::new();
        for room in ["one", "two", "three"] {
            sleepy.push((room, house.join(transport.other(), room, "bob").await));
        }
        let busy = MoverIsBusy::of(&house).await;
        for (room, bob) in &mut sleepy {
            bob.say("good night").await;
            is_leaving(&house, room).await;
        }
        assert_eq!(house.inspect(ROOM).await["state"], "asleep");
        assert_eq!(ann.say("good morning").await, 1);
        assert_eq!(ann.text().await, "good morning");
        drop(busy);
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
