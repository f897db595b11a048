//! Memory of connections that do nothing.
//!
//! It is a difference, between a server that has a few already and the same with many more, so
//! that what a process has once is not divided among them.

use std::rc::Rc;
use std::time::Duration;

use super::dialect;
use crate::bench::Error;
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::figures::{Report, Row};
use crate::bench::load::Load;
use crate::bench::process::{Memory, Processes, kernel_kib};
use crate::bench::subject::Subject;
use crate::bench::wire::Opener;

/// Those who are there before, in percent of those who come.
const BEFORE: usize = 10;

/// How long a server may take to let go of what joining needed.
const SETTLING: Duration = Duration::from_secs(2);

pub(super) async fn measure(
    asked: &Asked,
    subject: &Subject,
    report: &mut Report,
) -> Result<(), Error> {
    let members = asked.members.min(asked.count);
    let rooms = asked.count / members;
    let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
    let before = (rooms * BEFORE / 100).max(1);
    let early = Load::new(dialect(asked), asked.transport, "early", before, 0);
    let early = Crowd::join(&opener, &early, before, members, None).await?;
    let (memory, kernel) = look(subject).await;

    let load = Load::new(dialect(asked), asked.transport, "idle", rooms, 0);
    let crowd = Crowd::join(&opener, &load, rooms, members, None).await?;
    let (after, kernel_after) = look(subject).await;
    early.well()?;
    crowd.well()?;

    let count = rooms * members;
    report.what = format!("{count} connections more, {members} in a room");
    let each = |before: Option<u64>, after: Option<u64>| {
        Some((after? as f64 - before? as f64) / count as f64)
    };
    let part = |of: fn(Memory) -> u64| each(memory.map(of), after.map(of));
    let mut row = Row::new("each");
    row.add("rss_kib", part(|memory| memory.rss_kib))
        .add("pss_kib", part(|memory| memory.pss_kib))
        .add("kernel_kib_both_ends", each(kernel, kernel_after));
    report.rows.push(row);
    let mut row = Row::new("server");
    row.count("connections", (count + before * members) as u64)
        .add("rss_mib", after.map(|memory| memory.rss_kib as f64 / 1024.0));
    report.rows.push(row);
    Ok(())
}

async fn look(subject: &Subject) -> (Option<Memory>, Option<u64>) {
    tokio::time::sleep(SETTLING).await;
    (subject.processes.as_ref().and_then(Processes::memory), kernel_kib())
}
