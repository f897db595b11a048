//! The store as a keeper meets it: slow, out of step, sometimes unwell.
//!
//! What is asked is done at some later moment and answered at another, and a crash between the
//! two loses the answer, or the deed as well. It can also be told to be wrong, which is how the
//! judge is shown to be right.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dormouse::keeper::state::{Input, Told};
use dormouse::protocol::{Epoch, RoomName};
use dormouse::store::{Engine, Error, Memory, Message, Record, Slice};

/// The most messages read at once.
const SLICE_MESSAGES: usize = 16;

/// What a keeper may ask of the store.
#[derive(Debug, Clone)]
pub enum Ask {
    Open(u64),
    Keys(u64),
    Read(u64, u64),
    Append(Vec<Record>),
    Hibernate(Bytes),
    /// Nothing of the store: when it is the room's turn to fall asleep.
    Turn,
}

/// Something asked and not yet answered.
pub struct UnderWay {
    ask: Ask,
    done: Option<Input>,
}

/// What a gateway could do wrong, planted where its store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// An append is answered, and so sent to everybody, before it is done.
    AppendAfterSend,
    /// The keys of a room that wakes are forgotten.
    LostKeys,
    /// Two neighbours of a replay change places.
    ReorderedReplay,
    /// An alarm does not outlive the process.
    LostAlarm,
    /// A message of a deleted room is there again.
    ComesBack,
    /// A page lacks one of its messages.
    HoleInPage,
}

/// The memory engine behind a line of questions.
pub struct Disk {
    pub engine: Memory,
    pub room: RoomName,
    pub page_bytes: usize,
    pub plant: Option<Plant>,
    /// Appends that were answered and not done.
    late: RefCell<VecDeque<Vec<Record>>>,
    under_way: Vec<UnderWay>,
    /// What retention let go of, for the judge.
    trimmed: RefCell<Vec<Message>>,
    /// The logs of the rooms that were deleted, all of each, by their epochs.
    lives: RefCell<Vec<(Epoch, Vec<Message>)>>,
}

impl Disk {
    pub fn new(room: RoomName, page_bytes: usize) -> Self {
        let (engine, under_way) = (Memory::new(7), Vec::new());
        let (plant, late, trimmed) = (None, RefCell::default(), RefCell::default());
        let lives = RefCell::default();
        Self { engine, room, page_bytes, plant, late, under_way, trimmed, lives }
    }

    pub fn ask(&mut self, ask: Ask) {
        self.under_way.push(UnderWay { ask, done: None });
    }

    pub fn waiting(&self) -> usize {
        self.under_way.len()
    }

    /// Does what was asked; it is answered later.
    pub fn act(&mut self, at: usize) {
        if self.under_way[at].done.is_none() {
            self.catch_up();
            let done = self.perform(&self.under_way[at].ask);
            self.under_way[at].done = Some(done);
        }
    }

    fn perform(&self, ask: &Ask) -> Input {
        match (self.plant, ask) {
            (Some(Plant::AppendAfterSend), Ask::Append(records)) => {
                self.late.borrow_mut().push_back(records.clone());
                Input::Appended(Ok(self.engine.reopen().open(&self.room).unwrap().epoch))
            }
            (Some(Plant::LostKeys), Ask::Keys(asked)) => {
                Input::Told { asked: *asked, told: Told::Keys(Ok(Vec::new())), took_us: 1 }
            }
            (_, Ask::Append(records)) if matches!(records.last(), Some(Record::Deleted)) => {
                self.delete(records, ask)
            }
            _ => act(&self.engine, &self.room, self.page_bytes, ask),
        }
    }

    /// A life of the room ends, unless that fails.
    fn delete(&self, records: &[Record], ask: &Ask) -> Input {
        let (epoch, mut log) = (self.epoch(), self.log());
        log.extend(records.iter().filter_map(|record| match record {
            Record::Message(message) => Some(message.clone()),
            _ => None,
        }));
        let answer = act(&self.engine, &self.room, self.page_bytes, ask);
        if self.epoch() != epoch {
            self.trimmed.borrow_mut().clear();
            if let (Some(Plant::ComesBack), Some(last)) = (self.plant, log.last()) {
                let again = Record::Message(Message { seq: 1, key: None, ..last.clone() });
                self.engine.append(&self.room, vec![again], Box::new(|_| {}));
            }
            self.lives.borrow_mut().push((epoch, log));
        }
        answer
    }

    /// The epoch of the room as it is now.
    pub fn epoch(&self) -> Epoch {
        self.engine.reopen().open(&self.room).unwrap().epoch
    }

    /// The logs of the rooms that were deleted.
    pub fn lives(&self) -> Vec<(Epoch, Vec<Message>)> {
        self.lives.borrow().clone()
    }

    /// Does what was answered already.
    fn catch_up(&self) {
        for records in self.late.borrow_mut().drain(..) {
            self.engine.append(&self.room, records, Box::new(|_| {}));
        }
    }

    /// A piece of the log for somebody who has fallen off the ring, or comes back.
    pub fn read(&self, from: u64, messages: usize) -> Result<Slice, Error> {
        self.catch_up();
        let mut slice = self.engine.read(&self.room, from, messages, self.page_bytes)?;
        if let (Some(Plant::ReorderedReplay), [first, second, ..]) =
            (self.plant, &mut slice.messages[..])
        {
            std::mem::swap(&mut first.body, &mut second.body);
        }
        Ok(slice)
    }

    /// Answers a question, whichever it is.
    pub fn answer(&mut self, at: usize) -> Input {
        self.act(at);
        self.under_way.remove(at).done.expect("it was just done")
    }

    /// Takes back a question: somebody else answers it.
    pub fn forget(&mut self, at: usize) {
        self.under_way.remove(at);
    }

    /// The first question that is no append.
    pub fn first_but_appends(&self) -> Option<usize> {
        self.under_way.iter().position(|under_way| !matches!(under_way.ask, Ask::Append(_)))
    }

    /// Nobody waits for these answers any more; the deeds are done all the same.
    pub fn orphan(&mut self) {
        (0..self.waiting()).for_each(|at| self.act(at));
        self.under_way.clear();
    }

    /// The process dies: what was not done never will be.
    pub fn crash(&mut self) {
        self.under_way.clear();
        self.late.borrow_mut().clear();
        self.engine = self.engine.reopen();
        if self.plant == Some(Plant::LostAlarm) {
            let none = vec![Record::Alarm(None)];
            self.engine.append(&self.room, none, Box::new(|_| {}));
        }
    }

    /// Retention lets go of what lies before `oldest`, but not of what is unmoved; says where
    /// the log begins then.
    pub fn trim(&mut self, oldest: u64) -> u64 {
        let log = self.kept();
        self.engine.trim(&self.room, oldest);
        let oldest = self.engine.reopen().open(&self.room).unwrap().oldest;
        self.trimmed.borrow_mut().extend(log.into_iter().filter(|message| message.seq < oldest));
        oldest
    }

    /// Every message there ever was, kept or trimmed.
    pub fn log(&self) -> Vec<Message> {
        self.trimmed.borrow().iter().cloned().chain(self.kept()).collect()
    }

    fn kept(&self) -> Vec<Message> {
        self.catch_up();
        let calm = self.engine.reopen(); // faults that lie in wait are not for us
        calm.read(&self.room, 1, usize::MAX, usize::MAX).unwrap().messages
    }
}

fn act(engine: &Memory, room: &RoomName, page_bytes: usize, ask: &Ask) -> Input {
    let told = |asked: u64, told| Input::Told { asked, told, took_us: 1 };
    match ask {
        Ask::Open(asked) => told(*asked, Told::Opened(engine.open(room))),
        Ask::Keys(asked) => told(*asked, Told::Keys(engine.keys(room))),
        Ask::Read(asked, from) => {
            let slice = engine.read(room, *from, SLICE_MESSAGES, page_bytes);
            told(*asked, Told::Messages(slice))
        }
        Ask::Append(records) => {
            let result = Arc::new(Mutex::new(None));
            let slot = result.clone();
            let done = Box::new(move |answer| *slot.lock().unwrap() = Some(answer));
            engine.append(room, records.clone(), done);
            let answer = result.lock().unwrap().take();
            Input::Appended(answer.expect("the memory engine answers at once"))
        }
        Ask::Turn => Input::Turn,
        Ask::Hibernate(rules) => Input::Hibernated(engine.hibernate(room, Some(rules.clone()))),
    }
}
