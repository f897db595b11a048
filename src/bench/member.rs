//! One member: reads, counts, answers, and says what it is given to say.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::dialect::{Heard, Hello};
use super::load::Load;
use super::wire::{Door, Frame, Kind, Line, Opcode, Opener, first, put};

/// What is read at once: the longest frame a member can take, and one buffer for all of them.
const DESK_BYTES: usize = 4 << 20;

/// One in so many members times what it hears; the others only count.
const TIMED: usize = 8;

thread_local! {
    static DESK: RefCell<Vec<u8>> = RefCell::new(vec![0; DESK_BYTES]);
}

/// What a member is to say, filled from outside.
#[derive(Default)]
pub struct Mouth {
    unsent: RefCell<BytesMut>,
    waker: Cell<Option<Waker>>,
}

impl Mouth {
    /// Adds to it.
    pub fn say(&self, what: impl FnOnce(&mut BytesMut)) {
        what(&mut self.unsent.borrow_mut());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What a member has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is in its room.
    Joined,
    /// Its room sleeps.
    Asleep,
    /// A page that it asked for has come, and has so many bytes.
    Page(usize),
    /// Its connection ended.
    Ended(String),
}

/// A client in a room.
pub struct Member {
    line: Box<dyn Line>,
    load: Rc<Load>,
    room: usize,
    mouth: Rc<Mouth>,
    /// A frame that is not whole.
    kept: Vec<u8>,
    /// A message that is not whole, where frames are one stream.
    stream: Vec<u8>,
    times: bool,
    said: VecDeque<Said>,
    /// Messages it heard.
    pub count: u64,
    /// What it was told when it joined.
    pub welcome: Option<Vec<u8>>,
    /// Whether TLS was resumed.
    pub resumed: bool,
}

impl Member {
    /// Connects and says hello. It is in its room when it says so.
    pub async fn connect(
        opener: &Opener,
        load: &Rc<Load>,
        room: usize,
        hello: Option<&Hello>,
        receive_buffer: Option<usize>,
    ) -> std::io::Result<Self> {
        let name = &load.room(room).name;
        let door = Door {
            path: load.dialect.path(name, opener.transport()),
            subprotocol: load.dialect.subprotocol(),
            receive_buffer,
        };
        let opened = opener.open(&door).await?;
        let mouth = Rc::new(Mouth::default());
        let said = hello.and_then(|hello| load.dialect.hello(name, hello));
        let joined = load.dialect.joins_by_connecting().then_some(Said::Joined);
        let mut member = Self {
            line: opened.line,
            load: load.clone(),
            room,
            mouth,
            kept: Vec::new(),
            stream: Vec::new(),
            times: hello.is_some_and(|hello| hello.member % TIMED == 0),
            said: joined.into_iter().collect(),
            count: 0,
            welcome: None,
            resumed: opened.resumed,
        };
        if let Some(said) = said {
            member.say(&said);
        }
        let used = member.frames(&opened.read);
        member.kept.extend_from_slice(&opened.read[used..]);
        Ok(member)
    }

    /// What it says.
    pub fn mouth(&self) -> &Rc<Mouth> {
        &self.mouth
    }

    /// Lives until there is something to tell. Cancel-safe.
    pub async fn next(&mut self) -> Said {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Lives until it is in its room; else why it is not.
    pub async fn joined(&mut self) -> Result<(), String> {
        loop {
            match self.next().await {
                Said::Joined => return Ok(()),
                Said::Asleep | Said::Page(_) => {}
                Said::Ended(why) => return Err(why),
            }
        }
    }

    /// Asks for a page, and lives until it has come: its bytes; else why it did not.
    pub async fn ask(&mut self, request: &str) -> Result<usize, String> {
        self.say(request);
        loop {
            match self.next().await {
                Said::Page(bytes) => return Ok(bytes),
                Said::Joined | Said::Asleep => {}
                Said::Ended(why) => return Err(why),
            }
        }
    }

    /// Says goodbye, so that its seat ends with its connection.
    pub async fn leave(mut self) {
        self.say("{\"type\":\"bye\"}");
        self.stay().await;
    }

    fn say(&self, frame: &str) {
        let (framing, opcode) = (self.load.transport.framing(), self.load.dialect.opcode());
        self.mouth.say(|unsent| put(framing, opcode, frame.as_bytes(), unsent));
    }

    /// Lives until its connection ends, and says why.
    pub async fn stay(&mut self) -> String {
        loop {
            if let Said::Ended(why) = self.next().await {
                return why;
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Said> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Poll::Ready(said);
            }
            if let Err(error) = self.poll_say(cx) {
                return Poll::Ready(Said::Ended(error.to_string()));
            }
            while let Poll::Ready(body) = self.line.poll_datagram(cx) {
                let count = self.body(&body);
                self.tally(count);
            }
            match ready!(self.poll_hear(cx)) {
                Ok(0) => return Poll::Ready(Said::Ended("the connection was closed".to_owned())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Said::Ended(error.to_string())),
            }
        }
    }

    /// Writes what there is to say, as far as it is taken.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        self.mouth.waker.set(Some(cx.waker().clone()));
        let mut unsent = self.mouth.unsent.borrow_mut();
        let mut wrote = false;
        while !unsent.is_empty() {
            let Poll::Ready(taken) = self.line.poll_write(cx, &unsent)? else { return Ok(()) };
            unsent.advance(taken);
            wrote = true;
        }
        if wrote && let Poll::Ready(flushed) = self.line.poll_flush(cx) {
            return flushed;
        }
        Ok(())
    }

    /// Reads once and goes through what came.
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        DESK.with_borrow_mut(|desk| {
            let kept = self.kept.len();
            desk[..kept].copy_from_slice(&self.kept);
            if kept == desk.len() {
                return Poll::Ready(Err(std::io::Error::other("a frame without an end")));
            }
            let mut into = ReadBuf::new(&mut desk[kept..]);
            ready!(self.line.poll_read(cx, &mut into))?;
            let read = into.filled().len();
            let end = kept + read;
            let used = self.frames(&desk[..end]);
            self.kept.clear();
            self.kept.extend_from_slice(&desk[used..end]);
            Poll::Ready(Ok(read))
        })
    }

    /// Goes through whole frames; returns the bytes they had.
    fn frames(&mut self, bytes: &[u8]) -> usize {
        let framing = self.load.transport.framing();
        let (mut at, mut count) = (0, 0);
        while let Some((Frame { kind, body }, length)) = first(framing, &bytes[at..]) {
            at += length;
            match kind {
                Kind::Body => count += self.body(body),
                Kind::Ping => self.mouth.say(|unsent| put(framing, Opcode::Pong, body, unsent)),
                Kind::Pong => {}
                Kind::Close => {
                    let why = String::from_utf8_lossy(body.get(2..).unwrap_or_default());
                    self.said.push_back(Said::Ended(format!("closed: {why}")));
                }
            }
        }
        self.tally(count);
        at
    }

    fn tally(&mut self, count: u64) {
        if count > 0 {
            self.count += count;
            self.load.heard(self.room, count);
        }
    }

    /// What one body says: how many messages.
    fn body(&mut self, body: &[u8]) -> u64 {
        let load = self.load.clone();
        if !load.dialect.is_stream() {
            return self.hear(&load, body).0;
        }
        let mut stream = std::mem::take(&mut self.stream);
        stream.extend_from_slice(body);
        let (count, used) = self.hear(&load, &stream);
        stream.drain(..used);
        self.stream = stream;
        count
    }

    /// Goes through a body: how many messages were in it, and how much is done with.
    fn hear(&mut self, load: &Load, body: &[u8]) -> (u64, usize) {
        let (mut count, mut now) = (0, None);
        let used = load.dialect.hear(body, &mut |heard| match heard {
            Heard::Message(bytes) => {
                count += 1;
                if self.times {
                    load.time(*now.get_or_insert_with(|| load.stamp(Instant::now())), bytes);
                }
            }
            Heard::Joined => self.said.push_back(Said::Joined),
            Heard::Welcome(json) => self.welcome = Some(json.to_vec()),
            Heard::Asleep => self.said.push_back(Said::Asleep),
            Heard::Page(page) => self.said.push_back(Said::Page(page.len())),
            Heard::Wants(answer) => {
                let (framing, opcode) = (load.transport.framing(), load.dialect.opcode());
                self.mouth.say(|unsent| put(framing, opcode, answer.as_bytes(), unsent));
            }
            Heard::Ends(why) => {
                self.said.push_back(Said::Ended(String::from_utf8_lossy(why).into_owned()));
            }
            Heard::Else => {}
        });
        (count, used)
    }
}
