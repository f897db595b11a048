//! Saying something: who may, how often, and what becomes of it.

use super::requests::rate_limited;
use super::{Mail, Now, Output, Phase, State};
use crate::protocol::claim::key_hash;
use crate::protocol::v1;
use crate::protocol::{Payload, Profile, seed};
use crate::room::{Connection, Ephemeral, Event, Publish};

impl State {
    /// What never waits is done here, what is too much is refused here: neither wakes anything.
    pub(super) fn let_in(&mut self, now: Now, mail: Mail, out: &mut Vec<Output>) -> Option<Mail> {
        match mail {
            Mail::Ephemeral { connection, key, payload } => {
                if let Some(seat) = self.seats.of(connection) {
                    let from = seat.row.sid;
                    let (kind, body) = v1::ephemeral_body(from, &key, &payload);
                    out.push(Output::Ephemeral(Ephemeral { from, key, kind, body }));
                }
                None
            }
            Mail::Publish { connection, id, .. } if !self.may_publish(now, connection, id, out) => {
                None
            }
            mail => Some(mail),
        }
    }

    /// Takes one from the seat's and the room's limiter.
    pub(super) fn may_publish(
        &mut self,
        now: Now,
        connection: Connection,
        id: Option<u64>,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(seat) = self.seats.of(connection) else { return true };
        let (sid, profile) = (seat.row.sid, seat.profile);
        let rates = self.settings.rates;
        let Some(limits) = self.seats.limits(sid) else { return true };
        let mut own = limits.publishes;
        let taken = match profile {
            Profile::V1 => own.take(now.ms, rates.publishes),
            Profile::Seed => Ok(()), // it has a limiter of its own, with its session
        };
        let Err(retry_after) = taken.and_then(|()| self.room_limit.take(now.ms, rates.room)) else {
            limits.publishes = own; // what the room refuses costs the seat nothing
            return true;
        };
        match profile {
            Profile::V1 => out.push(Output::Send(connection, rate_limited(id, retry_after))),
            Profile::Seed => out.push(Output::SeedLine {
                to: vec![connection],
                after: 0,
                line: seed::ServerFrame::RateLimit { retry_after_ms: retry_after },
            }),
        }
        false
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one piece of mail")]
    pub(super) fn publish(
        &mut self,
        now: Now,
        connection: Connection,
        id: Option<u64>,
        key: Option<&str>,
        to: Option<v1::To>,
        payload: Payload,
        out: &mut Vec<Output>,
    ) {
        // Of an older connection, perhaps: what it says is not the seat's any more.
        let Some(seat) = self.seats.of(connection) else { return };
        let is_v1 = seat.profile == Profile::V1;
        let Phase::Awake(room) = &mut self.phase else {
            if is_v1 {
                out.push(Output::Send(connection, self.try_again(id)));
            }
            return;
        };
        let row = &seat.row;
        let publish = Publish {
            from: v1::From { sid: row.sid, user: row.user.clone(), name: row.name.clone() },
            answer: is_v1.then_some((connection, id)),
            key: key.map(|key| key_hash(row.author, key)),
            payload,
        };
        let event = match to {
            None => Event::Publish(publish),
            Some(to) => Event::Direct(to, publish),
        };
        let mut effects = Vec::new();
        room.handle(now.wall, event, &mut effects);
        self.act(now, effects, out);
    }
}
