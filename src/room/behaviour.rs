//! The seam for rooms of one's own: what a room does beside keeping its log.
//!
//! A behaviour learns of the world by what [`Happened`] and changes it by [`Act`]s; it never
//! touches a socket, a clock or the store. The same happenings in the same order must give the same
//! acts, for a room is put to sleep between any two of them, and nobody may be able to tell.
//!
//! - What a behaviour does about something, and what it knows afterwards, are one commit: durable
//!   together or not at all.
//! - An alarm rings once its time has come, at least once and in order, also if the process was down
//!   then; it wakes the room.

use std::fmt::Debug;

use bytes::Bytes;

use super::Publish;
use crate::protocol::{Payload, Timestamp};

/// What a behaviour is told.
#[derive(Debug)]
pub enum Happened<'a> {
    /// A member said something to everybody; it stands in the log now.
    Published(&'a Publish),
    /// The alarm that was set has come. There is none until another is set.
    Alarm,
}

/// What a behaviour can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Says something to everybody.
    Say {
        /// The name that members see; the message has no seat that it came from.
        name: String,
        /// What.
        payload: Payload,
    },
    /// Wants to be woken then, whatever was wanted before; `None`: not at all.
    SetAlarm(Option<Timestamp>),
}

/// What a room does.
pub trait Behaviour: Debug + Send {
    /// The only way in; `acts` is the only way out, and done in that order. It cannot fail.
    fn handle(&mut self, now: Timestamp, happened: Happened<'_>, acts: &mut Vec<Act>);

    /// What it knows, to be handed to [`Make`] again. Small: it is written whenever it changes.
    fn snapshot(&self) -> Bytes;
}

/// Makes a behaviour of what it knew when the room fell asleep; of nothing at first.
pub type Make = fn(&Bytes) -> Box<dyn Behaviour>;

/// The built-in room: a log that its members write, and nothing else.
pub fn chat(_: &Bytes) -> Box<dyn Behaviour> {
    Box::new(Chat)
}

#[derive(Debug)]
struct Chat;

impl Behaviour for Chat {
    fn handle(&mut self, _: Timestamp, _: Happened<'_>, _: &mut Vec<Act>) {}

    fn snapshot(&self) -> Bytes {
        Bytes::new()
    }
}
