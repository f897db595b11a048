//! What operators ask, answered without waking anything that should sleep.

use super::{Head, Inspection, Now, Operation, Output, Phase, State, Ticket, WhyAwake};
use super::{Needed, Unavailable};

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
                    self.wake("wake", out);
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

    /// The room as an operator sees it.
    pub(super) fn inspect(&self, now: Now) -> Inspection {
        let state = match self.phase {
            _ if self.trouble.is_some() => "degraded",
            Phase::Opening | Phase::Recovering { .. } => "waking",
            Phase::Waking(_) => "waking",
            Phase::Awake(_) | Phase::Hibernating(_) => "awake",
            Phase::Asleep if self.seats.is_empty() && self.joining.is_empty() => "cold",
            Phase::Asleep => "asleep",
        };
        let why_awake = matches!(state, "awake" | "waking").then(|| {
            let sleep_after = self.settings.sleep_after.as_millis() as u64;
            let asleep_at = self.needed.at.ms + sleep_after;
            WhyAwake {
                holder: if self.gate.is_idle() { self.needed.by } else { "store" },
                since: self.needed.at.wall,
                sleeps_in_ms: asleep_at.saturating_sub(now.ms),
            }
        });
        Inspection {
            room: self.room.to_string(),
            state,
            seats: self.seats.len(),
            bytes: self.head.bytes,
            head: Head { epoch: self.head.epoch.to_string(), seq: self.head.newest },
            alarm: self.alarm.map(|due| super::AlarmSeen { due, failures: 0 }),
            last_wake: self.last_wake,
            why_awake,
        }
    }
}
