//! The rules.

/// What a room allows.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Seats in one room.
    pub members: usize,
    /// Tags of one seat.
    pub tags: usize,
    /// Bytes of one tag.
    pub tag_bytes: usize,
    /// Characters of a name.
    pub name_chars: usize,
    /// Bytes of an attachment.
    pub attachment_bytes: usize,
    /// Bytes of an idempotency key.
    pub key_bytes: usize,
}
