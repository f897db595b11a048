//! Events that nobody has taken yet: bounded, and honest about what did not fit.
//!
//! A full queue must not stop the connection, for the answer to a publish that the application waits for may be
//! behind a thousand messages that it does not take meanwhile. So what does not fit is left out, and each kind
//! has its way back:
//!
//! | what | when there is space again |
//! | --- | --- |
//! | messages | fetched from the log, see [`Log`](super::log::Log) |
//! | presence | told whole |
//! | ephemerals | the next one; of one author and key only the newest waits |
//! | direct messages | counted, and the count told |
//! | a gap in the log | told, before what comes behind it |
//! | what the connection does | forgotten, except for the newest |

use std::collections::VecDeque;

use super::data::Position;
use super::event::Event;
use super::options::Limits;

/// An event, and where in the log whoever has taken it is then.
pub(super) type Entry = (Event, Option<Position>);

#[derive(Debug)]
pub(super) struct Queue {
    events: VecDeque<Entry>,
    bytes: usize,
    limits: Limits,
    /// What the connection did last, if there was no space to say it.
    newest_state: Option<Event>,
    /// The same of a gap, which is never forgotten.
    gap: Option<Event>,
    missed_direct: u64,
    is_presence_void: bool,
    has_reader: bool,
}

impl Queue {
    pub fn new(limits: &Limits) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            limits: limits.clone(),
            newest_state: None,
            gap: None,
            missed_direct: 0,
            is_presence_void: false,
            has_reader: true,
        }
    }

    pub fn has_space(&self) -> bool {
        self.events.len() < self.limits.events && self.bytes < self.limits.event_bytes
    }

    /// Space enough that it is worth fetching what was left out.
    pub fn has_much_space(&self) -> bool {
        self.events.len() <= self.limits.events / 2 && self.bytes <= self.limits.event_bytes / 2
    }

    pub fn has_reader(&self) -> bool {
        self.has_reader
    }

    /// Nobody takes events any more: from now on they are forgotten at once.
    pub fn reader_left(&mut self) {
        self.has_reader = false;
        (self.events, self.bytes) = (VecDeque::new(), 0);
    }

    /// Something that moves the position; whoever calls this has looked for space.
    pub fn push_at(&mut self, event: Event, position: Option<Position>) {
        if self.has_reader {
            self.bytes += event.size();
            self.events.push_back((event, position));
        }
    }

    /// Anything else.
    pub fn push(&mut self, event: Event) {
        match event {
            // The end is always told, and nothing comes behind it.
            Event::Ended(_) => self.add(event),
            Event::Ephemeral { .. } => self.push_ephemeral(event),
            _ if self.has_space() => self.add(event),
            Event::Presence(_) => self.is_presence_void = true,
            Event::Direct(_) => self.missed_direct += 1,
            Event::Gap(_) => self.gap = Some(event),
            state => self.newest_state = Some(state),
        }
    }

    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.events.pop_front()?;
        self.bytes -= entry.0.size();
        if self.has_much_space() {
            for kept in [self.newest_state.take(), self.gap.take()].into_iter().flatten() {
                self.add(kept);
            }
            if self.missed_direct > 0 {
                let direct = std::mem::take(&mut self.missed_direct);
                self.add(Event::Missed { direct });
            }
        }
        Some(entry)
    }

    /// Whether presence should be told whole, for something of it was left out.
    pub fn wants_presence(&self) -> bool {
        self.is_presence_void && self.has_much_space()
    }

    pub fn push_whole_presence(&mut self, event: Event) {
        self.is_presence_void = false;
        self.add(event);
    }

    fn push_ephemeral(&mut self, event: Event) {
        let Event::Ephemeral { key, from, .. } = &event else { return };
        let older = self.events.iter().position(
            |(it, _)| matches!(it, Event::Ephemeral { key: k, from: f, .. } if (k, f) == (key, from)),
        );
        if let Some(at) = older
            && let Some((older, _)) = self.events.remove(at)
        {
            self.bytes -= older.size();
        }
        if self.has_much_space() {
            self.add(event);
        }
    }

    fn add(&mut self, event: Event) {
        self.push_at(event, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Presence;
    use super::super::options::Limits;
    use super::*;
    use serde_json::json;

    fn queue(events: usize) -> Queue {
        Queue::new(&Limits { events, ..Limits::default() })
    }

    fn ephemeral(from: &str, data: u32) -> Event {
        Event::Ephemeral { key: "cursor".into(), from: from.into(), data: json!(data).into() }
    }

    fn all(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|(event, _)| format!("{event:?}")).collect()
    }

    #[test]
    fn of_ephemerals_only_the_newest_waits_and_none_once_it_fills() {
        let mut queue = queue(4);
        for (from, data) in [("ann", 1), ("bob", 2), ("ann", 3)] {
            queue.push(ephemeral(from, data));
        }
        queue.push(Event::Live);
        queue.push(ephemeral("cyd", 4));
        let told = all(&mut queue);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("bob") && told[1].contains("Number(3)"), "{told:?}");
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn what_did_not_fit_is_made_good_when_there_is_space() {
        let mut queue = queue(2);
        queue.push(Event::Live);
        queue.push(Event::Live);
        assert!(!queue.has_space());
        let direct = json!({"sid": "s"});
        let message = super::super::data::Message {
            seq: None,
            time: 0,
            from: serde_json::from_value(direct).unwrap(),
            data: "psst".into(),
        };
        let gap = super::super::event::Gap { why: "epoch".into(), oldest: None };
        queue.push(Event::Gap(gap.clone()));
        queue.push(Event::Direct(message.clone()));
        queue.push(Event::Direct(message));
        queue.push(Event::Presence(Presence::Count(1)));
        assert!(!queue.wants_presence());
        let gap = format!("{:?}", Event::Gap(gap));
        assert_eq!(all(&mut queue).join(" "), format!("Live Live {gap} Missed {{ direct: 2 }}"));
        assert!(queue.wants_presence());
        queue.push_whole_presence(Event::Presence(Presence::Count(7)));
        assert_eq!(all(&mut queue).join(" "), "Presence(Count(7))");
        assert!(!queue.wants_presence());
    }
}
