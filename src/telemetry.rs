//! Every metric's name in one place, and where log lines go.
//!
//! Names are `dormouse_<noun>_<unit>`, counters end in `_total`, and a label never names a room
//! or a session: the number of series must not grow with the number of clients. A label's
//! values are `&'static str` for that reason; a new one needs no registration.
//!
//! On a message's path a shared counter is held ([`Family::of`]), not looked up.

pub mod log;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub use log::log_to_stderr;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Changes it.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one for as long as the answer lives.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.add(1);
        Held(self.clone())
    }
}

/// One counted in a [`Gauge`] until it is dropped.
#[derive(Debug)]
pub struct Held(Arc<Gauge>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Timing {
    count: Counter,
    micros: Counter,
}

impl Timing {
    /// It took so long once more.
    pub fn observe(&self, took: Duration) {
        self.micros.add(took.as_micros() as u64);
        self.count.inc();
    }
}

/// The same metric for each value of one label.
#[derive(Debug)]
pub struct Family<T> {
    label: &'static str,
    members: RwLock<BTreeMap<&'static str, Arc<T>>>,
}

impl<T: Default> Family<T> {
    /// A family whose `expected` values are shown from the start, as 0.
    fn new(label: &'static str, expected: &[&'static str]) -> Self {
        let members = expected.iter().map(|value| (*value, Arc::default())).collect();
        Self { label, members: RwLock::new(members) }
    }

    /// The metric of one label value, made when it is first asked for.
    pub fn of(&self, value: &'static str) -> Arc<T> {
        // Entries are only added, each in one step: after a panic the table is still whole.
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(value) {
            return member.clone();
        }
        drop(members);
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.entry(value).or_default().clone()
    }
}

/// The label of the WebSocket transport.
pub const WEBSOCKET: &str = "websocket";
/// The label of the WebTransport transport.
pub const WEBTRANSPORT: &str = "webtransport";

const TRANSPORTS: &[&str] = &[WEBSOCKET, WEBTRANSPORT];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    /// Sessions open now.
    pub sessions: Family<Gauge>,
    /// Sessions ended, by the slug of their close reason.
    pub sessions_closed: Family<Counter>,
    /// Rooms with a keeper, `awake` or `asleep`.
    pub rooms: Family<Gauge>,
    /// Wakes, by what needed the room.
    pub room_wakes: Family<Counter>,
    /// How long waking took.
    pub room_wake: Timing,
    /// Rooms that went to sleep.
    pub room_hibernations: Counter,
    /// Rooms that were told to sleep early, because too many were awake.
    pub rooms_dozed: Counter,
    /// Messages committed.
    pub messages: Counter,
    /// Frames written to clients.
    pub frames_sent: Family<Counter>,
    /// Frames read from clients.
    pub frames_received: Family<Counter>,
    /// Frames that said nothing we know and that the profile lets pass.
    pub frames_ignored: Counter,
    /// Ephemerals of clients that were not passed on: too many, or too busy a room.
    pub ephemerals_dropped: Counter,
    /// Refusals before the upgrade, by HTTP status.
    pub refusals: Family<Counter>,
    /// Requests of web pages refused, by what did not fit: `origin` or `host`.
    pub pages_refused: Family<Counter>,
    /// Commits that the store did not confirm.
    pub commits_failed: Counter,
    /// Alarms that came due: `rung`, or `failed` and to be tried again.
    pub alarms: Family<Counter>,
    /// Rooms whose alarm failed and waits to be tried again.
    pub alarms_failing: Gauge,
    /// Rooms deleted, by an `operator` or because they were `idle`.
    pub rooms_deleted: Family<Counter>,
    /// Jumps of the wall clock, `forward` and `back`.
    pub clock_jumps: Family<Counter>,
    /// 1 while the wall clock shows a time that is over.
    pub clock_wrong: Gauge,
    /// 1 while the store is unwell, as `/readyz` says: set when it is read.
    pub store_unwell: Gauge,
    /// Failures of what should not end: tasks that live as long as the gateway, sessions, keepers.
    pub task_failures: Family<Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sessions: Family::new("transport", TRANSPORTS),
            sessions_closed: Family::new("reason", &[]),
            rooms: Family::new("state", &["awake", "asleep"]),
            room_wakes: Family::new("cause", &["publish", "wake"]),
            room_wake: Timing::default(),
            room_hibernations: Counter::default(),
            rooms_dozed: Counter::default(),
            messages: Counter::default(),
            frames_sent: Family::new("transport", TRANSPORTS),
            frames_received: Family::new("transport", TRANSPORTS),
            frames_ignored: Counter::default(),
            ephemerals_dropped: Counter::default(),
            refusals: Family::new("status", &[]),
            pages_refused: Family::new("reason", &["origin", "host"]),
            commits_failed: Counter::default(),
            alarms: Family::new("outcome", &["rung", "failed"]),
            alarms_failing: Gauge::default(),
            rooms_deleted: Family::new("cause", &["operator", "idle"]),
            clock_jumps: Family::new("direction", &["forward", "back"]),
            clock_wrong: Gauge::default(),
            store_unwell: Gauge::default(),
            task_failures: Family::new("task", &["session", "keeper"]),
        }
    }
}

impl Metrics {
    /// Everything in Prometheus' text format.
    pub fn exposition(&self) -> String {
        let mut page = Page(String::with_capacity(4096));
        page.family("dormouse_sessions", "Sessions open now.", &self.sessions);
        page.family("dormouse_sessions_closed_total", "Sessions ended.", &self.sessions_closed);
        page.family("dormouse_rooms", "Rooms with a keeper.", &self.rooms);
        page.family("dormouse_room_wakes_total", "Rooms woken.", &self.room_wakes);
        page.timing("dormouse_room_wake_seconds", "How long waking took.", &self.room_wake);
        page.single(
            "dormouse_room_hibernations_total",
            "Rooms put to sleep.",
            &self.room_hibernations,
        );
        page.single("dormouse_rooms_dozed_total", "Rooms sent to sleep early.", &self.rooms_dozed);
        page.single("dormouse_messages_total", "Messages committed.", &self.messages);
        page.family("dormouse_frames_sent_total", "Frames to clients.", &self.frames_sent);
        page.family(
            "dormouse_frames_received_total",
            "Frames from clients.",
            &self.frames_received,
        );
        page.single("dormouse_frames_ignored_total", "Frames let pass.", &self.frames_ignored);
        page.single(
            "dormouse_ephemerals_dropped_total",
            "Ephemerals not passed on.",
            &self.ephemerals_dropped,
        );
        page.family("dormouse_refusals_total", "Refusals before the upgrade.", &self.refusals);
        page.family(
            "dormouse_pages_refused_total",
            "Web pages refused for their origin or host.",
            &self.pages_refused,
        );
        page.single(
            "dormouse_commits_failed_total",
            "Commits the store did not confirm.",
            &self.commits_failed,
        );
        page.family("dormouse_alarms_total", "Alarms that came due.", &self.alarms);
        page.single(
            "dormouse_alarms_failing",
            "Rooms whose alarm is to be tried again.",
            &self.alarms_failing,
        );
        page.family("dormouse_rooms_deleted_total", "Rooms deleted.", &self.rooms_deleted);
        page.family(
            "dormouse_clock_jumps_total",
            "How often the wall clock was set.",
            &self.clock_jumps,
        );
        page.single(
            "dormouse_clock_wrong",
            "Whether the wall clock shows a time that is over.",
            &self.clock_wrong,
        );
        page.single("dormouse_store_unwell", "Whether the store is unwell.", &self.store_unwell);
        page.family(
            "dormouse_task_failures_total",
            "Failures of tasks that should not end.",
            &self.task_failures,
        );
        page.single("dormouse_log_lines_lost_total", "Log lines not written.", &log::lost());
        page.0
    }
}

/// What one line of the exposition needs of a metric.
trait Number {
    const KIND: &'static str;
    fn number(&self) -> String;
}

impl Number for Counter {
    const KIND: &'static str = "counter";
    fn number(&self) -> String {
        self.get().to_string()
    }
}

impl Number for u64 {
    const KIND: &'static str = "counter";
    fn number(&self) -> String {
        self.to_string()
    }
}

impl Number for Gauge {
    const KIND: &'static str = "gauge";
    fn number(&self) -> String {
        self.get().to_string()
    }
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a String takes every write");
    }

    fn single<T: Number>(&mut self, name: &str, help: &str, metric: &T) {
        self.head(name, help, T::KIND);
        self.line(format_args!("{name} {}", metric.number()));
    }

    fn family<T: Number>(&mut self, name: &str, help: &str, family: &Family<T>) {
        self.head(name, help, T::KIND);
        let members = family.members.read().unwrap_or_else(PoisonError::into_inner);
        for (value, metric) in members.iter() {
            let label = family.label;
            self.line(format_args!("{name}{{{label}=\"{value}\"}} {}", metric.number()));
        }
    }

    fn timing(&mut self, name: &str, help: &str, timing: &Timing) {
        self.head(name, help, "summary");
        let micros = timing.micros.get();
        let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
        self.line(format_args!("{name}_sum {whole}.{part:06}"));
        self.line(format_args!("{name}_count {}", timing.count.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        let _session = metrics.sessions.of(WEBSOCKET).hold();
        drop(metrics.sessions.of(WEBTRANSPORT).hold());
        metrics.sessions_closed.of("too_slow").inc();
        metrics.room_wake.observe(Duration::from_micros(1_500_250));
        metrics.messages.add(3);

        let text = metrics.exposition();
        for line in [
            "# TYPE dormouse_sessions gauge",
            "dormouse_sessions{transport=\"websocket\"} 1",
            "dormouse_sessions{transport=\"webtransport\"} 0",
            "dormouse_sessions_closed_total{reason=\"too_slow\"} 1",
            "dormouse_rooms{state=\"asleep\"} 0",
            "dormouse_room_wake_seconds_sum 1.500250",
            "dormouse_room_wake_seconds_count 1",
            "dormouse_messages_total 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is missing from\n{text}");
        }
    }

    #[test]
    fn every_metric_has_help_a_type_and_a_name_in_our_style() {
        let text = Metrics::default().exposition();
        let names: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        for name in &names {
            let (name, kind) = name.split_once(' ').unwrap();
            assert!(name.starts_with("dormouse_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        assert_eq!(names.len(), 23);
    }
}
