//! When the store fails.
//!
//! A failed append may be on disk or not. So nobody who waited is told *no*: publishers are to
//! try again with the same key, and the room is read again until that succeeds. What is then on
//! disk beyond the last message heard was committed after all, and is heard first; only then
//! does the room go on.

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
}

impl Trouble {
    fn new() -> Self {
        Self { pause_ms: FIRST_PAUSE_MS, retry_at: None, reopened: None }
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

    /// An append or a read failed while members are here: give up what waited, read again.
    pub(super) fn store_failed(&mut self, now: Now, out: &mut Vec<Output>) {
        let wake = match self.phase {
            Phase::Awake(_) | Phase::Hibernating(_) | Phase::Waking(_) => true,
            Phase::Recovering { wake } => wake,
            Phase::Asleep | Phase::Opening => false,
        };
        self.phase = Phase::Recovering { wake };
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
                Held::Seat(connection) => self.refuse_seat(connection, out),
                Held::Hear(_) | Held::Left(_) | Held::Ended(_) | Held::Direct(..) => {} // read again
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
                for mail in std::mem::take(&mut self.waiting).mail {
                    if let Mail::Join(join) = mail {
                        self.refuse_seat(join.connection, out);
                    }
                }
                self.fail_tickets(&error.to_string(), out);
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
        let wake = match self.phase {
            Phase::Recovering { wake } => wake,
            _ => true,
        };
        if self.trouble.take().is_some() {
            self.reconcile_seats(now, &opened.seats, out);
            self.tell_all(RoomState::Well, out);
        }
        if wake {
            self.woke(now, Room::wake(opened), took_us, out);
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
        for ticket in sleeping.into_iter().chain(waking) {
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
