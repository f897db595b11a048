//! The two clients, behind the same words.
//!
//! | is told | does |
//! | --- | --- |
//! | `connect` `url` `session` `since` | joins a room, with a seat and a position if they are told |
//! | `publish` `id` `data` | says something; then `published` with `seq` and `dup`, or `refused` |
//! | `direct` `id` `data` | says something to one; then `reached`, or `refused` |
//! | `save` | says what it would keep: `saved` with `session` and `since` |
//!
//! By itself a client says `live`, `message` with its `seq`, `gap` with `why`, `lost` with `retry_ms`,
//! and `ended` with the code, if there is one.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dormouse::client::{
    Choice, Close, Error, Event, Events, Limits, Options, Position, Room, Saved, To, connect,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rust,
    JavaScript,
}

/// More than any scenario says at once.
const QUEUE: usize = 1_024;

/// A client at work.
pub struct Player {
    commands: Sender<Value>,
    events: Receiver<Value>,
    /// Killed when this is dropped.
    _process: Option<Child>,
}

impl Player {
    pub fn begin(kind: Kind) -> Self {
        let (commands, told) = channel(QUEUE);
        let (say, events) = channel(QUEUE);
        let process = match kind {
            Kind::Rust => {
                tokio::spawn(play(told, say));
                None
            }
            Kind::JavaScript => Some(drive(told, say)),
        };
        Self { commands, events, _process: process }
    }

    pub fn tell(&self, command: Value) {
        self.commands.try_send(command).expect("the client is there");
    }

    /// What it says next.
    pub async fn next(&mut self) -> Value {
        let next = tokio::time::timeout(super::DEADLINE, self.events.recv());
        next.await.expect("it says something in time").expect("the client is there")
    }

    /// What it says next of that kind; other things are let go.
    pub async fn until(&mut self, what: &str) -> Value {
        loop {
            let event = self.next().await;
            if event["is"] == what {
                return event;
            }
        }
    }
}

/// The JavaScript client, in a process of its own.
fn drive(mut told: Receiver<Value>, say: Sender<Value>) -> Child {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("web-demo/node_modules/ws");
    assert!(modules.exists(), "npm ci --prefix web-demo --ignore-scripts installs what this needs");
    let mut process = Command::new("node")
        .arg(root.join("tests/clients/driver.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is installed");
    let mut input = process.stdin.take().expect("it is piped");
    let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
    tokio::spawn(async move {
        while let Some(command) = told.recv().await {
            let line = format!("{command}\n");
            if input.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let event = serde_json::from_str(&line).expect("it says JSON");
            if say.try_send(event).is_err() {
                return;
            }
        }
    });
    process
}

/// The Rust client.
async fn play(mut told: Receiver<Value>, say: Sender<Value>) {
    let mut here: Option<(Room, Events)> = None;
    loop {
        let event = async {
            match &mut here {
                Some((_, events)) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = told.recv() => match command {
                Some(command) if command["do"] == "connect" => {
                    here = Some(enter(&command).await);
                }
                Some(command) => {
                    let (room, events) = here.as_ref().expect("it has connected");
                    obey(&command, room, events, &say);
                }
                None => return,
            },
            event = event => {
                let Some(event) = event else { here = None; continue };
                if let Some(event) = translated(event) {
                    let _ = say.try_send(event); // the scenario may be over
                }
            }
        }
    }
}

async fn enter(command: &Value) -> (Room, Events) {
    let since = &command["since"];
    let position = since["seq"].as_u64().map(|seq| Position {
        epoch: since["epoch"].as_str().expect("it is told with a seq").to_owned(),
        seq,
    });
    let session = command["session"].as_str();
    let resume = session.map(|session| Saved { session: session.to_owned(), position });
    let limits = Limits {
        retry_first: Duration::from_millis(10),
        retry_most: Duration::from_millis(100),
        owed: Duration::from_millis(300),
        answer: Duration::from_secs(1),
        publishes_in_flight: 64, // as the JavaScript client
        ..Limits::default()
    };
    let transport = Choice::WebSocket;
    let options = Options { resume, limits, transport, ..Options::named("ada") };
    let address = format!("{}/rooms/lobby", command["url"].as_str().expect("it is told"));
    let entered = tokio::time::timeout(super::DEADLINE, connect(&address, options));
    entered.await.expect("in time").expect("the gateway lets it in")
}

fn obey(command: &Value, room: &Room, events: &Events, say: &Sender<Value>) {
    let (id, data, say) = (command["id"].clone(), command["data"].clone(), say.clone());
    match command["do"].as_str() {
        Some("publish") => {
            let publishing = room.publish(data);
            tokio::spawn(async move {
                let event = match publishing.await {
                    Ok(it) => json!({ "is": "published", "id": id, "seq": it.seq, "dup": it.dup }),
                    Err(_) => json!({ "is": "refused", "id": id }),
                };
                let _ = say.try_send(event);
            });
        }
        Some("direct") => {
            let room = room.clone();
            tokio::spawn(async move {
                let event = match room.direct(To::Sid("s2".into()), data).await {
                    Ok(reached) => json!({ "is": "reached", "id": id, "reached": reached }),
                    Err(_) => json!({ "is": "refused", "id": id }),
                };
                let _ = say.try_send(event);
            });
        }
        Some("save") => {
            let saved = events.saved().expect("it has a seat");
            let since = saved.position.map(|it| json!({ "epoch": it.epoch, "seq": it.seq }));
            let event = json!({ "is": "saved", "session": saved.session, "since": since });
            let _ = say.try_send(event);
        }
        other => panic!("{other:?} is no command"),
    }
}

fn translated(event: Event) -> Option<Value> {
    Some(match event {
        Event::Live => json!({ "is": "live" }),
        Event::Message(message) => json!({ "is": "message", "seq": message.seq }),
        Event::Gap(gap) => json!({ "is": "gap", "why": gap.why }),
        Event::Disconnected { retry_in, .. } => {
            json!({ "is": "lost", "retry_ms": retry_in.as_millis() as u64 })
        }
        Event::Ended(error) => {
            let code = match error {
                Error::Closed(Close { code, .. }) => Some(code),
                _ => None,
            };
            json!({ "is": "ended", "code": code })
        }
        _ => return None,
    })
}
