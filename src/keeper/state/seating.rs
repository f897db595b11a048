//! Seats: taking one, taking it back, losing it.
//!
//! Nothing here needs the room awake. A v1 seat changes when its record is durable; a seed seat
//! is as long as its socket and never written.

use std::collections::BTreeSet;

use super::presence::{SMALL_MEMBERS, tells_members};
use super::{Gone, Held, Join, Now, Output, Position, State};
use crate::protocol;
use crate::protocol::v1::{NotResumed, PresenceWish, SeatKept, ServerFrame, Since, Welcome};
use crate::protocol::{Claim, CloseReason, Epoch, Profile, Sid, seed};
use crate::room::{Connection, Place, Seat, SeatLimits};
use crate::store::SeatRow;

/// The name of whoever gives none.
const NAMELESS: &str = "guest";

/// How much a seed client is shown on joining.
const SEED_HISTORY: u64 = 100;

/// A client whose seat is on its way to disk.
pub(super) struct Joining {
    row: SeatRow,
    join: Join,
    /// It left before it had its seat.
    gone: Option<Gone>,
}

/// Where a session's reading begins, and what it is told about that.
struct Start {
    seq: u64,
    may_skip: bool,
    resumed: bool,
    why: Option<NotResumed>,
}

/// Whether the record of a seat's end is on its way: then it is too late to take it back.
fn is_ending(seat: &Seat) -> bool {
    match seat.place {
        Place::Here(_) => false,
        Place::Away { until_ms, said_bye, .. } => said_bye || (until_ms.is_none() && seat.row.left),
    }
}

impl State {
    pub(super) fn join(&mut self, now: Now, join: Join, out: &mut Vec<Output>) {
        let connection = join.connection;
        if self.is_recovering() {
            return self.refuse_seat(connection, out);
        }
        let kept = join.claim.and_then(|claim| self.row_of(claim));
        if kept.is_none() && self.seats_taken() >= self.settings.limits.members {
            let reason = CloseReason::RoomFull;
            out.push(Output::Close { connection, reason, retry_after: None });
            out.push(Output::Forget(connection));
            return;
        }
        let row = self.new_row(now, &join, kept);
        if join.profile == Profile::Seed {
            return self.seat_seed(row, &join, now, out);
        }
        self.rows_in_flight.insert(row.sid, row.clone());
        self.joining.insert(connection, Joining { row: row.clone(), join, gone: None });
        self.gate.commit(Held::Seat(connection, row));
    }

    /// How many seats there are once everybody who is joining has one.
    fn seats_taken(&self) -> usize {
        let joining = self.joining.values().map(|joining| joining.row.sid);
        let new: BTreeSet<_> = joining.filter(|sid| self.seats.get(*sid).is_none()).collect();
        self.seats.len() + new.len()
    }

    /// The newest row of the seat that a claim names, if it can be taken back.
    fn row_of(&self, claim: Claim) -> Option<SeatRow> {
        let is_joining = self.joining.values().any(|joining| joining.row.sid == claim.sid);
        let seated = self.seats.get(claim.sid).is_some_and(|seat| !is_ending(seat));
        let row = (is_joining || seated).then(|| self.newest_row(claim.sid)).flatten();
        row.filter(|row| row.author == claim.author).cloned()
    }

    /// The row a join asks for: what it says replaces, what it leaves out stays.
    fn new_row(&self, now: Now, join: &Join, kept: Option<SeatRow>) -> SeatRow {
        let mut row = kept.unwrap_or_else(|| SeatRow {
            sid: self.free_sid(join.fresh_sid),
            author: join.claim.map_or(join.fresh_author, |claim| claim.author),
            user: None,
            name: NAMELESS.into(),
            tags: Vec::new(),
            attachment: None,
            since: now.wall,
            left: false,
        });
        row.left = false;
        row.name = join.name.clone().unwrap_or(row.name);
        row.tags = join.tags.clone().unwrap_or(row.tags);
        row.attachment = join.attachment.clone().or(row.attachment);
        row
    }

    fn free_sid(&self, wish: Sid) -> Sid {
        let is_free = |sid: &Sid| {
            self.seats.get(*sid).is_none() && self.joining.values().all(|j| j.row.sid != *sid)
        };
        // Two equal throws of 64-bit dice will not happen; if they do, the next number is free.
        (0..).map(|n| Sid(wish.0.wrapping_add(n))).find(is_free).unwrap_or(wish)
    }

    fn learn_oldest(&mut self, seen: Option<(Epoch, u64)>) {
        if let Some((epoch, oldest)) = seen
            && epoch == self.head.epoch
        {
            self.head.oldest = self.head.oldest.max(oldest);
        }
    }

    /// A v1 client's seat is durable: it is welcome.
    pub(super) fn seat(&mut self, now: Now, connection: Connection, out: &mut Vec<Output>) {
        let Some(Joining { row, join, gone }) = self.joining.remove(&connection) else { return };
        self.learn_oldest(join.oldest);
        let start = self.start(join.since.as_ref(), join.history);
        let claim = Claim { sid: row.sid, author: row.author, issued: now.wall };
        let place = Place::Here(connection);
        let name = row.name.clone();
        let sid = row.sid;
        if self.rows_in_flight.get(&sid) == Some(&row) {
            self.rows_in_flight.remove(&sid);
        }
        self.touch(now, sid);
        let limits = self.seats.get(sid).map(|seat| seat.limits).unwrap_or_default();
        let (watch, presence) = (join.watch, join.presence);
        let profile = Profile::V1;
        let before = self.seats.put(Seat { row, profile, place, watch, presence, limits });
        if let Some(older) = before.as_ref().and_then(Seat::connection) {
            let reason = CloseReason::TakenOver;
            out.push(Output::Close { connection: older, reason, retry_after: None });
            out.push(Output::Forget(older));
        }
        let (count, is_large) = self.weigh();
        let members =
            tells_members(presence, is_large).then(|| self.whole(Some(sid)).members).flatten();
        let Position { epoch, newest, oldest, .. } = self.head;
        let welcome = Welcome {
            session: claim.seal(&self.secret, &self.room),
            sid: claim.sid,
            room: self.room.clone(),
            position: protocol::Position { epoch, seq: newest },
            time: now.wall,
            heartbeat: self.settings.heartbeat.as_millis() as u64,
            resumed: start.resumed,
            why: start.why,
            oldest: (join.since.is_some() && !start.resumed).then_some(oldest),
            seat: if before.is_some() { SeatKept::Kept } else { SeatKept::New },
            limits: self.settings.told(),
            members,
            count,
            presence_version: self.presence.version(),
        };
        out.push(Output::Send(connection, ServerFrame::Welcome(Box::new(welcome))));
        out.push(Output::SendAfter(connection, newest, ServerFrame::Live { seq: newest }));
        if join.watch {
            out.push(Output::SendAfter(connection, newest, self.room_state(now).frame()));
        }
        // Last of all: from here on the session reads the log, and what it has to say before and
        // at which place in it must be there by then.
        self.take_place(connection, start.seq, start.may_skip, out);
        match before {
            Some(seat) if !seat.row.left && seat.row.name == name => {}
            Some(seat) if !seat.row.left => self.announce_users(out), // by another name
            _ => self.announce_join(now, &name, out),
        }
        if let Some(how) = gone {
            self.gone(now, connection, how, out);
        }
    }

    fn seat_seed(&mut self, row: SeatRow, join: &Join, now: Now, out: &mut Vec<Output>) {
        let connection = join.connection;
        let shown = |newest: u64| (newest + 1).saturating_sub(SEED_HISTORY);
        let start = match join.accepted {
            // What was said since the socket was accepted, and a hundred before that.
            Some(accepted) if accepted.epoch == self.head.epoch => {
                shown(accepted.seq.min(self.head.newest))
            }
            _ => shown(self.head.newest),
        };
        let name = row.name.clone();
        let place = Place::Here(connection);
        self.touch(now, row.sid);
        self.seats.put(Seat {
            row,
            profile: Profile::Seed,
            place,
            watch: false,
            presence: PresenceWish::Count,
            limits: SeatLimits::default(),
        });
        self.announce_join(now, &name, out);
        self.take_place(connection, start.max(self.head.oldest), true, out);
    }

    fn take_place(
        &mut self,
        connection: Connection,
        start: u64,
        may_skip: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(seat) = self.seats.of(connection) else { return };
        out.push(Output::Seated {
            connection,
            epoch: self.head.epoch,
            start,
            may_skip,
            sid: seat.row.sid,
            presence: (seat.profile == Profile::V1).then_some(seat.presence),
            presence_version: self.presence.version(),
        });
    }

    /// Where to begin: behind `since` if that is whole, else with some history.
    fn start(&self, since: Option<&Since>, history: u64) -> Start {
        let Position { epoch, newest, oldest, .. } = self.head;
        let why = match since {
            None => None,
            Some(since) if since.epoch != Some(epoch) => Some(NotResumed::Epoch),
            Some(since) if since.seq > newest => Some(NotResumed::Epoch), // ahead of the log
            Some(since) if since.seq + 1 < oldest => Some(NotResumed::Retention),
            Some(since) => {
                let seq = since.seq + 1;
                return Start { seq, may_skip: false, resumed: true, why: None };
            }
        };
        let seq = (newest + 1).saturating_sub(history).max(oldest);
        Start { seq, may_skip: true, resumed: false, why }
    }

    pub(super) fn rename(
        &mut self,
        now: Now,
        connection: Connection,
        name: String,
        out: &mut Vec<Output>,
    ) {
        let Some(sid) = self.seats.of(connection).map(|seat| seat.row.sid) else { return };
        self.touch(now, sid);
        self.seats.change(sid, |seat| seat.row.name = name);
        self.announce_users(out);
    }

    pub(super) fn gone(
        &mut self,
        now: Now,
        connection: Connection,
        how: Gone,
        out: &mut Vec<Output>,
    ) {
        // One that has no seat any more may have read the log of a room that was deleted.
        if let Gone::BehindRetention { oldest } = how
            && self.seats.of(connection).is_some()
        {
            self.head.oldest = self.head.oldest.max(oldest);
        }
        if let Some(joining) = self.joining.get_mut(&connection) {
            joining.gone = Some(how); // it has to have its seat first
            return;
        }
        out.push(Output::Forget(connection));
        let Some(seat) = self.seats.of(connection) else { return }; // an older connection
        let (sid, profile) = (seat.row.sid, seat.profile);
        self.touch(now, sid);
        if profile == Profile::Seed {
            self.seats.remove(sid);
            self.announce_users(out);
            return;
        }
        let said_bye = how == Gone::Ended;
        let grace_ms = if said_bye { 0 } else { self.settings.grace.as_millis() as u64 };
        self.seats.change(sid, |seat| {
            let until_ms = Some(now.ms + grace_ms);
            seat.place = Place::Away { since_ms: now.ms, until_ms, said_bye };
            seat.watch = false;
        });
        if said_bye && !self.is_recovering() && !self.is_deleting() {
            self.end_windows(now);
        }
    }

    /// Writes what the end of a window means; it takes effect when that is durable.
    pub(super) fn end_windows(&mut self, now: Now) {
        while let Some((until, sid)) = self.seats.next_window()
            && until <= now.ms
        {
            let mut ends = false;
            self.seats.change(sid, |seat| {
                if let Place::Away { until_ms, said_bye, .. } = &mut seat.place {
                    *until_ms = None;
                    ends = *said_bye || seat.row.left;
                }
            });
            if self.joining.values().any(|joining| joining.row.sid == sid) {
                continue; // it is being taken back: that record is on its way already
            }
            if ends {
                self.gate.commit(Held::Ended(sid));
            } else {
                self.gate.commit(Held::Left(sid));
            }
        }
    }

    /// The end of a grace is durable: it is announced, the seat can still be taken back.
    pub(super) fn left(&mut self, now: Now, sid: Sid, out: &mut Vec<Output>) {
        let Some(Place::Away { since_ms, .. }) = self.seats.get(sid).map(|seat| seat.place) else {
            return; // back already
        };
        let window_ms = self.settings.resume_window.as_millis() as u64;
        self.touch(now, sid);
        self.seats.change(sid, |seat| {
            seat.row.left = true;
            let until_ms = Some(since_ms + window_ms);
            seat.place = Place::Away { since_ms, until_ms, said_bye: false };
        });
        self.announce_users(out);
    }

    /// The end of a seat is durable.
    pub(super) fn ended(&mut self, now: Now, sid: Sid, out: &mut Vec<Output>) {
        let is_away = |seat: &Seat| seat.connection().is_none();
        if !self.seats.get(sid).is_some_and(is_away) {
            return;
        }
        self.touch(now, sid);
        let was_present = self.seats.remove(sid).is_some_and(|seat| !seat.row.left);
        if was_present {
            self.announce_users(out);
        }
    }

    /// Seats on disk when the keeper began: their windows start anew. They are no news: whoever
    /// was here before the keeper is here from its first version on, and who was told of them
    /// before is told only what changes.
    pub(super) fn find_seats(&mut self, now: Now, rows: Vec<SeatRow>) {
        for row in rows {
            self.find_seat(now, row);
        }
    }

    /// A seat that only the disk knows of.
    fn find_seat(&mut self, now: Now, row: SeatRow) {
        let spread_ms = match self.found {
            super::Found::Seats { spread_ms } => spread_ms,
            super::Found::Wanted => 0,
        };
        let since_ms = now.ms + spread_ms;
        let window = if row.left { self.settings.resume_window } else { self.settings.grace };
        let until_ms = Some(since_ms + window.as_millis() as u64);
        let place = Place::Away { since_ms, until_ms, said_bye: false };
        self.seats.put(Seat {
            row,
            profile: Profile::V1,
            place,
            watch: false,
            presence: PresenceWish::Auto,
            limits: SeatLimits::default(),
        });
    }

    /// After trouble the rows on disk are the truth.
    pub(super) fn reconcile_seats(&mut self, now: Now, rows: &[SeatRow], out: &mut Vec<Output>) {
        let ours: Vec<Sid> = self
            .seats
            .iter()
            .filter(|seat| seat.profile == Profile::V1)
            .map(|seat| seat.row.sid)
            .collect();
        let names = self.seats.names();
        let on_disk: BTreeSet<Sid> = rows.iter().map(|row| row.sid).collect();
        for &sid in &ours {
            self.touch(now, sid);
            if !on_disk.contains(&sid)
                && let Some(connection) = self.seats.remove(sid).and_then(|s| s.connection())
            {
                // Its end was on its way when the store failed, and got there.
                out.push(Output::Close {
                    connection,
                    reason: CloseReason::Ended,
                    retry_after: None,
                });
                out.push(Output::Forget(connection));
            }
        }
        for row in rows {
            if self.seats.get(row.sid).is_none() {
                self.touch(now, row.sid); // it was refused when its record failed: it is news
                self.find_seat(now, row.clone());
                continue;
            }
            let window_ms = self.settings.resume_window.as_millis() as u64;
            self.seats.change(row.sid, |seat| {
                seat.row = row.clone();
                if let Place::Away { since_ms, until_ms: until @ None, .. } = &mut seat.place {
                    *until = Some(if row.left { *since_ms + window_ms } else { now.ms });
                }
            });
        }
        if self.seats.names() != names {
            self.announce_users(out);
        }
    }

    fn announce_join(&mut self, now: Now, name: &str, out: &mut Vec<Output>) {
        let to: Vec<_> = self.seats.connected(Profile::Seed).collect();
        if !to.is_empty() {
            let line = seed::ServerFrame::joined(name, now.wall);
            out.push(Output::SeedLine { to, after: self.head.newest, line });
            self.announce_users(out);
        }
    }

    /// Tells seed clients who is here: at once in a small room, gathered with the other news in
    /// a large one, where the line is long and everybody gets it.
    fn announce_users(&mut self, out: &mut Vec<Output>) {
        if self.seats.seen().0 > SMALL_MEMBERS {
            self.presence.gather_users();
        } else {
            self.tell_users(out);
        }
    }

    pub(super) fn tell_users(&self, out: &mut Vec<Output>) {
        let to: Vec<_> = self.seats.connected(Profile::Seed).collect();
        if !to.is_empty() {
            let line = seed::ServerFrame::Users { users: self.seats.names() };
            out.push(Output::SeedLine { to, after: self.head.newest, line });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Found, Input, Mail, Told};
    use super::*;
    use crate::protocol::Author;
    use crate::store::{Engine as _, Memory};

    /// A session reads the log as soon as it is seated, on a thread of its own. When the welcome
    /// followed the seat, whoever came back at a busy moment now and then got messages before
    /// it, and counted from a position in no epoch.
    #[test]
    fn what_a_client_is_told_on_joining_is_there_before_it_reads_the_log() {
        let memory = Memory::new(1);
        let room: protocol::RoomName = "lobby".parse().unwrap();
        let settings = crate::config::Config::default().keeper;
        let now = Now { wall: protocol::Timestamp(1), ms: 1 };
        let (connection, mut out) = (Connection(1), Vec::new());
        let secret = memory.identity().secret;
        let mut state = State::new(room.clone(), settings, secret, Found::Wanted, now, &mut out);
        let told = Told::Opened(memory.open(&room));
        state.step(now, Input::Told { asked: 0, told, took_us: 1 }, &mut out);
        let join = Join { watch: true, ..Join::new(connection, Profile::V1, Sid(1), Author(1)) };
        state.step(now, Input::Mail(Mail::Join(Box::new(join))), &mut out);
        state.settle(now, &mut out);
        out.clear();
        let epoch = memory.open(&room).unwrap().epoch;
        state.step(now, Input::Appended(Ok(epoch)), &mut out);
        let told: Vec<_> = out
            .iter()
            .map_while(|output| match output {
                Output::Send(_, ServerFrame::Welcome(_)) => Some("welcome"),
                Output::SendAfter(_, 0, ServerFrame::Live { seq: 0 }) => Some("live"),
                Output::SendAfter(_, 0, ServerFrame::Room { .. }) => Some("room"),
                _ => None,
            })
            .collect();
        assert_eq!(told, ["welcome", "live", "room"]);
        assert!(matches!(out[3], Output::Seated { .. }), "{:?}", out[3]);
    }
}
