//! Rooms of more and more members, who are delivered the same number of messages a second.
//!
//! Memory is that of so many members in rooms of that size: a small room is one of several, so
//! that there is something to divide. Only one of them is spoken in.

use super::guest::{guests, telling};
use super::{Growth, MANY, Place, pressed, sizes, warn, written};
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::dialect::Hello;
use crate::bench::figures::Report;
use crate::bench::load::Push;
use crate::bench::pressure::press;
use crate::bench::{Error, progress};

/// The least members of a room.
const LEAST: usize = 10;

pub(super) async fn measure(
    asked: &Asked,
    most: usize,
    report: &mut Report,
    growth: &mut Growth,
) -> Result<(), Error> {
    let sizes = sizes(LEAST, most);
    let (mut deliveries, mut memories, mut joins) = (Vec::new(), Vec::new(), Vec::new());
    for members in &sizes {
        let label = format!("{} members", written(*members));
        progress(label.clone());
        let others = (MANY.min(most) / members).saturating_sub(1);
        let place = Place::open(asked, None, report).await?;
        let before = place.before_kib(asked).await?;
        let beside = place.load(asked, "beside", others);
        let beside = Crowd::join(&place.opener, &beside, others, *members, None).await?;
        let load = place.load(asked, "members", 1);
        let crowd = Crowd::join(&place.opener, &load, 1, *members, None).await?;
        let memory = place.each_kib(asked, before, members * (others + 1)).await;

        let guest = Hello { member: 1, ..Hello::default() }; // whose hearing is not timed
        let listening = place.load(asked, "members", 1);
        let join = guests(&place, &listening, &guest, asked.each / 2).await?;
        let told = telling(&place, &listening, &guest, asked.each / 2).await?;
        let told = told.zip(join.cpu_us()).map(|(told, join)| (told - join) / 2.0);
        let per_s = asked.deliveries as f64 / *members as f64;
        let outcome = press(&load, &crowd, &place.subject, Push::Rate(per_s), asked.each).await?;
        warn(&label, &outcome, asked.deliveries as f64, report);
        beside.well()?;

        let (mut row, cpu) = pressed(label, &outcome);
        row.add("pss_kib_per_member", memory)
            .add("join_p50_ms", join.p50_ms())
            .add("join_cpu_us", join.cpu_us())
            .add("told_cpu_us_per_member", told.map(|told| told / *members as f64));
        report.rows.push(row);
        deliveries.push(cpu);
        memories.push(memory);
        joins.push(join.p50_ms());
    }
    let ends = |size: Option<&usize>| size.map_or(String::new(), |size| written(*size));
    let (from, to) = (ends(sizes.first()), ends(sizes.last()) + " members");
    growth.compare("CPU of a delivery", &from, &to, &deliveries);
    growth.compare("memory of a member", &from, &to, &memories);
    growth.compare("joining, p50", &from, &to, &joins);
    Ok(())
}
