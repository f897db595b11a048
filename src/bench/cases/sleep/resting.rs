//! The CPU time of connections that do nothing but answer pings.

use std::rc::Rc;

use super::super::dialect;
use super::{asleep_but, gateway, settle};
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::figures::{Report, Row};
use crate::bench::load::Load;
use crate::bench::process::Processes;
use crate::bench::wire::Opener;
use crate::bench::{Error, progress};

/// Members of a room.
const MEMBERS: usize = 100;

pub(super) async fn measure(asked: &Asked, count: usize, report: &mut Report) -> Result<(), Error> {
    let subject = gateway(asked, count, &[], report)?;
    let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
    let members = MEMBERS.min(count);
    let load = Load::new(dialect(asked), asked.transport, "resting", count / members, asked.size);
    let crowd = Crowd::join(&opener, &load, count / members, members, None).await?;
    asleep_but(0, &subject).await?;
    settle(asked).await;

    progress("nothing happens".to_owned());
    let cpu = || subject.processes.as_ref().and_then(Processes::cpu);
    let before = cpu();
    tokio::time::sleep(asked.each).await;
    let used = before.zip(cpu()).map(|(before, after)| after.since(&before).as_secs_f64());
    crowd.well()?;

    let (connections, seconds) = ((count / members * members) as f64, asked.each.as_secs_f64());
    let mut row = Row::new("connections that rest");
    row.add("connections", connections)
        .add("seconds", seconds)
        .add("cpu_s", used)
        .add("server_cpu_%", used.map(|used| used / seconds * 100.0))
        .add("cpu_us_each_minute", used.map(|used| used * 6e7 / seconds / connections));
    report.rows.push(row);
    Ok(())
}
