//! Patterns of room names, and what holds for the rooms that match.
//!
//! A pattern is a room name in which `*` stands for any number of characters, none included:
//! `game-*`, `*.private`, `team-*-chat`. Nothing else has a meaning, and a name matches whole.
//!
//! One pattern holds for a room: the most specific of those that match, which is the one with
//! the most characters that are no `*`; of two as specific, the first in the order of the
//! alphabet. So it does not matter in which order they are written, and what holds for a room
//! stands in one place.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::RoomName;
use super::ids::ROOM_NAME_BYTES;

/// A pattern of room names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is 1 to 128 letters, digits or any of . _ ~ - and * for any number of them")]
pub struct BadPattern;

impl Pattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a room's name matches.
    ///
    /// The pieces between the stars are looked for from the left, each as early as it can be: if
    /// there is any way to match, this finds one. Its time is at most the product of both lengths.
    pub fn matches(&self, room: &RoomName) -> bool {
        let (name, mut pieces) = (room.as_str(), self.0.split('*'));
        let first = pieces.next().unwrap_or_default();
        let Some(last) = pieces.next_back() else { return name == first };
        let Some(rest) = name.strip_prefix(first) else { return false };
        let Some(mut rest) = rest.strip_suffix(last) else { return false };
        pieces.all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    }

    fn specific(&self) -> usize {
        self.0.bytes().filter(|&byte| byte != b'*').count()
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let allowed =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-' | b'*');
        let fits = (1..=ROOM_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(Self(text.to_owned())) } else { Err(BadPattern) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What holds for rooms: usually this, for names that match a pattern something else.
#[derive(Debug, Clone, Default)]
pub struct Kinds<T> {
    usual: Arc<T>,
    /// The most specific first.
    special: Vec<(Pattern, Arc<T>)>,
}

impl<T> Kinds<T> {
    /// What holds usually, and for whom something else does.
    pub fn new(usual: T, special: impl IntoIterator<Item = (Pattern, T)>) -> Self {
        let special = special.into_iter().map(|(pattern, kind)| (pattern, Arc::new(kind)));
        let mut special: Vec<_> = special.collect();
        special.sort_by_key(|(pattern, _)| (Reverse(pattern.specific()), pattern.clone()));
        Self { usual: Arc::new(usual), special }
    }

    /// What holds for rooms that match no pattern.
    pub fn usual(&self) -> &T {
        &self.usual
    }

    /// What holds for a room.
    pub fn of(&self, room: &RoomName) -> &Arc<T> {
        let special = self.special.iter().find(|(pattern, _)| pattern.matches(room));
        special.map_or(&self.usual, |(_, kind)| kind)
    }
}

impl<T> From<T> for Kinds<T> {
    fn from(usual: T) -> Self {
        Self::new(usual, [])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, room: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(&room.parse().unwrap())
    }

    #[test]
    fn a_star_is_any_number_of_characters_and_the_rest_is_itself() {
        for (pattern, room) in [
            ("*", "lobby"),
            ("lobby", "lobby"),
            ("game-*", "game-"),
            ("game-*", "game-1"),
            ("*-chat", "team-a-chat"),
            ("team-*-chat", "team-chat-chat"),
            ("a*b*c", "abbc"),
            ("a**c", "ac"),
            ("*aab", "aaab"),
        ] {
            assert!(matches(pattern, room), "{pattern} is for {room}");
        }
        for (pattern, room) in [
            ("lobby", "lobby2"),
            ("game-*", "game"),
            ("game-*", "my-game-1"),
            ("Game-*", "game-1"),
            ("a*a", "a"),
            ("team-*-chat", "team-chat"),
            ("a*b*c", "acb"),
            (".", "a"),
        ] {
            assert!(!matches(pattern, room), "{pattern} is not for {room}");
        }
        for bad in ["", "a b", "a/*", "ä*", "[ab]?", &"x".repeat(129)] {
            assert_eq!(bad.parse::<Pattern>(), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn the_most_specific_pattern_holds_in_whatever_order_they_are_said() {
        let patterns = ["game-*", "*", "game-chess-*", "*-one", "a-*-z", "a-b-*"];
        let kind = |patterns: &mut dyn Iterator<Item = &&'static str>, room: &str| {
            let special = patterns.map(|text| (text.parse().unwrap(), *text));
            let kinds = Kinds::new("usual", special);
            **kinds.of(&room.parse().unwrap())
        };
        for (room, expected) in [
            ("game-chess-7", "game-chess-*"),
            ("game-go", "game-*"),
            ("game-one", "game-*"), // five characters against four
            ("all-one", "*-one"),
            ("lobby", "*"),
            ("a-b-z", "a-*-z"), // as specific as a-b-*, and before it in the alphabet
        ] {
            assert_eq!(kind(&mut patterns.iter(), room), expected);
            assert_eq!(kind(&mut patterns.iter().rev(), room), expected);
        }
        assert_eq!(kind(&mut patterns[..1].iter(), "lobby"), "usual");
    }

    /// The slow and obvious way.
    fn slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| slowly(rest, &name[at..])),
            Some((first, rest)) => {
                name.split_first().is_some_and(|(byte, name)| byte == first && slowly(rest, name))
            }
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_the_obvious_way_matches(
            pattern in "[ab*]{1,8}",
            room in "[ab]{1,10}",
        ) {
            prop_assert_eq!(
                matches(&pattern, &room),
                slowly(pattern.as_bytes(), room.as_bytes())
            );
        }
    }
}
