//! The mover's thread: brings records from the journal to the rooms' own rows.
//!
//! A room is moved when its keeper puts it to sleep, or unasked when it holds too much of the
//! journal, by bytes or by age. Many rooms share a commit. It also owns the health of
//! `rooms.redb`, as the journal's thread does of its file.
//!
//! - `rooms` is committed first, then the entries leave the index, then the journal is trimmed:
//!   at every moment each record lies in at least one of the two, and readers know where.
//! - What is known of the wall clock is on disk before anything is trimmed by it: it lies in the
//!   same commit.
//! - A room whose rows are damaged is set aside: it keeps its entries and holds up nobody else.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::super::row::ClockRow;
use super::super::{Error, Moved};
use super::bell::Bell;
use super::file::{JOURNAL, Name, Trouble, guarded};
use super::moving::{Look, Move, Tables};
use super::rounds::Rounds;
use super::start::CLOCK;
use super::{Shared, lock};
use crate::protocol::RoomName;
use crate::supervision::{Task, caught};

/// The most rooms that wait to be moved; then [`Error::Busy`].
pub const WAITING: usize = 1024;

/// The most rooms of one commit that were asked for.
const BATCH: usize = 500;

/// A room to be moved, and who waits for it. Dropped without an answer, as by a panic of the
/// mover's thread, it is answered that it failed.
pub struct Asked {
    room: RoomName,
    rules: Option<Bytes>,
    look: Look,
    moved: Option<Moved>,
}

impl Asked {
    pub fn new(room: RoomName, rules: Option<Bytes>, look: Look, moved: Moved) -> Self {
        Self { room, rules, look, moved: Some(moved) }
    }

    /// Answers, whatever the one who asked makes of it.
    fn answer(mut self, result: Result<(), Error>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<(), Error>) {
        let Some(moved) = self.moved.take() else { return };
        if let Err(panic) = caught(|| moved(result)) {
            tracing::error!(room = %self.room, panic, "a keeper failed to hear of a move");
        }
    }

    /// Forgets who waits for it.
    fn silence(mut self) {
        self.moved = None;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let why = "the mover's thread has failed".to_owned();
        self.tell(Err(Error::Unwell { doing: "move a room", why }));
    }
}

/// What waits for the mover.
#[derive(Default)]
pub struct Mover(Bell<Inner>);

#[derive(Default)]
struct Inner {
    asked: VecDeque<Asked>,
    check: bool,
    suspect: bool,
    closed: bool,
}

struct Work {
    asked: Vec<Asked>,
    suspect: bool,
    end: bool,
}

impl Mover {
    /// Puts a room in line, or answers with the reason why not.
    pub fn ask(&self, asked: Asked) {
        let refused = self.0.ring(|inner| {
            if inner.closed {
                return Some((asked, Error::Closed));
            }
            if inner.asked.len() == WAITING {
                return Some((asked, Error::Busy));
            }
            inner.asked.push_back(asked);
            None
        });
        if let Some((asked, error)) = refused {
            asked.answer(Err(error));
        }
    }

    /// Says that a limit may be exceeded.
    pub fn check(&self) {
        self.0.ring(|inner| inner.check = true);
    }

    /// Says that the file could not be read.
    pub fn suspect(&self) {
        self.0.ring(|inner| inner.suspect = true);
    }

    /// Takes no more; the thread ends when it has done what it took.
    pub fn close(&self) {
        self.0.ring(|inner| inner.closed = true);
    }

    /// Takes no more, and forgets what waits.
    pub fn abandon(&self) {
        self.end().into_iter().for_each(Asked::silence);
    }

    /// Takes no more, and answers those who wait: there is no thread for them any more.
    fn fail(&self) {
        drop(self.end());
    }

    fn end(&self) -> VecDeque<Asked> {
        self.0.ring(|inner| {
            inner.closed = true;
            std::mem::take(&mut inner.asked)
        })
    }

    fn next(&self, deadline: Option<Instant>) -> Work {
        let is_wanted =
            |inner: &Inner| !inner.asked.is_empty() || inner.check || inner.suspect || inner.closed;
        self.0.wait(deadline, is_wanted, |inner| {
            let few = inner.asked.len().min(BATCH);
            let asked = inner.asked.drain(..few).collect();
            inner.check = false;
            let suspect = std::mem::take(&mut inner.suspect);
            Work { asked, suspect, end: inner.closed && inner.asked.is_empty() }
        })
    }
}

/// What the mover's thread does until it is told to end.
///
/// A panic is dealt with like a failed commit: the rooms it had taken are answered that they
/// failed, and the file is closed and opened again.
pub fn run(shared: &Shared) {
    let (rounds, has_failed) = (&mut Rounds::default(), Cell::new(false));
    let recover = |why: &str| {
        has_failed.set(true);
        let why = Error::Unwell { doing: "move rooms", why: why.to_owned() };
        let broken = lock(&shared.rooms).fail(why);
        broken.discard();
    };
    let work = || {
        if has_failed.take() {
            rounds.again();
        }
        work(shared, rounds);
    };
    shared.settings.supervisor.keep_thread(Task::Mover, work, recover);
    shared.mover.fail(); // at an orderly end nobody waits
}

fn work(shared: &Shared, rounds: &mut Rounds) {
    loop {
        let retry_at = lock(&shared.rooms).retry_at();
        let next = || {
            let due = lock(&shared.journal).next_due();
            due.into_iter().chain(rounds.next()).min()
        };
        let work = shared.mover.next(retry_at.or_else(next));
        shared.settings.supervisor.spring(Task::Mover);
        if work.suspect {
            probe(shared);
        }
        match heal(shared) {
            Some(error) => {
                for asked in work.asked {
                    asked.answer(Err(error.clone()));
                }
            }
            None => serve(shared, rounds, work.asked, work.end),
        }
        if work.end {
            return;
        }
    }
}

/// Moves the rooms that were asked for and those that are due, all in one commit.
fn serve(shared: &Shared, rounds: &mut Rounds, mut asked: Vec<Asked>, ending: bool) {
    asked.sort_by(|a, b| a.room.cmp(&b.room)); // ascending keys are written far faster
    let of = |asked: &Asked| (asked.room.clone(), asked.rules.clone(), asked.look);
    let mut moves = asked.iter().map(of).collect::<Vec<_>>();
    if !ending {
        let due = lock(&shared.journal).due();
        moves.extend(due.into_iter().map(|room| (room, None, Look::Moving)));
        moves.extend(rounds.due(shared).into_iter().map(|(room, look)| (room, None, look)));
    }
    if moves.is_empty() && !rounds.ends_sweep() && !shared.settings.clock.is_unsaved() {
        return;
    }
    let results = match guarded(|| move_all(shared, rounds, &moves)) {
        Ok(results) => results,
        Err(trouble) => {
            rounds.again();
            let suspect = matches!(trouble, Trouble::Redb(_));
            let error = trouble.into_error("move rooms");
            if suspect {
                let broken = lock(&shared.rooms).fail(error.clone());
                broken.discard();
                shared.queue.suspect(); // the trouble may have been in reading the journal
            }
            moves.iter().map(|_| Err(error.clone())).collect()
        }
    };
    for (asked, result) in asked.into_iter().zip(results) {
        asked.answer(result);
    }
}

/// One commit of `rooms`, then the index. An error of one room is its own.
fn move_all(
    shared: &Shared,
    rounds: &mut Rounds,
    moves: &[(RoomName, Option<Bytes>, Look)],
) -> Result<Vec<Result<(), Error>>, Trouble> {
    let (entries, journal);
    {
        let held = lock(&shared.journal);
        entries = moves.iter().map(|(room, ..)| held.index.get(room).cloned()).collect::<Vec<_>>();
        journal = held.file.read()?;
    }
    let entries_table = journal.open_table(JOURNAL)?;
    let txn = lock(&shared.rooms).write()?;
    let clock = &shared.settings.clock;
    let ages = clock.ages();
    let mut wrote = false;
    let past;
    let mut results = Vec::with_capacity(moves.len());
    let mut moved = Vec::with_capacity(moves.len());
    {
        let mut tables = Tables::open(&txn)?;
        for ((room, rules, look), unmoved) in moves.iter().zip(entries) {
            let newest = unmoved.as_ref().and_then(|it| it.entries.back()).map_or(0, |it| it.key);
            let it = Move { room, unmoved, rules: rules.clone(), look: *look };
            let retention = shared.settings.retention_of(room);
            match tables.move_room(it, &entries_table, retention, &ages) {
                Ok(written) => {
                    wrote |= written;
                    moved.push((room, newest));
                    results.push(Ok(()));
                }
                Err(Trouble::Ours(error)) => {
                    tracing::error!(%room, %error, "a room cannot be moved");
                    lock(&shared.journal).index.set_aside(room);
                    rounds.pass_by(room);
                    results.push(Err(error));
                }
                Err(trouble) => return Err(trouble),
            }
        }
        wrote |= rounds.plan(ages.now(), &tables.due, &mut tables.meta)?;
        past = clock.past(wrote);
        if let Some(past) = &past {
            tables.meta.insert(CLOCK, ClockRow::encode(past).as_slice())?;
            wrote = true;
        }
    }
    if wrote {
        txn.commit()?
    } else {
        txn.abort()?
    }
    if let Some(past) = &past {
        clock.kept(past);
    }

    let mut journal = lock(&shared.journal);
    for (room, newest) in moved {
        journal.index.moved(room, newest, Instant::now());
    }
    let over = journal.index.over();
    drop(journal);
    shared.queue.trim();
    if over {
        shared.mover.check();
    }
    Ok(results)
}

/// Looks whether a reader's trouble is the file's.
fn probe(shared: &Shared) {
    let mut rooms = lock(&shared.rooms);
    if rooms.retry_at().is_some() {
        return;
    }
    let written = guarded(|| Tables::open(&rooms.write()?).map(drop));
    if let Err(trouble) = written {
        let broken = rooms.fail(trouble.into_error("read the rooms"));
        drop(rooms);
        broken.discard();
    }
}

/// Opens the rooms again if they are closed and the time has come. Says what is still wrong.
fn heal(shared: &Shared) -> Option<Error> {
    let retry_at = lock(&shared.rooms).retry_at()?;
    if Instant::now() < retry_at {
        return lock(&shared.rooms).why();
    }
    let opened = guarded(|| Ok(shared.disk.reopen(Name::Rooms)?));
    let mut rooms = lock(&shared.rooms);
    match opened {
        Ok(db) => {
            rooms.heal(db);
            None
        }
        Err(trouble) => {
            rooms.still_failing(trouble.into_error("open the rooms again"));
            rooms.why()
        }
    }
}
