//! A room whose members keep more and more beside their names.

use std::time::Instant;

use super::guest::{Repeated, arrive, guests};
use super::{Growth, MANY, Place, pressed, warn};
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::dialect::Hello;
use crate::bench::figures::Report;
use crate::bench::load::Push;
use crate::bench::pressure::press;
use crate::bench::{Error, progress};

/// Bytes of an attachment: none, some, and as many as one may have.
const SIZES: [(usize, &str); 3] =
    [(0, "no attachments"), (1 << 10, "1 KiB each"), (16 << 10, "16 KiB each")];

/// As many pages are enough.
const PAGES: usize = 100;

/// What is asked for: as many members as a page may have.
const PAGE: &str = r#"{"type":"members","id":1,"limit":1000}"#;

pub(super) async fn measure(
    asked: &Asked,
    most: usize,
    report: &mut Report,
    growth: &mut Growth,
) -> Result<(), Error> {
    let members = MANY.min(most);
    let (mut deliveries, mut joins, mut pages) = (Vec::new(), Vec::new(), Vec::new());
    for (attachment, label) in SIZES {
        progress(label.to_owned());
        let place = Place::open(asked, None, report).await?;
        let before = place.before_kib(asked).await?;
        let load = place.load(asked, "seats", 1);
        let hello = Hello { attachment, member: 1, ..Hello::default() };
        let crowd = Crowd::join_as(&place.opener, &load, [1, members], None, &hello).await?;
        let memory = place.each_kib(asked, before, members).await;

        let listening = place.load(asked, "seats", 1);
        let join = guests(&place, &listening, &hello, asked.each / 2).await?;
        let (mut reader, _) = arrive(&place, &listening, 0, &hello).await?;
        let (mut page, mut bytes, begun) = (Repeated::default(), 0, Instant::now());
        let used = place.cpu();
        for asked_for in 0..PAGES {
            if asked_for > 0 && begun.elapsed() > asked.each / 2 {
                break;
            }
            let begun = Instant::now();
            bytes = reader.ask(PAGE).await.map_err(Error::SentAway)?;
            page.add(begun.elapsed(), None);
        }
        page.add_cpu(place.since(used));
        reader.leave().await;

        let per_s = asked.deliveries as f64 / members as f64;
        let outcome = press(&load, &crowd, &place.subject, Push::Rate(per_s), asked.each).await?;
        warn(label, &outcome, asked.deliveries as f64, report);
        let (mut row, cpu) = pressed(label, &outcome);
        row.add("pss_kib_per_seat", memory)
            .add("join_p50_ms", join.p50_ms())
            .add("join_cpu_us", join.cpu_us())
            .add("page_p50_ms", page.p50_ms())
            .add("page_cpu_us", page.cpu_us())
            .add("page_kib", bytes as f64 / 1024.0);
        report.rows.push(row);
        deliveries.push(cpu);
        joins.push(join.p50_ms());
        pages.push(page.p50_ms());
    }
    let (from, to) = ("none", "16 KiB for each seat");
    growth.compare("CPU of a delivery", from, to, &deliveries);
    growth.compare("joining, p50", from, to, &joins);
    growth.compare("a page of members, p50", from, to, &pages);
    Ok(())
}
