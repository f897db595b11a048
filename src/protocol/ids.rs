//! The names things go by on the wire: rooms, seats, positions, moments.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A room's name: 1 to 128 bytes of `A–Z a–z 0–9 . _ ~ -`, and neither `.` nor `..`.
///
/// Cheap to clone. A name is a key, never a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(Arc<str>);

/// The longest room name, in bytes.
pub const ROOM_NAME_BYTES: usize = 128;

/// Why a text is no room name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a room name is 1 to 128 letters, digits or any of . _ ~ - (and not . or ..)")]
pub struct BadRoomName;

impl RoomName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a name from a path segment, decoding percent-escapes exactly once.
    pub fn from_path_segment(segment: &str) -> Result<Self, BadRoomName> {
        if !segment.contains('%') {
            return segment.parse();
        }
        let mut decoded = Vec::with_capacity(segment.len());
        let mut rest = segment.bytes();
        while let Some(byte) = rest.next() {
            decoded.push(match byte {
                b'%' => {
                    let high = rest.next().and_then(hex).ok_or(BadRoomName)?;
                    let low = rest.next().and_then(hex).ok_or(BadRoomName)?;
                    high << 4 | low
                }
                other => other,
            });
        }
        String::from_utf8(decoded).map_err(|_| BadRoomName)?.parse()
    }
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

impl FromStr for RoomName {
    type Err = BadRoomName;

    fn from_str(text: &str) -> Result<Self, BadRoomName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        let fits = (1..=ROOM_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if !fits || text == "." || text == ".." {
            return Err(BadRoomName);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomName({})", self.0)
    }
}

/// A moment as wall time: milliseconds since 1970, as the wire says it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment moved later by `ms` milliseconds.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 if it is not earlier.
    pub fn since_ms(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A seat's id in its room, as random as its maker: `s` and up to eleven base-62 digits.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Sid(pub u64);

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", base62(self.0))
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sid {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.strip_prefix('s').and_then(from_base62).map(Self).ok_or(())
    }
}

/// A number in base 62, most significant digit first.
fn base62(mut number: u64) -> String {
    let mut digits = [0u8; 11];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = BASE62[(number % 62) as usize];
        number /= 62;
        if number == 0 {
            return digits[at..].iter().map(|&d| d as char).collect();
        }
    }
}

/// The opposite of [`base62`]: only its own spelling is read.
fn from_base62(text: &str) -> Option<u64> {
    let number = text.bytes().try_fold(0u64, |number, byte| {
        let digit = BASE62.iter().position(|&b| b == byte)? as u64;
        number.checked_mul(62)?.checked_add(digit)
    })?;
    (base62(number) == text).then_some(number)
}

/// Which life of a room's log a position belongs to.
///
/// It changes when a log starts again: another store, or a deletion before this room's first
/// record. Positions of different epochs are never compared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Epoch {
    /// The store's id: new at its creation and when it is restored from a copy.
    pub store: u64,
    /// The journal key of the newest deletion, of any room, before this room's first record.
    pub deletion: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", base62(self.store), base62(self.deletion))
    }
}

impl FromStr for Epoch {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (store, deletion) = text.split_once('-').ok_or(())?;
        Ok(Self {
            store: from_base62(store).ok_or(())?,
            deletion: from_base62(deletion).ok_or(())?,
        })
    }
}

/// A place in a room's log: everything up to and including `seq` lies behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The log's life that `seq` counts in.
    pub epoch: Epoch,
    /// The newest message passed; 0 before the first.
    pub seq: u64,
}

/// Who a seat's keyed publishes belong to. It outlives the seat, inside the session token.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Author(pub u64);

/// An idempotency key as it is kept: 16 bytes of SHA-256 over the author and the key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct KeyHash(pub [u8; 16]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_name_is_what_the_design_allows_and_nothing_else() {
        for good in ["a", "lobby", "A.b_c~d-9", "...", &"x".repeat(128)] {
            assert_eq!(good.parse::<RoomName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "a%20b", &"x".repeat(129)] {
            assert_eq!(bad.parse::<RoomName>(), Err(BadRoomName), "{bad:?}");
        }
    }

    #[test]
    fn percent_escapes_are_decoded_once() {
        let name = |s| RoomName::from_path_segment(s).map(|n| n.as_str().to_owned());
        assert_eq!(name("%6cobby"), Ok("lobby".into()));
        assert_eq!(name("a%2Db"), Ok("a-b".into()));
        for bad in ["%2e", "%2E%2e", "%252e", "a%", "a%2", "a%zz", "%2f", "%ff", "%+1"] {
            assert_eq!(name(bad), Err(BadRoomName), "{bad}");
        }
    }

    #[test]
    fn an_epoch_reads_back_only_as_it_was_written() {
        let epoch = Epoch { store: u64::MAX, deletion: 0 };
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        for other in ["", "-", "a", "a-b-c", "0a-0", "aaaaaaaaaaaa-0", "é-0"] {
            assert_eq!(other.parse::<Epoch>(), Err(()), "{other}");
        }
    }
}
