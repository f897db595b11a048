//! Kill -9 in mid-traffic: nothing that was answered or heard is lost, nothing happens twice.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::checker::{Witness, check};
use crate::support::process::{ANYWHERE, Running, dormouse, find, open, run};
use crate::support::{Client, DEADLINE, Takes, Transport, ask};

const ROUNDS: usize = 10;
/// Publishes of one client without an answer.
const IN_FLIGHT: usize = 8;

/// Naps and moves all the time, so that kills hit them, too.
#[rustfmt::skip]
const RESTLESS: [&str; 8] = [
    "--room-sleep-after", "10ms", "--room-journal-bytes", "4KiB",
    "--session-publish-rate", "off", "--room-publish-rate", "off",
];

/// Seeded dice (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// A client that comes back after every crash and goes on where it was.
struct Publisher {
    name: &'static str,
    transport: Transport,
    session: Value,
    /// What it says as `since`.
    position: Value,
    unanswered: Vec<(u64, String)>,
    next_id: u64,
    witness: Witness,
}

impl Publisher {
    fn new(name: &'static str, transport: Transport) -> Self {
        Self {
            name,
            transport,
            session: Value::Null,
            position: Value::Null,
            unanswered: Vec::new(),
            next_id: 1,
            witness: Witness::default(),
        }
    }

    /// Comes back over the transport that it did not have the last time.
    async fn connect(&mut self, address: SocketAddr, hashes: &[[u8; 32]]) -> Client {
        self.transport = self.transport.other();
        Client::connect(self.transport, address, "lobby", hashes, Takes::Plenty).await
    }

    async fn hello(&mut self, client: &mut Client) {
        let mut hello = json!({ "type": "hello", "name": self.name, "history": 1000 });
        if !self.session.is_null() {
            hello["session"] = self.session.clone();
            hello["since"] = self.position.clone();
        }
        client.send(hello).await;
    }

    /// Publishes without end until the connection breaks, and counts the answers.
    async fn publish(&mut self, client: &mut Client, answers: &watch::Sender<u64>) {
        self.hello(client).await;
        while let Ok(frame) = client.next_or_last().await {
            match frame["type"].as_str() {
                Some("welcome") => self.say_again(client).await,
                Some("ok") => answers.send_modify(|count| *count += 1),
                _ => {}
            }
            let may_publish = frame["type"] == "live" || frame["type"] == "ok";
            self.note(frame);
            while may_publish && self.unanswered.len() < IN_FLIGHT {
                let (id, key) = (self.next_id, format!("{}-{}", self.name, self.next_id));
                self.next_id += 1;
                self.unanswered.push((id, key.clone()));
                self.say(client, id, &key).await;
            }
        }
    }

    /// Says again what was not answered, and hears all there is.
    async fn settle(&mut self, client: &mut Client) {
        self.hello(client).await;
        let mut is_live = false;
        while !is_live || !self.unanswered.is_empty() {
            let frame = client.next().await;
            if frame["type"] == "welcome" {
                self.say_again(client).await;
            }
            is_live |= frame["type"] == "live";
            self.note(frame);
        }
    }

    async fn say_again(&self, client: &mut Client) {
        for (id, key) in &self.unanswered {
            self.say(client, *id, key).await;
        }
    }

    async fn say(&self, client: &mut Client, id: u64, key: &str) {
        let data = json!({ "key": key });
        client.send(json!({ "type": "publish", "id": id, "key": key, "data": data })).await;
    }

    fn note(&mut self, frame: Value) {
        match frame["type"].as_str().unwrap() {
            "welcome" => {
                if !self.session.is_null() {
                    assert_eq!(frame["seat"], "kept", "{frame}");
                    assert_eq!(frame["resumed"], true, "{frame}");
                }
                self.session = frame["session"].clone();
                if self.position.is_null() {
                    self.position = json!({ "epoch": frame["position"]["epoch"], "seq": 0 });
                }
            }
            "message" => {
                self.position["seq"] = frame["seq"].clone();
                self.witness.heard.push(frame);
            }
            "live" => self.position["seq"] = frame["seq"].clone(),
            "ok" => {
                let at = self.unanswered.iter().position(|(id, _)| frame["id"] == *id);
                let (_, key) = self.unanswered.remove(at.expect("an answer to a question"));
                self.witness.answered.push((key, frame["seq"].as_u64().unwrap()));
            }
            _ => panic!("{frame}"),
        }
    }
}

async fn start(dir: &std::path::Path) -> (Running, SocketAddr, Vec<[u8; 32]>) {
    let mut command = dormouse(dir, &ANYWHERE);
    command.args(RESTLESS);
    let (child, line) = open(command);
    let (address, hashes) = find(&line).await;
    (child, address, hashes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_mid_traffic_it_comes_back_with_all_that_anybody_knows() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("CRASH_SEED").map_or(clock, |seed| seed.parse().unwrap());
    println!("CRASH_SEED={seed}");
    let mut dice = Dice(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut publishers = Vec::from([
        Publisher::new("ann", Transport::WebSocket),
        Publisher::new("bob", Transport::WebTransport),
        Publisher::new("cyd", Transport::WebSocket),
    ]);

    for _ in 0..ROUNDS {
        let (mut child, address, hashes) = start(dir.path()).await;
        let (answers, mut counted) = watch::channel(0);
        let (crash, crashed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for mut publisher in publishers.drain(..) {
            let mut client = publisher.connect(address, &hashes).await;
            let (answers, mut crashed) = (answers.clone(), crashed.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = publisher.publish(&mut client, &answers) => {}
                    // QUIC would notice only much later.
                    _ = crashed.wait_for(|crashed| *crashed) => {}
                }
                publisher
            });
        }
        let enough = 1 + dice.below(200);
        let busy = counted.wait_for(|count| *count >= enough);
        tokio::time::timeout(DEADLINE, busy).await.expect("answers in time").unwrap();
        tokio::time::sleep(Duration::from_micros(dice.below(3_000))).await; // the seeded moment
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        crash.send_replace(true);
        while let Some(publisher) = tasks.join_next().await {
            publishers.push(publisher.unwrap());
        }
        publishers.sort_by_key(|publisher| publisher.name); // the same dice, the same run
    }

    let (child, address, hashes) = start(dir.path()).await;
    for publisher in &mut publishers {
        let mut client = publisher.connect(address, &hashes).await;
        publisher.settle(&mut client).await;
        client.close(1000).await;
    }
    let epoch = &publishers[0].position["epoch"];
    let wire = Transport::WebSocket;
    let mut reader = Client::connect(wire, address, "lobby", &hashes, Takes::Plenty).await;
    let log = reader.hello(json!({ "since": { "epoch": epoch, "seq": 0 } })).await;
    assert_eq!(reader.welcome["resumed"], true);
    drop(reader);
    assert!(log.len() > ROUNDS, "there was traffic");
    let witnesses: Vec<_> = publishers.into_iter().map(|publisher| publisher.witness).collect();
    check(&log, &witnesses).unwrap_or_else(|wrong| panic!("{wrong} (CRASH_SEED={seed})"));
    assert_eq!(child.told(Signal::TERM), Some(0));
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_says_so_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (first, address, _) = start(dir.path()).await;
    let few = ["--gateway-connections", "9"]; // or it says how many files it may open
    let (code, said) = run(dir.path(), &[&ANYWHERE[..], &few].concat());
    assert_eq!(code, Some(1));
    assert!(said.starts_with("dormouse: the data directory "), "{said}");
    assert!(said.contains("is in use by another dormouse\n  hint: stop the other"), "{said}");
    assert_eq!(said.lines().count(), 2, "one sentence and a hint: {said}");
    assert_eq!(ask(address, "GET", "/", "").await.status, 200, "the first one goes on");
    assert_eq!(first.told(Signal::TERM), Some(0));
}
