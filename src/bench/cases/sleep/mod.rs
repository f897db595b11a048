//! What it costs to be asleep: on disk, in memory, when woken, and while falling asleep.
//!
//! Each part has a gateway of its own, so that none pays for what another left behind.

mod falling;
mod opening;
mod resting;
mod seated;
mod waking;

use std::time::Duration;

use crate::bench::Error;
use crate::bench::arguments::Asked;
use crate::bench::figures::Report;
use crate::bench::operator;
use crate::bench::subject::{Needs, Subject};

/// What may be measured alone.
pub const PARTS: [&str; 5] = ["opening", "waking", "falling", "resting", "seated"];

/// Files that either side has open besides: others' connections, the store.
const OTHER_FILES: usize = 1_500;

/// How often a gateway is asked how many of its rooms are awake.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// How long rooms may take to fall asleep.
const FALLING: Duration = Duration::from_secs(120);

/// The allocator gives back within ten seconds what nobody uses any more.
const GIVING_BACK: Duration = Duration::from_secs(12);

pub(super) async fn measure(asked: &Asked, report: &mut Report) -> Result<(), Error> {
    let count = connections(asked.count, &mut report.said);
    report.what = format!("{} rooms on disk; {count} rooms, or connections, else", asked.rooms);
    let is_asked = |part: &str| asked.parts.is_empty() || asked.parts.iter().any(|one| one == part);
    if is_asked("opening") {
        opening::measure(asked, report).await?;
    }
    if is_asked("waking") {
        waking::measure(asked, report).await?;
    }
    if is_asked("falling") {
        falling::measure(asked, count, report).await?;
    }
    if is_asked("resting") {
        resting::measure(asked, count, report).await?;
    }
    if is_asked("seated") {
        seated::measure(asked, count, report).await?;
    }
    Ok(())
}

/// As many connections as were asked for, or as a process may have files open.
pub(super) fn connections(asked: usize, said: &mut Vec<String>) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = limit.map_or(usize::MAX, |limit| limit as usize).saturating_sub(OTHER_FILES).max(1);
    if asked > most {
        said.push(format!("{most} connections instead of {asked}: RLIMIT_NOFILE allows no more"));
    }
    asked.min(most)
}

/// A gateway for so many connections, with these settings, that can be asked how it is.
fn gateway(
    asked: &Asked,
    connections: usize,
    settings: &[(&str, &str)],
    report: &mut Report,
) -> Result<Subject, Error> {
    let connections = (2 * connections + 10_000).to_string();
    let mut needs = vec![("gateway-connections", connections)];
    needs.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let needs = Needs { settings: &needs, operator: true, folder: None };
    Subject::open(asked, needs, &mut report.said)
}

/// Waits until no more than this many rooms are awake.
async fn asleep_but(awake: u64, subject: &Subject) -> Result<(), Error> {
    let operator = subject.operator.expect("these gateways have one");
    let falling = async {
        while operator::rooms(operator, "awake").await? > awake {
            tokio::time::sleep(ASKED_EVERY).await;
        }
        Ok(())
    };
    let fallen = tokio::time::timeout(FALLING, falling).await;
    fallen.unwrap_or_else(|_| Err(Error::Patience("rooms to fall asleep".to_owned())))
}

/// How long memory is left to settle: not longer than a measurement may take.
async fn settle(asked: &Asked) {
    tokio::time::sleep(GIVING_BACK.min(asked.each * 3)).await;
}
