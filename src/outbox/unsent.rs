//! What was chosen for a client's wire and not yet taken by it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// The most pieces that are worth giving to a wire in one write.
pub const PIECES: usize = 32;

/// Pieces in order. A lone one, which is what most writes are, takes no memory of its own: a
/// message to a thousand members allocates nothing for any of them.
#[derive(Debug, Default)]
pub struct Unsent {
    /// Empty only when there is none at all.
    first: Bytes,
    rest: VecDeque<Bytes>,
}

impl Unsent {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Adds a piece behind all others; one without bytes is none.
    pub fn push_back(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
        } else if !piece.is_empty() {
            self.rest.push_back(piece);
        }
    }

    /// The pieces, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).filter(|first| !first.is_empty()).chain(&self.rest)
    }

    /// Puts the first pieces into `slices`, as many as there is place for; says how many.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let places = slices.iter_mut().zip(self.iter());
        places.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    /// Drops the first `count` bytes: they were taken.
    pub fn advance(&mut self, mut count: usize) {
        while count >= self.first.len() && !self.is_empty() {
            count -= self.first.len();
            self.first = self.rest.pop_front().unwrap_or_default();
        }
        if !self.is_empty() {
            self.first.advance(count);
        }
        if self.rest.is_empty() {
            self.rest = VecDeque::new(); // an idle session holds no buffer
        }
    }
}

impl Extend<Bytes> for Unsent {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, pieces: T) {
        pieces.into_iter().for_each(|piece| self.push_back(piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&'static str]) -> Unsent {
        let mut unsent = Unsent::new();
        unsent.extend(pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())));
        unsent
    }

    #[test]
    fn bytes_leave_in_order_however_the_wire_takes_them() {
        for step in 1..=9 {
            let (mut unsent, mut seen) = (of(&["ab", "", "c", "defg", "h"]), Vec::new());
            while !unsent.is_empty() {
                let bytes: Vec<u8> = unsent.iter().flatten().copied().collect();
                let taken = step.min(bytes.len());
                seen.extend_from_slice(&bytes[..taken]);
                unsent.advance(taken);
            }
            assert_eq!(seen, b"abcdefgh", "{step} at a time");
            assert_eq!(unsent.iter().count(), 0);
        }
    }

    #[test]
    fn pieces_without_bytes_are_none() {
        assert!(of(&["", ""]).is_empty());
        assert_eq!(of(&["", "a", "", "b"]).iter().count(), 2);
    }
}
