//! A load for so long, and what it came to.
//!
//! ```text
//!  begin ──warm-up──▶ figures ──────seconds──────▶ figures ──▶ stop ──▶ all was delivered, or not
//! ```
//!
//! Rates, CPU and latencies are those of the window between the two looks; whether every message
//! reached everybody is asked of the whole.

use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::figures::{Row, per_million};
use super::histogram::Histogram;
use super::load::{Load, Push};
use super::process::{Cpu, Processes};
use super::subject::Subject;
use super::{Error, progress};

/// How long what is under way at the end may take to arrive.
const SETTLING: Duration = Duration::from_secs(30);

/// How long a window goes on in which nothing arrives: a disk may stall for seconds, and a
/// measurement of nothing is none.
const STALLING: Duration = Duration::from_secs(30);

/// The share of a core beyond which the generator may be what is measured.
const BUSY: f64 = 0.95;

/// What a load came to.
pub struct Outcome {
    /// How long the window was.
    pub took: Duration,
    /// Messages published in it.
    pub messages: u64,
    /// Deliveries in it.
    pub deliveries: u64,
    /// The server's CPU time in it.
    pub cpu: Option<Duration>,
    /// The generator's.
    pub own: Option<Duration>,
    /// From when a message should have been sent to when it was heard.
    pub latencies: Histogram,
    /// The server's memory at the end of it.
    pub rss_kib: Option<u64>,
    /// Messages published since the members joined.
    pub all_messages: u64,
    /// Their deliveries.
    pub all_deliveries: u64,
    /// The deliveries that they should have made.
    pub expected: u64,
}

struct Look {
    at: Instant,
    published: u64,
    delivered: u64,
    cpu: Option<Cpu>,
    own: Option<Cpu>,
}

impl Look {
    fn take(load: &Load, subject: &Subject) -> Self {
        Self {
            at: Instant::now(),
            published: load.published(),
            delivered: load.delivered(),
            cpu: subject.processes.as_ref().and_then(Processes::cpu),
            own: Processes::own().cpu(),
        }
    }
}

/// Begins a load, lets it warm up, and measures it for `each`.
pub async fn press(
    load: &Load,
    crowd: &Crowd,
    subject: &Subject,
    push: Push,
    each: Duration,
) -> Result<Outcome, Error> {
    let watch = async {
        tokio::time::sleep((each / 4).min(Duration::from_secs(1))).await;
        let before = Look::take(load, subject);
        load.begin_timing();
        let mut last = load.delivered();
        let goes_on = |load: &Load| match before.at.elapsed() {
            elapsed if elapsed < each => true,
            elapsed => load.delivered() == before.delivered && elapsed < each + STALLING,
        };
        while goes_on(load) {
            let left = each.saturating_sub(before.at.elapsed());
            let step = left.clamp(Duration::from_millis(100), Duration::from_secs(1));
            tokio::time::sleep(step).await;
            crowd.well()?;
            let now = load.delivered();
            let rate = (now - last) as f64 / step.as_secs_f64();
            progress(format!("{rate:.0} deliveries a second"));
            last = now;
        }
        let after = Look::take(load, subject);
        Ok::<_, Error>((before, after, load.end_timing()))
    };
    let (before, after, latencies) = tokio::select! {
        watched = watch => watched?,
        pushed = load.push(push) => return Err(pushed.err().unwrap_or(Error::Interrupted)),
    };
    let memory = subject.processes.as_ref().and_then(Processes::memory);
    load.stop();
    load.settle(SETTLING).await;
    crowd.well()?;
    let spent = |before: Option<Cpu>, after: Option<Cpu>| Some(after?.since(&before?));
    Ok(Outcome {
        took: after.at - before.at,
        messages: after.published - before.published,
        deliveries: after.delivered - before.delivered,
        cpu: spent(before.cpu, after.cpu),
        own: spent(before.own, after.own),
        latencies,
        rss_kib: memory.map(|memory| memory.rss_kib),
        all_messages: load.published(),
        all_deliveries: load.delivered(),
        expected: load.expected(),
    })
}

impl Outcome {
    /// Its figures.
    pub fn row(&self, label: impl Into<String>) -> Row {
        let seconds = self.took.as_secs_f64();
        let share = |cpu: Option<Duration>| cpu.map(|cpu| cpu.as_secs_f64() / seconds * 100.0);
        let mut row = Row::new(label);
        row.add("deliveries_per_s", self.deliveries as f64 / seconds)
            .add("messages_per_s", self.messages as f64 / seconds)
            .add("cpu_s_per_million", per_million(self.cpu, self.deliveries))
            .quantiles(&self.latencies)
            .add("server_cpu_%", share(self.cpu))
            .add("generator_cpu_%", share(self.own))
            .add("server_rss_mib", self.rss_kib.map(|kib| kib as f64 / 1024.0));
        row
    }

    /// Whether each message reached everybody.
    pub fn whole(&self, label: &str) -> Row {
        let mut row = Row::new(label);
        row.count("messages", self.all_messages)
            .count("deliveries", self.all_deliveries)
            .count("expected", self.expected)
            .count("missing", self.expected.saturating_sub(self.all_deliveries));
        row
    }

    /// What a reader should know before believing it.
    pub fn warnings(&self, said: &mut Vec<String>) {
        let busy = self.own.is_some_and(|own| own.as_secs_f64() > BUSY * self.took.as_secs_f64());
        if busy {
            said.push(
                "WARNING: the generator was as busy as it can be; it is what was measured"
                    .to_owned(),
            );
        }
        if self.all_deliveries < self.expected {
            let missing = self.expected - self.all_deliveries;
            said.push(format!("WARNING: {missing} deliveries did not come"));
        }
    }
}
