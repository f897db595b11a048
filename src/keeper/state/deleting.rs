//! Deleting a room: a record like any other, and then nothing of it is left.
//!
//! Whatever was on its way before the deletion is done first. While that is on its way itself, all
//! mail waits; once it is durable, who waited is told, every seat ends with 4505, and who wants to
//! join finds a new and empty room of the same name, of another epoch. Then the store is asked to
//! erase the rows, and only then operators are answered.
//!
//! A deletion needs nothing of the room but its name: one that cannot be read can be deleted. As any
//! append it may fail without being undone; then the room is read again, and its epoch tells.

use super::{Held, Mail, Now, Operation, Output, Phase, Position, State, Ticket, Unavailable};
use crate::protocol::v1::{ErrorCode, ServerFrame};
use crate::protocol::{CloseReason, Profile};
use crate::room::{Connection, Seats};

/// A deletion, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    stage: Stage,
    tickets: Vec<Ticket>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    /// Its record is on its way.
    Writing,
    /// The append failed: perhaps it is there, perhaps not.
    InDoubt,
    /// It is durable; the rows are still to go.
    Erasing {
        /// Whether the store was asked for that.
        asked: bool,
    },
}

impl Deletion {
    /// Whether there is none, nor any doubt about one.
    pub(super) fn is_none(&self) -> bool {
        self.stage == Stage::None && self.tickets.is_empty()
    }
}

impl State {
    /// Whether the record of a deletion is on its way: nothing may be decided behind it.
    pub(super) fn is_deleting(&self) -> bool {
        self.deletion.stage == Stage::Writing
    }

    /// Whether operators still wait for a deletion.
    pub(super) fn has_deletion(&self) -> bool {
        matches!(self.deletion.stage, Stage::Writing | Stage::Erasing { .. })
    }

    /// Whether there is anything to delete.
    fn is_empty(&self) -> bool {
        let nobody = self.seats.is_empty() && self.joining.is_empty();
        nobody && self.head.newest == 0 && self.alarm.is_none() && self.gate.is_idle()
    }

    pub(super) fn delete(
        &mut self,
        now: Now,
        operation: Operation,
        ticket: Ticket,
        out: &mut Vec<Output>,
    ) {
        let is_unused = matches!(self.phase, Phase::Asleep)
            && self.seats.is_empty()
            && self.joining.is_empty()
            && self.waiting.mail.is_empty()
            && self.gate.is_idle();
        let is_known = self.trouble.is_none();
        match self.deletion.stage {
            Stage::Writing => self.deletion.tickets.push(ticket),
            Stage::Erasing { .. } if self.is_empty() => self.deletion.tickets.push(ticket),
            _ if is_known && self.is_empty() => {
                out.push(Output::Answer(ticket, Ok(self.inspect(now))));
            }
            _ if operation == Operation::DeleteIdle && !(is_known && is_unused) => {
                out.push(Output::Answer(ticket, Ok(self.inspect(now))));
            }
            _ => {
                self.deletion.tickets.push(ticket);
                self.deletion.stage = Stage::Writing;
                self.asked += 1; // what is being read is void once it is done
                self.gate.commit(Held::Deleted);
            }
        }
    }

    /// The deletion is durable: there was no such room.
    pub(super) fn deleted(&mut self, now: Now, out: &mut Vec<Output>) {
        for mail in std::mem::take(&mut self.waiting.mail) {
            match self.told_of_deletion(&mail) {
                Some(told) => out.extend(told),
                None => self.waiting.mail.push_back(mail),
            }
        }
        self.waiting.bytes = self.waiting.mail.iter().map(Mail::bytes).sum();
        let joining = std::mem::take(&mut self.joining);
        for connection in joining.into_keys().chain(self.connections()) {
            let (reason, retry_after) = (CloseReason::RoomDeleted, None);
            out.push(Output::Close { connection, reason, retry_after });
            out.push(Output::Forget(connection));
        }
        self.seats = Seats::default();
        self.rows_in_flight.clear();
        self.presence = Default::default();
        self.alarm = None;
        self.head = Position { epoch: self.head.epoch, newest: 0, oldest: 1, bytes: 0 };
        self.keys_asked = false;
        self.trouble = None;
        self.phase = Phase::Asleep;
        self.last_wake = None;
        out.push(Output::Deleted);
        let gone = || Unavailable { retry_after_ms: 0, reason: "the room was deleted".into() };
        let waking = std::mem::take(&mut self.wake_tickets);
        for ticket in waking.into_iter().chain(std::mem::take(&mut self.sleep_tickets)) {
            out.push(Output::Answer(ticket, Err(gone())));
        }
        for ticket in std::mem::take(&mut self.alarm_tickets) {
            out.push(Output::Answer(ticket, Ok(self.inspect(now))));
        }
        self.deletion.stage = Stage::Erasing { asked: false };
        self.erase(out);
    }

    fn connections(&self) -> Vec<Connection> {
        self.seats.iter().filter_map(crate::room::Seat::connection).collect()
    }

    /// What somebody is told who waited for the room that was deleted; nothing is said to who has no
    /// seat in it, and who is about to join waits on.
    fn told_of_deletion(&self, mail: &Mail) -> Option<Option<Output>> {
        let (connection, id, side) = match mail {
            Mail::Join(_) | Mail::Gone { .. } => return None,
            Mail::Publish { connection, id, .. } => (*connection, *id, None),
            Mail::Set { connection, set } => (*connection, set.id, None),
            Mail::Members { connection, members } => (*connection, members.id, None),
            Mail::History { connection, history, side } => (*connection, history.id, *side),
            Mail::Ephemeral { .. } | Mail::AskForMembers { .. } | Mail::Rename { .. } => {
                return Some(None);
            }
        };
        let is_v1 = self.seats.of(connection).is_some_and(|seat| seat.profile == Profile::V1);
        let frame = ServerFrame::Error {
            id,
            code: ErrorCode::RoomDeleted,
            retry_after: None,
            reason: "the room was deleted before this was done; do not try again".into(),
        };
        Some(is_v1.then(|| match side {
            Some(side) => Output::SendAside(connection, side, frame),
            None => Output::Send(connection, frame),
        }))
    }

    /// Has the rows erased, once nothing else is moving the room.
    pub(super) fn erase(&mut self, out: &mut Vec<Output>) {
        if self.deletion.stage == (Stage::Erasing { asked: false }) && !self.is_moving {
            self.deletion.stage = Stage::Erasing { asked: true };
            self.is_moving = true;
            out.push(Output::Hibernate(bytes::Bytes::new()));
        }
    }

    /// The store was done with moving the room. If it failed the rows go later, of themselves: they
    /// are void all the same.
    pub(super) fn erased(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.deletion.stage == (Stage::Erasing { asked: true }) {
            self.deletion.stage = Stage::None;
            let deleted = super::Inspection { state: "deleted", ..self.inspect(now) };
            for ticket in std::mem::take(&mut self.deletion.tickets) {
                out.push(Output::Answer(ticket, Ok(deleted.clone())));
            }
        }
    }

    /// The append failed, and with it perhaps the deletion.
    pub(super) fn deletion_failed(&mut self, out: &mut Vec<Output>) {
        if self.deletion.stage == Stage::Writing {
            self.deletion.stage = Stage::InDoubt;
            for ticket in std::mem::take(&mut self.deletion.tickets) {
                let reason = "the store is unwell: the room may be deleted or not, ask again";
                let retry_after_ms = self.retry_after_ms();
                let unavailable = Unavailable { retry_after_ms, reason: reason.into() };
                out.push(Output::Answer(ticket, Err(unavailable)));
            }
        }
    }

    /// Whether a room that was read again, of this epoch, is the successor of the one that was to be
    /// deleted.
    pub(super) fn was_deleted(&mut self, epoch: crate::protocol::Epoch) -> bool {
        let in_doubt = self.deletion.stage == Stage::InDoubt;
        if in_doubt {
            self.deletion.stage = Stage::None;
        }
        in_doubt && epoch != self.head.epoch
    }
}
