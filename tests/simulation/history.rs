//! The judge: what everybody did, heard and was told, against the log that is left.
//!
//! A pure function over recorded events. No search is needed: `seq` *is* the order that is
//! claimed, so each rule is one look at each event. Every publish of a history says something
//! of its own, which makes its text its identity; only retries with a key say a text again.

use std::collections::BTreeMap;

/// Something that somebody outside the gateway saw or did, in real order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A publish was handed in, for the first time or again.
    Sent { text: String },
    /// It was answered.
    Ok { text: String, seq: u64, dup: bool },
    /// A v1 connection was told where it stands.
    Welcome { link: u64, since: Option<u64>, history: u64, newest: u64, why: Option<String> },
    /// A connection heard a message; the seed profile has no `seq`.
    Heard { link: u64, seq: Option<u64>, time: Option<u64>, text: String },
    /// A connection was told that it has everything up to here.
    Live { link: u64, seq: u64 },
    /// Retention let go of what is older.
    Trimmed { oldest: u64 },
    /// A connection got a page of the log.
    Page {
        link: u64,
        before: Option<u64>,
        after: Option<u64>,
        messages: Vec<(u64, String)>,
        more: bool,
    },
    /// A process died, and the next one found this log.
    Found { log: Vec<Entry> },
    /// All is quiet, and this connection is open.
    Rests { link: u64 },
}

/// A message in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    pub time: u64,
    pub text: String,
}

/// What a history must hold to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// What was answered stands in the log where the answer says.
    Durable,
    /// Whatever was said stands there once, and only one answer is not a duplicate's.
    Once,
    /// `seq` is 1, 2, 3, …, and time does not run backwards.
    Order,
    /// Everybody heard what the log says.
    SameForAll,
    /// Nobody missed anything between where they began and where they are.
    Whole,
    /// A position is refused only when what follows it is gone.
    Honest,
    /// What a log once held it holds for ever.
    NothingVanishes,
    /// What was said after something was known comes after it.
    RealTime,
    /// Nothing is in the log that nobody said, and no alarm that nothing set.
    NothingInvented,
    /// What a room wants to be woken for happens once its time has come.
    Rings,
}

/// A rule that was broken, and how.
#[derive(Debug, thiserror::Error)]
#[error("{rule:?} is broken: {how}")]
pub struct Violation {
    pub rule: Rule,
    pub how: String,
}

/// Where a connection's reading stands.
struct Reading {
    /// The first message it must be sent, unless retention was faster.
    begins: u64,
    /// Whether retention may be faster: it asked for some history, not for all since.
    may_skip: bool,
    next: Option<u64>,
}

struct Judge<'a> {
    log: &'a [Entry],
    seqs: BTreeMap<&'a str, u64>,
    /// What was known to be in the log when a text was first said.
    floors: BTreeMap<&'a str, u64>,
    known: u64,
    fresh: BTreeMap<&'a str, u64>,
    readings: BTreeMap<u64, Reading>,
    oldest: u64,
}

/// What a room says when an alarm rings, before what it was set for.
pub const ALARM: &str = "alarm ";

/// Whether every alarm of a log has rung that is due at `wall`; `sets` says when one is that a
/// message sets.
pub fn check_rings(
    log: &[Entry],
    wall: u64,
    sets: impl Fn(&Entry) -> Option<u64>,
) -> Result<(), Violation> {
    for entry in log {
        let Some(due) = sets(entry).filter(|due| *due <= wall) else { continue };
        if !log.iter().any(|ring| ring.text.strip_prefix(ALARM) == Some(&entry.text)) {
            return broken(Rule::Rings, format!("{entry:?} sets {due}, it is {wall}"));
        }
    }
    Ok(())
}

/// Holds a history against the log that is left of it.
pub fn check(events: &[Event], log: &[Entry]) -> Result<(), Violation> {
    let mut judge = Judge {
        log,
        seqs: BTreeMap::new(),
        floors: BTreeMap::new(),
        known: 0,
        fresh: BTreeMap::new(),
        readings: BTreeMap::new(),
        oldest: 1,
    };
    judge.log()?;
    for event in events {
        judge.event(event)?;
    }
    judge.said()
}

fn broken(rule: Rule, how: String) -> Result<(), Violation> {
    Err(Violation { rule, how })
}

impl<'a> Judge<'a> {
    fn log(&mut self) -> Result<(), Violation> {
        let mut before: Option<&Entry> = None;
        for (at, entry) in self.log.iter().enumerate() {
            if entry.seq != at as u64 + 1 {
                return broken(Rule::Order, format!("{entry:?} is number {}", at + 1));
            }
            if before.is_some_and(|before| before.time > entry.time) {
                return broken(Rule::Order, format!("{entry:?} is earlier than {before:?}"));
            }
            if let Some(first) = self.seqs.insert(&entry.text, entry.seq) {
                return broken(Rule::Once, format!("{entry:?} stands at {first} already"));
            }
            before = Some(entry);
        }
        Ok(())
    }

    fn event(&mut self, event: &'a Event) -> Result<(), Violation> {
        match event {
            Event::Sent { text } => {
                self.floors.entry(text).or_insert(self.known);
                Ok(())
            }
            Event::Ok { text, seq, dup } => self.answered(text, *seq, *dup),
            Event::Welcome { link, since, history, newest, why } => {
                self.welcome(*link, *since, *history, *newest, why.as_deref())
            }
            Event::Heard { link, seq, time, text } => self.heard(*link, *seq, *time, text),
            Event::Live { link, seq } => self.reached(*link, *seq),
            Event::Trimmed { oldest } => {
                self.oldest = self.oldest.max(*oldest);
                Ok(())
            }
            Event::Page { link, before, after, messages, more } => {
                self.page(*link, *before, *after, messages, *more)
            }
            Event::Found { log } if self.log.starts_with(log) => Ok(()),
            Event::Found { log } => {
                let lost = log.iter().zip(self.log).find(|(then, now)| then != now);
                broken(Rule::NothingVanishes, format!("first difference: {lost:?}"))
            }
            Event::Rests { link } => self.reached(*link, self.log.len() as u64),
        }
    }

    fn answered(&mut self, text: &'a str, seq: u64, dup: bool) -> Result<(), Violation> {
        if self.seqs.get(text) != Some(&seq) {
            let stands = self.seqs.get(text);
            return broken(Rule::Durable, format!("ok said {text} at {seq}, it is at {stands:?}"));
        }
        if !dup && self.fresh.insert(text, seq).is_some() {
            return broken(Rule::Once, format!("{text} took effect twice, by its answers"));
        }
        self.known = self.known.max(seq);
        Ok(())
    }

    fn welcome(
        &mut self,
        link: u64,
        since: Option<u64>,
        history: u64,
        newest: u64,
        why: Option<&str>,
    ) -> Result<(), Violation> {
        let resumed = since.filter(|_| why.is_none());
        if let (Some(since), Some(why)) = (since, why)
            && (why != "retention" || since + 1 >= self.oldest)
        {
            let oldest = self.oldest;
            let how = format!("{since} was refused ({why}), the log begins at {oldest}");
            return broken(Rule::Honest, how);
        }
        let begins = match resumed {
            Some(since) => since + 1,
            None => (newest + 1).saturating_sub(history).max(1),
        };
        self.readings.insert(link, Reading { begins, may_skip: resumed.is_none(), next: None });
        Ok(())
    }

    fn heard(
        &mut self,
        link: u64,
        seq: Option<u64>,
        time: Option<u64>,
        text: &str,
    ) -> Result<(), Violation> {
        let Some(&stands) = self.seqs.get(text) else {
            return broken(Rule::NothingVanishes, format!("{text} was heard and is nowhere"));
        };
        let entry = &self.log[stands as usize - 1];
        if seq.is_some_and(|seq| seq != stands) || time.is_some_and(|time| time != entry.time) {
            let how = format!("link {link} heard {text} as {seq:?} at {time:?}: {entry:?}");
            return broken(Rule::SameForAll, how);
        }
        let seed = Reading { begins: stands, may_skip: true, next: None };
        let reading = self.readings.entry(link).or_insert(seed);
        let expected = reading.next.unwrap_or(reading.begins);
        let skips = reading.next.is_none() && reading.may_skip;
        let latest = if skips { expected.max(self.oldest) } else { expected };
        if !(expected..=latest).contains(&stands) {
            let how = format!("link {link} heard {stands}, {expected} was next");
            return broken(Rule::Whole, how);
        }
        reading.next = Some(stands + 1);
        self.known = self.known.max(stands);
        Ok(())
    }

    /// A page has no hole, begins and ends where it was asked to, and says whether there is more.
    fn page(
        &self,
        link: u64,
        before: Option<u64>,
        after: Option<u64>,
        messages: &[(u64, String)],
        more: bool,
    ) -> Result<(), Violation> {
        for (seq, text) in messages {
            if self.seqs.get(&**text) != Some(seq) {
                return broken(Rule::SameForAll, format!("link {link}: {text} in a page at {seq}"));
            }
        }
        let follows = messages.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
        let (first, last) = (messages.first().map(|it| it.0), messages.last().map(|it| it.0));
        let begins = after.zip(first).is_none_or(|(after, first)| {
            first == after + 1 || (first > after && first <= self.oldest)
        });
        let ends = before.zip(last).is_none_or(|(before, last)| last < before);
        let is_all = more || after.is_some() || first.is_none_or(|first| first <= self.oldest);
        match follows && begins && ends && is_all {
            true => Ok(()),
            false => {
                let what = format!("before {before:?}, after {after:?}, more {more}");
                broken(Rule::Whole, format!("link {link}, a page {what}: {messages:?}"))
            }
        }
    }

    fn reached(&mut self, link: u64, seq: u64) -> Result<(), Violation> {
        let Some(reading) = self.readings.get_mut(&link) else { return Ok(()) };
        let skips = reading.next.is_none() && reading.may_skip;
        let next = reading.next.unwrap_or(reading.begins);
        let latest = if skips { next.max(self.oldest) } else { next };
        if !(next..=latest).contains(&(seq + 1)) {
            let how = format!("link {link} is said to be at {seq}, {next} is next");
            return broken(Rule::Whole, how);
        }
        reading.next = Some(seq + 1);
        Ok(())
    }

    fn said(&self) -> Result<(), Violation> {
        for entry in self.log {
            if let Some(what) = entry.text.strip_prefix(ALARM) {
                if self.seqs.get(what).is_none_or(|seq| *seq >= entry.seq) {
                    return broken(Rule::NothingInvented, format!("{entry:?}"));
                }
                continue;
            }
            match self.floors.get(&*entry.text) {
                None => return broken(Rule::NothingInvented, format!("{entry:?}")),
                Some(floor) if entry.seq <= *floor => {
                    let how = format!("{entry:?} was said when {floor} was known");
                    return broken(Rule::RealTime, how);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
