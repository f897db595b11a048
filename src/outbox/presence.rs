//! The newest changes of who is here, once for all: a small ring of its own.
//!
//! A cursor into it is the version of the last change that was sent. Whoever has fallen off
//! asks for the whole and goes on from there: lost changes are not made up one by one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::protocol::Framing;
use crate::protocol::framing::wrap_json;
use crate::protocol::v1::PresenceWish;

/// The most changes that are kept.
const CHANGES: usize = 64;

/// One change, in all the forms in which it is told. A form that is larger than what may be
/// kept is left empty: whoever wants it is told the whole instead.
pub struct Change {
    /// Counts on by one.
    pub version: u64,
    /// For whoever wants everybody, as JSON.
    pub full: String,
    /// For whoever wants a number.
    pub count: String,
    /// For whoever leaves it to the size of the room.
    pub auto: String,
}

struct Kept {
    change: Change,
    since: Instant,
    encoded: [[OnceLock<Bytes>; 3]; Framing::COUNT],
}

/// The newest changes, at most [`CHANGES`] and so many bytes.
#[derive(Default)]
pub(super) struct Changes {
    kept: Mutex<VecDeque<Arc<Kept>>>,
}

/// What a cursor found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Change(Bytes, u64),
    UpToDate,
    Behind,
}

impl Changes {
    pub(super) fn push(&self, mut change: Change, most_bytes: usize, now: Instant) {
        for form in [&mut change.full, &mut change.auto] {
            if form.len() > most_bytes {
                *form = String::new();
            }
        }
        let mut kept = self.kept();
        kept.push_back(Arc::new(Kept { change, since: now, encoded: Default::default() }));
        let mut bytes: usize = kept.iter().map(|kept| kept.bytes()).sum();
        while kept.len() > CHANGES || (bytes > most_bytes && kept.len() > 1) {
            bytes -= kept.pop_front().map_or(0, |oldest| oldest.bytes());
        }
    }

    /// Forgets what is older than `age`; says when there will be something again.
    pub(super) fn expire(&self, now: Instant, age: Duration) -> Option<Instant> {
        let mut kept = self.kept();
        while let Some(oldest) = kept.front() {
            let at = oldest.since + age;
            if at > now {
                return Some(at);
            }
            kept.pop_front();
        }
        *kept = VecDeque::new(); // a sleeping room keeps no buffer
        None
    }

    /// The change after `version`, if the newest is `newest`.
    pub(super) fn after(
        &self,
        version: u64,
        newest: u64,
        wish: PresenceWish,
        framing: Framing,
    ) -> Told {
        if version >= newest {
            return Told::UpToDate;
        }
        let kept = self.kept();
        let at = kept.partition_point(|kept| kept.change.version <= version);
        let next = kept.get(at).filter(|next| next.change.version == version + 1);
        // An empty form was too large to keep: the whole, which is bounded, says it as well.
        let Some(next) = next.filter(|next| !next.form(wish).is_empty()) else {
            return Told::Behind;
        };
        let next = next.clone();
        drop(kept);
        Told::Change(next.encoded(wish, framing), version + 1)
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.change.full.len() + self.change.auto.len()
    }

    fn form(&self, wish: PresenceWish) -> &str {
        match wish {
            PresenceWish::Full => &self.change.full,
            PresenceWish::Count => &self.change.count,
            PresenceWish::Auto => &self.change.auto,
        }
    }

    fn encoded(&self, wish: PresenceWish, framing: Framing) -> Bytes {
        let index = match wish {
            PresenceWish::Full => 0,
            PresenceWish::Count => 1,
            PresenceWish::Auto => 2,
        };
        let encode = || wrap_json(framing, self.form(wish));
        self.encoded[framing.index()][index].get_or_init(encode).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(version: u64) -> Change {
        let json = |form| format!("{form}{version}");
        Change { version, full: json("f"), count: json("c"), auto: json("a") }
    }

    #[test]
    fn a_cursor_gets_every_change_in_its_own_form_or_learns_that_it_is_behind() {
        let changes = Changes::default();
        (1..=3).for_each(|version| changes.push(change(version), 1_000, Instant::now()));
        let after = |version, wish| changes.after(version, 3, wish, Framing::V1WebSocket);
        let told =
            |text: &str, version| Told::Change(wrap_json(Framing::V1WebSocket, text), version);
        assert_eq!(after(0, PresenceWish::Full), told("f1", 1));
        assert_eq!(after(1, PresenceWish::Count), told("c2", 2));
        assert_eq!(after(2, PresenceWish::Auto), told("a3", 3));
        assert_eq!(after(3, PresenceWish::Auto), Told::UpToDate);
        changes.push(change(4), 5, Instant::now()); // room for one
        assert_eq!(changes.after(1, 4, PresenceWish::Auto, Framing::V1WebSocket), Told::Behind);
    }

    #[test]
    fn a_change_too_large_to_keep_is_told_as_the_whole() {
        let changes = Changes::default();
        let change = Change { full: "x".repeat(100), auto: "a1".into(), ..change(1) };
        changes.push(change, 50, Instant::now());
        let after = |wish| changes.after(0, 1, wish, Framing::V1WebSocket);
        assert_eq!(after(PresenceWish::Full), Told::Behind);
        assert!(matches!(after(PresenceWish::Count), Told::Change(..)));
        assert!(matches!(after(PresenceWish::Auto), Told::Change(..)));
    }

    #[test]
    fn only_so_many_changes_are_kept() {
        let changes = Changes::default();
        (1..=100).for_each(|version| changes.push(change(version), usize::MAX, Instant::now()));
        let after = |version| changes.after(version, 100, PresenceWish::Full, Framing::V1WebSocket);
        assert_eq!(after(100 - CHANGES as u64 - 1), Told::Behind);
        assert!(matches!(after(100 - CHANGES as u64), Told::Change(..)));
    }
}
