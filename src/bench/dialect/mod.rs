//! How one kind of server is spoken to.
//!
//! The generator knows connections, frames and messages with a stamp in them. What a server
//! wants to hear before a member is in a room, how a message is published there and how one is
//! told from everything else that arrives: that is a dialect. Ours is one of them.
//!
//! A message is [`text`]: an `@`, the moment it should have been sent, and filling. It has no
//! character that JSON, or anybody else, would have to escape, so that it is found as it was sent.

mod dormouse;
mod nats;
mod plain;
mod socketio;

use bytes::BytesMut;

use super::wire::{Opcode, Transport};

pub use dormouse::{Dormouse, Ephemeral};

/// How a server is spoken to.
pub trait Dialect {
    /// Where a room's WebSocket is.
    fn path(&self, room: &str, _over: Transport) -> String {
        format!("/rooms/{room}")
    }

    /// The subprotocol to ask for.
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    /// The opcode of what a client says.
    fn opcode(&self) -> Opcode {
        Opcode::Text
    }

    /// What a member says once its connection is open; nothing when being connected is enough.
    fn hello(&self, _room: &str, _hello: &Hello) -> Option<String> {
        None
    }

    /// Whether a member is in its room as soon as it is connected.
    fn joins_by_connecting(&self) -> bool {
        false
    }

    /// Appends what publishes a message in a room.
    fn publish(&self, room: &str, message: &[u8], out: &mut BytesMut);

    /// Whether its publisher hears a message, too.
    fn echoes(&self) -> bool {
        true
    }

    /// Goes through the body of a frame, or through what a stream of them has so far, and says
    /// what is in it. Returns how much of it is done with.
    fn hear<'a>(&self, body: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) -> usize;

    /// Whether bodies are one stream, in which a message may begin in one frame and end in
    /// another.
    fn is_stream(&self) -> bool {
        false
    }
}

/// Who says hello.
#[derive(Debug, Clone, Default)]
pub struct Hello {
    /// A number among all members.
    pub member: usize,
    /// To be told when the room sleeps.
    pub watches: bool,
    /// Bytes of its attachment; none when 0.
    pub attachment: usize,
    /// What an earlier connection was told, to go on from there.
    pub returns: Option<Returns>,
}

/// What resuming needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Returns {
    /// The token of the seat.
    pub session: String,
    /// The epoch of the log.
    pub epoch: String,
    /// The position in it.
    pub seq: u64,
}

impl Returns {
    /// As a welcome told it.
    pub fn from_welcome(welcome: &[u8]) -> Option<Self> {
        let welcome: serde_json::Value = serde_json::from_slice(welcome).ok()?;
        let position = welcome.get("position")?;
        Some(Self {
            session: welcome.get("session")?.as_str()?.to_owned(),
            epoch: position.get("epoch")?.as_str()?.to_owned(),
            seq: position.get("seq")?.as_u64()?,
        })
    }
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A message, somewhere in these bytes.
    Message(&'a [u8]),
    /// The member is in its room.
    Joined,
    /// The seat's particulars, as JSON.
    Welcome(&'a [u8]),
    /// The room sleeps.
    Asleep,
    /// What was asked for: a page of the log, or of who is here.
    Page(&'a [u8]),
    /// It wants this answer.
    Wants(&'static str),
    /// It ends the connection, for this reason.
    Ends(&'a [u8]),
    /// Nothing that matters here.
    Else,
}

/// The servers that can be spoken to.
pub const PEERS: [&str; 4] = ["dormouse", "plain", "socketio", "nats"];

/// The dialect of that name.
pub fn named(name: &str) -> Box<dyn Dialect> {
    match name {
        "plain" => Box::new(plain::Plain),
        "socketio" => Box::new(socketio::SocketIo),
        "nats" => Box::new(nats::Nats),
        _ => Box::new(Dormouse),
    }
}

/// What a message begins with.
const MARK: u8 = b'@';
const DIGITS: usize = 16;

/// The least a message has: its mark and its stamp.
pub const LEAST_BYTES: usize = 1 + DIGITS;

/// Writes a message of `size` bytes with a stamp in it.
pub fn text(stamp: u64, size: usize, out: &mut Vec<u8>) {
    out.clear();
    out.push(MARK);
    let digit = |place: usize| b'0' + (stamp / 10_u64.pow(place as u32) % 10) as u8;
    out.extend((0..DIGITS).rev().map(digit));
    out.resize(size.max(LEAST_BYTES), b'x');
}

/// The stamp of the message in these bytes.
pub fn stamp(bytes: &[u8]) -> Option<u64> {
    let begin = bytes.iter().position(|byte| *byte == MARK)? + 1;
    let digits = bytes.get(begin..begin + DIGITS)?;
    digits.iter().try_fold(0_u64, |stamp, digit| {
        digit.is_ascii_digit().then(|| stamp * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_from_whatever_it_was_wrapped_in() {
        let mut message = Vec::new();
        for at in [0, 7, 1_234_567_890_123_456] {
            text(at, 100, &mut message);
            assert_eq!(message.len(), 100);
            assert_eq!(stamp(&message), Some(at));
            let wrapped = [br#"{"seq":12,"data":""#, &message[..], b"\"}"].concat();
            assert_eq!(stamp(&wrapped), Some(at));
        }
        text(5, 1, &mut message);
        assert_eq!((message.len(), stamp(&message)), (LEAST_BYTES, Some(5)));
        assert_eq!(stamp(b"@12"), None);
        assert_eq!(stamp(b"@12345678901234x6"), None);
    }

    #[test]
    fn a_welcome_says_how_to_return() {
        let welcome =
            br#"{"type":"welcome","session":"s","position":{"epoch":"e","seq":7},"count":1}"#;
        let expected = Returns { session: "s".to_owned(), epoch: "e".to_owned(), seq: 7 };
        assert_eq!(Returns::from_welcome(welcome), Some(expected));
        assert_eq!(Returns::from_welcome(b"{}"), None);
    }

    /// What each dialect hears in what its own server would say.
    #[test]
    fn every_dialect_knows_a_message_when_it_hears_one() {
        for peer in PEERS {
            let dialect = named(peer);
            let mut message = Vec::new();
            text(42, 100, &mut message);
            let text = String::from_utf8(message).unwrap();
            let said = match peer {
                "dormouse" => format!("{{\"type\":\"message\",\"seq\":1,\"data\":\"{text}\"}}"),
                "socketio" => format!("42[\"m\",\"{text}\"]"),
                "nats" => format!("MSG r.a 1 100\r\n{text}\r\n"),
                _ => text,
            };
            let mut stamps = Vec::new();
            let used = dialect.hear(said.as_bytes(), &mut |heard| match heard {
                Heard::Message(bytes) => stamps.push(stamp(bytes)),
                other => panic!("{peer} heard {other:?}"),
            });
            assert_eq!((used, stamps), (said.len(), vec![Some(42)]), "{peer}");
        }
    }
}
