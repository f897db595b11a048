//! What was seen, as tables for people and as JSON for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::clients::Look;
use super::machine::Called;
use super::seal::{self, CIPHERS};
use super::{Carrier, Kind, Push};

/// Of a packet's bytes, those that are not encrypted, and the tag behind.
const PACKET_FRAME: f64 = 10.0 + 16.0;

/// What one window came to.
pub struct Seen {
    pub cpu: Duration,
    pub took: Duration,
    pub look: Look,
    pub hearers: u64,
    /// System calls, and the deliveries for which they were made.
    pub calls: Option<(Called, u64)>,
}

/// The names of columns, in the order that they are shown.
const CPU: &str = "CPU s/M";
const RATE: &str = "deliveries/s";
const RECORD: &str = "bytes/record";
const RECORDS: &str = "records/packet";
const PACKET: &str = "bytes/packet";
const ANSWERS: &str = "answers/delivery";
const ANSWER: &str = "bytes/answer";
const PACKETS_SENT: &str = "packets/sendmsg";
const SENDS: &str = "sendmsg/delivery";
const RECEIVES: &str = "recvmmsg/delivery";
const WAITS: &str = "epoll_wait/delivery";
const MISSING: &str = "missing %";
const SEALING: &str = "crypto µs";
const SHARE: &str = "crypto %";
const COLUMNS: [&str; 14] = [
    CPU,
    RATE,
    RECORD,
    RECORDS,
    PACKET,
    PACKETS_SENT,
    SENDS,
    RECEIVES,
    WAITS,
    ANSWERS,
    ANSWER,
    MISSING,
    SEALING,
    SHARE,
];

/// By case and server; then by column, a sample for each round.
#[derive(Default)]
pub struct Figures {
    rows: BTreeMap<(&'static str, String), BTreeMap<&'static str, Vec<f64>>>,
}

impl Figures {
    pub fn add(&mut self, kind: Kind, carrier: Carrier, push: Push, seen: Seen) {
        let Seen { cpu, took, look, hearers, calls } = seen;
        let deliveries = look.deliveries as f64;
        let mut say = |name, value| self.sample(push, name_of(kind, carrier), name, value);
        say(CPU, cpu.as_secs_f64() * 1e6 / deliveries);
        say(RATE, deliveries / took.as_secs_f64());
        say(RECORD, look.bytes as f64 / deliveries);
        say(RECORDS, deliveries / look.packets as f64);
        say(PACKET, look.packet_bytes as f64 / look.packets as f64);
        say(ANSWERS, look.answers as f64 / deliveries);
        say(ANSWER, look.answer_bytes as f64 / look.answers as f64);
        say(MISSING, 100.0 * (1.0 - deliveries / (look.messages * hearers) as f64));
        if let Some((called, counted)) = calls {
            let each = |calls: u64| calls as f64 / counted as f64;
            say(SENDS, each(called.sendmsg));
            say(RECEIVES, each(called.recvmmsg));
            say(WAITS, each(called.epoll_wait));
            say(PACKETS_SENT, look.packets as f64 / deliveries / each(called.sendmsg));
        }
    }

    pub fn add_bench(&mut self, transport: &str, push: Push, cpu: f64, deliveries: f64) {
        self.sample(push, format!("bench {transport}"), CPU, cpu);
        self.sample(push, format!("bench {transport}"), RATE, deliveries);
    }

    fn sample(&mut self, push: Push, name: String, column: &'static str, value: f64) {
        let row = self.rows.entry((push.name(), name)).or_default();
        row.entry(column).or_default().push(value);
    }

    /// The median of each column, and what encryption has of it.
    fn row(&self, case: &'static str, name: &str) -> Option<BTreeMap<&'static str, f64>> {
        let row = self.rows.get(&(case, name.to_owned()))?;
        let mut row: BTreeMap<_, _> =
            row.iter().map(|(column, samples)| (*column, median(samples))).collect();
        if let (Some(records), Some(packet)) = (row.get(RECORDS), row.get(PACKET)) {
            let (_, cipher) = CIPHERS[0];
            let bytes = |whole: f64| (whole - PACKET_FRAME).max(1.0) as usize;
            let sealed = (seal::seal(cipher, bytes(*packet)) + seal::header()) / records;
            let opened = (seal::open(cipher, bytes(row[ANSWER])) + seal::header()) * row[ANSWERS];
            let share = 100.0 * (sealed + opened) / row[CPU]; // a second for a million is a µs
            row.insert(SEALING, sealed + opened);
            row.insert(SHARE, share);
        }
        Some(row)
    }

    pub fn table(&self) -> String {
        let mut out = String::new();
        for case in CASES {
            out += &format!("{case}\n\n| |");
            COLUMNS.iter().for_each(|column| out += &format!(" {column} |"));
            out += &format!("\n| --- |{}\n", " ---: |".repeat(COLUMNS.len()));
            for ((_, name), _) in self.rows.iter().filter(|((of, _), _)| *of == case) {
                let row = self.row(case, name).expect("it is there");
                let show = |column| row.get(column).map_or("".to_owned(), |value| digits(*value));
                out += &format!("| {name} |");
                COLUMNS.iter().for_each(|column| out += &format!(" {} |", show(column)));
                out += "\n";
            }
            out += "\nCPU for a delivery:";
            for (above, below) in RATIOS {
                if let Some(ratio) = self.ratio(case, above, below) {
                    out += &format!(" {above} / {below} {ratio:.2};");
                }
            }
            out += "\n\n";
        }
        out +=
            "encryption by itself, µs\n\n| payload | seal AES-128 | open | seal AES-256 | open |\n";
        out += "| ---: | ---: | ---: | ---: | ---: |\n";
        for (bytes, times) in sealing() {
            let times: Vec<_> = times.iter().map(|time| digits(*time)).collect();
            out += &format!("| {bytes} | {} |\n", times.join(" | "));
        }
        out + &format!("\na header's mask {} µs\n", digits(seal::header()))
    }

    pub fn json(&self) -> Value {
        let mut cases = Map::new();
        for ((case, name), samples) in &self.rows {
            let rows = cases.entry(*case).or_insert_with(|| json!({}));
            rows[name] = json!({ "median": self.row(case, name), "rounds": samples });
        }
        for case in CASES {
            for (above, below) in RATIOS {
                if let Some(ratio) = self.ratio(case, above, below) {
                    cases[case]["ratios"][format!("{above} / {below}")] = json!(ratio);
                }
            }
        }
        let sealing: Vec<_> = sealing()
            .map(|(bytes, [seal_128, open_128, seal_256, open_256])| {
                json!({
                    "payload": bytes, "seal_128": seal_128, "open_128": open_128,
                    "seal_256": seal_256, "open_256": open_256,
                })
            })
            .collect();
        cases.insert("sealing_us".to_owned(), sealing.into());
        cases.insert("header_us".to_owned(), json!(seal::header()));
        cases.into()
    }

    /// The median of the rounds' ratios: what was measured side by side is compared.
    fn ratio(&self, case: &'static str, above: &str, below: &str) -> Option<f64> {
        let samples = |name: &str| self.rows.get(&(case, name.to_owned()))?.get(CPU);
        let ratios =
            samples(above)?.iter().zip(samples(below)?).map(|(above, below)| above / below);
        Some(median(&ratios.collect::<Vec<_>>()))
    }
}

const CASES: [&str; 2] = ["unbatched", "full"];

const RATIOS: [(&str, &str); 4] = [
    ("gateway stream", "quinn stream"),
    ("gateway datagram", "quinn datagram"),
    ("bench wt", "bench wss"),
    ("bench wss", "bench ws"),
];

fn name_of(kind: Kind, carrier: Carrier) -> String {
    let kind = match kind {
        Kind::Quinn => "quinn",
        Kind::Gateway => "gateway",
    };
    format!("{kind} {}", carrier.name())
}

/// An acknowledgement, a packet of one record, a full packet, a full TLS record.
fn sealing() -> impl Iterator<Item = (usize, [f64; 4])> {
    [25, 220, 1_200, 16_384].into_iter().map(|bytes| {
        let [(_, first), (_, second)] = CIPHERS;
        let times = [
            seal::seal(first, bytes),
            seal::open(first, bytes),
            seal::seal(second, bytes),
            seal::open(second, bytes),
        ];
        (bytes, times)
    })
}

fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Three of them.
fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
