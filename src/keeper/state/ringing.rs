//! Alarms. The clock only says that a room's time may have come; what is true lies in the room.
//!
//! An alarm is a record: it counts once it is durable, and is taken away by the record that comes
//! with what the rules did about it. Until then it stays due, whatever fails, and the clock asks
//! again.

use super::{Held, Needed, Now, Output, Phase, State, Ticket, Unavailable};
use crate::protocol::v1::ServerFrame;
use crate::room::{Effect, Event};

impl State {
    /// The clock says that the room's alarm is due.
    pub(super) fn ring(&mut self, now: Now, ticket: Ticket, out: &mut Vec<Output>) {
        if self.trouble.is_some() {
            let (retry_after_ms, reason) = (self.retry_after_ms(), "the store is unwell".into());
            out.push(Output::Answer(ticket, Err(Unavailable { retry_after_ms, reason })));
            return;
        }
        if self.alarm.is_none_or(|at| at > now.wall) {
            out.push(Output::Answer(ticket, Ok(self.inspect(now))));
            return;
        }
        self.alarm_tickets.push(ticket);
        match self.phase {
            _ if self.is_deleting() => {}
            Phase::Asleep => self.wake(now, "alarm", out),
            _ => self.ring_if_awake(now, out),
        }
    }

    /// Lets the room do what it wanted to be woken for, if it is awake and asked for.
    pub(super) fn ring_if_awake(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.alarm_tickets.is_empty() || !self.sleep_tickets.is_empty() || self.is_deleting() {
            return;
        }
        let Phase::Awake(room) = &mut self.phase else { return };
        let mut effects = Vec::new();
        room.handle(now.wall, Event::Alarm, &mut effects);
        self.needed = Needed { by: "alarm", at: now };
        self.act(now, effects, out);
        let rung = Held::Rung(std::mem::take(&mut self.alarm_tickets));
        let free = self.gate.hold(rung);
        self.perform(now, free, out);
    }

    /// Does what a room wants done, in order.
    pub(super) fn act(&mut self, now: Now, effects: Vec<Effect>, out: &mut Vec<Output>) {
        for effect in effects {
            match effect {
                Effect::Commit(message) => self.gate.commit(Held::Hear(message)),
                Effect::SetAlarm(at) => self.gate.commit(Held::Alarm(at)),
                Effect::Keep(knows) => self.gate.commit(Held::Keep(knows)),
                Effect::Ok { to, id, seq, dup } => {
                    let ok = ServerFrame::Ok { id, seq, dup };
                    let free = self.gate.hold(Held::Send(to, ok));
                    self.perform(now, free, out);
                }
                Effect::Send { to, kind, body, answer } => {
                    let free = self.gate.hold(Held::Direct(to, kind, body, answer));
                    self.perform(now, free, out);
                }
            }
        }
    }
}
