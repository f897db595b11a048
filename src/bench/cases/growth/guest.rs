//! One more member who joins, and those who do so one after the other.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Place;
use crate::bench::Error;
use crate::bench::dialect::Hello;
use crate::bench::histogram::Histogram;
use crate::bench::load::Load;
use crate::bench::member::Member;

/// How long guests come one after the other: well below the 100 ms that changes of who is here are
/// gathered for (`presence_every`). Whoever has left by then was not here, and nobody is told.
const COMING: Duration = Duration::from_millis(50);

/// After so long everybody has been told of what changed before.
const TOLD: Duration = Duration::from_millis(300);

/// What was done again and again, one at a time.
#[derive(Default)]
pub struct Repeated {
    count: u64,
    took: Histogram,
    cpu: Duration,
}

impl Repeated {
    /// Adds one that took so long, and the server's time for it.
    pub fn add(&mut self, took: Duration, cpu: Option<Duration>) {
        self.count += 1;
        self.took.record(took.as_nanos() as u64);
        self.cpu += cpu.unwrap_or_default();
    }

    /// Adds the server's time for some that were added without.
    pub fn add_cpu(&mut self, cpu: Option<Duration>) {
        self.cpu += cpu.unwrap_or_default();
    }

    /// The middle one, in milliseconds.
    pub fn p50_ms(&self) -> Option<f64> {
        self.took.quantile(0.5).map(|took| took.as_secs_f64() * 1e3)
    }

    /// The server's time for each, in microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        let each = self.cpu.as_secs_f64() * 1e6 / self.count as f64;
        (each > 0.0).then_some(each)
    }
}

/// Somebody who has just said hello, and how long it took until everything that happens reached
/// them: from `hello` to `live`, for connecting is the same wherever it leads.
pub async fn arrive(
    place: &Place,
    load: &Rc<Load>,
    room: usize,
    hello: &Hello,
) -> Result<(Member, Duration), Error> {
    let failed = |source| Error::Connect { member: hello.member, source };
    let member = Member::connect(&place.opener, load, room, Some(hello), None).await;
    let mut member = member.map_err(failed)?;
    let begun = Instant::now();
    member.joined().await.map_err(Error::SentAway)?;
    Ok((member, begun.elapsed()))
}

/// Guests of the load's first room: once everybody was told of what was before, a few come, each
/// when the one before has left; and so on. The server's time is that of their connecting and
/// leaving, too, and not that of telling the others.
pub async fn guests(
    place: &Place,
    load: &Rc<Load>,
    hello: &Hello,
    each: Duration,
) -> Result<Repeated, Error> {
    let (mut repeated, begun) = (Repeated::default(), Instant::now());
    while repeated.count == 0 || begun.elapsed() < each {
        tokio::time::sleep(TOLD).await;
        let (first, before) = (Instant::now(), place.cpu());
        while first.elapsed() < COMING {
            let (member, took) = arrive(place, load, 0, hello).await?;
            repeated.add(took, None);
            member.leave().await;
        }
        repeated.add_cpu(place.since(before));
    }
    Ok(repeated)
}

/// The server's time, in microseconds, for one who comes and stays until everybody was told, and
/// leaves, which everybody is told, too.
pub async fn telling(
    place: &Place,
    load: &Rc<Load>,
    hello: &Hello,
    each: Duration,
) -> Result<Option<f64>, Error> {
    let (mut count, begun, before) = (0, Instant::now(), place.cpu());
    while count == 0 || begun.elapsed() < each {
        let (member, _) = arrive(place, load, 0, hello).await?;
        tokio::time::sleep(TOLD).await;
        member.leave().await;
        tokio::time::sleep(TOLD).await;
        count += 1;
    }
    Ok(place.since(before).map(|cpu| cpu.as_secs_f64() * 1e6 / f64::from(count)))
}
