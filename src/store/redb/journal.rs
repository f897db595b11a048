//! The journal's thread: everything that waits, in one durable commit, again and again.
//!
//! While a commit is on its way to the disk the next batch gathers by itself. Only when many rooms
//! talk at once is there a pause behind a commit, at most as long as the commit was.
//! The same commits trim what has been moved, a slice each. The thread also owns the journal's
//! health: after a failure it closes the file, and opens it again when the disk lets it.
//!
//! - Nothing is answered before the commit that holds it has returned.
//! - A failed commit is unknown. What of it is on disk is read back before anything else is
//!   written, and is then part of the index like everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use redb::{Database, ReadableTable, WriteTransaction};

use super::super::row::{Entry, Marks, encode_entry};
use super::super::{Error, Record};
use super::file::{JOURNAL, META, Name, ROOMS, Trouble, damaged, guarded};
use super::index::{Arrival, Index, Trim};
use super::queue::Append;
use super::reader::decode_row;
use super::{Shared, lock};
use crate::protocol::{Epoch, RoomName};
use crate::supervision::Task;

/// The row of [`Marks`] in the journal's `meta`.
pub const MARKS: &str = "marks";

/// How often the disk's free space is looked at, while appends come or wait for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Appends in one commit that say that many rooms talk at once.
const MANY: usize = 8;

/// The longest that the next commit is put off while they do.
const LONGEST_PAUSE: Duration = Duration::from_micros(500);

/// What the journal's thread does until it is told to end. `full` is why it begins without
/// taking appends.
///
/// A panic leaves unknown what is on disk, as a failed commit does, and is dealt with like one: the
/// appends it had taken are answered that they failed, and the file is closed and opened again.
pub fn run(shared: &Shared, full: Option<Error>) {
    let lookout = &mut Lookout { full, looked: Instant::now(), overdue: false };
    let recover = |why: &str| {
        let why = Error::Unwell { doing: "append to the journal", why: why.to_owned() };
        let broken = lock(&shared.journal).file.fail(why);
        broken.discard();
    };
    shared.settings.supervisor.keep_thread(Task::Journal, || work(shared, lookout), recover);
    shared.queue.fail(); // at an orderly end nothing waits
}

fn work(shared: &Shared, lookout: &mut Lookout) {
    loop {
        let retry_at = lock(&shared.journal).file.retry_at();
        let mut work = shared.queue.next(retry_at.into_iter().chain(lookout.due()).min());
        shared.settings.supervisor.spring(Task::Journal);
        if work.suspect {
            probe(shared);
        }
        if let Some(error) = heal(shared) {
            for append in work.appends {
                append.answer(Err(error.clone()));
            }
        } else {
            if retry_at.is_some() {
                lookout.overdue = true; // a full disk may have been what failed
            }
            if let Some(full) = lookout.look(shared, !work.appends.is_empty()) {
                for append in work.appends.drain(..) {
                    append.answer(Err(full.clone()));
                }
            }
            if !work.appends.is_empty() || work.trim {
                let (appends, begun) = (work.appends.len(), Instant::now());
                take(shared, work.appends);
                if !work.end {
                    std::thread::sleep(pause(appends, begun.elapsed()));
                }
            }
        }
        if work.end {
            return;
        }
    }
}

/// How long to wait after a commit for more to come. While many rooms talk, each commit costs the
/// same processor that serves them, and half as many with twice the records leave it more than
/// they cost anybody in patience. While few talk nobody waits.
fn pause(appends: usize, took: Duration) -> Duration {
    if appends < MANY { Duration::ZERO } else { took.min(LONGEST_PAUSE) }
}

/// Looks for space on the disk, now and then: by itself only while there is too little.
struct Lookout {
    full: Option<Error>,
    looked: Instant,
    overdue: bool,
}

impl Lookout {
    fn due(&self) -> Option<Instant> {
        self.full.is_some().then(|| self.looked + LOOK_EVERY)
    }

    /// Why nothing can be appended now.
    fn look(&mut self, shared: &Shared, needed: bool) -> Option<&Error> {
        let is_time = self.looked.elapsed() >= LOOK_EVERY && (needed || self.full.is_some());
        if is_time || std::mem::take(&mut self.overdue) {
            self.looked = Instant::now();
            let full = shared.space().err();
            match (&self.full, &full) {
                (None, Some(why)) => tracing::error!(%why, "appends are refused"),
                (Some(_), None) => tracing::info!("there is space again, appends are taken"),
                _ => {}
            }
            self.full = full;
        }
        self.full.as_ref()
    }
}

/// Commits a batch, trims a slice, and answers.
fn take(shared: &Shared, batch: Vec<Append>) {
    let store = shared.identity.store;
    match guarded(|| commit(shared, &batch)) {
        Ok(deletions) => {
            for (append, deletion) in batch.into_iter().zip(deletions) {
                append.answer(deletion.map(|deletion| Epoch { store, deletion }));
            }
        }
        Err(trouble) => {
            let suspect = matches!(trouble, Trouble::Redb(_));
            let error = trouble.into_error("append to the journal");
            if suspect {
                let broken = lock(&shared.journal).file.fail(error.clone());
                broken.discard();
            }
            for append in batch {
                append.answer(Err(error.clone()));
            }
        }
    }
}

/// Puts a batch on disk. Says each room's epoch, or why its records were left out.
fn commit(shared: &Shared, batch: &[Append]) -> Result<Vec<Result<u64, Error>>, Trouble> {
    let (txn, trim, mut next, mut deletions);
    {
        let journal = lock(&shared.journal);
        trim = journal.index.trimmable();
        let overfull = journal.index.overfull();
        let deletion_of = |append: &Append| {
            let full = || Error::Unwell {
                doing: "append to the journal",
                why: "it is full, its records cannot be moved fast enough".into(),
            };
            if overfull { Err(full()) } else { Ok(journal.index.deletion_of(&append.room)) }
        };
        deletions = batch.iter().map(deletion_of).collect::<Vec<_>>();
        if trim.is_empty() && (batch.is_empty() || overfull) {
            return Ok(deletions.into_iter().map(|full| full.map(|_| 0)).collect());
        }
        txn = journal.file.write()?;
        next = journal.index.next;
    }
    let mut arrivals = Vec::with_capacity(batch.len());
    {
        let mut table = txn.open_table(JOURNAL)?;
        for key in &trim.freed {
            table.remove(key)?;
        }
        if !trim.range.is_empty() {
            table.retain_in(trim.range.clone(), |key, _| trim.held.binary_search(&key).is_ok())?;
        }
        let mut tail = table.upper_bound_mut(Bound::<u64>::Unbounded)?;
        for (append, known) in batch.iter().zip(&mut deletions) {
            if known.is_ok() && matches!(append.records.last(), Some(Record::Deleted)) {
                *known = Ok(Some(next)); // whatever comes after it is of this epoch
            } else if let Ok(None) = known {
                *known = stored_deletion(shared, &append.room).map(Some);
            }
            let Ok(Some(deletion)) = *known else { continue };
            let entry = encode_entry(&append.room, deletion, &append.records);
            tail.insert_before(next, entry.as_slice())?;
            let arrival = Arrival::new(next, deletion, entry.len(), &append.records);
            arrivals.push((&append.room, arrival));
            next += 1;
        }
        tail.close()?;
    }
    if !trim.is_empty() {
        let deletion = lock(&shared.journal).index.deletion;
        remember(&txn, Marks { store: shared.identity.store, next, deletion })?;
    }
    txn.commit()?;

    let more = committed(shared, &arrivals, &trim);
    if more {
        shared.queue.trim();
    }
    let known = |deletion: Option<u64>| deletion.expect("every room written has its epoch");
    Ok(deletions.into_iter().map(|deletion| deletion.map(known)).collect())
}

/// Brings the index up to the commit. Says whether there is more to trim.
fn committed(shared: &Shared, arrivals: &[(&RoomName, Arrival)], trimmed: &Trim) -> bool {
    let now = Instant::now();
    let mut journal = lock(&shared.journal);
    let was_idle = journal.index.next_due().is_none();
    journal.index.trimmed(trimmed);
    for (room, arrival) in arrivals {
        journal.index.add(room, *arrival, now);
    }
    if journal.index.over() || (was_idle && !arrivals.is_empty()) {
        shared.mover.check(); // it also learns from this when to look next
    }
    !journal.index.trimmable().is_empty()
}

/// The epoch of a room that has nothing unmoved, at a time when not all rooms have the same.
fn stored_deletion(shared: &Shared, room: &RoomName) -> Result<u64, Error> {
    let read = || {
        let rooms = lock(&shared.rooms).read()?.open_table(ROOMS)?;
        match ReadableTable::get(&rooms, room.as_str())? {
            Some(row) => Ok(decode_row(room, row.value())?.deletion),
            None => Ok(lock(&shared.journal).index.deletion),
        }
    };
    guarded(read).map_err(|trouble| {
        if let Trouble::Redb(_) = trouble {
            shared.mover.suspect();
        }
        trouble.into_error("read a room's epoch")
    })
}

/// Looks whether a reader's trouble is the file's. One that has failed refuses to be written.
fn probe(shared: &Shared) {
    let mut journal = lock(&shared.journal);
    if journal.file.retry_at().is_some() {
        return;
    }
    let written =
        guarded(|| journal.file.write()?.open_table(JOURNAL).map(drop).map_err(Into::into));
    if let Err(trouble) = written {
        let broken = journal.file.fail(trouble.into_error("read the journal"));
        drop(journal);
        broken.discard();
    }
}

/// Opens the journal again if it is closed and the time has come. Says what is still wrong.
fn heal(shared: &Shared) -> Option<Error> {
    let retry_at = lock(&shared.journal).file.retry_at()?;
    if Instant::now() < retry_at {
        return lock(&shared.journal).file.why();
    }
    let loaded = guarded(|| {
        let db = shared.disk.reopen(Name::Journal)?;
        let index = load(shared, &db, |_| {})?;
        Ok((db, index))
    });
    let mut journal = lock(&shared.journal);
    match loaded {
        Ok((db, index)) => {
            journal.index = index;
            journal.file.heal(db);
            shared.mover.check();
            None
        }
        Err(trouble) => {
            journal.file.still_failing(trouble.into_error("open the journal again"));
            journal.file.why()
        }
    }
}

/// Reads the whole journal: what of it has not been moved is the index, and is shown to
/// `unmoved`.
pub fn load(
    shared: &Shared,
    db: &Database,
    mut unmoved: impl FnMut(&Entry),
) -> Result<Index, Trouble> {
    let journal = redb::ReadableDatabase::begin_read(db)?;
    let meta = journal.open_table(META)?;
    let marks = ReadableTable::get(&meta, MARKS)?;
    let what = || "journal.redb: marks".to_owned();
    let marks = marks.ok_or_else(|| Trouble::corrupt(format!("{} (missing)", what())))?;
    let marks = Marks::decode(marks.value()).map_err(damaged(what))?;
    if marks.store != shared.identity.store {
        return Err(Trouble::corrupt("journal.redb (it belongs to other rooms)".into()));
    }
    let rooms = lock(&shared.rooms).read()?.open_table(ROOMS)?;
    let mut unreadable = BTreeSet::new();
    let mut moved = |room: &RoomName| {
        let Some(row) = ReadableTable::get(&rooms, room.as_str())? else { return Ok(0) };
        match decode_row(room, row.value()) {
            Ok(row) => Ok(row.moved),
            Err(Trouble::Ours(error)) => {
                // How much of it was moved nobody knows, so all of it stays.
                tracing::error!(%error, "a room is set aside");
                unreadable.insert(room.clone());
                Ok(0)
            }
            Err(trouble) => Err(trouble),
        }
    };

    let now = Instant::now();
    let entries = journal.open_table(JOURNAL)?;
    let first = ReadableTable::first(&entries)?.map(|(key, _)| key.value());
    let low = first.unwrap_or(marks.next);
    let mut index = Index::new(shared.settings.clone(), low, marks.next, marks.deletion);
    let mut moved_of = BTreeMap::<RoomName, u64>::new();
    for stored in ReadableTable::iter(&entries)? {
        let (key, stored) = stored?;
        let key = key.value();
        let entry = Entry::decode(stored.value());
        let entry = entry.map_err(damaged(|| format!("journal entry {key}")))?;
        let moved = match moved_of.get(&entry.room) {
            Some(moved) => *moved,
            None => *moved_of.entry(entry.room.clone()).or_insert(moved(&entry.room)?),
        };
        let bytes = stored.value().len();
        if key > moved {
            let arrival = Arrival::new(key, entry.deletion, bytes, &entry.records);
            index.add(&entry.room, arrival, now);
            unmoved(&entry);
        }
        index.next = index.next.max(key + 1);
    }
    unreadable.iter().for_each(|room| index.set_aside(room));
    Ok(index)
}

/// Writes the marks.
pub fn remember(txn: &WriteTransaction, marks: Marks) -> Result<(), Trouble> {
    txn.open_table(META)?.insert(MARKS, marks.encode().as_slice())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_wait_for_more_and_no_longer_than_their_commit_took() {
        let (short, long) = (LONGEST_PAUSE / 2, LONGEST_PAUSE * 2);
        assert_eq!(pause(MANY - 1, long), Duration::ZERO);
        assert_eq!(pause(MANY, short), short);
        assert_eq!(pause(MANY, long), LONGEST_PAUSE);
    }
}
