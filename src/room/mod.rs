//! The rules of a room, and nothing else: no clock, no socket, no disk, no dice.
//!
//! The keeper hands in events and performs the effects, in order. The same events in the same
//! order always give the same effects, so that a room can be put to sleep between any two of
//! them and nobody can tell.
//!
//! This is also the seam for rooms of one's own: whatever [`Room::handle`] does, it learns of
//! the world by events and changes it by effects.
//!
//! - A message's `seq` is given here and nowhere else: 1, 2, 3, …
//! - Time never runs backwards in a room.
//! - What is seated never sleeps; it lies beside the room, in [`Seats`].

mod keys;
mod limiter;
mod seats;

use bytes::Bytes;

use crate::protocol::{BodyKind, KeyHash, Payload, Sid, Timestamp, v1};
use crate::store::{Message, Opened};

pub use keys::Keys;
pub use limiter::{Limiter, Rate};
pub use seats::{Connection, Place, Seat, SeatLimits, Seats, Side};

/// What a room and its seats must stay within.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Seats in a room.
    pub members: usize,
    /// Tags of a seat.
    pub tags: usize,
    /// Bytes of a tag.
    pub tag_bytes: usize,
    /// Characters of a name.
    pub name_chars: usize,
    /// Bytes of an attachment.
    pub attachment_bytes: usize,
    /// Bytes of an idempotency key.
    pub key_bytes: usize,
}

/// Something that needs the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member says something to everybody.
    Publish(Publish),
    /// A member says something to a few; it has no key.
    Direct(v1::To, Publish),
}

/// A message on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Who says it, as members will see it.
    pub from: v1::From,
    /// Where the answer goes, if one is wanted, with the request's number.
    pub answer: Option<(Connection, Option<u64>)>,
    /// The idempotency key, bound to its author.
    pub key: Option<KeyHash>,
    /// What is said.
    pub payload: Payload,
}

/// What the keeper does next, in exactly this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// On disk first, then to everyone: one encoding serves the journal, the ring and resume.
    Commit(Message),
    /// The publish stands in the log at `seq`.
    Ok {
        /// Who asked.
        to: Connection,
        /// The request's number.
        id: Option<u64>,
        /// The place in the log.
        seq: u64,
        /// Whether it had been there already.
        dup: bool,
    },
    /// To some seats only, and not stored.
    Send {
        /// Which.
        to: v1::To,
        /// What `body` holds.
        kind: BodyKind,
        /// The frame's body.
        body: Bytes,
        /// Who wants to know how many it reached, with the request's number.
        answer: Option<(Connection, Option<u64>)>,
    },
}

/// An ephemeral on its way to everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ephemeral {
    /// Its author: not sent to it.
    pub from: Sid,
    /// Of one author and key only the newest counts.
    pub key: String,
    /// What `body` holds.
    pub kind: BodyKind,
    /// The frame's body.
    pub body: Bytes,
}

/// A room that is awake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    newest: u64,
    time: Timestamp,
    /// Read from the store when the first keyed publish needs them.
    keys: Option<Keys>,
}

impl Room {
    /// Takes what was asleep from disk.
    pub fn wake(opened: &Opened) -> Self {
        Self { newest: opened.newest, time: opened.newest_time, keys: None }
    }

    /// The rules' own state, to be handed to [`Room::wake`] again. The built-in room's rules
    /// are its log, which the store has already.
    pub fn snapshot(&self) -> Bytes {
        Bytes::new()
    }

    /// Whether keyed publishes can be handled already: the keys are known.
    pub fn knows_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Takes the keys that the store remembers, oldest first.
    pub fn learn_keys(&mut self, keys: impl IntoIterator<Item = (KeyHash, u64)>) {
        self.keys = Some(keys.into_iter().collect());
    }

    /// The only way in; `effects` is the only way out. A room cannot fail, it can only refuse.
    pub fn handle(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Publish(publish) => self.publish(now, publish, effects),
            Event::Direct(to, publish) => {
                self.time = self.time.max(now);
                let (kind, body) = v1::direct_body(self.time, &publish.from, &publish.payload);
                effects.push(Effect::Send { to, kind, body, answer: publish.answer });
            }
        }
    }

    fn publish(&mut self, now: Timestamp, publish: Publish, effects: &mut Vec<Effect>) {
        let known = publish.key.and_then(|key| self.keys.as_ref()?.get(key));
        let ok = |seq, dup| publish.answer.map(|(to, id)| Effect::Ok { to, id, seq, dup });
        if let Some(seq) = known {
            effects.extend(ok(seq, true));
            return;
        }
        self.newest += 1;
        self.time = self.time.max(now);
        if let (Some(key), Some(keys)) = (publish.key, &mut self.keys) {
            keys.insert(key, self.newest);
        }
        let (kind, body) =
            v1::message_body(self.newest, self.time, &publish.from, &publish.payload);
        effects.push(Effect::Commit(Message {
            seq: self.newest,
            time: self.time,
            key: publish.key,
            kind,
            body,
        }));
        effects.extend(ok(self.newest, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn room() -> Room {
        Room::wake(&Opened {
            epoch: Epoch { store: 1, deletion: 0 },
            newest: 7,
            newest_time: Timestamp(100),
            oldest: 1,
            seats: vec![],
            rules: Bytes::new(),
            alarm: None,
            bytes: 0,
        })
    }

    fn publish(key: Option<u8>) -> Event {
        Event::Publish(Publish {
            from: v1::From { sid: Sid(1), user: None, name: "ada".into() },
            answer: Some((Connection(5), Some(17))),
            key: key.map(|k| KeyHash([k; 16])),
            payload: Payload::Json("1".into()),
        })
    }

    #[test]
    fn order_has_no_gap_and_time_never_runs_backwards() {
        let (mut room, mut effects) = (room(), vec![]);
        for now in [150, 120, 90] {
            room.handle(Timestamp(now), publish(None), &mut effects);
        }
        let said: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Commit(message) => Some((message.seq, message.time.0)),
                _ => None,
            })
            .collect();
        assert_eq!(said, [(8, 150), (9, 150), (10, 150)]);
    }

    #[test]
    fn a_key_takes_effect_once_and_its_retry_is_told_where() {
        let (mut room, mut effects) = (room(), vec![]);
        assert!(!room.knows_keys());
        room.learn_keys([(KeyHash([1; 16]), 3)]);
        room.handle(Timestamp(1), publish(Some(1)), &mut effects);
        room.handle(Timestamp(1), publish(Some(2)), &mut effects);
        room.handle(Timestamp(1), publish(Some(2)), &mut effects);
        let ok = |seq, dup| Effect::Ok { to: Connection(5), id: Some(17), seq, dup };
        assert_eq!(effects.len(), 4);
        assert_eq!(
            [&effects[0], &effects[2], &effects[3]],
            [&ok(3, true), &ok(8, false), &ok(8, true)]
        );
    }
}
