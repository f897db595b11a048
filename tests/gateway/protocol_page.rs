//! `docs/protocol.md` is what happens: every exchange on it is replayed, over both transports.
//!
//! `ann > frame` sends (also what is no JSON), `ann < frame` expects the next frame, `ann drops` loses the connection,
//! `the room sleeps` has it hibernate. In an expected frame `"…"` is any value, `"$name"` is any
//! text the first time and that text from then on, and a `…` among the fields lets others be
//! there; without it the fields are exactly those shown.

use std::collections::BTreeMap;

use dormouse::config::Config;
use serde_json::{Map, Value};

use crate::support::{Client, House, Transport, house};

const PAGE: &str = include_str!("../../docs/protocol.md");

/// The exchanges, with the line each begins at.
fn exchanges() -> Vec<(usize, Vec<&'static str>)> {
    let mut exchanges = Vec::new();
    let mut open: Option<(usize, Vec<&str>)> = None;
    for (number, line) in PAGE.lines().enumerate() {
        match (&mut open, line) {
            (None, "```exchange") => open = Some((number + 2, Vec::new())),
            (Some(_), "```") => exchanges.extend(open.take()),
            (Some((_, lines)), line) => lines.push(line),
            (None, _) => {}
        }
    }
    exchanges
}

struct Replay<'a> {
    house: &'a House,
    transport: Transport,
    room: String,
    clients: BTreeMap<String, Client>,
    names: BTreeMap<String, Value>,
    /// Whether the exchange is about who is here; else that may come at any time.
    tells_presence: bool,
}

impl Replay<'_> {
    async fn line(&mut self, line: &str) {
        if line == "the room sleeps" {
            return self.house.hibernate(&self.room).await;
        }
        let (who, what) = line.split_once(' ').unwrap();
        if what == "drops" {
            return self.clients.remove(who).unwrap().drop_connection();
        }
        if !self.clients.contains_key(who) {
            let mut client = self.house.connect(self.transport, &self.room).await;
            client.hears_presence = self.tells_presence;
            self.clients.insert(who.to_owned(), client);
        }
        let (direction, frame) = what.split_once(' ').unwrap();
        match direction {
            ">" => {
                let named = serde_json::from_str(frame).map(|frame| self.named(frame).to_string());
                // What is no JSON is sent as it stands there.
                let text = named.unwrap_or_else(|_| frame.to_owned());
                self.clients.get_mut(who).unwrap().send_text(&text).await;
            }
            "<" => {
                let client = self.clients.get_mut(who).unwrap();
                let expected = parse(frame);
                // An `ok` and the message itself may come in either order, as the page says, and
                // presence comes at its own time.
                let later: &[&str] = match expected["type"].as_str() {
                    Some("ok") => &["message", "presence"],
                    Some("message") => &["ok", "presence"],
                    Some("presence") => &[],
                    _ => &["presence"],
                };
                let is_due = |frame: &Value| !later.iter().any(|it| frame["type"] == *it);
                let actual = client.next_that(is_due).await;
                self.matches(&expected, &actual, line);
            }
            other => panic!("{other:?} in {line}"),
        }
    }

    /// A frame to send with its names filled in.
    fn named(&self, frame: Value) -> Value {
        match frame {
            Value::String(text) => match text.strip_prefix('$') {
                Some(name) => self.names[name].clone(),
                None => Value::String(text),
            },
            Value::Object(fields) => {
                fields.into_iter().map(|(key, value)| (key, self.named(value))).collect()
            }
            Value::Array(items) => items.into_iter().map(|item| self.named(item)).collect(),
            other => other,
        }
    }

    fn matches(&mut self, expected: &Value, actual: &Value, line: &str) {
        let differ = || panic!("expected {expected}\ngot {actual}\nin: {line}");
        match (expected, actual) {
            (Value::String(any), _) if any == "…" => {}
            (Value::String(name), actual) if name.starts_with('$') => {
                let known = self.names.entry(name[1..].to_owned()).or_insert(actual.clone());
                if known != actual {
                    differ();
                }
            }
            (Value::Object(expected), Value::Object(actual)) => {
                let shown = |fields: &Map<String, Value>| {
                    fields.keys().filter(|key| *key != "…").cloned().collect::<Vec<_>>()
                };
                let is_open = expected.contains_key("…");
                let has_all = shown(expected).iter().all(|key| actual.contains_key(key));
                if !has_all || (!is_open && shown(expected).len() != actual.len()) {
                    differ();
                }
                for key in shown(expected) {
                    self.matches(&expected[&key], &actual[&key], line);
                }
            }
            (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
                for (expected, actual) in expected.iter().zip(actual) {
                    self.matches(expected, actual, line);
                }
            }
            (expected, actual) if expected == actual => {}
            _ => differ(),
        }
    }
}

/// An expected frame: `…` among the fields becomes a field of that name.
fn parse(frame: &str) -> Value {
    let frame = frame.replace(",…", ",\"…\":0");
    serde_json::from_str(&frame).unwrap_or_else(|error| panic!("{error}: {frame}"))
}

async fn replay(transport: Transport) {
    let exchanges = exchanges();
    assert!(exchanges.len() >= 6, "the page has examples");
    let rates = Config::default().keeper.rates; // the page shows the usual ones
    let house = house(move |config| config.keeper.rates = rates).await;
    for (number, lines) in exchanges {
        let room = format!("line-{number}");
        let (clients, names) = (BTreeMap::new(), BTreeMap::new());
        let tells_presence = lines.iter().any(|line| line.contains("\"presence\",\"version\""))
            || lines.iter().any(|line| line.contains("\"presence\",…"));
        let mut replay = Replay { house: &house, transport, room, clients, names, tells_presence };
        for line in lines {
            replay.line(line).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_what_happens_on_a_websocket() {
    replay(Transport::WebSocket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_what_happens_on_webtransport() {
    replay(Transport::WebTransport).await;
}

/// The table of codes on the page is the table in the code.
#[test]
fn the_page_lists_every_close_code() {
    use dormouse::protocol::{CloseReason, Profile};
    let seed_only = [CloseReason::BinaryRefused, CloseReason::WithoutName];
    for reason in CloseReason::ALL.into_iter().filter(|reason| !seed_only.contains(reason)) {
        let (code, slug) = (reason.code(Profile::V1), reason.slug());
        let has_row = PAGE.lines().any(|line| {
            line.starts_with(&format!("| {code} |")) && line.contains(&format!("`{slug}`"))
        });
        assert!(has_row, "{code} {slug} is missing");
    }
}
