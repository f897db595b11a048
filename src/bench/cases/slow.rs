//! A room in which one member in ten reads nothing, beside one in which all do.
//!
//! Those who read must get nearly as much, and what is kept for the others must have an end.

use std::rc::Rc;
use std::time::Duration;

use super::dialect;
use super::fanout::how;
use crate::bench::Error;
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::figures::{Report, Row};
use crate::bench::load::Load;
use crate::bench::pressure::{Outcome, press};
use crate::bench::subject::Subject;
use crate::bench::wire::Opener;

/// One in so many reads nothing.
const STALLED: usize = 10;

/// How long a server may take to forget the first room.
const FORGETTING: Duration = Duration::from_secs(1);

pub(super) async fn measure(
    asked: &Asked,
    subject: &Subject,
    report: &mut Report,
) -> Result<(), Error> {
    report.what = format!("{} members, {} bytes, {}", asked.members, asked.size, how(asked.push));
    let all = press_room(asked, subject, "all", None, report).await?;
    tokio::time::sleep(FORGETTING).await;
    let some = press_room(asked, subject, "some", Some(STALLED), report).await?;

    report.rows = vec![all.row("all read"), some.row("1 in 10 does not")];
    report.rows.extend([all.whole("all read"), some.whole("1 in 10 does not")]);
    let rate = |outcome: &Outcome| outcome.messages as f64 / outcome.took.as_secs_f64();
    let mut row = Row::new("ratio");
    row.add("messages", rate(&some) / rate(&all));
    report.rows.push(row);
    Ok(())
}

async fn press_room(
    asked: &Asked,
    subject: &Subject,
    name: &str,
    stalled: Option<usize>,
    report: &mut Report,
) -> Result<Outcome, Error> {
    let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
    let load = Load::new(dialect(asked), asked.transport, name, 1, asked.size);
    let crowd = Crowd::join(&opener, &load, 1, asked.members, stalled).await?;
    let outcome = press(&load, &crowd, subject, asked.push, asked.each).await?;
    outcome.warnings(&mut report.said);
    Ok(outcome)
}
