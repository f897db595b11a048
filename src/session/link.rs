//! What a transport gives a session.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Farewell, Transport};
use crate::outbox::{Unsent, Wire};
use crate::protocol::{BodyKind, CloseReason, Framing, Profile};
use crate::room::Side;

/// A client's connection: bytes in, bytes out, no policy.
///
/// Both directions are polled from the session's one task, side by side.
pub trait Link: Send + 'static {
    /// The transport that this is a link of.
    const TRANSPORT: Transport;

    /// How frames of a profile are wrapped here.
    fn framing(profile: Profile) -> Framing;

    /// The next thing from the client. After an [`End`] it is not asked again.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Received>;

    /// Takes from the front of `unsent` what the transport takes now, and says how many bytes.
    /// Pending while there is nothing to take or no room for it. Cancel-safe.
    fn poll_write(&mut self, cx: &mut Context<'_>, unsent: &mut Unsent) -> Poll<io::Result<usize>>;

    /// A frame that the transport's own protocol owes the client: a WebSocket's pong, or the
    /// answer to its close. It leaves between two frames like any other.
    fn take_control(&mut self) -> Option<Bytes>;

    /// Sends something beside the stream, if that is possible here and it fits; it may get lost.
    fn send_datagram(&mut self, body: Bytes) -> bool;

    /// Answers a [`Received::Request`] on its own stream. Where there are none, none came.
    fn reply(&mut self, side: Side, frame: Bytes);

    /// The link's other end, if others may write to it while the session waits.
    fn wire(&self) -> Option<Arc<dyn Wire>> {
        None
    }

    /// A frame that makes the client's transport answer, if this transport does not do that by
    /// itself.
    fn ping() -> Option<Bytes>;

    /// Says goodbye and closes. Bounded by the farewell's `linger`, a few times over.
    fn close(self, farewell: Farewell) -> impl Future<Output = ()> + Send;
}

/// What came from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A whole frame.
    Frame(BodyKind, Bytes),
    /// Something that came beside the stream, and may not have come.
    Datagram(Bytes),
    /// A frame that came alone on a stream of its own, to be answered there.
    Request(Side, BodyKind, Bytes),
    /// A sign of life without a meaning: a pong, a ping.
    Alive,
    /// Nothing more will come.
    End(End),
}

/// How a client's side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It closed, with a code if it gave one.
    Closed(Option<u32>),
    /// It is gone.
    Broken,
    /// What came cannot be read any further.
    Refused(CloseReason),
}
