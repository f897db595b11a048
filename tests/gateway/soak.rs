//! A soak: rooms doze and wake at random under the real binary, people come and go, and at the
//! end nothing is lost and its memory is where it was.
//!
//! Short by default. `DORMOUSE_SOAK_SECONDS=1800 cargo test --test gateway soak -- --nocapture`
//! goes on for longer and shows how it gets on; `DORMOUSE_SOAK_SEED=n` throws the dice again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::crash::{Dice, environment};
use crate::support::process::{ANYWHERE, Running, dormouse, find, open};
use crate::support::{Client, DEADLINE, Takes, Transport, ask};

const SECONDS: u64 = 8;
const ROOMS: u64 = 12;
const PEOPLE: u64 = 24;
/// Acts of one person between two looks at the memory.
const ACTS: u64 = 25;
/// Rounds before the memory counts: caches fill, and the allocator finds its size.
const WARM_UP: u64 = 2;
/// What the process may have grown by in the end: more is a leak.
const GROWTH_KIB: u64 = 16 * 1024;

/// Dozes at once, keeps little, and moves and trims all the time.
#[rustfmt::skip]
const DROWSY: [&str; 24] = [
    "--room-sleep-after", "20ms", "--room-journal-bytes", "4KiB",
    "--room-history-messages", "200", "--session-grace", "50ms",
    "--session-resume-window", "1s", "--session-publish-rate", "off",
    "--room-publish-rate", "off", "--session-requests-rate", "off",
    "--session-ephemeral-rate", "off", "--store-journal-cache", "1MiB",
    "--store-rooms-cache", "1MiB", "--store-journal-total-bytes", "8MiB",
];

#[derive(Clone)]
struct Gateway {
    address: SocketAddr,
    hashes: Arc<Vec<[u8; 32]>>,
    said: Arc<AtomicU64>,
}

/// Somebody with a place in one room's log, which may not have a hole.
struct Person {
    room: String,
    transport: Transport,
    session: Value,
    position: Value,
    dice: Dice,
}

impl Person {
    /// Comes, does this and that, and leaves in one way or another.
    async fn visit(mut self, gateway: Gateway) -> Self {
        let mut client = self.join(&gateway).await;
        for _ in 0..ACTS {
            match self.dice.below(12) {
                0 => client.send(json!({ "type": "ephemeral", "key": "c", "data": [1, 2] })).await,
                1 => {
                    client.send(json!({ "type": "ping", "id": 1 })).await;
                    self.until(&mut client, "pong").await;
                }
                2 => {
                    client.send(json!({ "type": "history", "id": 2, "limit": 20 })).await;
                    self.until(&mut client, "page").await;
                }
                3 => {
                    let colour = self.dice.below(1_000);
                    client.send(json!({ "type": "set", "id": 3, "attachment": colour })).await;
                    self.until(&mut client, "ok").await;
                }
                4..6 => self.doze(&mut client).await,
                6 => {
                    client.drop_connection();
                    self.transport = self.transport.other();
                    client = self.join(&gateway).await;
                }
                _ => {
                    let text = "z".repeat(self.dice.below(400) as usize);
                    client.publish(4, json!(text)).await;
                    self.until(&mut client, "ok").await;
                    gateway.said.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        match self.dice.below(2) {
            0 => client.close(1000).await,
            _ => client.drop_connection(),
        }
        self
    }

    async fn join(&mut self, gateway: &Gateway) -> Client {
        let Gateway { address, hashes, .. } = gateway;
        let takes = Takes::Plenty;
        let mut client = Client::connect(self.transport, *address, &self.room, hashes, takes).await;
        let mut hello = json!({ "type": "hello", "name": "nobody", "watch": true });
        if !self.session.is_null() {
            hello["session"] = self.session.clone();
            hello["since"] = self.position.clone();
        }
        client.send(hello).await;
        let welcome = client.next().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        self.session = welcome["session"].clone();
        let is_new = self.position.is_null() || welcome["resumed"] == false;
        if is_new {
            // Only retention may have parted them: the log is one.
            let why = &welcome["why"];
            assert!(why.is_null() || why == "retention", "{welcome}");
            self.position = json!({ "epoch": welcome["position"]["epoch"], "seq": null });
        }
        self.until(&mut client, "live").await;
        client
    }

    /// Reads up to a frame of this type.
    async fn until(&mut self, client: &mut Client, kind: &str) {
        loop {
            let frame = client.next().await;
            self.note(&frame);
            if frame["type"] == kind {
                return;
            }
            assert_ne!(frame["type"], "error", "{frame}");
        }
    }

    /// Reads until the room sleeps, unless others keep it busy.
    async fn doze(&mut self, client: &mut Client) {
        let patience = Instant::now() + Duration::from_millis(40 + self.dice.below(60));
        while let Some(left) = patience.checked_duration_since(Instant::now()) {
            let Ok(frame) = tokio::time::timeout(left, client.next()).await else { return };
            self.note(&frame);
            if frame["state"] == "asleep" {
                return;
            }
        }
    }

    fn note(&mut self, frame: &Value) {
        let seq = &frame["seq"];
        match frame["type"].as_str() {
            Some("message") => {
                if let Some(before) = self.position["seq"].as_u64() {
                    assert_eq!(*seq, before + 1, "a hole, or twice: {frame}");
                }
                self.position["seq"] = seq.clone();
            }
            Some("live") => self.position["seq"] = seq.clone(),
            _ => {}
        }
    }
}

/// The memory of a process, in KiB.
fn memory(child: &Running) -> u64 {
    let path = format!("/proc/{}/status", child.0.id());
    let status = std::fs::read_to_string(Path::new(&path)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

async fn metric(operator: SocketAddr, line: &str) -> f64 {
    let page = ask(operator, "GET", "/metrics", "").await.body;
    page.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0.0)
}

/// Waits until no room is awake and nobody is connected.
async fn until_all_sleep(operator: SocketAddr) {
    let waiting = async {
        let mut interval = tokio::time::interval(Duration::from_millis(10));
        while metric(operator, "dormouse_rooms{state=\"awake\"}").await > 0.0 {
            interval.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("every room falls asleep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_soak_nothing_is_lost_and_memory_is_where_it_was() {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: a process' memory is read as Linux tells it");
        return;
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = environment("DORMOUSE_SOAK_SEED").unwrap_or(clock);
    let seconds = environment("DORMOUSE_SOAK_SECONDS").unwrap_or(SECONDS);
    println!("DORMOUSE_SOAK_SEED={seed}");
    let (mut dice, began) = (Dice::new(seed), Instant::now());

    let dir = tempfile::tempdir().unwrap();
    let mut command = dormouse(dir.path(), &ANYWHERE);
    command.args(DROWSY);
    let (mut child, line) = open(command);
    let (operator, (address, hashes)) = (child.operator(), find(&line).await);
    let gateway = Gateway { address, hashes: Arc::new(hashes), said: Arc::default() };
    let mut people = (0..PEOPLE)
        .map(|number| Person {
            room: format!("room-{}", number % ROOMS),
            transport: Transport::BOTH[usize::from(number % 3 == 0)],
            session: Value::Null,
            position: Value::Null,
            dice: Dice::new(dice.below(u64::MAX)),
        })
        .collect::<Vec<_>>();

    let (mut warm, mut last, mut round) = (0, 0, 0);
    while round <= WARM_UP || began.elapsed().as_secs() < seconds {
        let mut tasks = JoinSet::new();
        people.drain(..).for_each(|person| _ = tasks.spawn(person.visit(gateway.clone())));
        while let Some(person) = tasks.join_next().await {
            people.push(person.unwrap());
        }
        until_all_sleep(operator).await;
        (last, round) = (memory(&child), round + 1);
        if round <= WARM_UP {
            warm = last;
        }
        let naps = metric(operator, "dormouse_room_hibernations_total").await;
        let said = gateway.said.load(Ordering::Relaxed);
        eprintln!(
            "round {round}, {} s: {said} messages, {naps} naps, {last} KiB",
            began.elapsed().as_secs()
        );
    }
    let naps = metric(operator, "dormouse_room_hibernations_total").await;
    assert!(naps >= ROOMS as f64, "{naps} naps");
    assert!(last < warm + GROWTH_KIB, "from {warm} to {last} KiB after {naps} naps");
    assert_eq!(child.told(Signal::TERM), Some(0));
}
