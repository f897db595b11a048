//! The last words to a client.

use std::time::Duration;

use super::Link;
use crate::outbox::{Closing, Unsent};
use crate::protocol::framing::wrap_json;
use crate::protocol::v1::ServerFrame;
use crate::protocol::{CloseReason, Profile};

/// How a link is to be closed.
#[derive(Debug)]
pub struct Farewell {
    /// What is still to be written: the rest of a frame, then the close in-band.
    pub unsent: Unsent,
    /// The code and text of the transport's own close; none if the client closed first.
    pub close: Option<(u16, &'static str)>,
    /// How long each step may take.
    pub linger: Duration,
}

impl Farewell {
    /// A goodbye of ours: v1 clients are told in-band first, on both transports.
    pub(super) fn ours<L: Link>(
        mut unsent: Unsent,
        profile: Profile,
        closing: Closing,
        linger: Duration,
    ) -> Self {
        let Closing { reason, retry_after } = closing;
        let code = reason.code(profile);
        if profile == Profile::V1 && reason != CloseReason::BrokenFraming {
            let frame = ServerFrame::Close { code, reason: reason.slug(), retry_after };
            unsent.push_back(wrap_json(L::framing(profile), &frame.to_json()));
        }
        Self { unsent, close: Some((code, reason.text(profile))), linger }
    }

    /// The client closed: only what its transport owes it is written.
    pub(super) fn theirs(unsent: Unsent, linger: Duration) -> Self {
        Self { unsent, close: None, linger }
    }
}
