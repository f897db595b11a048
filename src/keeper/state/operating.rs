//! What operators ask, answered without waking anything that should sleep.

use super::presence::seen;
use super::{
    AlarmSeen, Head, Inspection, Needed, Now, Operation, Output, Phase, Roster, RosterMember, State,
};
use super::{Ticket, Unavailable, WhyAwake};
use crate::protocol::{RoomName, Sid};
use crate::store::Opened;

impl State {
    pub(super) fn operate(
        &mut self,
        now: Now,
        operation: Operation,
        ticket: Ticket,
        out: &mut Vec<Output>,
    ) {
        let sleeps = matches!(self.phase, Phase::Asleep);
        let is_early = matches!(self.phase, Phase::Opening) && self.trouble.is_none();
        match operation {
            Operation::Delete | Operation::DeleteIdle | Operation::Ring if is_early => {
                self.early.push((operation, ticket));
            }
            Operation::Delete | Operation::DeleteIdle => self.delete(now, operation, ticket, out),
            Operation::Ring => self.ring(now, ticket, out),
            Operation::Finish => self.finish_tickets.push(ticket), // with the end of the batch
            Operation::Inspect => out.push(Output::Answer(ticket, Ok(self.inspect(now)))),
            _ if self.trouble.is_some() => {
                let reason = "the store is unwell".into();
                let retry_after_ms = self.retry_after_ms();
                out.push(Output::Answer(ticket, Err(Unavailable { retry_after_ms, reason })));
            }
            Operation::Hibernate if sleeps => {
                out.push(Output::Answer(ticket, Ok(self.inspect(now))));
            }
            Operation::Hibernate => self.sleep_tickets.push(ticket),
            Operation::Wake if matches!(self.phase, Phase::Awake(_)) => {
                self.needed = Needed { by: "wake", at: now };
                out.push(Output::Answer(ticket, Ok(self.inspect(now))));
            }
            Operation::Wake => {
                self.wake_tickets.push(ticket);
                if sleeps {
                    self.wake(now, "wake", out);
                }
            }
        }
    }

    /// What had to wait until it was known what there is of the room.
    pub(super) fn operate_early(&mut self, now: Now, out: &mut Vec<Output>) {
        for (operation, ticket) in std::mem::take(&mut self.early) {
            self.operate(now, operation, ticket, out);
        }
    }

    /// An operator's word: sleep as soon as nothing is on its way to disk.
    pub(super) fn sleep_if_told(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.sleep_tickets.is_empty() || !self.gate.is_idle() || self.is_moving {
            return;
        }
        match self.phase {
            Phase::Awake(_) => self.hibernate(out),
            Phase::Asleep => {
                for ticket in std::mem::take(&mut self.sleep_tickets) {
                    out.push(Output::Answer(ticket, Ok(self.inspect(now))));
                }
            }
            _ => {}
        }
    }

    /// Whoever waits for the end of all work is answered when there is none left, or none that the
    /// store would take.
    pub(super) fn answer_finished(&mut self, now: Now, out: &mut Vec<Output>) {
        let is_done = self.gate.is_idle() && self.waiting.mail.is_empty();
        if self.finish_tickets.is_empty() || !(is_done || self.trouble.is_some()) {
            return;
        }
        for ticket in std::mem::take(&mut self.finish_tickets) {
            out.push(Output::Answer(ticket, Ok(self.inspect(now))));
        }
    }

    /// Whether the store has said, at least once, what there is of the room; or that it cannot.
    /// Until then a question about the room has no answer.
    pub fn is_known(&self) -> bool {
        !matches!(self.phase, Phase::Opening) || self.trouble.is_some()
    }

    /// Who is here, as an operator sees it.
    pub fn roster(&self, after: Option<Sid>, limit: usize) -> Roster {
        let mut roster = Roster { count: self.seats.seen().0, ..Roster::default() };
        let mut size = 0;
        for seat in self.seats.after(after) {
            let Some(member) = seen(seat) else { continue };
            size += seat.bytes();
            let is_full = size > self.settings.outbox.presence_bytes && !roster.members.is_empty();
            if roster.members.len() == limit || is_full {
                roster.more = true;
                break;
            }
            let (connection, auto_responded) = (seat.connection(), None);
            roster.members.push(RosterMember { member, connection, auto_responded });
        }
        roster
    }

    /// The room as an operator sees it.
    pub(super) fn inspect(&self, now: Now) -> Inspection {
        let is_trouble = self.trouble.is_some();
        let state = match self.phase {
            _ if is_trouble => "degraded",
            Phase::Opening | Phase::Waking(_) | Phase::Recovering { .. } => "waking",
            Phase::Awake(_) | Phase::Hibernating(_) => "awake",
            Phase::Asleep if self.seats.is_empty() && self.joining.is_empty() => "cold",
            Phase::Asleep => "asleep",
        };
        Inspection {
            room: self.room.to_string(),
            state,
            seats: self.seats.len(),
            bytes: self.head.bytes,
            head: Head { epoch: self.head.epoch.to_string(), seq: self.head.newest },
            alarm: self.alarm.map(|due| super::AlarmSeen { due, failures: 0 }),
            last_wake: self.last_wake,
            why_awake: self.why_awake(now),
        }
    }

    /// What keeps the room in memory, or on its way there: the store while it owes an answer, else
    /// the last event that needed the room.
    fn why_awake(&self, now: Now) -> Option<WhyAwake> {
        let (by_store, is_leaving) = match &self.phase {
            Phase::Opening | Phase::Asleep | Phase::Recovering { wake: false } => return None,
            Phase::Recovering { wake: true } => (true, false),
            Phase::Waking(_) => (false, false),
            Phase::Awake(_) => (!self.gate.is_idle(), false),
            Phase::Hibernating(_) => (true, true),
        };
        // The clock starts anew when what is under way is done; nobody knows when that will be.
        let from = if by_store { now.ms } else { self.needed.at.ms };
        let sleep_after = self.settings.sleep_after.as_millis() as u64;
        Some(WhyAwake {
            holder: if by_store { "store" } else { self.needed.by },
            since: self.needed.at.wall,
            sleeps_in_ms: if is_leaving { 0 } else { (from + sleep_after).saturating_sub(now.ms) },
        })
    }
}

impl Inspection {
    /// A room without a keeper, as it lies on disk; nothing if it left nothing there.
    pub fn of_cold(room: &RoomName, opened: &Opened) -> Option<Self> {
        let is_there = opened.newest > 0 || !opened.seats.is_empty() || opened.alarm.is_some();
        is_there.then(|| Self {
            room: room.to_string(),
            state: if opened.seats.is_empty() { "cold" } else { "asleep" },
            seats: opened.seats.len(),
            bytes: opened.bytes,
            head: Head { epoch: opened.epoch.to_string(), seq: opened.newest },
            alarm: opened.alarm.map(|due| AlarmSeen { due, failures: 0 }),
            last_wake: None,
            why_awake: None,
        })
    }
}
