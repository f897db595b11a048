//! The two handles: [`Room`] to speak, [`Events`] to listen.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde_json::Value;
use tokio::sync::oneshot;

use super::address::Address;
use super::data::{Data, Member, Position, To, is_shallow};
use super::driver::Driver;
use super::error::Error;
use super::event::Event;
use super::frames::Say;
use super::options::{Options, Saved};
use super::outbox::{Published, Settled, fits};
use super::requests::{Answer, Ask, Page};
use super::roster::MEMBERS;
use super::shared::Shared;
use super::wire::{Route, Transport};

/// The largest number of the protocol's JSON. No log gets there: what lies before or after a larger one is the
/// same.
const SEQ_MOST: u64 = (1 << 53) - 1;

/// Enters a room: returns when the gateway has welcomed the session, or says why not.
///
/// `address` is the room's, `http://localhost:4433/rooms/lobby`. With `https` (or `wss`) TCP is under TLS, too;
/// WebTransport always is. An address that ends in `/ws` or `/wt` names the transport as well. A path before
/// `/rooms/` is kept.
///
/// If the wait is given up, nothing connects any more, and a session that has begun ends.
pub async fn connect(address: &str, options: Options) -> Result<(Room, Events), Error> {
    let address = Address::parse(address)?;
    options.attachment.as_ref().map_or(Ok(()), is_shallow)?;
    let route = Route::new(address, &options).await;
    let shared = Shared::new(&options);
    let resume = options.resume.clone().and_then(|saved| saved.position);
    let (room, events) = (Room::new(shared.clone()), Events::new(shared.clone(), resume));
    let (welcomed, first) = oneshot::channel();
    tokio::spawn(Driver::new(shared, options, route).run(welcomed));
    first.await.unwrap_or(Err(Error::Ended))?;
    Ok((room, events))
}

/// A room, to speak in. It can be cloned; when all clones and the [`Events`] are gone, the session ends.
pub struct Room {
    shared: Arc<Shared>,
}

/// Which page of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// The newest.
    Newest,
    /// What came before that `seq`.
    Before(u64),
    /// What came after that `seq`.
    After(u64),
}

/// A publish under way: resolves when it is durable. It goes on whether or not anybody waits for it.
#[derive(Debug)]
pub struct Publishing(Result<Settled, Error>);

/// What happens in a room, in order.
///
/// Who does not take events misses no message: those that find no space are fetched from the log later.
pub struct Events {
    shared: Arc<Shared>,
    /// The last message that was taken.
    position: Option<Position>,
}

impl Room {
    fn new(shared: Arc<Shared>) -> Self {
        shared.lock().handles += 1;
        Self { shared }
    }

    /// Says something to everybody. The order of calls is the order in the log; without a connection it waits
    /// for one. Settles exactly once, with its `seq` when it is durable.
    pub fn publish(&self, data: impl Into<Data>) -> Publishing {
        let mut state = self.shared.lock();
        if let Some(error) = &state.ended {
            return Publishing(Err(error.clone()));
        }
        let (id, longest) = (state.id(), state.longest());
        let settled = state.outbox.push(id, &data.into(), longest);
        drop(state);
        self.shared.work.notify_one();
        Publishing(settled)
    }

    /// Says something to a few, and how many it reached. It is not stored; if the connection breaks before the
    /// answer, nobody knows whether it arrived.
    pub async fn direct(&self, to: To, data: impl Into<Data>) -> Result<u64, Error> {
        let data = data.into();
        match self.ask(Ask::Direct { to, data }).await? {
            Answer::Done { reached } => Ok(reached),
            _ => Err(strange()),
        }
    }

    /// Says something that may be dropped, to everybody else. Of one key only the newest counts; 8 keys at most.
    pub fn ephemeral(&self, key: &str, data: impl Into<Data>) -> Result<(), Error> {
        let data = data.into();
        let mut state = self.shared.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let (json, bytes) = data.halves();
        fits(&Say::Ephemeral { key, data: json }.frame(bytes), json, state.longest())?;
        state.check_ephemeral(key)?;
        if state.transport.is_some() {
            state.ephemeral(key.to_owned(), data);
            drop(state);
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// A page of the log, 256 messages at most.
    pub async fn history(&self, which: Pages, limit: u32) -> Result<Page, Error> {
        let (before, after) = match which {
            Pages::Newest => (None, None),
            Pages::Before(seq) => (Some(seq.min(SEQ_MOST)), None),
            Pages::After(seq) => (None, Some(seq.min(SEQ_MOST))),
        };
        match self.ask(Ask::History { before, after, limit: Some(limit) }).await? {
            Answer::Page(page) => Ok(page),
            _ => Err(strange()),
        }
    }

    /// Everybody who is here, by `sid`; of a room with more than 32,768 members the first.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let mut all: Vec<Member> = Vec::new();
        loop {
            let after = all.last().map(|member| member.sid.clone());
            let Answer::Members { members, more } = self.ask(Ask::Members { after }).await? else {
                return Err(strange());
            };
            let is_end = !more || members.is_empty() || all.len() + members.len() >= MEMBERS;
            all.extend(members);
            if is_end {
                return Ok(all);
            }
        }
    }

    /// Changes what others see of this seat; what is not given stays. It holds across connections, also when
    /// the seat is lost and a new one is taken.
    pub async fn set(
        &self,
        attachment: Option<Value>,
        tags: Option<Vec<String>>,
    ) -> Result<(), Error> {
        self.ask(Ask::Set { attachment, tags }).await.map(|_| ())
    }

    /// Waits until every publish is settled, one way or the other.
    pub async fn flush(&self) {
        loop {
            let settled = self.shared.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable(); // before looking, lest it happens in between
            if self.shared.lock().outbox.is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Says goodbye: the seat ends at once, and others see it leave. What is not settled by then fails with
    /// [`Error::Ended`]; [`flush`](Self::flush) first if it should not.
    pub async fn close(&self) {
        self.shared.lock().wants_end = true;
        self.shared.work.notify_one();
        loop {
            let settled = self.shared.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.shared.lock().ended.is_some() {
                return;
            }
            settled.await;
        }
    }

    /// The seat's public name. Another one after a connection that took a new seat.
    pub fn sid(&self) -> String {
        self.shared.lock().sid.clone().unwrap_or_default()
    }

    /// What the connection runs over; nothing while there is none.
    pub fn transport(&self) -> Option<Transport> {
        self.shared.lock().transport
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            if let Ask::Set { attachment, tags } = &ask {
                state.check_seat(attachment.as_ref(), tags.as_deref())?;
            }
            let id = state.id();
            fits(&ask.frame(id), ask.json(), state.longest())?;
            state.requests.push(id, ask, reply)?;
        }
        self.shared.work.notify_one();
        answer.await.unwrap_or(Err(Error::Ended))
    }
}

fn strange() -> Error {
    let why = "an answer to another question".to_owned();
    Error::Stranger { gateway: "the gateway".to_owned(), why }
}

impl Clone for Room {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.lock().handles -= 1;
        self.shared.work.notify_one();
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("transport", &self.transport()).finish_non_exhaustive()
    }
}

impl Future for Publishing {
    type Output = Result<Published, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(settled) => {
                Pin::new(settled).poll(context).map(|it| it.unwrap_or(Err(Error::Ended)))
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl Events {
    fn new(shared: Arc<Shared>, position: Option<Position>) -> Self {
        Self { shared, position }
    }

    /// The next event; nothing after the last. The wait may be given up and begun again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let told = self.shared.told.notified();
            {
                let mut guard = self.shared.lock();
                let state = &mut *guard;
                if let Some((event, position)) = state.queue.pop() {
                    if state.queue.has_much_space() {
                        self.shared.work.notify_one();
                    }
                    self.position = position.or(self.position.take());
                    return Some(event);
                }
                if state.ended.is_some() {
                    return None;
                }
            }
            told.await;
        }
    }

    /// Enough to come back later, even in another process, and miss nothing behind the last message taken.
    pub fn saved(&self) -> Option<Saved> {
        let session = self.shared.lock().session.clone()?;
        Some(Saved { session, position: self.position.clone() })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.lock().queue.reader_left();
        self.shared.work.notify_one();
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("position", &self.position).finish_non_exhaustive()
    }
}
