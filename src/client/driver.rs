//! The task behind a room: one connection after the other, with the right wait between them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::connection::{Connection, End};
use super::error::{Error, Lost};
use super::event::Event;
use super::log::Log;
use super::options::Options;
use super::roster::Roster;
use super::shared::Shared;
use super::wire::{self, Route};

pub(super) struct Driver {
    shared: Arc<Shared>,
    options: Options,
    route: Route,
    backoff: Backoff,
    log: Log,
    roster: Roster,
}

/// What comes after a connection.
enum Next {
    Again { error: Error, after: Duration },
    Over(Error),
}

impl Driver {
    pub fn new(shared: Arc<Shared>, options: Options, route: Route) -> Self {
        let position = options.resume.as_ref().and_then(|saved| saved.position.clone());
        Self {
            shared,
            backoff: Backoff::new(&options.limits),
            options,
            route,
            log: Log::at(position),
            roster: Roster::default(),
        }
    }

    /// Runs until the room is over; `welcomed` hears of the first connection.
    pub async fn run(mut self, welcomed: oneshot::Sender<Result<(), Error>>) {
        let mut welcomed = Some(welcomed);
        let why = loop {
            let next = self.connect_and_talk(&mut welcomed).await;
            self.shared.lock().transport = None;
            match next {
                Next::Over(why) => break why,
                Next::Again { error, after } => {
                    if !self.wait(error, after).await {
                        break Error::Ended;
                    }
                }
            }
        };
        if let Some(welcomed) = welcomed {
            let _ = welcomed.send(Err(why.clone())); // nobody may be waiting any more
        }
        self.shared.lock().end(&why);
        self.shared.settled.notify_waiters();
        self.shared.told.notify_one();
    }

    async fn connect_and_talk(
        &mut self,
        welcomed: &mut Option<oneshot::Sender<Result<(), Error>>>,
    ) -> Next {
        let opening = wire::open(&mut self.route);
        let opened = tokio::select! {
            opened = opening => opened,
            () = over(&self.shared) => return Next::Over(Error::Ended),
        };
        let wire = match opened {
            Ok(wire) => wire,
            Err(error) => {
                // Once a gateway was there, a wrong answer is a gateway that starts, or a proxy without one.
                let is_final = match welcomed {
                    Some(_) => !(self.options.is_patient && error.is_passing()),
                    None => false,
                };
                let asked = match &error {
                    Error::Refused { retry_after, .. } => *retry_after,
                    _ => None,
                };
                return match is_final {
                    true => Next::Over(error),
                    false => self.again(error, asked, None),
                };
            }
        };
        let transport = wire.transport;
        let mut connection =
            Connection::new(&self.shared, &self.options, &mut self.log, &mut self.roster, welcomed);
        let end = connection.run(wire).await;
        let (live_since, return_at) = (connection.live_since, connection.return_at);
        if live_since.is_some_and(|since| since.elapsed() >= self.options.limits.stable_after) {
            self.route.praise(transport);
        }
        match end {
            End::Ours => Next::Over(Error::Ended),
            End::TurnedAway(error) => Next::Over(error),
            End::Said(close) if !close.may_return() => Next::Over(close.into()),
            End::Said(close) => {
                self.connection_lost(&Lost::Broken(close.to_string()));
                let told = return_at.map(|at| at.saturating_duration_since(Instant::now()));
                let asked = told.or(close.retry_after);
                self.again(close.into(), asked, live_since)
            }
            End::Lost(lost) => {
                if matches!(lost, Lost::Silent) {
                    self.route.blame(transport);
                }
                self.connection_lost(&lost);
                let is_final = welcomed.is_some() && !self.options.is_patient;
                match is_final {
                    true => Next::Over(Error::Lost(lost)),
                    false => self.again(Error::Lost(lost), None, live_since),
                }
            }
        }
    }

    fn connection_lost(&mut self, lost: &Lost) {
        let mut state = self.shared.lock();
        state.outbox.connection_lost();
        state.requests.connection_lost(lost);
        state.ephemerals.clear(); // by the time they could be sent they would be wrong
    }

    /// After what the gateway asked for if it did, else backing off.
    fn again(
        &mut self,
        error: Error,
        asked: Option<Duration>,
        live_since: Option<Instant>,
    ) -> Next {
        let jitter = self.backoff.lost(live_since);
        let after = asked.map_or(jitter, |asked| match asked.is_zero() {
            true => jitter, // "at once" may be said a thousand times in a row
            false => asked,
        });
        Next::Again { error, after }
    }

    /// Waits, unless nobody wants to come back.
    async fn wait(&self, error: Error, after: Duration) -> bool {
        self.shared.lock().queue.push(Event::Disconnected { error, retry_in: after });
        self.shared.told.notify_one();
        tokio::select! {
            () = sleep(after) => true,
            () = over(&self.shared) => false,
        }
    }
}

/// Returns when nobody wants the room any more.
async fn over(shared: &Shared) {
    while !shared.lock().is_over() {
        shared.work.notified().await;
    }
}
