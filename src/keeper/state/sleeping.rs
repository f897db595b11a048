//! Waking and falling asleep.
//!
//! A room that has been idle for long enough asks for its turn, and is awake until it has come and
//! as if it had never asked if it is needed again. An operator's word waits for nobody's turn.

use super::{LastWake, Needed, Now, Output, Phase, Position, State, Unavailable};
use crate::protocol::v1::RoomState;
use crate::room::Room;
use crate::store::Opened;

/// A room's place among those that would fall asleep. It is asked for once, and told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has not asked.
    None,
    Asked,
    Come,
}

impl State {
    pub(super) fn wake(&mut self, now: Now, cause: &'static str, out: &mut Vec<Output>) {
        self.phase = Phase::Waking(cause);
        self.needed = Needed { by: cause, at: now };
        self.open(out);
    }

    pub(super) fn open(&mut self, out: &mut Vec<Output>) {
        self.asked += 1;
        out.push(Output::Open(self.asked));
    }

    pub(super) fn opened(&mut self, now: Now, opened: Opened, took_us: u64, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Opening => {
                self.trouble = None;
                self.phase = Phase::Asleep;
                self.head = Position {
                    epoch: opened.epoch,
                    newest: opened.newest,
                    oldest: opened.oldest,
                    bytes: opened.bytes,
                };
                self.alarm = opened.alarm;
                self.was_deleted(opened.epoch); // there is no doubt any more
                out.push(Output::Known { newest: opened.newest });
                self.find_seats(now, opened.seats);
                if !self.wake_tickets.is_empty() {
                    self.wake(now, "wake", out);
                }
                self.operate_early(now, out);
            }
            Phase::Waking(_) | Phase::Recovering { .. } => {
                self.reopened(now, opened, took_us, out);
            }
            Phase::Asleep | Phase::Awake(_) | Phase::Hibernating(_) => {}
        }
    }

    pub(super) fn woke(&mut self, now: Now, room: Room, took_us: u64, out: &mut Vec<Output>) {
        let cause = match self.phase {
            Phase::Waking(cause) => cause,
            _ => "store",
        };
        self.phase = Phase::Awake(room);
        self.needed = Needed { by: cause, at: now };
        self.dozes = false;
        self.last_wake = Some(LastWake { cause, time: now.wall, took_us });
        out.push(Output::Woke { cause, took_us });
        self.tell_watchers(self.room_state(now), out);
        self.answer_awake(now, out);
        self.ring_if_awake(now, out);
    }

    pub(super) fn answer_awake(&mut self, now: Now, out: &mut Vec<Output>) {
        for ticket in std::mem::take(&mut self.wake_tickets) {
            out.push(Output::Answer(ticket, Ok(self.inspect(now))));
        }
    }

    /// Whether the room is awake and nothing holds it but the time since it was needed.
    pub(super) fn may_sleep(&self) -> bool {
        matches!(self.phase, Phase::Awake(_))
            && self.gate.is_idle()
            && self.waiting.mail.is_empty()
            && !self.is_moving
    }

    /// When the room sleeps if nothing happens: never while something is on its way to disk.
    pub(super) fn sleeps_at(&self) -> Option<u64> {
        self.may_sleep().then(|| self.needed.at.ms + self.settings.sleep_after.as_millis() as u64)
    }

    /// Whether the room would sleep now.
    fn is_tired(&self, now: Now) -> bool {
        self.sleeps_at().is_some_and(|at| self.dozes || at <= now.ms)
    }

    /// Asks for the room's turn when it is tired; once that has come, takes it or passes.
    pub(super) fn sleep_if_tired(&mut self, now: Now, out: &mut Vec<Output>) {
        match (self.turn, self.is_tired(now)) {
            (Turn::None, true) => {
                self.turn = Turn::Asked;
                out.push(Output::Tired);
            }
            (Turn::Come, true) => {
                self.turn = Turn::None;
                self.hibernate(out);
            }
            (Turn::Come, false) => {
                self.turn = Turn::None;
                out.push(Output::Pass);
            }
            (Turn::None, false) | (Turn::Asked, _) => {}
        }
    }

    pub(super) fn hibernate(&mut self, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.phase, Phase::Asleep) {
            Phase::Awake(room) => {
                out.push(Output::Hibernate(room.snapshot()));
                self.is_moving = true;
                self.phase = Phase::Hibernating(room);
            }
            other => self.phase = other,
        }
    }

    pub(super) fn slept(&mut self, now: Now, out: &mut Vec<Output>) {
        let is_wanted = !self.waiting.mail.is_empty()
            || !self.wake_tickets.is_empty()
            || !self.alarm_tickets.is_empty();
        if is_wanted && self.sleep_tickets.is_empty() {
            self.stay_awake(now, out); // somebody came just in time
            self.answer_awake(now, out);
            return self.ring_if_awake(now, out);
        }
        self.phase = Phase::Asleep;
        self.keys_asked = false;
        self.dozes = false;
        out.push(Output::Slept);
        self.tell_watchers(RoomState::Asleep, out);
        for ticket in std::mem::take(&mut self.sleep_tickets) {
            out.push(Output::Answer(ticket, Ok(self.inspect(now))));
        }
        if !self.wake_tickets.is_empty() {
            self.wake(now, "wake", out);
        } else if !self.alarm_tickets.is_empty() {
            self.wake(now, "alarm", out);
        }
    }

    pub(super) fn not_slept(
        &mut self,
        now: Now,
        error: &crate::store::Error,
        out: &mut Vec<Output>,
    ) {
        self.stay_awake(now, out);
        self.answer_awake(now, out);
        let reason = error.to_string();
        for ticket in std::mem::take(&mut self.sleep_tickets) {
            let unavailable = Unavailable { retry_after_ms: 1_000, reason: reason.clone() };
            out.push(Output::Answer(ticket, Err(unavailable)));
        }
        self.ring_if_awake(now, out);
    }

    pub(super) fn stay_awake(&mut self, now: Now, out: &mut Vec<Output>) {
        if std::mem::take(&mut self.dozes) {
            out.push(Output::Stayed);
        }
        match std::mem::replace(&mut self.phase, Phase::Asleep) {
            Phase::Hibernating(room) => {
                self.phase = Phase::Awake(room);
                self.needed.at = now;
            }
            other => self.phase = other,
        }
    }
}
