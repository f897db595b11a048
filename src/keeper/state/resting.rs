//! Resting: what is left of a state when nothing is on its way, nobody waits, and no moment is
//! waited for.
//!
//! That is nearly always so while a room sleeps. The state then gives way to what nobody could
//! find out again, and is made anew from it when something comes for the room; in between lies no
//! input, so nobody can tell.

use std::sync::Arc;

use super::sleeping::Turn;
use super::{Found, LastWake, Limiter, Now, Phase, Position, Presence, Seats, State, Timestamp};
use crate::keeper::Settings;
use crate::protocol::RoomName;

/// What is left.
pub struct Rest {
    head: Position,
    seats: Seats,
    presence: Presence,
    room_limit: Limiter,
    asked: u64,
    last_wake: Option<LastWake>,
    alarm: Option<Timestamp>,
    found: Found,
}

impl State {
    /// Whether the room sleeps and all there is to do is to wait for somebody to want something.
    pub fn may_rest(&self) -> bool {
        matches!(self.phase, Phase::Asleep)
            && self.is_well_written()
            && self.nobody_waits()
            && self.deadline().is_none()
    }

    fn is_well_written(&self) -> bool {
        let is_idle = self.gate.is_idle() && !self.append_in_flight && !self.is_moving;
        let is_well = self.trouble.is_none() && !self.write_failed;
        is_idle && is_well && self.rows_in_flight.is_empty() && self.deletion.is_none()
    }

    fn nobody_waits(&self) -> bool {
        let tickets =
            [&self.sleep_tickets, &self.wake_tickets, &self.alarm_tickets, &self.finish_tickets];
        self.joining.is_empty()
            && self.waiting.mail.is_empty()
            && self.early.is_empty()
            && self.turn == Turn::None // who was in line is told
            && tickets.into_iter().all(Vec::is_empty)
    }

    /// Takes what is left, if the state [may rest](Self::may_rest). It is of no more use then.
    pub fn rest(&mut self) -> Rest {
        debug_assert!(self.may_rest(), "something would be lost");
        let mut seats = std::mem::take(&mut self.seats);
        seats.shrink_to_fit();
        Rest {
            head: self.head,
            seats,
            presence: std::mem::take(&mut self.presence),
            room_limit: self.room_limit,
            asked: self.asked,
            last_wake: self.last_wake,
            alarm: self.alarm,
            found: self.found,
        }
    }

    /// A state as it was before it rested.
    pub fn rested(
        rest: Rest,
        room: RoomName,
        settings: impl Into<Arc<Settings>>,
        secret: [u8; 32],
        now: Now,
    ) -> Self {
        let Rest { head, seats, presence, room_limit, asked, last_wake, alarm, found } = rest;
        Self {
            phase: Phase::Asleep,
            head,
            seats,
            presence,
            room_limit,
            asked,
            last_wake,
            alarm,
            ..Self::blank(room, settings.into(), secret, found, now)
        }
    }
}
