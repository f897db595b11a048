//! One connection's life: hello, welcome, everything that comes and goes, and how it ended.
//!
//! - It always reads. What the application does not take is left out ([`queue`](super::queue)), so that an
//!   answer is never stuck behind a message.
//! - Writing is a task of its own with a short queue, so that a gateway that reads no further (it may, until it
//!   has answered) is still listened to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::data::Position;
use super::error::{Close, Error, Lost};
use super::event::{Connected, Event, Gap, Presence};
use super::frames::{Done, Hear, Hello, Refusal, Say, Welcome, WireMessage};
use super::framing::{Broken, Raw};
use super::liveness::{Due, Liveness};
use super::log::Log;
use super::options::Options;
use super::outbox::Published;
use super::requests::{Answer, Ask, Page};
use super::roster::Roster;
use super::shared::Shared;
use super::wire::{Heard, Out, Wire};
use super::writing;

/// When the gateway asks to repeat something and does not say when.
const RETRY: Duration = Duration::from_secs(1);

/// How long a goodbye may take, and then the connection's end.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The gateway said so.
    Said(Close),
    Lost(Lost),
    /// The gateway did not take the hello.
    TurnedAway(Error),
    /// This side said goodbye.
    Ours,
}

/// One connection, and what outlives it.
pub(super) struct Connection<'a> {
    pub shared: &'a Arc<Shared>,
    pub options: &'a Options,
    pub log: &'a mut Log,
    pub roster: &'a mut Roster,
    pub liveness: Liveness,
    /// Since when it is live.
    pub live_since: Option<Instant>,
    /// When the gateway, going away, wants to see us again.
    pub return_at: Option<Instant>,
    /// Told when there is a welcome.
    pub welcomed: &'a mut Option<oneshot::Sender<Result<(), Error>>>,
    since: Option<Position>,
    is_welcomed: bool,
    is_leaving: bool,
    turned_away: Option<Error>,
    page: Option<oneshot::Receiver<Result<Answer, Error>>>,
}

impl<'a> Connection<'a> {
    pub fn new(
        shared: &'a Arc<Shared>,
        options: &'a Options,
        log: &'a mut Log,
        roster: &'a mut Roster,
        welcomed: &'a mut Option<oneshot::Sender<Result<(), Error>>>,
    ) -> Self {
        let connect_ms = options.limits.connect.as_millis() as u64;
        Self {
            shared,
            options,
            since: log.position(),
            log,
            roster,
            liveness: Liveness::new(&options.limits, connect_ms),
            live_since: None,
            return_at: None,
            welcomed,
            is_welcomed: false,
            is_leaving: false,
            turned_away: None,
            page: None,
        }
    }

    pub async fn run(&mut self, wire: Wire) -> End {
        let Wire { transport, sender, mut receiver } = wire;
        {
            let mut state = self.shared.lock();
            if state.is_over() {
                return End::Ours; // before hello there is no seat to end
            }
            state.transport = Some(transport);
        }
        let (out, mut writing) = writing::begin(sender);
        out.try_send(Out::Frame(self.hello())).expect("the queue is empty");
        let welcome_by = Instant::now() + self.options.limits.connect;
        let mut leave_by = None;
        let mut can_write = true;
        let end = loop {
            if let Some(error) = self.turned_away.take() {
                break End::TurnedAway(error);
            }
            self.ask_for_what_was_left_out();
            let (has_work, wake_at) = self.look_ahead();
            if leave_by.is_none() && self.shared.lock().is_over() {
                leave_by = Some(Instant::now() + FAREWELL);
            }
            let waits_until = match leave_by {
                Some(leave_by) => leave_by,
                None if self.is_welcomed => wake_at,
                None => welcome_by,
            };
            tokio::select! {
                heard = receiver.next() => match heard.and_then(|heard| self.heard(heard)) {
                    Ok(None) => {}
                    Ok(Some(close)) if close.code == 1000 && self.is_leaving => break End::Ours,
                    Ok(Some(close)) => break End::Said(close),
                    Err(_) if self.is_leaving => break End::Ours,
                    Err(lost) => break End::Lost(lost),
                },
                permit = out.reserve(), if has_work && can_write => match permit {
                    Ok(permit) => if let Some(next) = self.next() {
                        permit.send(next);
                    },
                    Err(_) => can_write = false, // what it was is still to be read
                },
                page = wait_for(&mut self.page) => {
                    if !self.take_page(page) {
                        break End::Lost(Lost::Broken("a page of the log was refused".to_owned()));
                    }
                }
                () = self.shared.work.notified() => {}
                () = sleep_until(waits_until) => {
                    if leave_by.is_some() {
                        break End::Ours;
                    }
                    if !self.is_welcomed {
                        break End::Lost(Lost::Silent);
                    }
                    let is_owed = self.is_owed();
                    match self.liveness.due(is_owed) {
                        None => {}
                        Some(Due::GiveUp) => break End::Lost(Lost::Silent),
                        Some(Due::Ping) => {
                            let id = self.shared.lock().id();
                            // A full queue is as good: something is to be answered already.
                            let _ = out.try_send(Out::Frame(Say::Ping { id }.frame(None)));
                        }
                    }
                }
            }
        };
        if matches!(end, End::Ours) && out.try_send(Out::End).is_ok() {
            drop(out); // behind the farewell there is nothing
            let _ = timeout(FAREWELL, writing.end()).await;
        }
        end
    }

    fn hello(&self) -> Raw {
        // Before the lock: where tokens come from may want to know something of the room.
        let token = self.options.token.as_ref().map(|token| token.get());
        let state = self.shared.lock();
        Say::Hello(Hello {
            name: self.options.name.as_deref(),
            session: state.session.as_deref(),
            since: self.since.as_ref(),
            history: self.options.history,
            watch: self.options.watch,
            presence: self.options.presence.word(),
            tags: state.tags.as_deref(),
            attachment: state.attachment.as_ref(),
            token: token.as_deref(),
        })
        .frame(None)
    }

    /// Whether there is something to send now, and when to look again at the latest.
    fn look_ahead(&self) -> (bool, Instant) {
        let (state, now) = (self.shared.lock(), Instant::now());
        if !self.is_welcomed || self.is_leaving {
            return (false, now);
        }
        let has_work = state.is_over()
            || state.requests.has_next(now)
            || state.outbox.has_next(now)
            || !state.ephemerals.is_empty();
        let is_owed = state.outbox.is_owed() || state.requests.is_owed();
        let pauses = [state.outbox.paused_until(), state.requests.paused_until()];
        let paused = pauses.into_iter().flatten().filter(|until| *until > now).min();
        let next = self.liveness.next(is_owed);
        (has_work, paused.map_or(next, |paused| paused.min(next)))
    }

    fn is_owed(&self) -> bool {
        let state = self.shared.lock();
        state.outbox.is_owed() || state.requests.is_owed()
    }

    /// The next to be sent: goodbye, then answers wanted, then publishes, then what may be dropped.
    fn next(&mut self) -> Option<Out> {
        let (mut state, now) = (self.shared.lock(), Instant::now());
        if state.is_over() {
            self.is_leaving = true;
            return Some(Out::Frame(Say::Bye.frame(None)));
        }
        if let Some(frame) = state.requests.next(now) {
            return Some(Out::Frame(frame));
        }
        if let Some(frame) = state.outbox.next(now) {
            return Some(Out::Frame(frame));
        }
        let (key, data) = state.ephemerals.pop_front()?;
        let (json, bytes) = data.halves();
        Some(Out::Droppable(Say::Ephemeral { key: &key, data: json }.frame(bytes)))
    }

    fn heard(&mut self, heard: Heard) -> Result<Option<Close>, Lost> {
        self.liveness.heard();
        let Heard::Frame(raw) = heard else { return Ok(None) };
        let (frame, bytes) = Hear::read(&raw)?;
        if let Hear::Close { code, reason, retry_after } = frame {
            let retry_after = retry_after.map(Duration::from_millis);
            return Ok(Some(Close { code, reason, retry_after }));
        }
        self.understood(frame, bytes)?;
        self.shared.told.notify_one();
        Ok(None)
    }

    fn understood(&mut self, frame: Hear, bytes: Option<Bytes>) -> Result<(), Broken> {
        match frame {
            Hear::Welcome(welcome) => self.welcome(welcome),
            Hear::Message(message) => self.message(message, bytes)?,
            Hear::Live { seq } => {
                self.live_since = Some(Instant::now());
                self.log.live(seq, &mut self.shared.lock().queue);
            }
            Hear::Ok(done) => self.done(&done),
            Hear::Error(refusal) => self.refused(refusal),
            Hear::Page { id, messages, more } => {
                let messages = messages.into_iter().map(|it| it.open(None));
                let page = Page { messages: messages.collect::<Result<_, _>>()?, more };
                self.shared.lock().requests.settle(id, Ok(Answer::Page(page)));
            }
            Hear::Members { id, members, more } => {
                let answer = Answer::Members { members, more };
                self.shared.lock().requests.settle(id, Ok(answer));
            }
            Hear::Presence(change) => self.presence(change.into()),
            Hear::Ephemeral { key, from, data } => {
                let data = bytes.map_or_else(|| data.unwrap_or_default().into(), Into::into);
                self.shared.lock().queue.push(Event::Ephemeral { key, from, data });
            }
            Hear::Room(state) => self.shared.lock().queue.push(Event::Room(state)),
            Hear::Drain { reconnect_after } => {
                self.return_at = Some(Instant::now() + Duration::from_millis(reconnect_after));
            }
            Hear::Pong {} | Hear::Close { .. } | Hear::Unknown => {}
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: Welcome) {
        self.is_welcomed = true;
        self.liveness = Liveness::new(&self.options.limits, welcome.heartbeat);
        let presence = Presence::from(&welcome);
        self.roster.apply(&presence);
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let transport = state.transport.expect("there is a connection");
        let is_settled = state.outbox.fit(welcome.limits.message);
        state.requests.fit(welcome.limits.message);
        state.session = Some(welcome.session);
        state.sid = Some(welcome.sid.clone());
        state.limited(welcome.limits);
        state.queue.push(Event::Connected(Connected {
            transport,
            sid: welcome.sid,
            is_seat_kept: welcome.seat == "kept",
            is_resumed: welcome.resumed,
            count: welcome.count,
        }));
        if self.since.is_some() && !welcome.resumed {
            let why = welcome.why.unwrap_or_default();
            state.queue.push(Event::Gap(Gap { why, oldest: welcome.oldest }));
        }
        state.queue.push(Event::Presence(presence));
        if is_settled {
            self.shared.settled.notify_waiters();
        }
        self.log.welcomed(welcome.position.epoch, welcome.resumed);
        if let Some(welcomed) = self.welcomed.take() {
            let _ = welcomed.send(Ok(())); // whoever does not wait any more has dropped the room, too
        }
    }

    fn message(&mut self, message: WireMessage, bytes: Option<Bytes>) -> Result<(), Broken> {
        let message = message.open(bytes)?;
        let queue = &mut self.shared.lock().queue;
        match message.seq {
            Some(seq) => self.log.message(seq, message, queue),
            None => queue.push(Event::Direct(message)),
        }
        Ok(())
    }

    fn presence(&mut self, presence: Presence) {
        self.roster.apply(&presence);
        self.shared.lock().queue.push(Event::Presence(presence));
    }

    fn done(&mut self, done: &Done) {
        let Some(id) = done.id else { return };
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Some(seq) = done.seq
            && state.outbox.settle(id, Ok(Published { seq, dup: done.dup }))
        {
            self.shared.settled.notify_waiters();
            return;
        }
        let answer = Answer::Done { reached: done.reached.unwrap_or(0) };
        if let Some(Ask::Set { attachment, tags }) = state.requests.settle(id, Ok(answer)) {
            state.attachment = attachment.or(state.attachment.take());
            state.tags = tags.or(state.tags.take());
        }
    }

    fn refused(&mut self, refusal: Refusal) {
        let retry_after = refusal.retry_after.map(Duration::from_millis);
        let Some(id) = refusal.id else {
            // Without a welcome it can only be about the hello, and saying the same again would not help.
            if !self.is_welcomed {
                let Refusal { code, reason, .. } = refusal;
                self.turned_away = Some(Error::Rejected { code, reason, retry_after });
            }
            return;
        };
        let is_passing = matches!(refusal.code.as_str(), "rate_limited" | "room_unavailable");
        let mut state = self.shared.lock();
        if retry_after.is_some() || is_passing {
            let until = Instant::now() + retry_after.unwrap_or(RETRY);
            if state.outbox.postpone(id, until) || state.requests.postpone(id, until) {
                return;
            }
        }
        let error = Error::Rejected { code: refusal.code, reason: refusal.reason, retry_after };
        if state.outbox.settle(id, Err(error.clone())) {
            self.shared.settled.notify_waiters();
        } else {
            state.requests.settle(id, Err(error));
        }
    }

    /// What found no space in the queue is asked for once there is space again.
    fn ask_for_what_was_left_out(&mut self) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if state.queue.wants_presence() {
            state.queue.push_whole_presence(Event::Presence(self.roster.whole()));
            self.shared.told.notify_one();
        }
        let wants = self.log.wants_page(&state.queue).filter(|_| self.is_welcomed);
        if let Some(after) = wants {
            let (reply, page) = oneshot::channel();
            let ask = Ask::History { before: None, after: Some(after), limit: Some(256) };
            let id = state.id();
            // With too many requests waiting already, the next answer brings us here again.
            if state.requests.push(id, ask, reply).is_ok() {
                self.page = Some(page);
                self.log.asked();
            }
        }
    }

    fn take_page(&mut self, page: Result<Answer, Error>) -> bool {
        self.page = None;
        let Ok(Answer::Page(Page { messages, more })) = page else { return false };
        self.log.page(messages, more, &mut self.shared.lock().queue);
        self.shared.told.notify_one();
        true
    }
}

/// The answer that is waited for, or nothing for ever.
async fn wait_for(
    page: &mut Option<oneshot::Receiver<Result<Answer, Error>>>,
) -> Result<Answer, Error> {
    match page {
        Some(page) => page.await.unwrap_or(Err(Error::Ended)),
        None => std::future::pending().await,
    }
}
