//! Who is there when the gateway is killed: publishers, and readers that come and go.
//!
//! Each is back after every kill, over the other transport, and goes on where it was; whatever
//! it sees it tells the judge of its room.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::Dice;
use crate::support::checker::{Checker, Event, Message};
use crate::support::{Client, DEADLINE, Transport};

/// Publishes of one client without an answer.
const IN_FLIGHT: usize = 8;

/// How long a dead gateway's last words may take to come out of the sockets: for QUIC nothing
/// tells that there will be no more.
const LAST_WORDS: Duration = Duration::from_millis(10);

/// A room's judge, which all its people tell what they see.
#[derive(Clone, Default)]
pub struct Judge(Arc<Mutex<Checker>>);

impl Judge {
    pub fn newest(&self) -> u64 {
        self.0.lock().unwrap().newest()
    }

    pub fn tell(&self, event: Event) {
        let verdict = self.0.lock().unwrap().tell(event);
        verdict.unwrap_or_else(|(rule, how)| panic!("{rule:?} is broken: {how}"));
    }
}

/// The gateway of this round.
#[derive(Clone)]
pub struct Round {
    pub address: SocketAddr,
    pub hashes: Vec<[u8; 32]>,
    pub crashed: watch::Receiver<bool>,
    pub answers: watch::Sender<u64>,
}

impl Round {
    async fn crash(&self) {
        let mut crashed = self.crashed.clone();
        let _ = crashed.wait_for(|crashed| *crashed).await;
    }

    /// `None` when the gateway is killed before it lets anybody in.
    async fn connect(&self, transport: Transport, room: &str) -> Option<Client> {
        let connecting = Client::try_connect(transport, self.address, room, &self.hashes);
        tokio::select! {
            client = connecting => match client {
                Some(client) => Some(client),
                None => {
                    let crash = tokio::time::timeout(DEADLINE, self.crash());
                    crash.await.expect("a gateway that lives lets people in");
                    None
                }
            },
            () = self.crash() => None,
        }
    }
}

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Publishes without end, up to [`IN_FLIGHT`] at once.
    Talks,
    /// Publishes once whenever the room has fallen asleep.
    WakesIt,
    /// Listens, is gone without a word or with a goodbye, and comes back.
    ComesAndGoes,
}

pub struct Person {
    pub name: &'static str,
    pub room: &'static str,
    pub habit: Habit,
    pub judge: Judge,
    /// How often the room was seen to fall asleep.
    pub naps: u64,
    transport: Transport,
    session: Value,
    has_said_goodbye: bool,
    /// What it says as `since`.
    position: Value,
    unanswered: Vec<(u64, String)>,
    next_id: u64,
    is_live: bool,
}

impl Person {
    pub fn new(name: &'static str, room: &'static str, habit: Habit, judge: &Judge) -> Self {
        Self {
            name,
            room,
            habit,
            judge: judge.clone(),
            naps: 0,
            transport: Transport::WebSocket,
            session: Value::Null,
            has_said_goodbye: false,
            position: Value::Null,
            unanswered: Vec::new(),
            next_id: 1,
            is_live: false,
        }
    }

    /// Does what it does until the gateway is killed, and hears its last words.
    pub async fn live(mut self, round: Round, mut dice: Dice) -> Self {
        loop {
            self.transport = self.transport.other();
            let Some(mut client) = round.connect(self.transport, self.room).await else {
                return self;
            };
            let patience = match self.habit {
                Habit::ComesAndGoes => 1 + dice.below(60),
                Habit::Talks | Habit::WakesIt => u64::MAX,
            };
            let is_over = tokio::select! {
                is_over = self.attend(&mut client, &round, patience) => is_over,
                () = round.crash() => true,
            };
            if is_over {
                while let Ok(Ok(frame)) =
                    tokio::time::timeout(LAST_WORDS, client.next_or_last()).await
                {
                    self.note(frame);
                }
                return self;
            }
            if dice.below(4) == 0 {
                self.has_said_goodbye = true;
                let _ = tokio::time::timeout(DEADLINE, client.close(1000)).await;
            } else {
                client.drop_connection();
            }
        }
    }

    /// Says hello and goes on until it has had enough (false) or the connection breaks.
    async fn attend(&mut self, client: &mut Client, round: &Round, patience: u64) -> bool {
        self.hello(client).await;
        for _ in 0..patience {
            let Ok(frame) = client.next_or_last().await else { return true };
            let kind = frame["type"].as_str().unwrap_or("").to_owned();
            let is_asleep = kind == "room" && frame["state"] == "asleep";
            self.note(frame);
            match kind.as_str() {
                "welcome" => self.say_again(client).await,
                "ok" => round.answers.send_modify(|count| *count += 1),
                _ => {}
            }
            let wants = match self.habit {
                Habit::Talks if self.is_live => IN_FLIGHT,
                Habit::WakesIt if is_asleep => 1,
                _ => 0,
            };
            while self.unanswered.len() < wants {
                let (id, key) = (self.next_id, format!("{}-{}", self.name, self.next_id));
                self.next_id += 1;
                self.unanswered.push((id, key.clone()));
                self.say(client, id, &key).await;
            }
        }
        false
    }

    /// Says again what was not answered, and hears all there is.
    pub async fn settle(&mut self, round: &Round) {
        self.transport = self.transport.other();
        let mut client = round.connect(self.transport, self.room).await.expect("it lives");
        self.hello(&mut client).await;
        while !self.is_live || !self.unanswered.is_empty() {
            let frame = client.next().await;
            let is_welcome = frame["type"] == "welcome";
            self.note(frame);
            if is_welcome {
                self.say_again(&mut client).await;
            }
        }
        client.close(1000).await;
    }

    async fn hello(&mut self, client: &mut Client) {
        self.is_live = false;
        let watch = self.habit == Habit::WakesIt;
        let mut hello =
            json!({ "type": "hello", "name": self.name, "history": 1000, "watch": watch });
        if !self.session.is_null() {
            hello["session"] = self.session.clone();
            hello["since"] = self.position.clone();
        }
        client.send(hello).await;
    }

    async fn say_again(&self, client: &mut Client) {
        for (id, key) in &self.unanswered {
            self.say(client, *id, key).await;
        }
    }

    async fn say(&self, client: &mut Client, id: u64, key: &str) {
        self.judge.tell(Event::Sent { key: key.to_owned() });
        let data = json!({ "key": key });
        client.send(json!({ "type": "publish", "id": id, "key": key, "data": data })).await;
    }

    fn note(&mut self, frame: Value) {
        let who = self.name.to_owned();
        let seq = frame["seq"].as_u64();
        match frame["type"].as_str().unwrap() {
            "welcome" => {
                let is_back = !self.session.is_null();
                if is_back {
                    assert_eq!(frame["resumed"], true, "{who}: {frame}");
                    assert!(self.has_said_goodbye || frame["seat"] == "kept", "{who}: {frame}");
                }
                self.has_said_goodbye = false;
                self.session = frame["session"].clone();
                if self.position.is_null() {
                    self.position = json!({ "epoch": frame["position"]["epoch"], "seq": 0 });
                }
                assert_eq!(frame["position"]["epoch"], self.position["epoch"], "one log for ever");
                let since = self.position["seq"].as_u64().filter(|_| is_back);
                self.judge.tell(Event::Began { who, since });
            }
            "message" => {
                self.position["seq"] = frame["seq"].clone();
                self.judge.tell(Event::Heard { who, message: message(&frame) });
            }
            "live" => {
                self.position["seq"] = frame["seq"].clone();
                self.is_live = true;
                self.judge.tell(Event::Live { who, seq: seq.unwrap() });
            }
            "ok" => {
                let at = self.unanswered.iter().position(|(id, _)| frame["id"] == *id);
                let (_, key) = self.unanswered.remove(at.expect("an answer to a question"));
                let dup = frame["dup"] == true;
                self.judge.tell(Event::Ok { key, seq: seq.unwrap(), dup });
            }
            "room" => self.naps += u64::from(frame["state"] == "asleep"),
            _ => panic!("{who}: {frame}"),
        }
    }
}

fn message(frame: &Value) -> Message {
    Message {
        seq: frame["seq"].as_u64().unwrap(),
        time: frame["time"].as_u64().unwrap(),
        key: frame["data"]["key"].as_str().unwrap().to_owned(),
    }
}

/// Reads all there is behind a position, as somebody whom nobody knows.
pub async fn read(round: &Round, room: &str, judge: &Judge, after: u64) {
    let mut client = round.connect(Transport::WebSocket, room).await.expect("it lives");
    let first = client.hello(json!({ "history": 1 })).await;
    let since = json!({ "epoch": client.welcome["position"]["epoch"], "seq": after });
    client.close(1000).await;
    if after == 0 && first.is_empty() {
        return judge.tell(Event::Read { after, log: Vec::new() });
    }
    let mut client = round.connect(Transport::WebSocket, room).await.expect("it lives");
    let log = client.hello(json!({ "since": since })).await;
    assert_eq!(client.welcome["resumed"], true, "{}", client.welcome);
    judge.tell(Event::Read { after, log: log.iter().map(message).collect() });
    client.close(1000).await;
}
