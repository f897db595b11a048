//! What the process's clock has to look at: alarms, and rooms that were idle for too long.
//!
//! Rows tell it, in order of time, but for rooms of which the journal knows something newer. Both
//! are taken while the index is locked, so that nothing is missed while a room moves. What is read
//! is bounded by what was asked for and by what is unmoved, never by how many rooms sleep.
//!
//! Times that the wall clock jumped over are due later, and are read again with each look until
//! then: that alone is bounded by the rooms that it concerns.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableTable};

use super::super::row::{IDLE, RULES};
use super::super::{Cause, Due};
use super::file::{DUE, Trouble};
use super::index::Index;
use super::moving::ms;
use super::{Shared, lock};
use crate::protocol::{RoomName, Timestamp};

/// Rooms of one kind that are due, and when the next one is.
type OfOne = (Vec<(Timestamp, RoomName)>, Option<Timestamp>);

impl Shared {
    /// What is due; see [`Engine::due`](super::super::Engine::due).
    pub(super) fn due(
        &self,
        now: Timestamp,
        skip: &BTreeSet<RoomName>,
        limit: usize,
    ) -> Result<Due, Trouble> {
        let ages = self.settings.clock.ages();
        let alarm = |_: &RoomName, at| ages.due(at);
        let (mut rooms, mut next_unmoved, stored);
        {
            let held = lock(&self.journal);
            next_unmoved = held.index.alarms().map(|(at, _)| *at).find(|at| *at > now);
            let due = held.index.alarms().take_while(|(at, _)| *at <= now);
            let due = due.filter(|(_, room)| !skip.contains(room)).cloned();
            let due = due.filter(|(at, _)| is_due(ages.due(*at), now, &mut next_unmoved));
            rooms = due.take(limit).map(|(at, room)| (at, room, Cause::Alarm)).collect::<Vec<_>>();
            stored = lock(&self.rooms).read()?;
        }
        let asked = Asked { now, skip, limit };
        let alarms = self.rows(&stored, RULES, &asked, alarm, |index, room| {
            !index.says_alarm(room) // it is among those above, or is none any more
        })?;
        let idle =
            |room: &RoomName, at: Timestamp| match self.settings.retention_of(room).idle_delete {
                Some(idle) => ages.when(Timestamp(at.0.saturating_sub(ms(idle))), ms(idle)),
                None => at,
            };
        let idle = self.rows(&stored, IDLE, &asked, idle, |index, room| {
            index.get(room).is_none() // something has happened
        })?;
        let next = next_unmoved.into_iter().chain(alarms.1).chain(idle.1).min();
        rooms.extend(alarms.0.into_iter().map(|(at, room)| (at, room, Cause::Alarm)));
        rooms.sort();
        rooms.truncate(limit);
        rooms.extend(idle.0.into_iter().map(|(at, room)| (at, room, Cause::Idle)));
        rooms.truncate(limit);
        Ok(Due { rooms, next })
    }

    /// What rows say of one kind.
    fn rows(
        &self,
        rooms: &ReadTransaction,
        what: u8,
        asked: &Asked<'_>,
        when: impl Fn(&RoomName, Timestamp) -> Timestamp,
        counts: impl Fn(&Index, &RoomName) -> bool,
    ) -> Result<OfOne, Trouble> {
        let Asked { now, skip, limit } = *asked;
        let mut next = None;
        let table = rooms.open_table(DUE)?;
        let mut found = Vec::new();
        for row in ReadableTable::range(&table, (what, 0, "")..=(what, now.0, LAST))? {
            let (key, _) = row?;
            let (_, at, name) = key.value();
            let unreadable = |_| Trouble::corrupt(format!("the due time of room {name:?}"));
            let room: RoomName = name.parse().map_err(unreadable)?;
            if skip.contains(&room) || !counts(&lock(&self.journal).index, &room) {
                continue;
            }
            if !is_due(when(&room, Timestamp(at)), now, &mut next) {
                continue;
            }
            found.push((Timestamp(at), room));
            if found.len() == limit {
                break;
            }
        }
        let later = (what, now.0.saturating_add(1), "")..=(what, u64::MAX, LAST);
        let later = ReadableTable::range(&table, later)?.next().transpose()?;
        let later = later.map(|(key, _)| Timestamp(key.value().1));
        Ok((found, next.into_iter().chain(later).min()))
    }
}

/// What is asked for.
struct Asked<'a> {
    now: Timestamp,
    skip: &'a BTreeSet<RoomName>,
    limit: usize,
}

/// Whether it is so late; if not, that may be when the next is due.
fn is_due(at: Timestamp, now: Timestamp, next: &mut Option<Timestamp>) -> bool {
    if at > now {
        *next = Some(next.map_or(at, |next| next.min(at)));
    }
    at <= now
}

/// Behind every room's name.
const LAST: &str = "\u{7f}";
