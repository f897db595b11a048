//! What must hold of a room's log, whatever happened to the gateway.
//!
//! A pure judge: it is told what everybody did, heard and was answered, in real order, and what
//! the log held whenever somebody read it. No search is needed: `seq` *is* the order that is
//! claimed, so each rule is one look at each event, and the first lie is found when it is told.
//!
//! Every publish has an idempotency key of its own, which is a message's identity.

use std::collections::{BTreeMap, HashMap};

/// A message as somebody was shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub seq: u64,
    pub time: u64,
    pub key: String,
}

/// Something that somebody outside the gateway did or saw in one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A publish was handed in, for the first time or again.
    Sent { key: String },
    /// It was answered.
    Ok { key: String, seq: u64, dup: bool },
    /// A connection was welcomed, with the position that it named.
    Began { who: String, since: Option<u64> },
    /// It heard a message.
    Heard { who: String, message: Message },
    /// It was told that it has everything up to here.
    Live { who: String, seq: u64 },
    /// All there is behind a position was read.
    Read { after: u64, log: Vec<Message> },
}

/// What an event may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// What was answered stands in the log, where the answer says.
    Durable,
    /// A key takes effect once, and only one of its answers is not a duplicate's.
    Once,
    /// `seq` is 1, 2, 3, …, and time does not run backwards.
    Order,
    /// Everybody hears the same.
    SameForAll,
    /// Nobody misses anything between where they began and where they are, or hears it twice.
    Whole,
    /// What somebody heard stays in the log for ever.
    NothingVanishes,
    /// What was said after something was known comes after it.
    RealTime,
    /// Nothing is there that nobody said.
    NothingInvented,
}

/// What is known of a place in the log.
struct Known {
    key: String,
    /// Not known from an answer alone.
    time: Option<u64>,
    is_answered: bool,
}

struct Said {
    /// What was known when it was said first: it must come later.
    floor: u64,
    is_fresh_answered: bool,
    seq: Option<u64>,
}

/// One room's judge.
#[derive(Default)]
pub struct Checker {
    log: BTreeMap<u64, Known>,
    said: HashMap<String, Said>,
    /// The next message of each connection, once that is certain.
    next: HashMap<String, Option<u64>>,
}

type Verdict = Result<(), (Rule, String)>;

fn broken(rule: Rule, how: String) -> Verdict {
    Err((rule, how))
}

impl Checker {
    /// The newest message that anybody knows of.
    pub fn newest(&self) -> u64 {
        self.log.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Hears what happened next; an error is a lie, and which rule it breaks.
    pub fn tell(&mut self, event: Event) -> Verdict {
        match event {
            Event::Sent { key } => {
                let said = Said { floor: self.newest(), is_fresh_answered: false, seq: None };
                self.said.entry(key).or_insert(said);
                Ok(())
            }
            Event::Ok { key, seq, dup } => self.answered(key, seq, dup),
            Event::Began { who, since } => {
                self.next.insert(who, since.map(|since| since + 1));
                Ok(())
            }
            Event::Heard { who, message } => {
                self.follows(&who, message.seq)?;
                self.next.insert(who, Some(message.seq + 1));
                self.stands(message)
            }
            Event::Live { who, seq } => {
                self.follows(&who, seq + 1)?;
                self.next.insert(who, Some(seq + 1));
                Ok(())
            }
            Event::Read { after, log } => self.read(after, log),
        }
    }

    fn answered(&mut self, key: String, seq: u64, dup: bool) -> Verdict {
        self.place(&key, seq, Rule::Durable)?;
        let said = self.said.get_mut(&key).expect("it has a place, so it was said");
        if !dup && std::mem::replace(&mut said.is_fresh_answered, true) {
            return broken(Rule::Once, format!("{key} took effect twice, by its answers"));
        }
        let known = Known { key, time: None, is_answered: true };
        self.log.entry(seq).or_insert(known).is_answered = true;
        Ok(())
    }

    fn follows(&self, who: &str, seq: u64) -> Verdict {
        match self.next.get(who) {
            Some(Some(next)) if *next != seq => {
                broken(Rule::Whole, format!("{who} is at {seq} where {next} belongs"))
            }
            Some(_) => Ok(()),
            None => broken(Rule::Whole, format!("{who} hears {seq} before it is welcome")),
        }
    }

    /// A message was seen: what is known of its place and its neighbours must agree.
    fn stands(&mut self, message: Message) -> Verdict {
        let Message { seq, time, key } = message;
        self.place(&key, seq, Rule::SameForAll)?;
        let times = |known: Option<&Known>| known.and_then(|known| known.time);
        if times(self.log.get(&seq)).is_some_and(|known| known != time) {
            return broken(Rule::SameForAll, format!("{seq} has two times"));
        }
        let before = seq.checked_sub(1).and_then(|before| times(self.log.get(&before)));
        let after = times(self.log.get(&(seq + 1)));
        if before.is_some_and(|before| before > time) || after.is_some_and(|after| after < time) {
            return broken(Rule::Order, format!("time runs back at {seq}"));
        }
        let known = Known { key, time: None, is_answered: false };
        self.log.entry(seq).or_insert(known).time = Some(time);
        Ok(())
    }

    /// A key claims a place: nobody else may have it, and it no other.
    fn place(&mut self, key: &str, seq: u64, rule: Rule) -> Verdict {
        let Some(said) = self.said.get_mut(key) else {
            return broken(Rule::NothingInvented, format!("{key}, at {seq}, was never said"));
        };
        if let Some(known) = self.log.get(&seq).filter(|known| known.key != key) {
            return broken(rule, format!("{seq} is {key}, and {} as well", known.key));
        }
        match said.seq.replace(seq) {
            Some(first) if first != seq => {
                return broken(Rule::Once, format!("{key} stands at {first} and at {seq}"));
            }
            _ => {}
        }
        if seq <= said.floor {
            let floor = said.floor;
            return broken(Rule::RealTime, format!("{key}, at {seq}, was said behind {floor}"));
        }
        Ok(())
    }

    fn read(&mut self, after: u64, log: Vec<Message>) -> Verdict {
        let end = after + log.len() as u64;
        for (message, expected) in log.into_iter().zip(after + 1..) {
            if message.seq != expected {
                let how = format!("the log has {} where {expected} belongs", message.seq);
                return broken(Rule::Order, how);
            }
            if let Some(known) = self.log.get(&expected).filter(|known| known.key != message.key) {
                let rule = known.missed();
                return broken(
                    rule,
                    format!("{expected} was {} and is {}", known.key, message.key),
                );
            }
            self.stands(message)?;
        }
        match self.log.range(end + 1..).next() {
            None => Ok(()),
            Some((seq, lost)) => broken(
                lost.missed(),
                format!("{}, at {seq}, is lost: the log ends at {end}", lost.key),
            ),
        }
    }
}

impl Known {
    /// The rule that is broken when it is not there.
    fn missed(&self) -> Rule {
        if self.is_answered { Rule::Durable } else { Rule::NothingVanishes }
    }
}

/// The checker finds what it is there to find: a true history passes, each lie breaks its rule.
#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, key: &str) -> Message {
        Message { seq, time: 10 + seq, key: key.to_owned() }
    }

    fn sent(key: &str) -> Event {
        Event::Sent { key: key.to_owned() }
    }

    fn ok(key: &str, seq: u64, dup: bool) -> Event {
        Event::Ok { key: key.to_owned(), seq, dup }
    }

    fn began(who: &str, since: u64) -> Event {
        Event::Began { who: who.to_owned(), since: Some(since) }
    }

    fn heard(who: &str, seq: u64, key: &str) -> Event {
        Event::Heard { who: who.to_owned(), message: message(seq, key) }
    }

    fn live(who: &str, seq: u64) -> Event {
        Event::Live { who: who.to_owned(), seq }
    }

    fn read(after: u64, keys: &[&str]) -> Event {
        let log = keys.iter().zip(after + 1..).map(|(key, seq)| message(seq, key)).collect();
        Event::Read { after, log }
    }

    /// Two publishers; a reader that comes back where it was; a crash after which `c` is said
    /// again, and is a duplicate.
    fn truth() -> Vec<Event> {
        Vec::from([
            began("eve", 0),
            live("eve", 0),
            sent("a"),
            ok("a", 1, false),
            heard("eve", 1, "a"),
            sent("b"),
            sent("c"),
            heard("eve", 2, "b"),
            ok("b", 2, false),
            read(0, &["a", "b", "c"]),
            began("eve", 2),
            heard("eve", 3, "c"),
            live("eve", 3),
            ok("c", 3, true),
            read(1, &["b", "c"]),
        ])
    }

    fn judge(events: Vec<Event>) -> Result<(), Rule> {
        let mut checker = Checker::default();
        events.into_iter().try_for_each(|event| checker.tell(event)).map_err(|(rule, _)| rule)
    }

    /// Puts a lie in the place of the event that it is about.
    fn caught(instead_of: &Event, lie: &[Event]) -> Rule {
        let mut events = truth();
        let at = events.iter().position(|event| event == instead_of).unwrap();
        events.splice(at..=at, lie.iter().cloned());
        judge(events).unwrap_err()
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(judge(truth()), Ok(()));
    }

    #[test]
    fn what_was_answered_and_is_lost_is_found() {
        assert_eq!(caught(&read(0, &["a", "b", "c"]), &[read(0, &["a"])]), Rule::Durable);
        assert_eq!(caught(&read(1, &["b", "c"]), &[read(1, &["b"])]), Rule::Durable);
    }

    #[test]
    fn an_ok_without_a_message_is_found() {
        let lie = [sent("d"), ok("d", 4, false), read(1, &["b", "c"])];
        assert_eq!(caught(&read(1, &["b", "c"]), &lie), Rule::Durable);
        assert_eq!(caught(&ok("c", 3, true), &[sent("d"), ok("d", 3, false)]), Rule::Durable);
        let lie = [sent("d"), ok("d", 4, false), sent("e"), read(1, &["b", "c", "e"])];
        assert_eq!(caught(&read(1, &["b", "c"]), &lie), Rule::Durable);
    }

    #[test]
    fn what_took_effect_twice_is_found() {
        let twice = read(0, &["a", "b", "a"]);
        assert_eq!(caught(&read(0, &["a", "b", "c"]), &[twice]), Rule::Once);
        let again = [ok("b", 2, false), ok("b", 2, false)];
        assert_eq!(caught(&ok("b", 2, false), &again), Rule::Once);
    }

    #[test]
    fn what_changed_places_is_found() {
        let swapped = Event::Read { after: 0, log: Vec::from([message(2, "b"), message(1, "a")]) };
        assert_eq!(caught(&read(0, &["a", "b", "c"]), &[swapped]), Rule::Order);
        let replayed = [heard("eve", 3, "b")];
        assert_eq!(caught(&heard("eve", 3, "c"), &replayed), Rule::SameForAll);
    }

    #[test]
    fn time_that_runs_back_is_found() {
        let early = Message { time: 1, ..message(2, "b") };
        let lie = Event::Heard { who: "eve".to_owned(), message: early };
        assert_eq!(caught(&heard("eve", 2, "b"), &[lie]), Rule::Order);
    }

    #[test]
    fn what_somebody_heard_and_is_gone_is_found() {
        let lie = [began("dan", 3), sent("d"), heard("dan", 4, "d"), read(1, &["b", "c"])];
        assert_eq!(caught(&read(1, &["b", "c"]), &lie), Rule::NothingVanishes);
    }

    #[test]
    fn a_hole_for_a_reader_is_found() {
        assert_eq!(caught(&heard("eve", 2, "b"), &[heard("eve", 3, "c")]), Rule::Whole);
        assert_eq!(caught(&heard("eve", 3, "c"), &[]), Rule::Whole, "and `live` hides nothing");
    }

    #[test]
    fn what_a_reader_hears_twice_is_found() {
        let twice = [heard("eve", 2, "b"), heard("eve", 2, "b")];
        assert_eq!(caught(&heard("eve", 2, "b"), &twice), Rule::Whole);
    }

    #[test]
    fn what_was_said_later_and_stands_earlier_is_found() {
        let lie =
            [heard("eve", 2, "b"), heard("eve", 3, "c"), sent("d"), read(0, &["a", "b", "c"])];
        let mut events = truth();
        events.truncate(7);
        events.extend(lie);
        events.push(ok("d", 2, false));
        assert_eq!(judge(events), Err(Rule::Durable));
        let late =
            Vec::from([sent("a"), sent("b"), ok("b", 2, false), sent("d"), ok("d", 1, false)]);
        assert_eq!(judge(late), Err(Rule::RealTime));
    }

    #[test]
    fn what_nobody_said_is_found() {
        assert_eq!(caught(&sent("c"), &[]), Rule::NothingInvented);
    }
}
