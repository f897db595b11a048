//! The loop of one session.

mod from_seed;
mod from_v1;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::liveness::{Due, Liveness};
use super::seed::Seed;
use super::{End, Farewell, Link, Place, Received, dice};
use crate::keeper::state::{Gone, Join, Mail};
use crate::keeper::{Letter, Mailbox, Refused};
use crate::outbox::{Closing, Filled, Lost, Outbox, Reader, Slot, Tally};
use crate::protocol::framing::wrap_json;
use crate::protocol::v1::{Refusal, ServerFrame};
use crate::protocol::{Author, CloseReason, Position, Profile, Sid, Timestamp};
use crate::room::{Connection, Limiter};
use crate::store::{Error, Slice};
use crate::telemetry::Counter;

/// The most messages caught up with at once.
const SLICE_MESSAGES: usize = 256;

type CatchUp = Pin<Box<dyn Future<Output = Result<Slice, Error>> + Send>>;

/// A session while it lasts.
pub(super) struct Life<L> {
    link: L,
    profile: Profile,
    place: Place,
    connection: Connection,
    reader: Reader,
    tally: Tally,
    /// Chosen for the wire, not yet taken by it.
    unsent: VecDeque<Bytes>,
    /// Where mail goes once the session has asked for a seat.
    mailbox: Option<Arc<Mailbox>>,
    /// Mail that found the mailbox full; nothing is read until it is gone.
    waiting: Option<Letter>,
    in_flight: usize,
    /// Whether a page is among the requests in flight; nothing is read before its answer.
    asked_for_a_page: bool,
    /// Whether the last turn wrote: then the next one reads first, so that a busy room does not
    /// keep its members from being heard.
    wrote: bool,
    catching_up: Option<CatchUp>,
    /// The keeper is to be asked for the whole of who is here.
    ask_for_members: bool,
    ephemerals: Limiter,
    ephemeral_keys: Vec<String>,
    liveness: Liveness,
    alarm: Pin<Box<Sleep>>,
    born: Instant,
    seed: Seed,
    /// A seed client's place in the log, from the moment its socket was accepted.
    accepted: Option<Position>,
    frames_received: Arc<Counter>,
    frames_sent: Arc<Counter>,
}

/// What the loop woke up for.
enum Happened {
    Received(Received),
    Wrote(std::io::Result<usize>),
    Changed,
    CaughtUp(Result<Slice, Error>),
    Space,
    Alarm,
    Drained(Duration),
}

/// How a session ended, and who said so.
enum Ending {
    /// The client is gone, or said so.
    Theirs { gone: Gone, answer: bool },
    /// We end it.
    Ours { gone: Gone, closing: Closing },
}

impl Ending {
    fn ours(reason: CloseReason) -> Self {
        let closing = Closing { reason, retry_after: None };
        Self::Ours { gone: Gone::Lost, closing }
    }
}

impl<L: Link> Life<L> {
    pub(super) async fn new(link: L, profile: Profile, place: Place) -> Self {
        let now = Instant::now();
        let outbox = Outbox::new(L::framing(profile), &place.dispatcher.settings().outbox);
        let greets = profile == Profile::V1;
        let liveness = Liveness::new(now, &place.settings, L::ping().is_some(), greets);
        let metrics = &place.metrics;
        Self {
            link,
            profile,
            connection: place.dispatcher.connection(),
            reader: Reader::new(outbox),
            tally: Tally::default(),
            unsent: VecDeque::new(),
            mailbox: None,
            waiting: None,
            in_flight: 0,
            asked_for_a_page: false,
            wrote: false,
            catching_up: None,
            ask_for_members: false,
            ephemerals: Limiter::default(),
            ephemeral_keys: Vec::new(),
            liveness,
            alarm: Box::pin(sleep_until(now)),
            born: now,
            seed: Seed::new(now),
            accepted: match profile {
                Profile::V1 => None,
                Profile::Seed => look(&place).await.map(|(position, _)| position),
            },
            frames_received: metrics.frames_received.of(L::TRANSPORT),
            frames_sent: metrics.frames_sent.of(L::TRANSPORT),
            place,
        }
    }

    /// Lives to the end.
    pub(super) async fn live(mut self) {
        let ending = loop {
            match self.turn().await {
                Ok(()) => {}
                Err(ending) => break ending,
            }
        };
        self.end(ending).await;
    }

    /// One turn of the loop: choose what to write, wait, deal with what happened.
    async fn turn(&mut self) -> Result<(), Ending> {
        self.fill()?;
        if self.ask_for_members && self.waiting.is_none() {
            self.ask_for_members = false;
            let connection = self.connection;
            self.send_mail(Mail::AskForMembers { connection })?;
        }
        let now = Instant::now();
        if !self.unsent.is_empty() {
            self.liveness.owes(now);
        }
        match self.liveness.due(now) {
            Due::Nothing => {}
            Due::Ping => {
                self.send_own(L::ping());
                return Ok(());
            }
            Due::End(reason) => return Err(Ending::ours(reason)),
        }
        if let Some(at) = self.liveness.deadline()
            && (at < self.alarm.deadline() || self.alarm.is_elapsed())
        {
            self.alarm.as_mut().reset(at);
        }
        let happened = self.wait().await;
        self.wrote = matches!(happened, Happened::Wrote(_));
        match happened {
            Happened::Received(Received::Frame(kind, body)) => {
                self.liveness.heard(Instant::now());
                self.frames_received.inc();
                let read = match self.profile {
                    Profile::V1 => self.read_v1(kind, &body).await,
                    Profile::Seed => self.read_seed(kind, &body).await,
                };
                self.owe_control();
                read
            }
            Happened::Received(Received::Datagram(body)) => {
                self.liveness.heard(Instant::now());
                self.frames_received.inc();
                self.read_datagram(&body)
            }
            Happened::Received(Received::Request(side, kind, body)) => {
                self.liveness.heard(Instant::now());
                self.frames_received.inc();
                self.read_request(side, kind, &body)
            }
            Happened::Received(Received::Alive) => {
                self.liveness.heard(Instant::now());
                self.owe_control();
                Ok(())
            }
            Happened::Received(Received::End(end)) => {
                self.owe_control();
                Err(self.ended(end))
            }
            Happened::Wrote(Ok(_)) => {
                self.liveness.took(Instant::now(), self.unsent.is_empty());
                Ok(())
            }
            Happened::Wrote(Err(_)) => Err(Ending::Theirs { gone: Gone::Lost, answer: false }),
            Happened::Changed | Happened::Alarm => match self.reader.closing() {
                Some(closing) if !self.unsent.is_empty() => {
                    Err(Ending::Ours { gone: Gone::Lost, closing })
                }
                _ => Ok(()),
            },
            Happened::CaughtUp(slice) => self.caught_up(slice),
            Happened::Space => self.deliver_waiting(),
            Happened::Drained(spread) => Err(self.drained(spread)),
        }
    }

    /// Chooses what to write next, once everything chosen before is taken.
    fn fill(&mut self) -> Result<(), Ending> {
        if !self.unsent.is_empty() || self.catching_up.is_some() {
            return Ok(());
        }
        let filled = self.reader.fill(&mut self.unsent, &mut self.tally);
        let Tally { answered, frames, aside, ephemerals } = std::mem::take(&mut self.tally);
        self.in_flight = self.in_flight.saturating_sub(answered);
        self.asked_for_a_page &= self.in_flight > 0;
        self.frames_sent.add(frames);
        for (side, frame) in aside {
            self.link.reply(side, frame);
        }
        self.show(ephemerals);
        match filled {
            Filled::Enough => {}
            Filled::CatchUp { from } => {
                let room = self.place.room.clone();
                let bytes = self.place.dispatcher.settings().outbox.page_bytes;
                let store = self.place.store.clone();
                self.catching_up = Some(Box::pin(async move {
                    store.run(move |engine| engine.read(&room, from, SLICE_MESSAGES, bytes)).await
                }));
            }
            Filled::AskForMembers => self.ask_for_members = true,
            Filled::Close(closing) => return Err(Ending::Ours { gone: Gone::Lost, closing }),
        }
        Ok(())
    }

    /// Sends what may be dropped: as datagrams where there are any, else behind nothing else.
    fn show(&mut self, ephemerals: VecDeque<Arc<Slot>>) {
        for slot in ephemerals {
            let sent = slot.datagram().is_some_and(|body| self.link.send_datagram(body));
            if !sent {
                self.unsent.push_back(slot.frame(L::framing(self.profile)));
            }
            self.frames_sent.inc();
        }
    }

    async fn wait(&mut self) -> Happened {
        let reads = self.reads();
        if !reads {
            self.liveness.heard(Instant::now()); // silence means nothing while we do not listen
        }
        let idle = self.unsent.is_empty() && self.catching_up.is_none();
        // An alarm that has rung stays rung until it is set anew: without a deadline it is not.
        let alarmed = self.liveness.deadline().is_some();
        let Self { link, unsent, reader, catching_up, mailbox, alarm, place, wrote, .. } = self;
        let reader: &mut Reader = reader;
        tokio::select! {
            happened = poll_fn(|cx| poll_link(link, unsent, reads, *wrote, cx)) => happened,
            () = async {
                if idle { reader.changed().await } else { reader.ended().await }
            } => Happened::Changed,
            slice = async {
                match catching_up {
                    Some(slice) => slice.await,
                    None => std::future::pending().await,
                }
            } => Happened::CaughtUp(slice),
            () = async {
                match mailbox {
                    Some(mailbox) => mailbox.space().await,
                    None => std::future::pending().await,
                }
            }, if self.waiting.is_some() => Happened::Space,
            () = alarm.as_mut(), if alarmed => Happened::Alarm,
            spread = place.entered.drained() => Happened::Drained(spread),
        }
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

    fn blank_join(&self) -> Join {
        Join {
            accepted: self.accepted,
            ..Join::new(self.connection, self.profile, Sid(dice()), Author(dice()))
        }
    }

    async fn join(&mut self, join: Join) -> Result<(), Ending> {
        let outbox = self.reader.outbox().clone();
        let letter = Letter::Mail(Mail::Join(Box::new(join)), Some(outbox));
        let room = self.place.room.clone();
        self.mailbox = Some(self.place.dispatcher.deliver(&room, letter).await);
        Ok(())
    }

    fn send_mail(&mut self, mail: Mail) -> Result<(), Ending> {
        self.waiting = Some(Letter::Mail(mail, None));
        self.deliver_waiting()
    }

    fn deliver_waiting(&mut self) -> Result<(), Ending> {
        let (Some(letter), Some(mailbox)) = (self.waiting.take(), &self.mailbox) else {
            return Ok(());
        };
        match mailbox.put(letter).map_err(|refused| *refused) {
            Ok(()) => Ok(()),
            Err(Refused::Full(letter)) => {
                self.waiting = Some(letter);
                Ok(())
            }
            // Our seat is gone, or the keeper would not be: a new connection begins anew.
            Err(Refused::Closed(_)) => Err(Ending::ours(CloseReason::StoreUnavailable)),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), Ending> {
        match refusal {
            Refusal::Close(reason) => Err(Ending::ours(reason)),
            Refusal::Error { id, code, reason } => {
                self.answer(&ServerFrame::Error { id, code, retry_after: None, reason });
                Ok(())
            }
        }
    }

    fn answer(&self, frame: &ServerFrame) {
        self.send_own(Some(wrap_json(L::framing(self.profile), &frame.to_json())));
    }

    fn send_own(&self, frame: Option<Bytes>) {
        if let Some(frame) = frame {
            self.reader.outbox().send(frame, false);
        }
    }

    fn owe_control(&mut self) {
        let control = self.link.take_control();
        self.send_own(control);
    }

    fn caught_up(&mut self, slice: Result<Slice, Error>) -> Result<(), Ending> {
        self.catching_up = None;
        let Ok(slice) = slice else {
            let closing = Closing {
                reason: CloseReason::TooSlow,
                retry_after: Some(1_000), // the store is unwell: its position is kept
            };
            return Err(Ending::Ours { gone: Gone::Lost, closing });
        };
        self.frames_sent.add(slice.messages.len() as u64);
        match self.reader.caught_up(&slice, &mut self.unsent) {
            Ok(()) => Ok(()),
            // Perhaps it was told why already: its room was deleted.
            Err(Lost::Epoch) => Err(match self.reader.closing() {
                Some(closing) => Ending::Ours { gone: Gone::Lost, closing },
                None => Ending::ours(CloseReason::LogReset),
            }),
            Err(Lost::Retention { oldest }) => {
                let closing = Closing { reason: CloseReason::TooSlow, retry_after: None };
                Err(Ending::Ours { gone: Gone::BehindRetention { oldest }, closing })
            }
        }
    }

    fn ended(&self, end: End) -> Ending {
        match end {
            End::Closed(code) => {
                let gone = if code == Some(1000) { Gone::Ended } else { Gone::Lost };
                Ending::Theirs { gone, answer: true }
            }
            End::Broken => Ending::Theirs { gone: Gone::Lost, answer: false },
            End::Refused(reason) => Ending::ours(reason),
        }
    }

    fn drained(&mut self, spread: Duration) -> Ending {
        let spread_ms = spread.as_millis() as u64;
        let reconnect_after = if spread_ms == 0 { 0 } else { dice() % spread_ms };
        if self.profile == Profile::V1 {
            self.answer(&ServerFrame::Drain { reconnect_after });
        }
        let closing = Closing { reason: CloseReason::Drain, retry_after: Some(reconnect_after) };
        Ending::Ours { gone: Gone::Lost, closing }
    }

    async fn end(mut self, ending: Ending) {
        // Answers that are ready leave with the goodbye.
        self.reader.take_urgent(&mut self.unsent);
        let linger = self.place.settings.close_linger;
        let (gone, farewell, slug) = match ending {
            Ending::Ours { gone, closing } => {
                let farewell = Farewell::ours::<L>(self.unsent, self.profile, closing, linger);
                (gone, Some(farewell), closing.reason.slug())
            }
            Ending::Theirs { gone, answer } => {
                let farewell = answer.then(|| Farewell::theirs(self.unsent, linger));
                (gone, farewell, if gone == Gone::Ended { "ended" } else { "lost" })
            }
        };
        self.place.metrics.sessions_closed.of(slug).inc();
        tracing::debug!(reason = slug, "a session ended");
        let connection = self.connection;
        let tell = async {
            let Some(mailbox) = self.mailbox else { return };
            let mut next = self.waiting.take(); // what it said before it left comes first
            let mut gone = Some(Letter::Mail(Mail::Gone { connection, how: gone }, None));
            while let Some(letter) = next.take().or_else(|| gone.take()) {
                match mailbox.put(letter).map_err(|refused| *refused) {
                    Ok(()) => {}
                    Err(Refused::Full(letter)) => {
                        next = Some(letter);
                        mailbox.space().await;
                    }
                    Err(Refused::Closed(_)) => return,
                }
            }
        };
        let close = async {
            match farewell {
                Some(farewell) => self.link.close(farewell).await,
                None => drop(self.link),
            }
        };
        tokio::join!(tell, close);
    }
}

fn poll_link<L: Link>(
    link: &mut L,
    unsent: &mut VecDeque<Bytes>,
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

/// The newest position of a room and where its log begins, without waking or starting
/// anything.
async fn look(place: &Place) -> Option<(Position, u64)> {
    let room = place.room.clone();
    // A reading of nothing: it knows where the log begins and ends, and touches no message.
    let edges = place.store.run(move |engine| engine.read(&room, u64::MAX, 0, 0)).await.ok()?;
    Some((Position { epoch: edges.epoch, seq: edges.newest }, edges.oldest))
}

fn wall() -> Timestamp {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(wall.as_millis() as u64)
}
