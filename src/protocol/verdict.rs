//! What became of a client's frame, for the count of refusals in a row.

/// Whether a client may go on as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The frame was taken.
    Taken,
    /// The frame should not have been sent, or not yet: it is wrong, too large or too much.
    Refused,
    /// Neither: what failed is not the client's fault, or the text is no frame.
    Neither,
}
