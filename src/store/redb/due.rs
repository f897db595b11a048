//! What the process's clock has to look at: alarms, and rooms that were idle for too long.
//!
//! Rows tell it, in order of time, but for rooms of which the journal knows something newer. Both
//! are taken while the index is locked, so that nothing is missed while a room moves. What is read
//! is bounded by what was asked for and by what is unmoved, never by how many rooms sleep.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableTable};

use super::super::row::{IDLE, RULES};
use super::super::{Cause, Due};
use super::file::{DUE, Trouble};
use super::index::Index;
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
        let (mut rooms, next_unmoved, stored);
        {
            let held = lock(&self.journal);
            let due = held.index.alarms().take_while(|(at, _)| *at <= now);
            let due = due.filter(|(_, room)| !skip.contains(room)).take(limit).cloned();
            rooms = due.map(|(at, room)| (at, room, Cause::Alarm)).collect::<Vec<_>>();
            next_unmoved = held.index.alarms().map(|(at, _)| *at).find(|at| *at > now);
            stored = lock(&self.rooms).read()?;
        }
        let alarms = self.rows(&stored, RULES, now, skip, limit, |index, room| {
            !index.says_alarm(room) // it is among those above, or is none any more
        })?;
        let idle = self.rows(&stored, IDLE, now, skip, limit, |index, room| {
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
        now: Timestamp,
        skip: &BTreeSet<RoomName>,
        limit: usize,
        counts: impl Fn(&Index, &RoomName) -> bool,
    ) -> Result<OfOne, Trouble> {
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
            found.push((Timestamp(at), room));
            if found.len() == limit {
                break;
            }
        }
        let next = (what, now.0.saturating_add(1), "")..=(what, u64::MAX, LAST);
        let next = ReadableTable::range(&table, next)?.next().transpose()?;
        Ok((found, next.map(|(key, _)| Timestamp(key.value().1))))
    }
}

/// Behind every room's name.
const LAST: &str = "\u{7f}";
