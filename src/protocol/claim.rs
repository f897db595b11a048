//! The session token: what lets a client take its old seat back, and nobody else.
//!
//! ```text
//! base64url( version 1 │ sid 8 │ author 8 │ issued ms 8 │ HMAC-SHA256, first 16 bytes )
//! ```
//!
//! The HMAC (RFC 2104) is over the room's name and what stands before it, under the store's
//! secret: a token of one room is none in another, and one of another store is none here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::{Author, KeyHash, RoomName, Sid, Timestamp};

const VERSION: u8 = 1;
const SIGNED: usize = 25;
const TAG: usize = 16;

/// What a session token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The seat.
    pub sid: Sid,
    /// Whose keys the session publishes with; good beyond the seat's own life.
    pub author: Author,
    /// When the token was given.
    pub issued: Timestamp,
}

impl Claim {
    /// Writes the token.
    pub fn seal(&self, secret: &[u8; 32], room: &RoomName) -> String {
        let mut token = Vec::with_capacity(SIGNED + TAG);
        token.push(VERSION);
        token.extend(self.sid.0.to_be_bytes());
        token.extend(self.author.0.to_be_bytes());
        token.extend(self.issued.0.to_be_bytes());
        let tag = sign(secret, room, &token);
        token.extend_from_slice(&tag.as_ref()[..TAG]);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Reads a token; `None` unless this store wrote it for this room.
    pub fn open(token: &str, secret: &[u8; 32], room: &RoomName) -> Option<Self> {
        if token.len() > 64 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, tag) = bytes.split_at_checked(SIGNED)?;
        let expected = sign(secret, room, signed);
        // Every byte is compared whatever the first ones say: no timing to learn from.
        let differences = tag.iter().zip(expected.as_ref()).fold(0, |sum, (a, b)| sum | (a ^ b));
        if signed[0] != VERSION || tag.len() != TAG || differences != 0 {
            return None;
        }
        let number = |at: usize| {
            let bytes = signed[at..at + 8].try_into().expect("eight bytes were cut");
            u64::from_be_bytes(bytes)
        };
        Some(Self { sid: Sid(number(1)), author: Author(number(9)), issued: Timestamp(number(17)) })
    }
}

fn sign(secret: &[u8; 32], room: &RoomName, signed: &[u8]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(signed);
    context.update(room.as_str().as_bytes()); // last, and the rest has one length: no ambiguity
    context.sign()
}

/// The form in which a publish's idempotency key is kept.
pub fn key_hash(author: Author, key: &str) -> KeyHash {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&author.0.to_be_bytes());
    context.update(key.as_bytes());
    let digest = context.finish();
    KeyHash(digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn sealed() -> (Claim, RoomName, String) {
        let claim =
            Claim { sid: Sid(42), author: Author(u64::MAX), issued: Timestamp(1_760_000_000_000) };
        let room: RoomName = "lobby".parse().unwrap();
        let token = claim.seal(&SECRET, &room);
        (claim, room, token)
    }

    #[test]
    fn a_token_opens_only_where_it_was_sealed() {
        let (claim, room, token) = sealed();
        assert_eq!(Claim::open(&token, &SECRET, &room), Some(claim));
        assert_eq!(Claim::open(&token, &SECRET, &"other".parse().unwrap()), None);
        assert_eq!(Claim::open(&token, &[8; 32], &room), None);
    }

    #[test]
    fn a_token_with_any_bit_changed_is_none() {
        let (_, room, token) = sealed();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Claim::open(&URL_SAFE_NO_PAD.encode(forged), &SECRET, &room), None);
        }
        for bad in ["", "x", &token[1..], &format!("{token}AA"), &"A".repeat(1000), "ä"] {
            assert_eq!(Claim::open(bad, &SECRET, &room), None, "{bad}");
        }
    }

    #[test]
    fn the_same_key_of_two_authors_is_two_keys() {
        assert_ne!(key_hash(Author(1), "k"), key_hash(Author(2), "k"));
        assert_eq!(key_hash(Author(1), "k"), key_hash(Author(1), "k"));
    }
}
