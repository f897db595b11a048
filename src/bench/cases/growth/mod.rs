//! What one of each costs as there are more of them: members, rooms, messages stored, bytes kept
//! for a seat.
//!
//! Each part holds a rate the same from size to size, so that what is compared is the cost of a
//! unit: a delivery, a message, a join, a page. A cost that stays as it is from the first row to
//! the last is what is wanted of all of them; the rows at the end say by how much it changed.
//!
//! Members that are many are pinged often, and a room that dozes off has to be woken. Neither is
//! what is asked here, so neither happens: the gateways are told to wait with both.

mod attachments;
mod guest;
mod history;
mod members;
mod rooms;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{dialect, sleep};
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::figures::{Report, Row, per_million};
use crate::bench::folder::Folder;
use crate::bench::load::Load;
use crate::bench::pressure::Outcome;
use crate::bench::process::{Cpu, Processes};
use crate::bench::subject::{Needs, Subject};
use crate::bench::wire::Opener;
use crate::bench::{Error, dormitory, progress};

/// What may be measured alone.
pub const PARTS: [&str; 4] = ["members", "rooms", "history", "attachments"];

/// What gateways are told, so that nothing happens but what is asked of them.
const SETTINGS: [(&str, &str); 2] = [("room-sleep-after", "10m"), ("session-ping-every", "10m")];

/// Those who come before anybody is counted: rooms, and members of each. A process warms up with
/// its first members, and so do its allocator's caches.
const EARLY: [usize; 2] = [10, 20];

/// The store's caches are bounded whatever there is more of, and would be divided among too few:
/// where memory is looked at they are as small as they may be.
const SMALL: [(&str, &str); 2] = [("store-rooms-cache", "1MiB"), ("store-journal-cache", "1MiB")];

/// The most members that a room may be set to have.
const ROOM: usize = 32_768;

/// How long a gateway is left alone before it is looked at as it is with few.
const SETTLING: Duration = Duration::from_secs(2);

/// The allocator gives back within ten seconds what nobody uses any more.
const GIVING_BACK: Duration = Duration::from_secs(12);

/// Of fewer, what the allocator takes and gives would be divided.
const MANY: usize = 1_000;

/// The share of what should have been delivered below which it is another load that was measured.
const ENOUGH: f64 = 0.9;

pub(super) async fn measure(asked: &Asked, report: &mut Report) -> Result<(), Error> {
    let most = asked.members.max(asked.rooms);
    let most = sleep::connections(most, &mut report.said);
    let (members, rooms) = (asked.members.min(most), asked.rooms.min(most));
    report.what = format!(
        "up to {members} members, {rooms} rooms, {} messages stored; {} deliveries a second, {} bytes",
        asked.count, asked.deliveries, asked.size
    );
    let is_asked = |part: &str| asked.parts.is_empty() || asked.parts.iter().any(|one| one == part);
    let mut growth = Growth::default();
    if is_asked("members") {
        members::measure(asked, members, report, &mut growth).await?;
    }
    if is_asked("rooms") {
        rooms::measure(asked, rooms, report, &mut growth).await?;
    }
    if is_asked("history") {
        history::measure(asked, report, &mut growth).await?;
    }
    if is_asked("attachments") {
        attachments::measure(asked, members, report, &mut growth).await?;
    }
    report.rows.extend(growth.rows);
    Ok(())
}

/// How costs changed from the least to the most: what a reader looks at first.
#[derive(Default)]
struct Growth {
    rows: Vec<Row>,
}

impl Growth {
    /// One cost, at the least and at the most.
    fn compare(&mut self, cost: &str, from: &str, to: &str, costs: &[Option<f64>]) {
        let ends = costs.first().copied().flatten().zip(costs.last().copied().flatten());
        let mut row = Row::new(format!("{cost}, {from} → {to}"));
        row.add("times", ends.map(|(first, last)| last / first));
        self.rows.push(row);
    }
}

/// Powers of ten from the least to the most, and the most.
fn sizes(least: usize, most: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(least), |size| size.checked_mul(10));
    powers.take_while(|size| *size < most).chain([most]).collect()
}

/// A number as people write it.
fn written(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

/// A gateway, and those who come early.
struct Place {
    subject: Subject,
    opener: Rc<Opener>,
    early: Crowd,
}

impl Place {
    /// Opens one, on this store if there is one.
    async fn open(
        asked: &Asked,
        folder: Option<Arc<Folder>>,
        report: &mut Report,
    ) -> Result<Self, Error> {
        let connections = asked.members.max(asked.rooms) + 10_000;
        let mut needs = vec![
            ("room-members", (asked.members + MANY).min(ROOM).to_string()),
            ("gateway-connections", connections.to_string()),
        ];
        let special = if folder.is_some() { dormitory::ALL_HISTORY } else { SMALL };
        let settings = SETTINGS.iter().chain(&special);
        needs.extend(settings.map(|(name, value)| (*name, (*value).to_owned())));
        let needs = Needs { settings: &needs, folder, operator: true };
        let subject = Subject::open(asked, needs, &mut report.said)?;
        let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
        let [rooms, members] = EARLY;
        let load = Load::new(dialect(asked), asked.transport, "early", rooms, asked.size);
        let early = Crowd::join(&opener, &load, rooms, members, None).await?;
        Ok(Self { subject, opener, early })
    }

    /// A load for so many rooms of that name.
    fn load(&self, asked: &Asked, name: &str, rooms: usize) -> Rc<Load> {
        Load::new(dialect(asked), asked.transport, name, rooms, asked.size)
    }

    /// What it has used so far.
    fn cpu(&self) -> Option<Cpu> {
        self.subject.processes.as_ref().and_then(Processes::cpu)
    }

    /// What it has used since then.
    fn since(&self, before: Option<Cpu>) -> Option<Duration> {
        Some(self.cpu()?.since(&before?))
    }

    /// Its memory with those who came early alone.
    async fn before_kib(&self, asked: &Asked) -> Result<Option<u64>, Error> {
        tokio::time::sleep(SETTLING.min(asked.each)).await;
        self.early.well()?;
        Ok(self.pss_kib())
    }

    /// What each of so many more takes than there was before, where they are enough to say.
    async fn each_kib(&self, asked: &Asked, before: Option<u64>, count: usize) -> Option<f64> {
        if count < MANY {
            return None;
        }
        progress(format!("{} of them rest", written(count)));
        tokio::time::sleep(GIVING_BACK.min(asked.each * 3)).await;
        Some((self.pss_kib()? as f64 - before? as f64) / count as f64)
    }

    fn pss_kib(&self) -> Option<u64> {
        let memory = self.subject.processes.as_ref().and_then(Processes::memory);
        memory.map(|memory| memory.pss_kib)
    }
}

/// Says what a reader should know of a load before believing its figures.
fn warn(label: &str, outcome: &Outcome, wanted_per_s: f64, report: &mut Report) {
    let mut said = Vec::new();
    outcome.warnings(&mut said);
    let per_s = outcome.deliveries as f64 / outcome.took.as_secs_f64();
    if per_s < ENOUGH * wanted_per_s {
        said.push(format!("WARNING: {per_s:.0} deliveries a second, not {wanted_per_s:.0}"));
    }
    report.said.extend(said.into_iter().map(|text| format!("{label}: {text}")));
}

/// The row of a load, begun: what was delivered, and the CPU µs of a delivery, which come back, too.
fn pressed(label: impl Into<String>, outcome: &Outcome) -> (Row, Option<f64>) {
    let (took, cpu) = (outcome.took.as_secs_f64(), per_million(outcome.cpu, outcome.deliveries));
    let mut row = Row::new(label);
    row.add("messages_per_s", outcome.messages as f64 / took)
        .add("deliveries_per_s", outcome.deliveries as f64 / took)
        .add("cpu_us_per_delivery", cpu);
    (row, cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_ten_and_end_with_the_most() {
        assert_eq!(sizes(10, 10_000), [10, 100, 1_000, 10_000]);
        assert_eq!(sizes(10, 2_500), [10, 100, 1_000, 2_500]);
        assert_eq!(sizes(1, 1), [1]);
        assert_eq!(sizes(10, 3), [3]);
    }

    #[test]
    fn numbers_have_a_comma_for_each_thousand() {
        assert_eq!([0, 100, 1_000, 1_000_000].map(written), ["0", "100", "1,000", "1,000,000"]);
    }
}
