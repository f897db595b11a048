//! When the store fails.
//!
//! A failed append may be on disk or not. So nobody who waited is told *no*: publishers are to
//! try again with the same key, and the room is read again until that succeeds. What is then on
//! disk beyond the last message heard was committed after all, and is heard first; only then
//! does the room go on.
//!
//! A disk that can be read may be one that cannot be written. After a failed append the room is
//! well only when an append of nothing has succeeded: nobody is told so too early.

use super::{Held, Mail, Now, Output, Phase, State, Ticket, Unavailable};
use crate::protocol::v1::{RoomState, ServerFrame};
use crate::protocol::{CloseReason, Profile};
use crate::room::Room;
use crate::store::{Error, Opened, Slice};

/// The first pause before the store is asked again; it doubles up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 5_000;

/// The store is unwell.
pub(super) struct Trouble {
    pause_ms: u64,
    retry_at: Option<u64>,
    /// What was read, while messages that nobody heard yet are still being read.
    reopened: Option<(Opened, u64)>,
    /// What was read, while an append of nothing is on its way.
    probing: Option<(Opened, u64)>,
}

impl Trouble {
    fn new() -> Self {
        let (pause_ms, retry_at, reopened) = (FIRST_PAUSE_MS, None, None);
        Self { pause_ms, retry_at, reopened, probing: None }
    }

    pub(super) fn retry_at(&self) -> Option<u64> {
        self.retry_at
    }

    fn pause(&mut self, now_ms: u64) {
        self.retry_at = Some(now_ms + self.pause_ms);
        self.pause_ms = (self.pause_ms * 2).min(LONGEST_PAUSE_MS);
    }
}

impl State {
    pub(super) fn is_recovering(&self) -> bool {
        matches!(self.phase, Phase::Recovering { .. })
    }

    pub(super) fn retry_after_ms(&self) -> u64 {
        self.trouble.as_ref().map_or(FIRST_PAUSE_MS, |trouble| trouble.pause_ms)
    }

    /// Asks the store again, if it is time to. Not while an append is in flight: what it leaves
    /// on disk would be missing from what is read.
    pub(super) fn retry(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(trouble) = &mut self.trouble else { return };
        if trouble.retry_at.take_if(|at| *at <= now.ms).is_none() {
            return;
        }
        if self.append_in_flight {
            trouble.pause(now.ms);
        } else {
            self.open(out);
        }
    }

    /// Whether an append of nothing is on its way.
    pub(super) fn is_probing(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.probing.is_some())
    }

    /// An append failed.
    pub(super) fn cannot_write(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.probing = None;
        }
        self.write_failed = true;
    }

    /// An append succeeded; if it was one of nothing, all is well again.
    pub(super) fn has_written(&mut self, now: Now, out: &mut Vec<Output>) {
        self.write_failed = false;
        let probing = self.trouble.as_mut().and_then(|trouble| trouble.probing.take());
        if let Some((opened, took_us)) = probing {
            self.is_well(now, &opened, took_us, out);
        }
    }

    /// An append or a read failed while members are here: give up what waited, read again.
    pub(super) fn store_failed(&mut self, now: Now, out: &mut Vec<Output>) {
        let wake = match self.phase {
            Phase::Awake(_) | Phase::Hibernating(_) | Phase::Waking(_) => true,
            Phase::Recovering { wake } => wake,
            Phase::Asleep | Phase::Opening => false,
        };
        if !matches!(self.phase, Phase::Opening) {
            self.phase = Phase::Recovering { wake };
        }
        self.keys_asked = false;
        self.rows_in_flight.clear();
        self.asked += 1; // what is being read may lack what the append left on disk
        if self.trouble.is_none() {
            self.trouble = Some(Trouble::new());
            let retry_after = self.retry_after_ms();
            self.tell_all(RoomState::Degraded { retry_after }, out);
        }
        for held in self.gate.give_up() {
            match held {
                Held::Send(connection, ServerFrame::Ok { id, .. }) => {
                    out.push(Output::Send(connection, self.try_again(id)));
                }
                Held::Send(connection, frame) => out.push(Output::Send(connection, frame)),
                Held::Direct(_, _, _, Some((connection, id))) | Held::Set(connection, id, _) => {
                    out.push(Output::Send(connection, self.try_again(id)));
                }
                Held::Seat(connection, _) => self.refuse_seat(connection, out),
                Held::Rung(tickets) => self.alarm_tickets.extend(tickets),
                Held::Deleted => self.deletion_failed(out),
                Held::Hear(_)
                | Held::Left(_)
                | Held::Ended(_)
                | Held::Alarm(_)
                | Held::Keep(_)
                | Held::Direct(..) => {} // read again
            }
        }
        self.fail_tickets("the store is unwell", out);
        if let Some(trouble) = &mut self.trouble {
            trouble.pause(now.ms);
        }
    }

    pub(super) fn open_failed(&mut self, now: Now, error: &Error, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Opening => {
                self.trouble.get_or_insert_with(Trouble::new).pause(now.ms);
                for mail in std::mem::take(&mut self.waiting).into_mail() {
                    if let Mail::Join(join) = mail {
                        self.refuse_seat(join.connection, out);
                    }
                }
                self.fail_tickets(&error.to_string(), out);
                self.operate_early(now, out);
            }
            Phase::Waking(_) | Phase::Recovering { .. } => self.store_failed(now, out),
            Phase::Asleep | Phase::Awake(_) | Phase::Hibernating(_) => {}
        }
    }

    /// The room was read after waking or after trouble.
    pub(super) fn reopened(
        &mut self,
        now: Now,
        opened: Opened,
        took_us: u64,
        out: &mut Vec<Output>,
    ) {
        if self.was_deleted(opened.epoch) {
            self.head.epoch = opened.epoch;
            return self.deleted(now, out);
        }
        let is_another_log = opened.newest < self.head.newest
            || (self.head.newest > 0 && opened.epoch != self.head.epoch);
        if is_another_log {
            // What people heard is not there: nobody's position is worth anything.
            for seat in self.seats.iter() {
                if let Some(connection) = seat.connection() {
                    let reason = CloseReason::LogReset;
                    out.push(Output::Close { connection, reason, retry_after: None });
                }
            }
            self.head.newest = opened.newest;
            out.push(Output::Known { newest: opened.newest });
        }
        self.head.epoch = opened.epoch;
        self.head.oldest = opened.oldest;
        self.head.bytes = opened.bytes;
        self.alarm = opened.alarm;
        if opened.newest > self.head.newest {
            if let Phase::Waking(_) = self.phase {
                self.phase = Phase::Recovering { wake: true };
            }
            return self.read_missed(opened, took_us, out);
        }
        self.is_well(now, &opened, took_us, out);
    }

    /// Messages that are on disk though their append failed.
    pub(super) fn missed(&mut self, now: Now, result: Result<Slice, Error>, out: &mut Vec<Output>) {
        let Some(trouble) = &mut self.trouble else { return };
        let Some((opened, took_us)) = trouble.reopened.take() else { return };
        let Ok(slice) = result else { return self.store_failed(now, out) };
        let next = self.head.newest + 1;
        let messages: Vec<_> = slice
            .messages
            .into_iter()
            .filter(|m| (next..=opened.newest).contains(&m.seq))
            .collect();
        if messages.first().is_none_or(|first| first.seq != next) {
            return self.store_failed(now, out);
        }
        self.perform(now, messages.into_iter().map(Held::Hear), out);
        if self.head.newest < opened.newest {
            return self.read_missed(opened, took_us, out);
        }
        self.is_well(now, &opened, took_us, out);
    }

    fn read_missed(&mut self, opened: Opened, took_us: u64, out: &mut Vec<Output>) {
        self.trouble.get_or_insert_with(Trouble::new).reopened = Some((opened, took_us));
        self.asked += 1;
        out.push(Output::Read(self.asked, self.head.newest + 1));
    }

    fn is_well(&mut self, now: Now, opened: &Opened, took_us: u64, out: &mut Vec<Output>) {
        if self.write_failed
            && let Some(trouble) = &mut self.trouble
        {
            trouble.probing = Some((opened.clone(), took_us));
            self.append_in_flight = true;
            out.push(Output::Append(Vec::new()));
            return;
        }
        let wake = match self.phase {
            Phase::Recovering { wake } => wake,
            _ => true,
        };
        if self.trouble.take().is_some() {
            self.reconcile_seats(now, &opened.seats, out);
            self.tell_all(RoomState::Well, out);
        }
        if wake {
            self.woke(now, Room::wake(opened, self.settings.behaviour), took_us, out);
        } else {
            self.phase = Phase::Asleep;
            self.tell_watchers(RoomState::Asleep, out);
        }
    }

    /// A `hello` whose seat cannot be written.
    pub(super) fn refuse_seat(
        &mut self,
        connection: crate::room::Connection,
        out: &mut Vec<Output>,
    ) {
        self.joining.remove(&connection);
        let retry_after = Some(self.retry_after_ms());
        let reason = CloseReason::StoreUnavailable;
        out.push(Output::Close { connection, reason, retry_after });
        out.push(Output::Forget(connection));
    }

    fn fail_tickets(&mut self, reason: &str, out: &mut Vec<Output>) {
        let sleeping = std::mem::take(&mut self.sleep_tickets);
        let waking: Vec<Ticket> = std::mem::take(&mut self.wake_tickets);
        let ringing: Vec<Ticket> = std::mem::take(&mut self.alarm_tickets);
        for ticket in sleeping.into_iter().chain(waking).chain(ringing) {
            let retry_after_ms = self.retry_after_ms();
            let unavailable = Unavailable { retry_after_ms, reason: reason.into() };
            out.push(Output::Answer(ticket, Err(unavailable)));
        }
    }

    fn tell_all(&self, state: RoomState, out: &mut Vec<Output>) {
        for connection in self.seats.connected(Profile::V1) {
            out.push(Output::Send(connection, state.clone().frame()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full for a day is not asked ten times a second by every room, nor forgotten.
    #[test]
    fn a_store_that_fails_is_asked_again_after_pauses_that_grow() {
        let (mut trouble, mut now, mut pauses) = (Trouble::new(), 1_000, Vec::new());
        for _ in 0..8 {
            trouble.pause(now);
            let at = trouble.retry_at().expect("it is tried again");
            pauses.push(at - now);
            now = at;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    }
}
