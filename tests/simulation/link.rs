//! One connection of a simulated client: its end of a real outbox, and what came out of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dormouse::outbox::{Closing, Filled, Lost, Outbox, Policy, Reader, Tally, Unsent};
use dormouse::protocol::framing::varint;
use dormouse::protocol::v1::PageFrom;
use dormouse::protocol::{Epoch, Framing, Profile};
use dormouse::room::Connection;
use serde::Deserialize;

use crate::disk::Disk;
use crate::driver::Letter;

/// The most messages caught up with at once.
const SLICE_MESSAGES: usize = 4;

/// A connection, as its session sees it.
pub struct Link {
    pub connection: Connection,
    pub framing: Framing,
    pub client: usize,
    /// What the client's position was when it said hello, and how much history it wanted.
    pub since: Option<u64>,
    pub since_epoch: Option<Epoch>,
    pub history: u64,
    /// Pages it asked for, by request number.
    pub pages: BTreeMap<u64, PageFrom>,
    /// Publishes that wait for an answer, by request number.
    pub asked: BTreeMap<u64, usize>,
    /// Mail that found the mailbox full.
    pub held: VecDeque<Letter>,
    /// Which of the room's keepers its mail goes to.
    pub keeper: Option<u64>,
    reader: Reader,
    is_open: bool,
}

/// Why a session ends itself.
pub enum End {
    Told(Closing),
    /// The store could not be read.
    Unwell,
    BehindRetention(u64),
    AnotherLog,
}

/// A frame a client reads, whichever profile it speaks.
#[derive(Debug, Deserialize)]
pub struct Frame {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: Option<u64>,
    pub seq: Option<u64>,
    pub time: Option<u64>,
    pub dup: Option<bool>,
    pub data: Option<String>,
    pub message: Option<String>,
    pub session: Option<String>,
    pub position: Option<At>,
    pub why: Option<String>,
    pub retry_after: Option<u64>,
    #[serde(default)]
    pub messages: Vec<Message>,
    pub more: Option<bool>,
}

/// A message in a page.
#[derive(Debug, Deserialize)]
pub struct Message {
    pub seq: u64,
    pub data: String,
}

/// A position on the wire.
#[derive(Debug, Deserialize)]
pub struct At {
    pub epoch: String,
    pub seq: u64,
}

impl Link {
    pub fn new(connection: Connection, framing: Framing, client: usize, policy: &Policy) -> Self {
        let reader = Reader::new(Outbox::new(framing, policy));
        let (asked, held) = (BTreeMap::new(), VecDeque::new());
        Self {
            connection,
            framing,
            client,
            since: None,
            since_epoch: None,
            history: 0,
            pages: BTreeMap::new(),
            asked,
            held,
            keeper: None,
            reader,
            is_open: true,
        }
    }

    pub fn profile(&self) -> Profile {
        self.framing.profile()
    }

    pub fn outbox(&self) -> std::sync::Arc<Outbox> {
        self.reader.outbox().clone()
    }

    /// Whether it can be read from.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Nothing more is read.
    pub fn close(&mut self) {
        self.is_open = false;
    }

    pub fn is_seated(&self) -> bool {
        self.reader.is_seated()
    }

    /// Everything there is to read now, frame by frame, and whether that was the end.
    pub fn read(&mut self, disk: &Disk) -> (Vec<Bytes>, Option<End>) {
        let mut unsent = Unsent::new();
        let end = loop {
            match self.reader.fill(&mut unsent, &mut Tally::default()) {
                Filled::Enough => break None,
                Filled::Close(closing) => break Some(End::Told(closing)),
                Filled::AskForMembers => unreachable!("the ring's clock is not ours"),
                Filled::CatchUp { from } => {
                    let Ok(slice) = disk.read(from, SLICE_MESSAGES) else {
                        break Some(End::Unwell);
                    };
                    match self.reader.caught_up(&slice, &mut unsent) {
                        Ok(()) => {}
                        Err(Lost::Retention { oldest }) => {
                            break Some(End::BehindRetention(oldest));
                        }
                        Err(Lost::Epoch) => break Some(End::AnotherLog),
                    }
                }
            }
        };
        let bytes: Vec<u8> = unsent.iter().flatten().copied().collect();
        (unwrap(self.framing, bytes.into()), end)
    }
}

/// Takes the transport's wrapping off, frame by frame.
fn unwrap(framing: Framing, mut bytes: Bytes) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (header, length) = match framing {
            Framing::V1WebTransport => {
                let (length, taken) = varint(&bytes).unwrap();
                (taken + 1, length as usize - 1)
            }
            Framing::V1WebSocket | Framing::Seed => match bytes[1] {
                126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                short => (2, usize::from(short)),
            },
        };
        frames.push(bytes.slice(header..header + length));
        bytes = bytes.slice(header + length..);
    }
    frames
}
