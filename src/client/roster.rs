//! Who is here, kept up to date from what the room tells.

use std::collections::BTreeMap;

use super::data::Member;
use super::event::Presence;

/// As many members are remembered; of a larger room the rest is only counted.
pub const MEMBERS: usize = 32_768;

/// The members of a room, by `sid`.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    members: BTreeMap<String, Member>,
    count: u64,
    is_known: bool,
}

/// What somebody did.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// Was not here before.
    Came(Member),
    /// Is not here any more.
    Left(Member),
    /// Is here, and something about it is new.
    Changed(Member),
}

impl Roster {
    /// Takes in what was told, and says what is new about it. Who was here is not known until it was told once,
    /// so the first telling is no news.
    pub fn apply(&mut self, presence: &Presence) -> Vec<Move> {
        let mut moves = Vec::new();
        match presence {
            Presence::Whole { members, count } => {
                let before = std::mem::take(&mut self.members);
                let was_known = std::mem::replace(&mut self.is_known, true);
                self.count = *count;
                let listed = members.iter().take(MEMBERS);
                self.members.extend(listed.map(|it| (it.sid.clone(), it.clone())));
                if was_known {
                    let news = self.members.values().filter_map(|it| news(before.get(&it.sid), it));
                    moves.extend(news);
                    let left =
                        before.into_values().filter(|it| !self.members.contains_key(&it.sid));
                    moves.extend(left.map(Move::Left));
                }
            }
            Presence::Changed { joined, left, updated, count } => {
                self.count = count.unwrap_or(self.count);
                for member in joined.iter().chain(updated) {
                    moves.extend(news(self.members.get(&member.sid), member));
                    if self.members.len() < MEMBERS || self.members.contains_key(&member.sid) {
                        self.members.insert(member.sid.clone(), member.clone());
                    }
                }
                moves
                    .extend(left.iter().filter_map(|sid| self.members.remove(sid)).map(Move::Left));
            }
            Presence::Count(count) => *self = Self { count: *count, ..Self::default() },
        }
        moves
    }

    /// Everybody that is known, by `sid`.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// How many there are, which may be more than are known.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of it, as it is told to whoever knew nothing.
    pub(super) fn whole(&self) -> Presence {
        match self.is_known {
            true => {
                let members = self.members.values().cloned().collect();
                Presence::Whole { members, count: self.count }
            }
            false => Presence::Count(self.count),
        }
    }
}

fn news(before: Option<&Member>, now: &Member) -> Option<Move> {
    match before {
        None => Some(Move::Came(now.clone())),
        Some(before) if before != now => Some(Move::Changed(now.clone())),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(sid: &str, away: bool) -> Member {
        let json = serde_json::json!({"sid": sid, "name": sid, "away": away});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn who_came_and_left_while_nobody_listened_is_told_once() {
        let mut roster = Roster::default();
        let whole = |sids: &[&str]| Presence::Whole {
            members: sids.iter().map(|sid| member(sid, false)).collect(),
            count: sids.len() as u64,
        };
        assert_eq!(roster.apply(&whole(&["ann", "bob"])), [], "the first telling is no news");
        let came = Presence::Changed {
            joined: vec![member("cyd", false), member("bob", false)],
            left: vec![],
            updated: vec![member("ann", true)],
            count: Some(3),
        };
        let expected = [Move::Came(member("cyd", false)), Move::Changed(member("ann", true))];
        assert_eq!(roster.apply(&came), expected);
        assert_eq!(
            roster.apply(&whole(&["bob", "dan"])),
            [
                Move::Came(member("dan", false)),
                Move::Left(member("ann", true)),
                Move::Left(member("cyd", false)),
            ]
        );
        assert_eq!(roster.count(), 2);
        assert_eq!(roster.apply(&Presence::Count(500)), []);
        assert_eq!((roster.members().len(), roster.count()), (0, 500));
    }
}
