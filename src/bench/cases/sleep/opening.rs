//! A store of many sleeping rooms, and how long a gateway takes to open on it.
//!
//! *Cold* means that the kernel was told to drop the pages of both files, which it does with all
//! that are clean. It needs no root, and says nothing of a cache below: the host's, or the disk's.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bench::arguments::Asked;
use crate::bench::figures::{Report, Row};
use crate::bench::folder::Folder;
use crate::bench::process::Processes;
use crate::bench::subject::{Needs, Subject};
use crate::bench::{Error, dormitory, operator, progress};

/// How long a gateway may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// How long it is left alone before its memory is looked at.
const SETTLING: Duration = Duration::from_secs(1);

/// What was found of a gateway that opened.
struct Opened {
    took: Duration,
    read_bytes: Option<u64>,
    rss_kib: Option<u64>,
}

pub(super) async fn measure(asked: &Asked, report: &mut Report) -> Result<(), Error> {
    let empty = Arc::new(Folder::new()?);
    open(asked, &empty, report).await?; // makes it
    let none = open(asked, &empty, report).await?;

    let folder = Arc::new(Folder::new()?);
    let begun = Instant::now();
    progress(format!("{} rooms are made, and sent to sleep", asked.rooms));
    let (holds, rooms) = (folder.clone(), asked.rooms);
    dormitory::beside(move |stop| dormitory::fill(&holds.store(), rooms, stop, &progress)).await?;
    let made_in = begun.elapsed();
    progress("the gateway opens".to_owned());
    forget(&folder.store());
    let cold = open(asked, &folder, report).await?;
    let warm = open(asked, &folder, report).await?;

    let rows = [("an empty store", &none, 0), ("all asleep, cold", &cold, asked.rooms)];
    for (label, opened, rooms) in rows.into_iter().chain([("warm", &warm, asked.rooms)]) {
        let more = |rss: u64, none: u64| (rss as f64 - none as f64) * 1024.0 / rooms as f64;
        let each = opened.rss_kib.zip(none.rss_kib).map(|(rss, none)| more(rss, none));
        let mut row = Row::new(label);
        row.count("rooms", rooms as u64)
            .add("ready_ms", opened.took.as_secs_f64() * 1e3)
            .add("disk_read_mib", opened.read_bytes.map(|bytes| bytes as f64 / MIB))
            .add("rss_mib", opened.rss_kib.map(|kib| kib as f64 / 1024.0))
            .add("rss_bytes_per_room", each);
        report.rows.push(row);
    }
    let size = |file| Ok::<_, Error>(folder.store().join(file).metadata()?.len() as f64);
    let mut row = Row::new("on disk");
    row.add("rooms_mib", size(FILES[0])? / MIB)
        .add("bytes_per_room", size(FILES[0])? / asked.rooms as f64)
        .add("journal_mib", size(FILES[1])? / MIB)
        .add("made_in_s", made_in.as_secs_f64());
    report.rows.push(row);
    Ok(())
}

const MIB: f64 = (1 << 20) as f64;

const FILES: [&str; 2] = ["rooms.redb", "journal.redb"];

/// Opens a gateway there until it says that it is ready, and lets it leave in order.
async fn open(asked: &Asked, folder: &Arc<Folder>, report: &mut Report) -> Result<Opened, Error> {
    let needs = Needs { settings: &[], folder: Some(folder.clone()), operator: true };
    let subject = Subject::open(asked, needs, &mut report.said)?;
    let address = subject.operator.expect("it was to have one");
    while operator::ask(address, "GET /readyz").await?.0 != 200 {
        if subject.begun.elapsed() > READY {
            return Err(Error::NotOpen("it was not ready".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = subject.begun.elapsed();
    let read_bytes = subject.processes.as_ref().and_then(Processes::read_bytes);
    tokio::time::sleep(SETTLING).await;
    let memory = subject.processes.as_ref().and_then(Processes::memory);
    subject.leave()?;
    Ok(Opened { took, read_bytes, rss_kib: memory.map(|memory| memory.rss_kib) })
}

/// Has the kernel drop what it holds of a store's files, as far as it is on disk.
pub(super) fn forget(store: &Path) {
    for name in FILES {
        // Where it is not known how, the figures of the disk's reads say so.
        let Ok(file) = File::open(store.join(name)) else { continue };
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        drop(file);
    }
}
