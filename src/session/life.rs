//! The loop of one session.

mod from_seed;
mod from_v1;
mod waiting;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::liveness::{Due, Liveness};
use super::seed::Seed;
use super::{AutoResponses, End, Farewell, Link, Place, Received, dice};
use crate::keeper::state::{Gone, Join, Mail};
use crate::keeper::{Letter, Mailbox, Refused};
use crate::outbox::{Closing, Filled, Lost, Outbox, Reader, Tally, Unsent};
use crate::protocol::framing::wrap_json;
use crate::protocol::v1::{Hello, Refusal, ServerFrame};
use crate::protocol::{Author, BodyKind, CloseReason, Position, Profile, Sid, Verdict};
use crate::room::{Connection, Limiter};
use crate::store::{Error, Slice};
use crate::supervision;
use crate::telemetry::{Counter, Held};

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
    /// Chosen for the wire, not yet taken by it.
    unsent: Unsent,
    /// Where mail goes once the session has asked for a seat.
    mailbox: Option<Arc<Mailbox>>,
    /// Mail that found the mailbox full; nothing is read until it is gone.
    waiting: Option<Box<Letter>>,
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
    /// What is answered before it is read, if anything is in this room.
    auto: Option<Arc<AutoResponses>>,
    liveness: Liveness,
    born: Instant,
    /// What only a seed client has.
    seed: Option<Box<Seed>>,
    frames_received: Arc<Counter>,
    frames_sent: Arc<Counter>,
    _counted: Held,
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

/// How a client asked for its seat.
enum Beginning {
    Hello(Box<Hello>),
    Join(Box<Join>),
}

/// How a session ended, and who said so.
pub(super) enum Ending {
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
    pub(super) fn new(link: L, profile: Profile, place: Place) -> Self {
        let now = Instant::now();
        let outbox =
            Outbox::new(L::framing(profile), &place.dispatcher.settings_of(&place.room).outbox);
        let greets = profile == Profile::V1;
        let liveness = Liveness::new(now, place.settings.clone(), L::ping().is_some(), greets);
        let metrics = &place.metrics;
        let auto = place.settings.auto_responses.of(&place.room);
        let frames_sent = metrics.frames_sent.of(L::TRANSPORT.label());
        let mut reader = Reader::new(outbox);
        if let Some(wire) = link.wire() {
            reader = reader.with_wire(wire, frames_sent.clone());
        }
        Self {
            link,
            profile,
            connection: place.dispatcher.connection(),
            reader,
            unsent: Unsent::new(),
            mailbox: None,
            waiting: None,
            in_flight: 0,
            asked_for_a_page: false,
            wrote: false,
            catching_up: None,
            ask_for_members: false,
            ephemerals: Limiter::default(),
            ephemeral_keys: Vec::new(),
            auto: (**auto != AutoResponses::default()).then(|| auto.clone()),
            liveness,
            born: now,
            seed: (profile == Profile::Seed).then(|| Box::new(Seed::new(now))),
            frames_received: metrics.frames_received.of(L::TRANSPORT.label()),
            frames_sent,
            _counted: metrics.sessions.of(L::TRANSPORT.label()).hold(),
            place,
        }
    }

    /// Lives until something ends it, a fault of ours included: its room must learn that it is gone,
    /// and its client is to come back.
    pub(super) async fn live_or_fail(&mut self) -> Ending {
        let metrics = self.place.metrics.clone();
        let lived = {
            let mut life = pin!(self.live());
            poll_fn(|cx| {
                let polled = catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(cx)));
                polled.map_or_else(|panic| Poll::Ready(Err(panic)), |polled| polled.map(Ok))
            })
            .await
        };
        lived.unwrap_or_else(|panic| {
            metrics.task_failures.of("session").inc();
            tracing::error!(why = supervision::text_of(&*panic), "a session failed");
            let closing =
                Closing { reason: CloseReason::StoreUnavailable, retry_after: Some(1_000) };
            Ending::Ours { gone: Gone::Lost, closing }
        })
    }

    /// Lives until something ends it.
    async fn live(&mut self) -> Ending {
        if let Some(seed) = &mut self.seed {
            seed.accepted = Box::pin(look(&self.place)).await.map(|(position, _)| position);
        }
        let mut alarm = pin!(sleep_until(self.born));
        loop {
            let begun = match self.turn(alarm.as_mut()).await {
                Ok(None) => continue,
                Ok(Some(Beginning::Hello(hello))) => Box::pin(self.hello(*hello)).await,
                Ok(Some(Beginning::Join(join))) => Box::pin(self.join(*join)).await,
                Err(ending) => return ending,
            };
            if let Err(ending) = begun {
                return ending;
            }
        }
    }

    /// One turn of the loop: choose what to write, wait, deal with what happened.
    async fn turn(&mut self, mut alarm: Pin<&mut Sleep>) -> Result<Option<Beginning>, Ending> {
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
                return Ok(None);
            }
            Due::End(reason) => return Err(Ending::ours(reason)),
        }
        let deadline = self.liveness.deadline();
        if let Some(at) = deadline
            && (at < alarm.deadline() || alarm.is_elapsed())
        {
            alarm.as_mut().reset(at);
        }
        // An alarm that has rung stays rung until it is set anew: without a deadline it is not.
        let happened = self.wait(deadline.map(|_| alarm)).await;
        self.deal(happened)
    }

    /// Deals with what happened, waiting for nothing: what has to wait comes back.
    fn deal(&mut self, happened: Happened) -> Result<Option<Beginning>, Ending> {
        self.wrote = matches!(happened, Happened::Wrote(_));
        match happened {
            Happened::Received(Received::Frame(kind, body)) => {
                self.liveness.heard(Instant::now());
                self.frames_received.inc();
                let beginning = match self.responds(kind, &body) {
                    true => Ok(None),
                    false => self.read(kind, &body),
                };
                self.owe_control();
                return beginning;
            }
            Happened::Received(Received::Datagram(body)) => {
                self.liveness.heard(Instant::now());
                self.frames_received.inc();
                self.read_datagram(&body)?;
            }
            Happened::Received(Received::Request(side, kind, body)) => {
                self.liveness.heard(Instant::now());
                self.frames_received.inc();
                self.read_request(side, kind, &body)?;
            }
            Happened::Received(Received::Alive) => {
                self.liveness.heard(Instant::now());
                self.owe_control();
            }
            Happened::Received(Received::End(end)) => {
                self.owe_control();
                return Err(self.ended(end));
            }
            Happened::Wrote(Ok(_)) => {
                self.liveness.took(Instant::now(), self.unsent.is_empty());
            }
            Happened::Wrote(Err(_)) => {
                return Err(Ending::Theirs { gone: Gone::Lost, answer: false });
            }
            Happened::Changed | Happened::Alarm => match self.reader.closing() {
                Some(closing) if !self.unsent.is_empty() => {
                    return Err(Ending::Ours { gone: Gone::Lost, closing });
                }
                _ => {}
            },
            Happened::CaughtUp(slice) => self.caught_up(slice)?,
            Happened::Space => self.deliver_waiting()?,
            Happened::Drained(spread) => return Err(self.drained(spread)),
        }
        Ok(None)
    }

    fn read(&mut self, kind: BodyKind, body: &[u8]) -> Result<Option<Beginning>, Ending> {
        match self.profile {
            Profile::V1 => Ok(self.read_v1(kind, body)?.map(Beginning::Hello)),
            Profile::Seed => Ok(self.read_seed(kind, body)?.map(Beginning::Join)),
        }
    }

    /// Chooses what to write next, once everything chosen before is taken.
    fn fill(&mut self) -> Result<(), Ending> {
        if !self.unsent.is_empty() || self.catching_up.is_some() {
            return Ok(());
        }
        let (mut filled, mut showed) = self.fill_once();
        // What left beside the stream left room for more.
        while showed && self.unsent.is_empty() {
            (filled, showed) = self.fill_once();
        }
        match filled {
            Filled::Enough => {}
            Filled::CatchUp { from } => {
                let room = self.place.room.clone();
                let bytes = self.place.dispatcher.settings_of(&room).outbox.page_bytes;
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

    /// Says what was found, and whether anything was shown that may be dropped.
    fn fill_once(&mut self) -> (Filled, bool) {
        let mut tally = Tally::default();
        let filled = self.reader.fill(&mut self.unsent, &mut tally);
        let Self { link, unsent, profile, .. } = self;
        let showed = tally.show(L::framing(*profile), unsent, |body| link.send_datagram(body));
        let Tally { answered, frames, aside, .. } = tally;
        self.in_flight = self.in_flight.saturating_sub(answered);
        self.asked_for_a_page &= self.in_flight > 0;
        self.frames_sent.add(frames);
        for (side, frame) in aside {
            self.link.reply(side, frame);
        }
        (filled, showed)
    }

    fn blank_join(&self) -> Join {
        Join {
            accepted: self.seed.as_ref().and_then(|seed| seed.accepted),
            ..Join::new(self.connection, self.profile, Sid(dice()), Author(dice()))
        }
    }

    async fn join(&mut self, join: Join) -> Result<(), Ending> {
        let outbox = self.reader.outbox().clone();
        let letter = Letter::Mail(Mail::Join(Box::new(join)), Some(outbox));
        let room = self.place.room.clone();
        // Boxed: it happens once, and its room in the session's task would stay.
        let delivered = Box::pin(self.place.dispatcher.deliver(&room, letter));
        self.mailbox = Some(delivered.await);
        Ok(())
    }

    fn send_mail(&mut self, mail: Mail) -> Result<(), Ending> {
        self.put(Letter::Mail(mail, None))
    }

    fn deliver_waiting(&mut self) -> Result<(), Ending> {
        self.waiting.take().map_or(Ok(()), |letter| self.put(*letter))
    }

    fn put(&mut self, letter: Letter) -> Result<(), Ending> {
        let Some(mailbox) = &self.mailbox else { return Ok(()) };
        match mailbox.put(letter).map_err(|refused| *refused) {
            Ok(()) => Ok(()),
            Err(Refused::Full(letter)) => {
                self.waiting = Some(Box::new(letter));
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

    /// Answers a frame that is to be answered before anybody reads it; says whether it did.
    fn responds(&self, kind: BodyKind, body: &[u8]) -> bool {
        let Some(auto) = &self.auto else { return false };
        let response = if kind == BodyKind::Json { auto.to(body) } else { None };
        if let Some(response) = response {
            self.reader.outbox().auto_responded(self.place.dispatcher.clock().wall());
            self.send_own(Some(wrap_json(L::framing(self.profile), response)));
        }
        response.is_some()
    }

    fn answer(&self, frame: &ServerFrame) {
        self.send_own(Some(wrap_json(L::framing(self.profile), &frame.to_json())));
        self.judge(frame.verdict());
    }

    /// Counts what became of a frame that only this session has read.
    fn judge(&self, verdict: Verdict) {
        self.reader.outbox().judge(verdict);
    }

    fn send_own(&self, frame: Option<Bytes>) {
        if let Some(frame) = frame {
            self.reader.outbox().send(frame);
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

    pub(super) async fn end(mut self, ending: Ending) {
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
        drop(self.reader); // and with it the link's other end
        let connection = self.connection;
        let tell = async {
            let Some(mailbox) = self.mailbox else { return };
            let mut next = self.waiting.take().map(|letter| *letter); // what it said before it left comes first
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

/// The newest position of a room and where its log begins, without waking or starting
/// anything.
async fn look(place: &Place) -> Option<(Position, u64)> {
    let room = place.room.clone();
    // A reading of nothing: it knows where the log begins and ends, and touches no message.
    let edges = place.store.run(move |engine| engine.read(&room, u64::MAX, 0, 0)).await.ok()?;
    Some((Position { epoch: edges.epoch, seq: edges.newest }, edges.oldest))
}
