//! A store that cannot do what it should: who is told what, and that it ends by itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use crate::support::process::{ANYWHERE, dormouse, find, open};
use crate::support::{Client, DEADLINE, House, Takes, Transport, both, house};

both! {
    async fn while_the_disk_is_nearly_full_nobody_is_seated_and_the_gateway_stays_up(transport) {
        // No disk has as much to keep back: the store opens, and takes nothing.
        let house = house(|config| config.store.reserve = Some(1 << 60)).await;
        let mut ann = house.connect(transport, "meadow").await;
        ann.send(json!({ "type": "hello", "name": "ann" })).await;
        ann.closed_with(4007, "store_unavailable").await;
        assert_eq!(house.operator("GET", "/healthz", "").await.status, 200);
        assert_eq!(house.operator("GET", "/readyz", "").await.status, 503);
    }

    async fn a_damaged_room_is_closed_to_all_and_the_others_are_not(transport) {
        let mut house = house(|_| {}).await;
        for room in ["bad", "good"] {
            house.join(transport, room, "ann").await.say("still here").await;
            house.hibernate(room).await;
        }
        house.shutdown().await;
        house.damage("bad");
        house.open().await;
        for _ in 0..2 {
            let mut bob = house.connect(transport, "bad").await;
            bob.send(json!({ "type": "hello", "name": "bob" })).await;
            bob.closed_with(4007, "store_unavailable").await;
        }
        let mut bob = house.join(transport.other(), "good", "bob").await;
        assert_eq!(bob.say("me too").await, 2);
        assert_eq!(house.operator("GET", "/readyz", "").await.status, 200, "the store is well");
    }
}

/// The file of rooms is cut short under the gateway, and later it is whole again.
struct Lost {
    rooms: PathBuf,
    whole: PathBuf,
}

impl Lost {
    fn of(house: &House) -> Self {
        let rooms = house.data_dir().join("rooms.redb");
        let whole = rooms.with_extension("whole");
        std::fs::copy(&rooms, &whole).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&rooms).unwrap();
        file.set_len(4096).unwrap();
        Self { rooms, whole }
    }

    fn found(self) {
        std::fs::rename(self.whole, self.rooms).unwrap();
    }
}

both! {
    async fn a_wake_that_fails_drops_no_socket_and_the_room_wakes_when_the_store_is_well(transport) {
        let house = house(|config| config.store.rooms_cache = 0).await; // it knows nothing by heart
        let mut ann = house.join(transport, "meadow", "ann").await;
        let mut bob = house.join(transport.other(), "meadow", "bob").await;
        ann.say("good night").await;
        house.hibernate("meadow").await;
        let lost = Lost::of(&house);

        ann.publish(7, json!("anybody?")).await;
        let error = ann.next_of("error").await;
        assert_eq!((&error["id"], &error["code"]), (&7.into(), &"room_unavailable".into()));
        assert!(error["retry_after"].as_u64() > Some(0), "{error}");
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.text().await, "good night");
            let told = client.next_of("room").await;
            assert_eq!(told["state"], "degraded");
            assert!(told["retry_after"].as_u64() > Some(0), "{told}");
            assert!(client.hears_nothing().await, "and stays connected");
        }
        assert_eq!(house.inspect("meadow").await["state"], "degraded");
        house.until_ready(503).await;

        lost.found();
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.next_of("room").await["state"], "well");
        }
        house.until_ready(200).await;
        let awake = house.inspect("meadow").await;
        assert_eq!((&awake["state"], &awake["seats"]), (&"awake".into(), &2.into()));
        assert_eq!(ann.say("good morning").await, 2, "what was refused is not there");
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.text().await, "good morning");
        }
    }
}

/// A small file-system of its own, for those who may make one.
pub struct Small(PathBuf);

impl Small {
    pub fn mount(at: &Path) -> Option<Self> {
        let mount = ["-t", "tmpfs", "-o", "size=24m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(at).output();
        mounted.is_ok_and(|it| it.status.success()).then(|| Self(at.into()))
    }

    /// Writes a file until there is no space for more.
    pub fn fill(&self) {
        let noise = vec![7; 64 << 20];
        std::fs::write(self.0.join("filler"), noise).expect_err("it is small");
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// The real binary on a real full disk: publishes are refused, sockets stay, and when there is
/// space again everything goes on, with nothing lost and nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_publishes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(dir.path()) else {
        return eprintln!("skipped: a file-system of its own can be mounted by root only");
    };
    #[rustfmt::skip]
    let flags = [
        "--store-reserve", "2MiB", "--session-publish-rate", "off", "--room-publish-rate", "off",
    ];
    let start = || open(dormouse(dir.path(), &[&ANYWHERE[..], &flags].concat()));
    let (running, line) = start();
    let (address, hashes) = find(&line).await;
    let mut ann =
        Client::connect(Transport::WebSocket, address, "meadow", &hashes, Takes::Plenty).await;
    let mut bob =
        Client::connect(Transport::WebTransport, address, "meadow", &hashes, Takes::Plenty).await;
    ann.hello(json!({ "name": "ann" })).await;
    bob.hello(json!({ "name": "bob" })).await;
    let publish = |id: u64| json!({ "type": "publish", "id": id, "key": format!("k{id}"), "data": "x".repeat(20_000) });

    let mut said = 0;
    for round in 0..2 {
        for _ in 0..5 {
            said += 1;
            ann.send(publish(said)).await;
            let answer = ann.answer().await;
            assert_eq!(answer["type"], "ok", "round {round}: {answer}");
        }
        disk.fill();
        // Some of what the files have free may still be used.
        let begun = Instant::now();
        let refused = loop {
            said += 1;
            ann.send(publish(said)).await;
            let answer = ann.answer().await;
            if answer["type"] == "error" {
                break answer;
            }
            assert!(begun.elapsed() < DEADLINE, "round {round}: it never gets full");
        };
        assert_eq!(refused["code"], "room_unavailable", "{refused}");
        disk.empty();
        // The same key again, until it is taken: by the same socket, of the same process.
        loop {
            ann.send(publish(said)).await;
            if ann.answer().await["type"] == "ok" {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "round {round}: it never gets well");
        }
    }
    for seq in 1..=said {
        let message = bob.message().await;
        assert_eq!(message["seq"], seq);
    }
    assert_eq!(running.told(Signal::KILL), None);
    let (running, line) = start();
    let (address, hashes) = find(&line).await;
    let mut cyd =
        Client::connect(Transport::WebSocket, address, "meadow", &hashes, Takes::Plenty).await;
    let history = cyd.hello(json!({ "name": "cyd", "history": 1000 })).await;
    assert_eq!(history.len() as u64, said);
    assert_eq!(running.told(Signal::TERM), Some(0));
    let found = dormouse::store::check(&dir.path().join("dormouse-data")).unwrap();
    assert_eq!(found.damaged, [""; 0]);
}
