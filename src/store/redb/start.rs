//! How the store begins: who it is, what the last run left, and which rooms have seats.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadableTable, ReadableTableMetadata, TableHandle as _};
use ring::rand::{SecureRandom, SystemRandom};

use super::super::row::{self, ClockRow, IdentityRow, Marks, RoomRow, Sweep};
use super::super::{Error, Identity, Record, Settings};
use super::file::{ALARMS, File, JOURNAL, META, ROOMS, SEATS, Trouble, damaged};
use super::moving::Tables;
use super::rounds::SWEEP;
use super::{Shared, journal, lock};
use crate::clock::Past;
use crate::protocol::{RoomName, Sid, Timestamp};

/// The row of [`IdentityRow`] in the rooms' `meta`.
pub const IDENTITY: &str = "identity";
/// The row of [`ClockRow`] in the rooms' `meta`.
pub const CLOCK: &str = "clock";
/// The row in the journal's `meta` with what the last orderly shutdown announced.
pub const DRAIN: &str = "drain";

impl Shared {
    /// Builds the index, finds the rooms with seats and what the last shutdown announced, and tells
    /// the clock what is known of it.
    pub(super) fn start(&self) -> Result<(Vec<RoomName>, u64), Trouble> {
        let mut seats = BTreeMap::<RoomName, BTreeSet<Sid>>::new();
        let stored = lock(&self.rooms).read()?.open_table(SEATS)?;
        for seat in ReadableTable::iter(&stored)? {
            let (key, _) = seat?;
            let (room, sid) = key.value();
            let what = || Trouble::corrupt(format!("the key of a seat of room {room:?}"));
            seats.entry(room.parse().map_err(|_| what())?).or_default().insert(Sid(sid));
        }
        let (past, mut newest) = self.past()?;
        let mut journal = lock(&self.journal);
        journal.index = journal::load(self, journal.file.db()?, |entry| {
            for record in &entry.records {
                let seats = seats.entry(entry.room.clone()).or_default();
                match record {
                    Record::Message(message) => newest = newest.max(message.time),
                    Record::Seat(seat) => _ = seats.insert(seat.sid),
                    Record::SeatEnded(sid) => _ = seats.remove(sid),
                    Record::Deleted => seats.clear(),
                    Record::SeatLeft(_) | Record::Alarm(_) | Record::State(_) => {}
                }
            }
        })?;
        self.settings.clock.begin(past, newest);
        let drain_spread_ms = take_drain(&journal.file)?;
        seats.retain(|_, seats| !seats.is_empty());
        Ok((seats.into_keys().collect(), drain_spread_ms))
    }

    /// What is known of the clock, and the time of the newest message moved if that is not.
    fn past(&self) -> Result<(Past, Timestamp), Trouble> {
        let rooms = lock(&self.rooms).read()?;
        let meta = rooms.open_table(META)?;
        let stored = ReadableTable::get(&meta, CLOCK)?.map(|row| ClockRow::decode(row.value()));
        match stored {
            Some(Ok(past)) => return Ok((past, Timestamp::default())),
            Some(Err(why)) => tracing::error!(%why, "what is known of the clock is damaged"),
            None => {} // an older version wrote the store, or nothing was moved yet
        }
        let mut newest = Timestamp::default();
        let rooms = rooms.open_table(ROOMS)?;
        for row in ReadableTable::iter(&rooms)? {
            if let Ok(row) = RoomRow::decode(row?.1.value()) {
                newest = newest.max(row.newest_time);
            }
        }
        Ok((Past::default(), newest))
    }

    /// Leaves word for the next start.
    pub(super) fn announce(&self, drain_spread_ms: u64) -> Result<(), Trouble> {
        let txn = lock(&self.journal).file.write()?;
        txn.open_table(META)?.insert(DRAIN, row::encode_drain(drain_spread_ms).as_slice())?;
        Ok(txn.commit()?)
    }
}

/// Reads what the last shutdown left word of, and takes it away.
fn take_drain(file: &File) -> Result<u64, Trouble> {
    let txn = file.write()?;
    let told = txn.open_table(META)?.remove(DRAIN)?.map(|row| row::decode_drain(row.value()));
    match told {
        Some(told) => {
            txn.commit()?;
            told.map_err(damaged(|| "journal.redb: drain".into()))
        }
        None => Ok(txn.abort().map(|()| 0)?),
    }
}

/// Who the store is; what an older version did not have is made. When both files are new, somebody new. Files that do not belong together
/// are refused: rows say which entries they include by their keys.
pub(super) fn identify(
    rooms: &Database,
    journal: &Database,
    settings: &Settings,
) -> Result<Identity, Trouble> {
    let mut txn = rooms.begin_write()?;
    txn.set_quick_repair(true);
    let is_older = txn.list_tables()?.all(|table| table.name() != ALARMS.name());
    Tables::open(&txn)?;
    let (identity, is_new) = {
        let mut meta = txn.open_table(META)?;
        let stored = meta.get(IDENTITY)?.map(|row| IdentityRow::decode(row.value()));
        match stored {
            Some(stored) => (stored.map_err(damaged(|| "rooms.redb: identity".into()))?, false),
            None => {
                let identity = new_identity()?;
                meta.insert(IDENTITY, IdentityRow::encode(&identity).as_slice())?;
                // There are no rooms to go through yet.
                meta.insert(
                    SWEEP,
                    Sweep::of(&settings.limits(), [].into_iter(), None).encode().as_slice(),
                )?;
                (identity, true)
            }
        }
    };
    let has_rooms = !txn.open_table(ROOMS)?.is_empty()?;
    if is_new || is_older {
        txn.commit()?
    } else {
        txn.abort()?
    }

    let mut txn = journal.begin_write()?;
    txn.set_quick_repair(true);
    txn.open_table(JOURNAL)?;
    let has_marks = txn.open_table(META)?.get(journal::MARKS)?.is_some();
    match (has_marks, is_new || !has_rooms) {
        (true, _) => txn.abort()?, // whose they are is seen when the journal is read
        (false, true) => {
            let marks = Marks { store: identity.store, next: 1, deletion: 0 };
            journal::remember(&txn, marks)?;
            txn.commit()?;
        }
        (false, false) => return Err(Trouble::corrupt("journal.redb (it is empty)".into())),
    }
    Ok(identity)
}

fn new_identity() -> Result<Identity, Trouble> {
    let (mut store, mut secret) = ([0; 8], [0; 32]);
    let random = SystemRandom::new();
    let filled = random.fill(&mut store).and_then(|()| random.fill(&mut secret));
    let dry = |_| {
        let why = "the system gives no random numbers".into();
        Trouble::Ours(Error::Unwell { doing: "make the store", why })
    };
    filled.map_err(dry)?;
    Ok(Identity { store: u64::from_le_bytes(store), secret })
}
