//! Waking a room of 100 messages and 10 seats, beside a durable publish to the same room awake.
//!
//! *Warm* is as it comes. *Cold*: before each room is woken the kernel drops the pages of the
//! store's files, and the store's own caches are as small as they may be. How many bytes were
//! read from the disk for each message says how cold it was.

use std::sync::Arc;

use super::super::wake::{Naps, SLEEP_AFTER};
use super::opening::forget;
use crate::bench::Error;
use crate::bench::arguments::Asked;
use crate::bench::figures::{Report, Row};
use crate::bench::folder::Folder;
use crate::bench::process::Processes;
use crate::bench::subject::{Needs, Subject};

const ROOMS: usize = 100;
const MEMBERS: usize = 10;
const MESSAGES: usize = 100;

/// The most that a wake may take, in publishes to a room that is awake.
const AIM: f64 = 1.3;

/// The least that the store's caches may be.
const LEAST: [(&str, &str); 2] = [("store-rooms-cache", "1MiB"), ("store-journal-cache", "1MiB")];

pub(super) async fn measure(asked: &Asked, report: &mut Report) -> Result<(), Error> {
    let rooms = ROOMS.min(asked.count);
    let mut last = Vec::new();
    for (is_cold, labels) in [
        (false, ["woken, warm", "awake beside it", "woken / awake, warm, p50"]),
        (true, ["woken, cold", "awake beside it, cold", "woken / awake, cold, p50"]),
    ] {
        let folder = Arc::new(Folder::new()?);
        let mut settings = vec![("room-sleep-after", SLEEP_AFTER.to_owned())];
        if is_cold {
            settings.extend(LEAST.map(|(name, value)| (name, value.to_owned())));
        }
        let needs = Needs { settings: &settings, folder: Some(folder.clone()), operator: false };
        let subject = Subject::open(asked, needs, &mut report.said)?;
        let read = || subject.processes.as_ref().and_then(Processes::read_bytes);
        let mut naps = Naps::begin(asked, &subject, [rooms, MEMBERS, MESSAGES]).await?;
        let before = read();
        let store = folder.store();
        naps.rounds(asked.each, || {
            if is_cold {
                forget(&store)
            }
        })
        .await?;
        let read = before.zip(read()).map(|(before, after)| (after - before) as f64 / 1024.0);

        report.rows.extend([naps.asleep.row(labels[0]), naps.awake.row(labels[1])]);
        let mut row = Row::new(labels[2]);
        let times = naps.asleep.median().zip(naps.awake.median());
        row.add("times", times.map(|(asleep, awake)| asleep / awake))
            .add("at_most", (!is_cold).then_some(AIM))
            .add("disk_read_kib_each", read.map(|read| read / naps.asleep.count() as f64));
        last.push(row);
    }
    report.rows.append(&mut last);
    Ok(())
}
