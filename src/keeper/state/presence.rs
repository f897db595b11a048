//! Who is here, as a snapshot and numbered changes.
//!
//! It follows from the seats, not from the room, so it is right while the room sleeps. Changes
//! are gathered for `presence_every`: whoever leaves and returns within that time did not move,
//! unless a snapshot was given in between, which shows what is.
//! In a large room only the number is told, unless a client asked for everybody.

use std::collections::BTreeMap;

use super::{Now, Output, State};
use crate::protocol::v1::{self, Member, PresenceWish, ServerFrame};
use crate::protocol::{Profile, Sid};
use crate::room::{Connection, Place, Seat};

/// The most members of a room that is small.
pub(super) const SMALL_MEMBERS: usize = 200;

/// A large room is small again at three quarters of what made it large: a member more or less
/// must not change everybody's view each time.
const SMALL_AGAIN: (usize, usize) = (3, 4);

/// The changes that nobody has been told of.
#[derive(Debug, Default)]
pub(super) struct Presence {
    version: u64,
    is_large: bool,
    /// Whether it was large at any time since the last change was told: then there are clients
    /// that know nothing but a number.
    was_large: bool,
    changed: BTreeMap<Sid, Changed>,
    due_ms: Option<u64>,
    /// Whether seed clients are to be told of it as well.
    users_due: bool,
}

/// A seat that changed since the last version.
#[derive(Debug)]
struct Changed {
    /// How it was seen then; `None`: it was not.
    before: Option<Member>,
    /// Whether a snapshot showed it otherwise meanwhile: it is told how it is, changed or not.
    is_shown: bool,
}

impl Presence {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Seed clients are told with the changes that are being gathered.
    pub(super) fn gather_users(&mut self) {
        self.users_due = true;
    }

    /// When gathered changes are told.
    pub(super) fn due(&self) -> Option<u64> {
        self.due_ms
    }
}

/// A seat as others see it; not at all once its leaving was announced.
pub(super) fn seen(seat: &Seat) -> Option<Member> {
    let row = &seat.row;
    (!row.left).then(|| Member {
        sid: row.sid,
        user: row.user.clone(),
        name: row.name.clone(),
        tags: row.tags.clone(),
        attachment: row.attachment.clone(),
        since: row.since,
        // Who said goodbye is not coming back: it is here until its end is durable, then gone.
        away: matches!(seat.place, Place::Away { said_bye: false, .. }),
    })
}

impl State {
    /// A seat is about to change: remembers how it was seen.
    pub(super) fn touch(&mut self, now: Now, sid: Sid) {
        let presence = &mut self.presence;
        let before = || self.seats.get(sid).and_then(seen);
        presence
            .changed
            .entry(sid)
            .or_insert_with(|| Changed { before: before(), is_shown: false });
        let every_ms = self.settings.presence_every.as_millis() as u64;
        presence.due_ms.get_or_insert(now.ms + every_ms);
    }

    /// Tells what changed, if it is time to.
    pub(super) fn tell_presence(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.presence.due_ms.is_none_or(|due| due > now.ms) {
            return;
        }
        self.presence.due_ms = None;
        if std::mem::take(&mut self.presence.users_due) {
            self.tell_users(out);
        }
        let mut change = v1::Presence::default();
        for (sid, changed) in std::mem::take(&mut self.presence.changed) {
            let Changed { before, is_shown } = changed;
            match self.seats.get(sid).and_then(seen) {
                Some(member) if before.is_none() => change.join.push(member),
                Some(member) if is_shown || before.as_ref() != Some(&member) => {
                    change.update.push(member);
                }
                None if is_shown || before.is_some() => change.leave.push(sid),
                _ => {}
            }
        }
        let (count, is_large) = self.weigh();
        let was_large = std::mem::replace(&mut self.presence.was_large, is_large);
        let is_same = change.join.is_empty() && change.leave.is_empty() && change.update.is_empty();
        if is_same && was_large == is_large {
            return;
        }
        self.presence.version += 1;
        change.version = self.presence.version;
        change.count = count;
        if self.seats.connected(Profile::V1).next().is_none() {
            return; // nobody is told
        }
        let json =
            |change: &v1::Presence| ServerFrame::Presence(Box::new(change.clone())).to_json();
        let version = change.version;
        let number = json(&v1::Presence { version, count, ..Default::default() });
        let full = json(&change);
        let auto = match (was_large, is_large) {
            (_, true) => number.clone(),
            (false, false) => full.clone(),
            (true, false) => json(&self.whole(None)),
        };
        out.push(Output::Presence { version, full, count: number, auto });
    }

    /// How many are here, and whether that is a large room now.
    pub(super) fn weigh(&mut self) -> (usize, bool) {
        let (count, size) = self.seats.seen();
        let (up, down) = SMALL_AGAIN;
        let scale = |limit: usize| if self.presence.is_large { limit * up / down } else { limit };
        self.presence.is_large =
            count > scale(SMALL_MEMBERS) || size > scale(self.settings.outbox.presence_bytes);
        self.presence.was_large |= self.presence.is_large;
        (count, self.presence.is_large)
    }

    /// Everybody, or as many as fit: the newest version, and what changed since. For one
    /// client, if `whom` names it.
    pub(super) fn whole(&mut self, whom: Option<Sid>) -> v1::Presence {
        let (members, _) = self.members_after(whom, None, usize::MAX);
        v1::Presence {
            version: self.presence.version,
            reset: true,
            members: Some(members),
            count: self.seats.seen().0,
            ..Default::default()
        }
    }

    /// A client that lost changes gets the whole of what it is told.
    pub(super) fn tell_whole(&mut self, connection: Connection, out: &mut Vec<Output>) {
        let Some(seat) = self.seats.of(connection) else { return };
        let (wish, sid) = (seat.presence, seat.row.sid);
        let is_large = self.presence.is_large;
        let mut whole = self.whole(Some(sid));
        if !tells_members(wish, is_large) {
            whole.members = None;
        }
        let version = whole.version;
        let frame = ServerFrame::Presence(Box::new(whole));
        out.push(Output::Members { connection, version, frame });
    }

    /// Members by `sid` behind `after`, ending early at `limit` or when enough bytes are
    /// reached, and whether there are more.
    pub(super) fn members_after(
        &mut self,
        whom: Option<Sid>,
        after: Option<Sid>,
        limit: usize,
    ) -> (Vec<Member>, bool) {
        // A client that is gone again saw nothing that anybody has to be told of.
        let others = self.presence.changed.iter_mut().filter(|(sid, _)| Some(**sid) != whom);
        for (sid, changed) in others {
            changed.is_shown |= self.seats.get(*sid).and_then(seen) != changed.before;
        }
        let (mut members, mut size) = (Vec::new(), 0);
        for seat in self.seats.after(after) {
            let Some(member) = seen(seat) else { continue };
            size += seat.bytes();
            let is_full = size > self.settings.outbox.presence_bytes && !members.is_empty();
            if members.len() == limit || is_full {
                return (members, true);
            }
            members.push(member);
        }
        (members, false)
    }
}

/// Whether a client is told who is here, not only how many.
pub(super) fn tells_members(wish: PresenceWish, is_large: bool) -> bool {
    match wish {
        PresenceWish::Full => true,
        PresenceWish::Count => false,
        PresenceWish::Auto => !is_large,
    }
}
