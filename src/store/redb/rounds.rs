//! Which sleeping rooms the mover has to look at though nobody asked: those whose oldest history
//! has become too old, and after a change of the limits, once, all of them.
//!
//! The first are in the table of due times, in order; one time is kept in memory, that of the first.
//! The second is the *sweep*: room after room in order of name, a slice with each commit, and where
//! it has got to lies in the same file, so that a restart goes on from there.
//!
//! Due times are wall time. The thread looks again after a minute at the latest, and when the clock
//! has jumped. After a jump forward rooms seem due that are not: they are looked at, and get the
//! time that is true. After a jump back due times are too late: there is a sweep.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

use redb::{ReadableTable, Table};

use super::super::row::{Sweep, TRIM};
use super::file::{DUE, DueKey, META, ROOMS, Trouble, guarded};
use super::moving::Look;
use super::{Shared, lock};
use crate::clock::Ages;
use crate::protocol::{RoomName, Timestamp};

/// The row of [`Sweep`] in the rooms' `meta`.
pub const SWEEP: &str = "sweep";

/// The most rooms that are looked at in one commit.
const ROOMS_AT_ONCE: usize = 200;

/// The most damaged rooms that are passed by; then the rest of them waits a while.
const PASSED_BY: usize = 1_000;

/// When to look again though nothing is due, or nothing could be read.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What the mover knows of rooms that sleep.
pub struct Rounds {
    /// When to look next; `None`: nothing is due, ever.
    next: Option<Instant>,
    /// How far the sweep is: unread at first.
    sweep: Option<Sweep>,
    /// The last room of the slice that is being swept, or that there is none any more.
    swept: Option<Option<RoomName>>,
    /// Rooms that cannot be read.
    passed_by: BTreeSet<RoomName>,
    /// How many jumps of the clock are known of.
    jumps: u64,
}

impl Default for Rounds {
    fn default() -> Self {
        let (sweep, swept, passed_by) = (None, None, BTreeSet::new());
        Self { next: Some(Instant::now()), sweep, swept, passed_by, jumps: 0 }
    }
}

impl Rounds {
    /// When to look next.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// A room cannot be read: it is not looked at again until the next start.
    pub fn pass_by(&mut self, room: &RoomName) {
        if self.passed_by.len() < PASSED_BY {
            self.passed_by.insert(room.clone());
        }
    }

    /// The commit failed: nothing of what was planned is known to be so.
    pub fn again(&mut self) {
        self.sweep = None;
        self.next = Some(Instant::now() + Duration::from_secs(1));
    }

    /// The rooms to look at now.
    pub fn due(&mut self, shared: &Shared) -> Vec<(RoomName, Look)> {
        self.swept = None;
        let ages = shared.settings.clock.ages();
        if std::mem::replace(&mut self.jumps, ages.count()) != ages.count() {
            self.next = Some(Instant::now());
        }
        if self.next.is_none_or(|at| at > Instant::now()) {
            return Vec::new();
        }
        self.next = Some(Instant::now() + LOOK_AGAIN);
        guarded(|| self.read(shared, &ages)).unwrap_or_else(|trouble| {
            let error = trouble.into_error("look for what is due");
            tracing::warn!(%error, "history waits to be trimmed");
            shared.mover.suspect();
            Vec::new()
        })
    }

    fn read(&mut self, shared: &Shared, ages: &Ages) -> Result<Vec<(RoomName, Look)>, Trouble> {
        let now = ages.now();
        let txn = lock(&shared.rooms).read()?;
        let due = txn.open_table(DUE)?;
        let mut rooms = Vec::new();
        for row in ReadableTable::range(&due, (TRIM, 0, "")..(TRIM, now.0 + 1, ""))? {
            // A key that is no name was not written by us; `check` tells of it.
            let Ok(room) = row?.0.value().2.parse::<RoomName>() else { continue };
            if !self.passed_by.contains(&room) {
                rooms.push((room, Look::Trimming));
            }
            if rooms.len() == ROOMS_AT_ONCE {
                break;
            }
        }
        let wanted = Sweep::of(&shared.settings.limits(), ages.back(), Some(String::new()));
        if self.sweep.as_ref().is_none_or(|sweep| !sweep.is_for(&wanted)) {
            let meta = txn.open_table(META)?;
            let stored = ReadableTable::get(&meta, SWEEP)?.map(|row| Sweep::decode(row.value()));
            let stored = stored.transpose().unwrap_or_else(|why| {
                tracing::error!(%why, "rooms.redb: sweep is damaged, all rooms are gone through");
                None
            });
            let stored = stored.filter(|stored| stored.is_for(&wanted));
            self.sweep = Some(stored.unwrap_or(wanted));
        }
        if let Some(Sweep { after: Some(after), .. }) = &self.sweep {
            let table = txn.open_table(ROOMS)?;
            let from = Bound::Excluded(after.as_str());
            let names = ReadableTable::range::<&str>(&table, (from, Bound::Unbounded))?;
            let mut swept = None;
            for name in names.take(ROOMS_AT_ONCE) {
                let Ok(room) = name?.0.value().parse::<RoomName>() else { continue };
                swept = Some(room.clone());
                rooms.push((room, Look::Touched));
            }
            self.swept = Some(swept);
        }
        let nothing = rooms.is_empty() && self.sweep.as_ref().is_none_or(|it| it.after.is_none());
        if nothing {
            self.next = next(now, &due, &self.passed_by)?;
        }
        Ok(rooms)
    }

    /// Whether the sweep has come to its end, which is still to be noted.
    pub fn ends_sweep(&self) -> bool {
        self.swept == Some(None)
    }

    /// Notes in the commit itself how far the sweep is, and when to look next. Says whether that
    /// wrote anything.
    pub fn plan(
        &mut self,
        now: Timestamp,
        due: &Table<'_, DueKey, &'static [u8]>,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<bool, Trouble> {
        let mut wrote = false;
        if let (Some(sweep), Some(swept)) = (&mut self.sweep, self.swept.take()) {
            sweep.after = swept.map(|room| room.to_string());
            meta.insert(SWEEP, sweep.encode().as_slice())?;
            wrote = true;
        }
        let sweeps = self.sweep.as_ref().is_some_and(|sweep| sweep.after.is_some());
        self.next = if sweeps { Some(Instant::now()) } else { next(now, due, &self.passed_by)? };
        Ok(wrote)
    }
}

/// When the first room is due; at once if it is.
fn next(
    now: Timestamp,
    due: &impl ReadableTable<DueKey, &'static [u8]>,
    passed_by: &BTreeSet<RoomName>,
) -> Result<Option<Instant>, Trouble> {
    for row in due.range((TRIM, 0, "")..(TRIM, u64::MAX, ""))? {
        let (key, _) = row?;
        let (_, at, name) = key.value();
        if name.parse().is_ok_and(|room: RoomName| !passed_by.contains(&room)) {
            let wait = Duration::from_millis(Timestamp(at).since_ms(now));
            return Ok(Some(Instant::now() + wait.min(LOOK_AGAIN)));
        }
    }
    Ok(None)
}
