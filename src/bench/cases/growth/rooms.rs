//! More and more rooms with a member each, and the same number of messages a second over all.
//!
//! All of them are awake: each was spoken in before anything is measured, and none dozes off.

use std::time::{Duration, Instant};

use super::{Growth, Place, sizes, warn, written};
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::figures::{Report, Row, per_million};
use crate::bench::load::Push;
use crate::bench::pressure::press;
use crate::bench::{Error, progress};

/// Messages a second, as a share of the deliveries a second in one room: one delivery for each
/// message is the most that a message can cost.
const SHARE: f64 = 0.1;

/// How long a message to every room may take to be heard.
const HEARING: Duration = Duration::from_secs(60);

pub(super) async fn measure(
    asked: &Asked,
    most: usize,
    report: &mut Report,
    growth: &mut Growth,
) -> Result<(), Error> {
    let (sizes, per_s) = (sizes(1, most), asked.deliveries as f64 * SHARE);
    let mut costs = Vec::new();
    for rooms in &sizes {
        let label = match rooms {
            1 => "1 room".to_owned(),
            rooms => format!("{} rooms", written(*rooms)),
        };
        progress(label.clone());
        let place = Place::open(asked, None, report).await?;
        let before = place.before_kib(asked).await?;
        let load = place.load(asked, "room", *rooms);
        let crowd = Crowd::join(&place.opener, &load, *rooms, 1, None).await?;
        load.rooms().iter().for_each(|room| load.publish(room, Instant::now()));
        if !load.settle(HEARING).await {
            return Err(Error::Patience("every room to hear a message".to_owned()));
        }
        let memory = place.each_kib(asked, before, *rooms).await;
        let outcome = press(&load, &crowd, &place.subject, Push::Rate(per_s), asked.each).await?;
        warn(&label, &outcome, per_s, report);

        let cpu = per_million(outcome.cpu, outcome.messages);
        let mut row = Row::new(label);
        row.add("messages_per_s", outcome.messages as f64 / outcome.took.as_secs_f64())
            .add("cpu_us_per_message", cpu)
            .quantiles(&outcome.latencies)
            .add("pss_kib_per_room", memory);
        report.rows.push(row);
        costs.push(cpu);
    }
    let ends = |size: Option<&usize>| size.map_or(String::new(), |size| written(*size));
    let (from, to) = (ends(sizes.first()), ends(sizes.last()) + " rooms");
    growth.compare("CPU of a message", &from, &to, &costs);
    Ok(())
}
