//! A disk that takes no more, under the real binary: a limit on the size of its files.
//!
//! Nobody is sent away, nobody hears what is not on disk, everybody is told; and when there is
//! space again it goes on without a restart, and what was refused can be said again, once.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::process::{ANYWHERE, Running, dormouse, find, open};
use crate::support::{Client, DEADLINE, Last, Takes, Transport, ask, both};

/// Bytes of one message: few of them fill what is left.
const BODY: usize = 30_000;

/// A gateway whose disk can be filled.
struct Cramped {
    child: Running,
    address: SocketAddr,
    operator: SocketAddr,
    hashes: Vec<[u8; 32]>,
    dir: tempfile::TempDir,
}

impl Cramped {
    /// `None`, with the reason, where the limit of another process cannot be set.
    async fn open() -> Option<Self> {
        if Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: prlimit is missing (Debian: util-linux)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let bare = dormouse(dir.path(), &ANYWHERE);
        // The limit's signal would end it; a disk that is full sends none.
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]);
        command.arg(bare.get_program()).args(bare.get_args()).current_dir(dir.path());
        command.args(["--session-publish-rate", "off", "--room-publish-rate", "off"]);
        command.arg("--data-dir").arg(dir.path().join("data"));
        for (name, _) in bare.get_envs().filter(|(_, value)| value.is_none()) {
            command.env_remove(name);
        }
        let (mut child, line) = open(command);
        let (operator, (address, hashes)) = (child.operator(), find(&line).await);
        Some(Self { child, address, operator, hashes, dir })
    }

    /// From now on no file may be longer than this.
    fn limit(&self, bytes: &str) {
        let pid = format!("--pid={}", self.child.0.id());
        let limit = format!("--fsize={bytes}:unlimited");
        assert!(Command::new("prlimit").args([pid, limit]).status().unwrap().success());
    }

    /// Leaves hardly any space: the journal may grow a little yet.
    fn fill(&self) {
        let journal = self.dir.path().join("data/journal.redb");
        let limit = journal.metadata().unwrap().len() + 64 * 1024;
        self.limit(&limit.to_string());
    }

    async fn connect(&self, transport: Transport) -> Client {
        Client::connect(transport, self.address, "lobby", &self.hashes, Takes::Plenty).await
    }

    async fn join(&self, transport: Transport, name: &str) -> Client {
        let mut client = self.connect(transport).await;
        client.hello(json!({ "name": name })).await;
        client
    }

    async fn until_ready(&self, status: u16) {
        let waiting = async {
            let mut interval = tokio::time::interval(Duration::from_millis(10));
            while ask(self.operator, "GET", "/readyz", "").await.status != status {
                interval.tick().await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, waiting).await;
        assert!(in_time.is_ok(), "/readyz does not get to {status}");
    }
}

async fn publish(client: &mut Client, id: u64) {
    let data = json!({ "number": id, "text": "x".repeat(BODY) });
    let key = format!("key-{id}");
    client.send(json!({ "type": "publish", "id": id, "key": key, "data": data })).await;
}

/// The next answer to a publish; messages that come before it are put aside.
async fn answer(client: &mut Client, heard: &mut Vec<Value>) -> Value {
    loop {
        let frame = client.next().await;
        match frame["type"].as_str() {
            Some("message") => heard.push(frame),
            Some("room") => {}
            _ => return frame,
        }
    }
}

/// Everything that comes up to this state of the room; the messages among it.
async fn until_room(client: &mut Client, state: &str) -> (Vec<Value>, Value) {
    let mut heard = Vec::new();
    loop {
        let frame = client.next().await;
        match frame["type"].as_str() {
            Some("message") => heard.push(frame),
            Some("room") if frame["state"] == state => return (heard, frame),
            _ => {}
        }
    }
}

/// Every message up to this one.
async fn until_seq(client: &mut Client, heard: &mut Vec<Value>, seq: u64) {
    while heard.last().is_none_or(|last| last["seq"] != seq) {
        let frame = client.next().await;
        if frame["type"] == "message" {
            heard.push(frame);
        }
    }
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["data"]["number"].as_u64().unwrap()).collect()
}

both! {
    async fn a_full_disk_is_told_and_when_there_is_space_everything_goes_on(transport) {
        let Some(gateway) = Cramped::open().await else { return };
        let mut ann = gateway.join(transport, "ann").await;
        let mut bob = gateway.join(transport.other(), "bob").await;
        let mut said_by_ann = Vec::new();
        gateway.until_ready(200).await;

        gateway.fill();
        let mut refused = 1;
        let error = loop {
            publish(&mut ann, refused).await;
            let answer = answer(&mut ann, &mut said_by_ann).await;
            if answer["type"] != "ok" {
                break answer;
            }
            assert_eq!(answer["seq"], refused, "{answer}");
            refused += 1;
            assert!(refused < 1_000, "the disk does not fill");
        };
        gateway.limit("0");

        assert_eq!(error["type"], "error", "{error}");
        assert_eq!((&error["code"], &error["id"]), (&json!("room_unavailable"), &json!(refused)));
        assert!(error["retry_after"].as_u64() > Some(0), "{error}");
        let (mut heard_by_bob, degraded) = until_room(&mut bob, "degraded").await;
        assert!(degraded["retry_after"].as_u64() > Some(0), "{degraded}");
        assert_eq!(numbers(&heard_by_bob), (1..refused).collect::<Vec<_>>());
        gateway.until_ready(503).await;

        // Whoever comes now cannot be given a seat, and is told when to come back.
        let mut cyd = gateway.connect(transport).await;
        cyd.send(json!({ "type": "hello", "name": "cyd" })).await;
        let close = cyd.next().await;
        assert_eq!((&close["type"], &close["code"]), (&json!("close"), &json!(4007)), "{close}");
        assert!(close["retry_after"].as_u64() > Some(0), "{close}");
        let (_, last) = cyd.leave().await;
        assert!(matches!(last, Last::Closed(Some(4007) | None, _) | Last::Broken), "{last:?}");

        // Who is here stays here. Some more is said in vain.
        for id in refused + 1..refused + 4 {
            publish(&mut ann, id).await;
            let error = answer(&mut ann, &mut said_by_ann).await;
            assert_eq!((&error["code"], &error["id"]), (&json!("room_unavailable"), &json!(id)));
        }
        bob.send(json!({ "type": "ping", "id": 1 })).await;
        loop {
            let frame = bob.next().await;
            assert_ne!(frame["type"], "message", "nobody hears what is not on disk");
            if frame["type"] == "pong" {
                break;
            }
        }

        gateway.limit("unlimited");
        let (heard, _) = until_room(&mut bob, "well").await;
        heard_by_bob.extend(heard);
        gateway.until_ready(200).await; // before anybody says anything
        for id in refused..refused + 4 {
            publish(&mut ann, id).await;
            let answer = answer(&mut ann, &mut said_by_ann).await;
            assert_eq!((&answer["type"], &answer["seq"]), (&json!("ok"), &json!(id)), "{answer}");
        }
        gateway.until_ready(200).await;
        let all: Vec<_> = (1..refused + 4).collect();
        until_seq(&mut bob, &mut heard_by_bob, refused + 3).await;
        until_seq(&mut ann, &mut said_by_ann, refused + 3).await;
        assert_eq!(numbers(&heard_by_bob), all, "once each, in order, without a hole");
        assert_eq!(said_by_ann, heard_by_bob);

        let mut cyd = gateway.connect(transport).await;
        let log = cyd.hello(json!({ "name": "cyd", "history": 1_000 })).await;
        assert_eq!(log, heard_by_bob, "the log is what everybody heard");
    }
}
