//! How the store begins: who it is, what the last run left, and which rooms have seats.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadableTable, ReadableTableMetadata, TableHandle as _};
use ring::rand::{SecureRandom, SystemRandom};

use super::super::row::{self, IdentityRow, Marks, Sweep};
use super::super::{Error, Identity, Record, Settings};
use super::file::{ALARMS, File, JOURNAL, META, ROOMS, SEATS, Trouble, damaged};
use super::moving::Tables;
use super::rounds::SWEEP;
use super::{Shared, journal, lock};
use crate::protocol::{RoomName, Sid};

/// The row of [`IdentityRow`] in the rooms' `meta`.
pub const IDENTITY: &str = "identity";
/// The row in the journal's `meta` with what the last orderly shutdown announced.
pub const DRAIN: &str = "drain";

impl Shared {
    /// Builds the index, and finds the rooms with seats and what the last shutdown announced.
    pub(super) fn start(&self) -> Result<(Vec<RoomName>, u64), Trouble> {
        let mut seats = BTreeMap::<RoomName, BTreeSet<Sid>>::new();
        let stored = lock(&self.rooms).read()?.open_table(SEATS)?;
        for seat in ReadableTable::iter(&stored)? {
            let (key, _) = seat?;
            let (room, sid) = key.value();
            let what = || Trouble::corrupt(format!("the key of a seat of room {room:?}"));
            seats.entry(room.parse().map_err(|_| what())?).or_default().insert(Sid(sid));
        }
        let mut journal = lock(&self.journal);
        journal.index = journal::load(self, journal.file.db()?, |entry| {
            for record in &entry.records {
                let seats = seats.entry(entry.room.clone()).or_default();
                match record {
                    Record::Seat(seat) => _ = seats.insert(seat.sid),
                    Record::SeatEnded(sid) => _ = seats.remove(sid),
                    Record::Deleted => seats.clear(),
                    Record::Message(_)
                    | Record::SeatLeft(_)
                    | Record::Alarm(_)
                    | Record::State(_) => {}
                }
            }
        })?;
        let drain_spread_ms = take_drain(&journal.file)?;
        seats.retain(|_, seats| !seats.is_empty());
        Ok((seats.into_keys().collect(), drain_spread_ms))
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
                meta.insert(SWEEP, Sweep::of(&settings.limits(), None).encode().as_slice())?;
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
