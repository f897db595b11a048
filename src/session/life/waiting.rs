//! What a session waits for, and what it leaves to others meanwhile.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

use super::super::Link;
use super::{Happened, Life};
use crate::outbox::Unsent;

impl<L: Link> Life<L> {
    pub(super) async fn wait(&mut self, mut alarm: Option<Pin<&mut Sleep>>) -> Happened {
        let reads = self.reads();
        if !reads {
            self.liveness.heard(Instant::now()); // silence means nothing while we do not listen
        }
        let idle = self.unsent.is_empty() && self.catching_up.is_none();
        let lends = idle && reads && self.lends();
        let Self { link, unsent, reader, catching_up, mailbox, place, wrote, in_flight, .. } = self;
        let mut space = match mailbox {
            Some(mailbox) if self.waiting.is_some() => Some(Box::pin(mailbox.space())),
            _ => None,
        };
        // By hand, not `select!`: a busy room does this for every member and every message, and
        // whatever is waited for here keeps no list of its own to enter and to leave. Nothing is
        // starved by the order: every turn begins by filling, and looks at the clock.
        poll_fn(|cx| {
            // Who has the cursor has the link.
            *in_flight -= (*in_flight).min(ready!(reader.poll_recall(cx, unsent)));
            if idle && !unsent.is_empty() {
                return Poll::Ready(Happened::Changed);
            }
            if let Poll::Ready(happened) = poll_link(link, unsent, reads, *wrote, cx) {
                return Poll::Ready(happened);
            }
            if reader.poll_changed(cx, idle).is_ready() {
                return Poll::Ready(Happened::Changed);
            }
            if let Some(slice) = catching_up
                && let Poll::Ready(slice) = slice.as_mut().poll(cx)
            {
                return Poll::Ready(Happened::CaughtUp(slice));
            }
            if let Some(space) = &mut space
                && space.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Happened::Space);
            }
            if let Poll::Ready(spread) = place.entered.poll_drained(cx) {
                return Poll::Ready(Happened::Drained(spread));
            }
            if let Some(alarm) = &mut alarm
                && alarm.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Happened::Alarm);
            }
            if lends {
                reader.lend();
            }
            Poll::Pending
        })
        .await
    }

    /// Whether the client is read from: not while its mail waits or it is owed too much, nor
    /// between its hello and its seat. A page is owed from the moment it is asked for: sixty
    /// requests in flight would be sixty pages.
    fn reads(&self) -> bool {
        self.waiting.is_none()
            && self.in_flight < self.place.settings.publishes_in_flight
            && !self.asked_for_a_page
            && !self.reader.is_full()
            && (self.mailbox.is_none() || self.reader.is_seated())
    }

    /// Whether others may write while this session waits, idle and listening: not while it has mail
    /// to deliver, nor while the next write would put off the end of a silence.
    fn lends(&self) -> bool {
        self.waiting.is_none() && !self.ask_for_members && !self.liveness.awaits_pong()
    }
}

fn poll_link<L: Link>(
    link: &mut L,
    unsent: &mut Unsent,
    reads: bool,
    read_first: bool,
    cx: &mut Context<'_>,
) -> Poll<Happened> {
    let receive = |link: &mut L, cx: &mut Context<'_>| match reads {
        true => link.poll_recv(cx).map(Happened::Received),
        false => Poll::Pending,
    };
    if read_first && let Poll::Ready(received) = receive(link, cx) {
        return Poll::Ready(received);
    }
    if let Poll::Ready(wrote) = link.poll_write(cx, unsent) {
        return Poll::Ready(Happened::Wrote(wrote));
    }
    if read_first { Poll::Pending } else { receive(link, cx) }
}
