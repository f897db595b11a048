//! What the store costs, against what the machine can do in the same run.
//!
//! `cargo bench --bench store -- [--rooms N] [--seconds N] [--json]`
//!
//! - *One room, closed loop*: publish, wait for the answer, publish again; at the store's trait,
//!   and through a keeper up to the `ok` in an outbox. Beside them a file of 4 KiB that is written
//!   and synced, in turns with them, so that all meet the same disk.
//! - *A thousand rooms at once*, each in a closed loop at the store's trait, against a bare redb
//!   table that takes a thousand entries with each commit, with the same settings.
//! - *Opening* a store of many sleeping rooms: how long, and how much of it is read.
//!
//! It works in a temporary directory (`TMPDIR` chooses the disk), is bounded by `--seconds` for
//! each measurement, and stops by itself. Figures of a busy machine are no figures.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what it measures, it prints")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail where it stands")]
#![allow(missing_docs, reason = "a program, not a library")]

mod crowd;
mod keeper;
mod many;
mod one;

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use dormouse::config::Config;
use dormouse::protocol::{BodyKind, RoomName, Timestamp};
use dormouse::store::{Message, Record, Settings};
use serde_json::{Map, Value, json};

/// What was asked for.
pub struct Options {
    pub rooms: usize,
    pub each: Duration,
}

fn main() {
    let mut options = Options { rooms: 100_000, each: Duration::from_secs(5) };
    let mut as_json = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--rooms" => options.rooms = number().expect("--rooms takes a number") as usize,
            "--seconds" => {
                options.each = Duration::from_secs(number().expect("--seconds takes a number"));
            }
            "--json" => as_json = true,
            _ => {} // cargo says `--bench`
        }
    }
    let mut report = Report::default();
    one::measure(&options, &mut report);
    crowd::measure(&options, &mut report);
    many::measure(&options, &mut report);
    if as_json {
        println!("{}", Value::Object(report.values));
    } else {
        println!("\n{}", report.lines.join("\n"));
    }
}

/// What was found, for people and for programs.
#[derive(Default)]
pub struct Report {
    lines: Vec<String>,
    values: Map<String, Value>,
}

impl Report {
    pub fn say(&mut self, name: &str, value: f64, unit: &str, remark: &str) {
        self.lines.push(format!("{name:<44} {value:>12.2} {unit:<10} {remark}"));
        self.values.insert(name.to_owned(), json!({ "value": value, "unit": unit }));
    }
}

/// Says what is being done, to whoever waits.
pub fn progress(what: &str) {
    eprintln!("… {what}");
}

/// The store's default settings.
pub fn settings() -> Settings {
    Config::default().store
}

pub fn room(number: usize) -> RoomName {
    format!("room-{number}").parse().expect("a good name")
}

/// What a message of a chat is on disk; made once, for it is the store that is measured.
static BODY: LazyLock<Bytes> = LazyLock::new(|| {
    let (from, data) = (json!({ "sid": "s1", "user": null, "name": "ada" }), "x".repeat(100));
    let time = 1_760_000_000_000_u64;
    let frame = json!({ "type": "message", "seq": 1, "time": time, "from": from, "data": data });
    Bytes::from(frame.to_string())
});

pub fn message(seq: u64) -> Record {
    Record::Message(Message {
        seq,
        time: Timestamp(1_760_000_000_000 + seq),
        key: None,
        kind: BodyKind::Json,
        body: BODY.clone(),
    })
}

/// The middle one.
pub fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}
