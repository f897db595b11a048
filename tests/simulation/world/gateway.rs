//! What the gateway does: turns of the keeper, time, crashes, retention.

use dormouse::protocol::Timestamp;

use super::*;
use crate::driver::BEGIN;

impl World {
    /// The keeper takes some of the answers that there are, some of the mail, and a turn.
    pub fn turn(&mut self, answers: Vec<Input>, letters: usize) {
        self.deliver_held();
        if self.keeper.is_none() {
            if self.mailbox.is_empty() && self.spread == Found::Wanted {
                return;
            }
            self.begin();
        }
        let now = moment(self.now_ms);
        let keeper = self.keeper.as_mut().expect("it was just begun");
        let letters = match keeper.wants_mail() {
            true => self.mailbox.drain(..letters.min(self.mailbox.len())).collect(),
            false => Vec::new(),
        };
        let (naps, rests) = (keeper.naps, keeper.rests);
        let may_go = keeper.turn(now, answers, letters, &mut self.disk);
        self.naps += keeper.naps - naps;
        self.rests += keeper.rests - rests;
        self.seated.extend(keeper.seated.drain(..));
        if let Some(ringing) = self.ringing
            && let Some(at) = keeper.answers.iter().position(|(ticket, _)| *ticket == ringing)
        {
            let pause = if keeper.answers.swap_remove(at).1.is_ok() { 20 } else { 1_000 };
            (self.ringing, self.ring_at) = (None, self.now_ms + pause);
        }
        if may_go && self.mailbox.is_empty() {
            self.trace.say(|| "        the keeper retires".into());
            let keeper = self.keeper.take().expect("it had a turn");
            assert!(keeper.tickets.is_empty(), "an operator was forgotten");
            self.keepers += 1;
            self.disk.orphan();
        }
        self.deliver_held();
    }

    pub(super) fn begin(&mut self) {
        let found = std::mem::replace(&mut self.spread, Found::Wanted);
        let trace = self.trace.clone();
        let now = moment(self.now_ms);
        self.keeper = Some(Driver::begin(now, &self.settings, found, &mut self.disk, trace));
    }

    pub fn has_mail(&self) -> bool {
        !self.mailbox.is_empty() || self.keeper.as_ref().is_some_and(Driver::has_backlog)
    }

    /// Everything that can happen at this moment happens.
    pub fn drain(&mut self) {
        for _ in 0..1_000 {
            if self.has_mail() && self.keeper.as_ref().is_none_or(Driver::wants_mail) {
                self.turn(Vec::new(), usize::MAX);
            } else if self.is_alarm_due() {
                self.ring();
            } else if let Some(at) = self.disk.first_but_appends() {
                let answer = self.disk.answer(at);
                self.turn(vec![answer], 0);
            } else if self.disk.waiting() > 0 {
                let answer = self.disk.answer(0);
                self.turn(vec![answer], 0);
            } else if self.deadline().is_some_and(|at| at <= self.now_ms) {
                self.turn(Vec::new(), 0);
            } else {
                let waits = self.deadline().is_some();
                assert!(waits || !self.has_mail(), "the keeper waits for nothing, mail for it");
                return;
            }
        }
        panic!("the keeper does not come to rest");
    }

    pub fn deadline(&self) -> Option<u64> {
        let keeper = self.keeper.as_ref().and_then(Driver::deadline);
        keeper.into_iter().chain(self.alarm_at()).min()
    }

    /// When the clock has to look at the room, if it has to.
    fn alarm_at(&self) -> Option<u64> {
        let due = self.disk.engine.due(Timestamp(0), &Default::default(), 1).unwrap();
        let at = due.next.filter(|_| self.ringing.is_none())?;
        let mut ms = at.0.saturating_sub(BEGIN).max(self.ring_at).max(self.now_ms);
        while moment(ms).wall < at {
            ms += 1_000; // the wall clock is set back
        }
        Some(ms)
    }

    fn is_alarm_due(&self) -> bool {
        self.alarm_at().is_some_and(|at| at <= self.now_ms)
    }

    /// The clock says that an alarm is due, if it is.
    pub fn ring(&mut self) {
        if self.is_alarm_due() {
            self.ringing = Some(self.operate(Operation::Ring));
        }
    }

    /// Time goes by; everything that is due on the way happens when it is due.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        self.drain();
        while let Some(at) = self.deadline().filter(|at| *at <= until) {
            self.now_ms = self.now_ms.max(at);
            self.drain();
        }
        self.now_ms = until;
        self.drain();
    }

    /// The process dies and another one begins.
    pub fn crash(&mut self) {
        self.trace.say(|| "        CRASH".into());
        self.keeper = None;
        self.keepers += 1;
        self.mailbox.clear();
        self.ringing = None;
        self.disk.crash();
        self.spread = match self.disk.engine.seated().unwrap().is_empty() {
            true => Found::Wanted,
            false => Found::Seats { spread_ms: 500 },
        };
        let connections: Vec<_> = self.links.keys().copied().collect();
        for connection in connections {
            self.owe(connection);
        }
        self.links.clear();
        self.clients.iter_mut().for_each(|client| client.link = None);
        let log = self.log();
        self.note(None, Event::Found { log });
        if self.spread != Found::Wanted {
            self.begin(); // the dispatcher begins keepers of seats it finds
        }
    }

    /// Retention lets go of everything before `oldest`.
    pub fn trim(&mut self, oldest: u64) {
        let oldest = self.disk.trim(oldest);
        self.trace.say(|| format!("        trimmed before {oldest}"));
        self.note(None, Event::Trimmed { oldest });
    }
}
