//! What waits for the journal's thread.
//!
//! Not a channel: everything that waits is taken at once, a wish to trim needs no place in the
//! line, and what waits is bounded by its bytes too.

use std::collections::VecDeque;
use std::time::Instant;

use super::super::{Done, Error, Record};
use super::bell::Bell;
use crate::budget::{self, Budget};
use crate::protocol::{Epoch, RoomName};
use crate::supervision::caught;

/// The most appends that wait; then [`Error::Busy`].
pub const WAITING: usize = 16_384;

/// The most bytes that wait; then [`Error::Busy`], unless nothing waits.
pub const WAITING_BYTES: usize = 64 << 20;

/// The most bytes of one commit: its pages stay in memory until then.
const BATCH_BYTES: usize = 8 << 20;

/// One room's records, not yet on disk. Dropped without an answer, as by a panic of the journal's
/// thread, it is answered that it failed: its keeper waits for it, and does nothing else meanwhile.
pub struct Append {
    pub room: RoomName,
    pub records: Vec<Record>,
    done: Option<Done>,
    bytes: usize,
}

impl Append {
    pub fn new(room: RoomName, records: Vec<Record>, done: Done) -> Self {
        let bytes = records.iter().map(bytes_of).sum::<usize>() + room.as_str().len();
        Self { room, records, done: Some(done), bytes }
    }

    /// Answers, whatever the keeper makes of it.
    pub fn answer(mut self, result: Result<Epoch, Error>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<Epoch, Error>) {
        let Some(done) = self.done.take() else { return };
        if let Err(panic) = caught(|| done(result)) {
            tracing::error!(room = %self.room, panic, "a keeper failed to hear of an append");
        }
    }

    /// Forgets who waits for it.
    fn silence(mut self) {
        self.done = None;
    }
}

impl Drop for Append {
    fn drop(&mut self) {
        let why = "the journal's thread has failed".to_owned();
        self.tell(Err(Error::Unwell { doing: "append to the journal", why }));
    }
}

/// About as much as the record takes in memory and in the journal.
fn bytes_of(record: &Record) -> usize {
    let own = std::mem::size_of::<Record>();
    own + match record {
        Record::Message(message) => message.body.len(),
        Record::Seat(seat) => {
            let tags = seat.tags.iter().map(|tag| tag.len() + 24).sum::<usize>();
            seat.name.len() + tags + seat.attachment.as_ref().map_or(0, String::len)
        }
        Record::State(state) => state.len(),
        Record::SeatLeft(_) | Record::SeatEnded(_) | Record::Alarm(_) | Record::Deleted => 0,
    }
}

/// What the thread does next.
#[derive(Default)]
pub struct Work {
    pub appends: Vec<Append>,
    /// Entries may have become free to go.
    pub trim: bool,
    /// Somebody could not read the file.
    pub suspect: bool,
    /// Nothing will come any more.
    pub end: bool,
}

/// The line.
#[derive(Default)]
pub struct Queue(Bell<Inner>);

#[derive(Default)]
struct Inner {
    appends: VecDeque<Append>,
    bytes: usize,
    trim: bool,
    suspect: bool,
    closed: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let there = || self.appends.iter().map(|append| append.bytes).sum();
        budget::check(Budget::AppendBytes, self.bytes, there);
    }
}

impl Queue {
    /// Takes an append, or answers it with the reason.
    pub fn push(&self, append: Append) {
        let refused = self.0.ring(|inner| {
            if inner.closed {
                return Some((append, Error::Closed));
            }
            let full = inner.bytes + append.bytes > WAITING_BYTES && !inner.appends.is_empty();
            if full || inner.appends.len() == WAITING {
                return Some((append, Error::Busy));
            }
            inner.bytes += append.bytes;
            inner.appends.push_back(append);
            None
        });
        if let Some((append, error)) = refused {
            append.answer(Err(error));
        }
    }

    /// Says that entries may be free to go.
    pub fn trim(&self) {
        self.0.ring(|inner| inner.trim = true);
    }

    /// Says that the file could not be read.
    pub fn suspect(&self) {
        self.0.ring(|inner| inner.suspect = true);
    }

    /// Takes no more; the thread ends when it has done what it took.
    pub fn close(&self) {
        self.0.ring(|inner| inner.closed = true);
    }

    /// Takes no more, and forgets what waits: nobody is answered.
    pub fn abandon(&self) {
        // With nothing locked: an answer may hold anything.
        self.end().into_iter().for_each(Append::silence);
    }

    /// Takes no more, and answers the appends that wait: there is no thread for them any more.
    pub fn fail(&self) {
        drop(self.end());
    }

    fn end(&self) -> VecDeque<Append> {
        self.0.ring(|inner| {
            inner.closed = true;
            inner.bytes = 0;
            std::mem::take(&mut inner.appends)
        })
    }

    /// Waits for something to do, at most until `deadline`.
    pub fn next(&self, deadline: Option<Instant>) -> Work {
        let is_wanted = |inner: &Inner| {
            !inner.appends.is_empty() || inner.trim || inner.suspect || inner.closed
        };
        self.0.wait(deadline, is_wanted, |inner| {
            let mut work = Work::default();
            let mut bytes = 0;
            while let Some(append) = inner.appends.front() {
                bytes += append.bytes;
                if bytes > BATCH_BYTES && !work.appends.is_empty() {
                    break;
                }
                inner.bytes -= append.bytes;
                work.appends.extend(inner.appends.pop_front());
            }
            work.trim = std::mem::take(&mut inner.trim);
            work.suspect = std::mem::take(&mut inner.suspect);
            work.end = inner.closed && inner.appends.is_empty();
            work
        })
    }
}
