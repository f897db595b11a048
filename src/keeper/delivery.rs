//! What a keeper decided, on its way to its members: the ring and their outboxes.
//!
//! Apart from the task so that the simulation delivers by the same code.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::crowd::{AT_ONCE, Crowd, Round};
use super::state::Output;
use crate::outbox::{Change, Outbox, Policy, Ring, Seated, Shared};
use crate::protocol::framing::{wrap, wrap_json};
use crate::protocol::v1::{ErrorCode, ServerFrame};
use crate::protocol::{BodyKind, CloseReason, Framing, Profile, Verdict, seed};
use crate::room::{Connection, Sorted};

/// When to try again to reach somebody who does not keep up.
const BUSY_RETRY_MS: u64 = 1_000;

/// The outboxes of members.
pub(super) type Outboxes = Sorted<Connection, Arc<Outbox>>;

/// The ring of a room and the outboxes of its members.
pub struct Delivery {
    ring: Arc<Ring>,
    outboxes: Outboxes,
    crowd: Crowd,
    /// Whether the ring has moved since its readers were last told.
    moved: bool,
    /// Who was sent something of their own since then.
    touched: Vec<Arc<Outbox>>,
}

impl Delivery {
    /// Nobody, and nothing heard yet.
    pub fn new(policy: Policy) -> Self {
        Self::of(Ring::new(0, policy), Sorted::default())
    }

    /// A ring, and those who hear what is in it.
    pub(super) fn of(ring: Arc<Ring>, outboxes: Outboxes) -> Self {
        let (crowd, touched) = (Crowd::default(), Vec::new());
        Self { ring, outboxes, crowd, moved: false, touched }
    }

    /// What the room broadcasts.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// A client is about to join.
    pub fn expect(&mut self, connection: Connection, outbox: Arc<Outbox>) {
        self.crowd.enter(connection, &outbox);
        self.outboxes.insert(connection, outbox);
    }

    /// A member's outbox.
    pub fn outbox(&self, connection: Connection) -> Option<&Arc<Outbox>> {
        self.outboxes.get(&connection)
    }

    /// The room sleeps: what can be given back is.
    pub fn rest(&mut self) {
        self.ring.clear();
        self.crowd.rest();
        self.outboxes.shrink_to_fit();
        self.touched.shrink_to_fit();
    }

    /// What a room that rests keeps of it: all there is [of](Self::of) it once it was
    /// [flushed](Self::flush).
    pub(super) fn take(&mut self) -> (Arc<Ring>, Outboxes) {
        let mut outboxes = std::mem::take(&mut self.outboxes);
        outboxes.shrink_to_fit();
        (self.ring.clone(), outboxes)
    }

    /// Ends every member's connection.
    pub fn close_all(&self, reason: CloseReason, retry_after: Option<u64>) {
        self.outboxes.values().for_each(|outbox| outbox.close(reason, retry_after));
    }

    /// Lets the members have what was delivered, all of it at once, so that each of them is written
    /// to once. A crowd is served in rounds: what comes back is to be spawned.
    pub fn flush(&mut self) -> Vec<Round> {
        let mut shared = Shared::default();
        // Who was sent something of their own cannot wait for a round. If those are many, too, their
        // sessions do it: nobody is to wait here for a crowd.
        let served = if self.crowd.is_there() { AT_ONCE } else { usize::MAX };
        for (index, outbox) in self.touched.drain(..).enumerate() {
            if index < served { outbox.serve(&mut shared) } else { outbox.rouse() }
        }
        if !std::mem::take(&mut self.moved) {
            return Vec::new();
        }
        self.crowd.begin_rounds(&self.outboxes, &mut shared)
    }

    fn moves(&mut self, change: impl FnOnce(&Ring)) {
        change(&self.ring);
        self.moved = true;
    }

    /// Does what concerns members; anything else comes back. Then they are to be told by
    /// [`flush`](Self::flush).
    pub fn deliver(&mut self, output: Output) -> Option<Output> {
        match output {
            // Who is on the way out has the old one.
            Output::Deleted => {
                self.ring = self.ring.anew();
                return Some(Output::Deleted);
            }
            Output::Known { newest } => self.moves(|ring| ring.start(newest)),
            Output::Broadcast(messages) => self.moves(|ring| ring.push(messages)),
            Output::Ephemeral(ephemeral) => self.moves(|ring| ring.show(ephemeral)),
            Output::Presence { version, full, count, auto } => {
                self.moves(|ring| ring.change(Change { version, full, count, auto }));
            }
            Output::Seated {
                connection,
                epoch,
                start,
                may_skip,
                sid,
                presence,
                presence_version,
            } => {
                let ring = self.ring.clone();
                let seated =
                    Seated { ring, epoch, start, may_skip, sid, presence, presence_version };
                self.to(connection, |outbox| outbox.seat(seated));
            }
            Output::Send(connection, frame) => self.to(connection, |outbox| {
                deliver_to(outbox, &frame);
            }),
            Output::SendAfter(connection, after, frame) => self.to(connection, |outbox| {
                outbox.send_after(after, encode(outbox, &frame));
            }),
            Output::SendAside(connection, side, frame) => self.to(connection, |outbox| {
                outbox.answer_aside(side, encode(outbox, &frame), frame.verdict());
            }),
            Output::Members { connection, version, frame } => self.to(connection, |outbox| {
                outbox.send_members(version, encode(outbox, &frame));
            }),
            Output::Direct { to, after, kind, body, answer } => {
                let reach = self.direct(&to, after, kind, &body);
                if let Some((connection, id)) = answer {
                    let answer = outcome(id, reach);
                    self.to(connection, |outbox| deliver_to(outbox, &answer));
                }
            }
            Output::SeedLine { to, after, line } => {
                let frame = wrap_json(Framing::Seed, &line.to_json());
                let is_answer = matches!(line, seed::ServerFrame::RateLimit { .. });
                for connection in to {
                    self.to(connection, |outbox| match is_answer {
                        true => {
                            outbox.send(frame.clone());
                            outbox.judge(Verdict::Refused);
                        }
                        false => outbox.send_newest_after(after, frame.clone()),
                    });
                }
            }
            Output::Close { connection, reason, retry_after } => {
                self.to(connection, |outbox| outbox.close(reason, retry_after));
            }
            Output::Forget(connection) => {
                self.crowd.leave(connection);
                self.outboxes.remove(&connection);
            }
            other => return Some(other),
        }
        None
    }

    fn to(&mut self, connection: Connection, deliver: impl FnOnce(&Outbox)) {
        if let Some(outbox) = self.outboxes.get(&connection) {
            deliver(outbox);
            self.touched.push(outbox.clone());
        }
    }

    /// Hands a direct message to those who can take it.
    fn direct(&mut self, to: &[Connection], after: u64, kind: BodyKind, body: &Bytes) -> Reach {
        let mut reach = Reach::default();
        // One encoding per framing, however many it is for; nothing for who cannot be shown it.
        let mut encoded: [Option<Option<Bytes>>; Framing::COUNT] = Default::default();
        for outbox in to.iter().filter_map(|to| self.outboxes.get(to)) {
            let framing = outbox.framing();
            let frame = encoded[framing.index()].get_or_insert_with(|| shown(framing, kind, body));
            let Some(frame) = frame else { continue };
            match outbox.offer_after(after, frame.clone()) {
                true => {
                    reach.reached += 1;
                    self.touched.push(outbox.clone());
                }
                false => reach.busy += 1,
            }
        }
        reach
    }
}

/// Whom a direct message was handed to.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    reached: usize,
    /// Who is owed too much to be given more.
    busy: usize,
}

/// A direct message as a framing shows it: what is no chat is nothing to a seed client.
fn shown(framing: Framing, kind: BodyKind, body: &Bytes) -> Option<Bytes> {
    let mut frame = BytesMut::new();
    match framing.profile() {
        Profile::V1 => wrap(framing, kind, body, &mut frame),
        Profile::Seed => {
            let chat = seed::chat_json(kind, body)?;
            wrap(framing, BodyKind::Json, chat.as_bytes(), &mut frame);
        }
    }
    Some(frame.freeze())
}

fn deliver_to(outbox: &Outbox, frame: &ServerFrame) {
    let encoded = encode(outbox, frame);
    match frame.answers() {
        true => outbox.answer(encoded, frame.verdict()),
        false => outbox.send(encoded),
    }
}

fn encode(outbox: &Outbox, frame: &ServerFrame) -> Bytes {
    wrap_json(outbox.framing(), &frame.to_json())
}

/// What the publisher of a direct message is told. Who reached somebody is not told to try
/// again: they would get it twice.
fn outcome(id: Option<u64>, Reach { reached, busy }: Reach) -> ServerFrame {
    if reached == 0 && busy > 0 {
        return ServerFrame::Error {
            id,
            code: ErrorCode::RecipientBusy,
            retry_after: Some(BUSY_RETRY_MS),
            reason: "who it is for does not keep up".into(),
        };
    }
    ServerFrame::Reached { id, reached }
}
