//! What a sleeping room costs in memory beyond the seats of its members.
//!
//! Two gateways have as many connections and seats: in the one each has a room to itself, in the
//! other a hundred share one. Every room has been awake once, on the operator's word, so that no
//! session has more behind it than another. The difference in memory is that of the rooms. The store's caches are as small as they may be, for they are bounded whatever the
//! number of rooms, and would be divided among too few of them.

use std::rc::Rc;

use super::super::dialect;
use super::{asleep_but, gateway, settle};
use crate::bench::Error;
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::figures::{Report, Row};
use crate::bench::load::Load;
use crate::bench::operator;
use crate::bench::process::Processes;
use crate::bench::wire::Opener;

/// Those who share a room in the second gateway.
const SHARE: usize = 100;

/// The most that a sleeping room may cost, in bytes.
const AIM: f64 = 1024.0;

const SETTINGS: [(&str, &str); 3] =
    [("room-sleep-after", "1s"), ("store-rooms-cache", "1MiB"), ("store-journal-cache", "1MiB")];

pub(super) async fn measure(asked: &Asked, count: usize, report: &mut Report) -> Result<(), Error> {
    let share = SHARE.min(count);
    let shared = count / share;
    let seats = shared * share;
    let alone_kib = memory(asked, seats, 1, report).await?;
    let shared_kib = memory(asked, shared, share, report).await?;
    for (label, rooms, kib) in
        [("a room for each", seats, alone_kib), ("rooms that are shared", shared, shared_kib)]
    {
        let mut row = Row::new(label);
        row.count("rooms", rooms as u64)
            .count("seats", seats as u64)
            .add("pss_mib", kib.map(|kib| kib as f64 / 1024.0));
        report.rows.push(row);
    }
    let more = |(alone, shared_kib): (u64, u64)| {
        (alone as f64 - shared_kib as f64) * 1024.0 / (seats - shared).max(1) as f64
    };
    let mut row = Row::new("a sleeping room beyond its seats");
    row.add("bytes", alone_kib.zip(shared_kib).map(more)).add("at_most", AIM);
    report.rows.push(row);
    Ok(())
}

/// The memory of a gateway with so many sleeping rooms of so many seats.
async fn memory(
    asked: &Asked,
    rooms: usize,
    members: usize,
    report: &mut Report,
) -> Result<Option<u64>, Error> {
    let subject = gateway(asked, rooms * members, &SETTINGS, report)?;
    let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
    let load = Load::new(dialect(asked), asked.transport, "seated", rooms, asked.size);
    let crowd = Crowd::join(&opener, &load, rooms, members, None).await?;
    let address = subject.operator.expect("these gateways have one");
    for room in load.rooms() {
        let wake = format!("POST /v1/rooms/{}/wake", room.name);
        let (status, _) = operator::ask(address, &wake).await?;
        if status != 200 {
            return Err(Error::NotOpen(format!("a room would not wake: {status}")));
        }
    }
    asleep_but(0, &subject).await?;
    settle(asked).await;
    crowd.well()?;
    let memory = subject.processes.as_ref().and_then(Processes::memory);
    Ok(memory.map(|memory| memory.pss_kib))
}
