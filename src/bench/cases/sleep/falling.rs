//! What others notice of many rooms that fall asleep at once.
//!
//! A message goes to each of the rooms in one burst, so all of them are idle for long enough at
//! about the same moment; each has something to be moved. Beside them rooms are busy all the
//! while, and their latencies are compared: while the many sleep, and while they fall asleep.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::super::dialect;
use super::{asleep_but, gateway};
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::figures::{Report, Row};
use crate::bench::histogram::Histogram;
use crate::bench::load::{Load, Push};
use crate::bench::subject::Subject;
use crate::bench::wire::Opener;
use crate::bench::{Error, progress};

/// The rooms that are watched, their members, and messages a second over all of them.
const STEADY: [usize; 2] = [100, 8];
const STEADY_RATE: f64 = 500.0;

/// Longer than a burst.
const SLEEP_AFTER: Duration = Duration::from_secs(4);

/// How long the others are watched beforehand, at most.
const BEFORE: Duration = Duration::from_secs(3);

/// How long a burst may take to be heard.
const HEARING: Duration = Duration::from_secs(60);

/// The most that the others' p99 may become, in what it was.
const AIM: f64 = 2.0;

/// What was found so far.
#[derive(Default)]
struct Found {
    without: Histogram,
    with: Histogram,
    rounds: u32,
    bursts: Duration,
    fallings: Duration,
}

pub(super) async fn measure(asked: &Asked, count: usize, report: &mut Report) -> Result<(), Error> {
    let [rooms, members] = STEADY;
    let sleep_after = format!("{}s", SLEEP_AFTER.as_secs());
    let subject = gateway(asked, count, &[("room-sleep-after", &sleep_after)], report)?;
    let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
    let steady = Load::new(dialect(asked), asked.transport, "steady", rooms, asked.size);
    let busy = Crowd::join(&opener, &steady, rooms, members, None).await?;
    let dozing = Load::new(dialect(asked), asked.transport, "dozing", count, asked.size);
    let crowd = Crowd::join(&opener, &dozing, count, 1, None).await?;

    let mut found = Found::default();
    let rounds = async {
        // Once beforehand: a room's first sleep writes more than the later ones.
        round(&subject, &steady, &dozing, asked.each, &mut Found::default()).await?;
        let begun = Instant::now();
        while found.rounds == 0 || begun.elapsed() < asked.each {
            round(&subject, &steady, &dozing, asked.each, &mut found).await?;
            busy.well()?;
            crowd.well()?;
            progress(format!("{count} rooms fell asleep {} times", found.rounds));
        }
        Ok::<_, Error>(())
    };
    tokio::select! {
        done = rounds => done?,
        pushed = steady.push(Push::Rate(STEADY_RATE)) => pushed?,
    }

    let each = |all: Duration| all.as_secs_f64() / f64::from(found.rounds);
    let mut row = Row::new("rooms that fall asleep");
    row.count("rooms", count as u64)
        .count("times", found.rounds.into())
        .add("burst_s", each(found.bursts))
        .add("falling_s", each(found.fallings));
    report.rows.push(row);
    for (label, times) in
        [("others, all asleep", &found.without), ("others, meanwhile", &found.with)]
    {
        let mut row = Row::new(label);
        row.count("messages", times.count()).quantiles(times);
        report.rows.push(row);
    }
    let p99 = |times: &Histogram| times.quantile(0.99).map(|took| took.as_secs_f64());
    let mut row = Row::new("meanwhile / before, p99");
    let times = p99(&found.with).zip(p99(&found.without)).map(|(with, without)| with / without);
    report.rows.push({
        row.add("times", times).add("at_most", AIM);
        row
    });
    Ok(())
}

/// Watches the others while all sleep, wakes all, and watches until all sleep again.
async fn round(
    subject: &Subject,
    steady: &Load,
    dozing: &Load,
    each: Duration,
    found: &mut Found,
) -> Result<(), Error> {
    asleep_but(STEADY[0] as u64, subject).await?;
    steady.begin_timing();
    sleep(BEFORE.min(each)).await;
    found.without.merge(&steady.end_timing());

    let begun = Instant::now();
    dozing.rooms().iter().for_each(|room| dozing.publish(room, begun));
    if !dozing.settle(HEARING).await {
        return Err(Error::Patience("a burst to be heard".to_owned()));
    }
    found.bursts += begun.elapsed();

    // From when the first may sleep: its message came no earlier than the burst began.
    let first = begun + SLEEP_AFTER;
    sleep_until(first.into()).await;
    steady.begin_timing();
    asleep_but(STEADY[0] as u64, subject).await?;
    found.with.merge(&steady.end_timing());
    found.fallings += first.elapsed();
    found.rounds += 1;
    Ok(())
}
