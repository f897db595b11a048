//! Whether the store is well, for those who may not wait to learn it.
//!
//! The threads that own the files say what they find; whoever asks reads one number. A disk that
//! hangs while a lock is held therefore holds up no one who only wants to know.

use std::sync::atomic::{AtomicU8, Ordering};

/// What can be unwell, each by itself.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// `journal.redb` has failed and is not open.
    Journal = 1,
    /// `rooms.redb` has failed and is not open.
    Rooms = 2,
    /// Too little of the disk is free.
    Space = 4,
}

/// What is unwell now.
#[derive(Debug, Default)]
pub struct Health(AtomicU8);

impl Health {
    /// Notes how a part is.
    pub fn note(&self, part: Part, is_well: bool) {
        let bit = part as u8;
        if is_well {
            self.0.fetch_and(!bit, Ordering::Relaxed);
        } else {
            self.0.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// What is wrong, in a few words.
    pub fn trouble(&self) -> Option<&'static str> {
        let bits = self.0.load(Ordering::Relaxed);
        let is = |part: Part| bits & part as u8 != 0;
        match () {
            () if is(Part::Journal) => Some("the journal has failed"),
            () if is(Part::Rooms) => Some("the file of rooms has failed"),
            () if is(Part::Space) => Some("the disk is nearly full"),
            () => None,
        }
    }
}
