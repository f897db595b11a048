//! The rules of a room, and nothing else: no clock, no socket, no disk, no dice.
//!
//! The keeper hands in events and performs the effects, in order. The same events in the same
//! order always give the same effects, so that a room can be put to sleep between any two of
//! them and nobody can tell.
//!
//! The log and its keys are the same in every room; what else a room does is its [`Behaviour`],
//! the seam for rooms of one's own.
//!
//! - A message's `seq` is given here and nowhere else: 1, 2, 3, …
//! - Time never runs backwards in a room.
//! - What is seated never sleeps; it lies beside the room, in [`Seats`].

mod behaviour;
mod keys;
mod limiter;
mod seats;
mod sorted;

use bytes::Bytes;

use crate::protocol::{BodyKind, KeyHash, Payload, Sid, Timestamp, v1};
use crate::store::{Message, Opened};

pub use behaviour::{Act, Behaviour, Happened, Make, chat};
pub use keys::Keys;
pub use limiter::{Limiter, Rate};
pub use seats::{Connection, Place, Seat, SeatLimits, Seats, Side};
pub use sorted::Sorted;

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
    /// The room's alarm may have come: it is for the room to see.
    Alarm,
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
    /// The room is to be woken then; `None`: not at all. In one commit with what comes before.
    SetAlarm(Option<Timestamp>),
    /// What the behaviour knows has changed. In one commit with what comes before.
    Keep(Bytes),
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
#[derive(Debug)]
pub struct Room {
    newest: u64,
    time: Timestamp,
    /// Read from the store when the first keyed publish needs them.
    keys: Option<Keys>,
    alarm: Option<Timestamp>,
    behaviour: Box<dyn Behaviour>,
    /// What the behaviour knew when that was last told.
    kept: Bytes,
}

impl Room {
    /// Takes what was asleep from disk.
    pub fn wake(opened: &Opened, make: Make) -> Self {
        Self {
            newest: opened.newest,
            time: opened.newest_time,
            keys: None,
            alarm: opened.alarm,
            behaviour: make(&opened.rules),
            kept: opened.rules.clone(),
        }
    }

    /// What the behaviour knows, to be handed to [`Room::wake`] again.
    pub fn snapshot(&self) -> Bytes {
        self.behaviour.snapshot()
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
            Event::Alarm => {
                if self.alarm.take_if(|at| *at <= now).is_some() {
                    self.behave(now, Happened::Alarm, effects);
                    effects.push(Effect::SetAlarm(self.alarm));
                }
            }
        }
    }

    /// Lets the behaviour do what it does.
    fn behave(&mut self, now: Timestamp, happened: Happened<'_>, effects: &mut Vec<Effect>) {
        let mut acts = Vec::new();
        self.behaviour.handle(now, happened, &mut acts);
        for act in acts {
            match act {
                Act::Say { name, payload } => {
                    let from = v1::From { sid: Sid(0), user: None, name };
                    let commit = self.stand(now, &from, None, &payload);
                    effects.push(commit);
                }
                Act::SetAlarm(at) => self.alarm = at,
            }
        }
        let knows = self.behaviour.snapshot();
        if knows != self.kept {
            self.kept = knows.clone();
            effects.push(Effect::Keep(knows));
        }
    }

    /// Puts something into the log.
    fn stand(
        &mut self,
        now: Timestamp,
        from: &v1::From,
        key: Option<KeyHash>,
        payload: &Payload,
    ) -> Effect {
        self.newest += 1;
        self.time = self.time.max(now);
        if let (Some(key), Some(keys)) = (key, &mut self.keys) {
            keys.insert(key, self.newest);
        }
        let (kind, body) = v1::message_body(self.newest, self.time, from, payload);
        Effect::Commit(Message { seq: self.newest, time: self.time, key, kind, body })
    }

    fn publish(&mut self, now: Timestamp, publish: Publish, effects: &mut Vec<Effect>) {
        let known = publish.key.and_then(|key| self.keys.as_ref()?.get(key));
        let ok = |seq, dup| publish.answer.map(|(to, id)| Effect::Ok { to, id, seq, dup });
        if let Some(seq) = known {
            effects.extend(ok(seq, true));
            return;
        }
        let commit = self.stand(now, &publish.from, publish.key, &publish.payload);
        effects.push(commit);
        effects.extend(ok(self.newest, false));
        let alarm = self.alarm;
        self.behave(now, Happened::Published(&publish), effects);
        if self.alarm != alarm {
            effects.push(Effect::SetAlarm(self.alarm));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn opened() -> Opened {
        Opened {
            epoch: Epoch { store: 1, deletion: 0 },
            newest: 7,
            newest_time: Timestamp(100),
            oldest: 1,
            seats: vec![],
            rules: Bytes::new(),
            alarm: None,
            bytes: 0,
        }
    }

    fn room() -> Room {
        Room::wake(&opened(), chat)
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

    /// Counts what is said, and says the count when its alarm comes.
    #[derive(Debug)]
    struct Counter(u8);

    impl Behaviour for Counter {
        fn handle(&mut self, now: Timestamp, happened: Happened<'_>, acts: &mut Vec<Act>) {
            match happened {
                Happened::Published(_) => {
                    self.0 += 1;
                    acts.push(Act::SetAlarm(Some(now.plus_ms(10))));
                }
                Happened::Alarm => acts.push(Act::Say {
                    name: "counter".into(),
                    payload: Payload::Json(self.0.to_string()),
                }),
            }
        }

        fn snapshot(&self) -> Bytes {
            if self.0 == 0 { Bytes::new() } else { vec![self.0].into() }
        }
    }

    #[test]
    fn a_behaviour_learns_by_events_and_acts_by_effects_and_its_alarm_rings_once() {
        let make: Make = |knows| Box::new(Counter(knows.first().copied().unwrap_or(0)));
        let (mut room, mut effects) = (Room::wake(&opened(), make), vec![]);
        room.handle(Timestamp(200), publish(None), &mut effects);
        let [Effect::Commit(_), Effect::Ok { .. }, Effect::Keep(knows), Effect::SetAlarm(at)] =
            &effects[..]
        else {
            panic!("{effects:?}")
        };
        assert_eq!((&knows[..], *at), (&[1][..], Some(Timestamp(210))));
        let asleep = Opened { newest: 8, rules: room.snapshot(), alarm: *at, ..opened() };
        let mut woken = Room::wake(&asleep, make);
        for room in [&mut room, &mut woken] {
            let mut effects = vec![];
            room.handle(Timestamp(209), Event::Alarm, &mut effects);
            assert_eq!(effects, [], "it is early");
            room.handle(Timestamp(210), Event::Alarm, &mut effects);
            let [Effect::Commit(message), Effect::SetAlarm(None)] = &effects[..] else {
                panic!("{effects:?}")
            };
            assert_eq!(message.seq, 9);
            room.handle(Timestamp(300), Event::Alarm, &mut effects);
            assert_eq!(effects.len(), 2, "once");
        }
    }
}
