//! One more member who joins, and those who do so one after the other.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Place;
use crate::bench::Error;
use crate::bench::dialect::Hello;
use crate::bench::histogram::Histogram;
use crate::bench::load::Load;
use crate::bench::member::Member;

/// As many joins are enough.
const MOST: usize = 300;

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

/// Guests of the load's first room: each comes when the one before has left. The server's time
/// is that of their connecting and leaving, too.
///
/// Whoever has left before anybody was told that they are here was not here, so the others hear
/// nothing of them.
pub async fn guests(
    place: &Place,
    load: &Rc<Load>,
    hello: &Hello,
    each: Duration,
) -> Result<Repeated, Error> {
    let (mut repeated, begun, before) = (Repeated::default(), Instant::now(), place.cpu());
    while repeated.count == 0 || (begun.elapsed() < each && repeated.count < MOST as u64) {
        let (member, took) = arrive(place, load, 0, hello).await?;
        repeated.add(took, None);
        member.leave().await;
    }
    repeated.add_cpu(place.since(before));
    Ok(repeated)
}
