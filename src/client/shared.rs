//! What the handles and the driver share: short tables behind one lock that nobody holds for long.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::Notify;

use super::data::Data;
use super::error::Error;
use super::frames::Limits;
use super::options::{Options, Saved};
use super::outbox::Outbox;
use super::queue::Queue;
use super::requests::Requests;
use super::wire::Transport;

/// Ephemerals that wait to be sent: the gateway takes 8 keys of a session.
const EPHEMERALS: usize = 8;

pub(super) struct Shared {
    state: Mutex<State>,
    /// There is something to do for the driver.
    pub work: Notify,
    /// There is something to take for the application.
    pub told: Notify,
    /// The outbox got shorter.
    pub settled: Notify,
}

pub(super) struct State {
    next_id: u64,
    pub outbox: Outbox,
    pub requests: Requests,
    pub ephemerals: VecDeque<(String, Data)>,
    pub queue: Queue,
    /// What the gateway takes, once it was told.
    pub limits: Option<Limits>,
    /// The keys of the ephemerals of this connection.
    ephemeral_keys: Vec<String>,
    /// What the seat has; it is said again in every `hello`.
    pub attachment: Option<Value>,
    pub tags: Option<Vec<String>>,
    /// The seat's secret, and its public name.
    pub session: Option<String>,
    pub sid: Option<String>,
    /// What the connection runs over, while there is one.
    pub transport: Option<Transport>,
    /// How many handles there are; without any, and nobody to take events, the session ends.
    pub handles: usize,
    pub wants_end: bool,
    pub ended: Option<Error>,
}

impl Shared {
    pub fn new(options: &Options) -> Arc<Self> {
        let session = options.resume.as_ref().map(|Saved { session, .. }| session.clone());
        let state = State {
            next_id: 0,
            outbox: Outbox::new(&options.limits),
            requests: Requests::default(),
            ephemerals: VecDeque::new(),
            queue: Queue::new(&options.limits),
            limits: None,
            ephemeral_keys: Vec::new(),
            attachment: options.attachment.clone(),
            tags: options.tags.clone(),
            session,
            sid: None,
            transport: None,
            handles: 0,
            wants_end: false,
            ended: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            work: Notify::new(),
            told: Notify::new(),
            settled: Notify::new(),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl State {
    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Nobody wants anything of this room any more.
    pub fn is_over(&self) -> bool {
        self.wants_end || (self.handles == 0 && !self.queue.has_reader())
    }

    /// The longest frame that the gateway takes.
    pub fn longest(&self) -> Option<usize> {
        self.limits.map(|limits| limits.message)
    }

    /// A gateway has said what it takes; a new connection has shown no ephemerals yet.
    pub fn limited(&mut self, limits: Limits) {
        self.limits = Some(limits);
        self.ephemeral_keys.clear();
    }

    /// Refuses what the gateway would refuse of a seat.
    pub fn check_seat(
        &self,
        attachment: Option<&Value>,
        tags: Option<&[String]>,
    ) -> Result<(), Error> {
        let Some(limits) = self.limits else { return Ok(()) };
        if let Some(attachment) = attachment {
            let size = attachment.to_string().len();
            within("an attachment, in bytes,", size, limits.attachment)?;
        }
        if let Some(tags) = tags {
            within("the number of tags", tags.len(), limits.tags)?;
            let longest = tags.iter().map(String::len).max();
            within("a tag, in bytes,", longest.unwrap_or(0), limits.tag)?;
        }
        Ok(())
    }

    /// Refuses a key that the gateway would refuse, or one too many of them.
    pub fn check_ephemeral(&mut self, key: &str) -> Result<(), Error> {
        let Some(limits) = self.limits else { return Ok(()) };
        within("the key of an ephemeral, in bytes,", key.len(), limits.key)?;
        if self.ephemeral_keys.iter().all(|it| it != key) {
            let keys = self.ephemeral_keys.len() + 1;
            within("the number of keys of ephemerals", keys, limits.ephemeral_keys)?;
            if self.transport.is_some() && limits.ephemeral_keys.is_some() {
                self.ephemeral_keys.push(key.to_owned());
            }
        }
        Ok(())
    }

    /// Keeps the newest of each key; the oldest key makes way.
    pub fn ephemeral(&mut self, key: String, data: Data) {
        self.ephemerals.retain(|(it, _)| *it != key);
        if self.ephemerals.len() >= EPHEMERALS {
            self.ephemerals.pop_front();
        }
        self.ephemerals.push_back((key, data));
    }

    /// Nothing more comes of it: everything that waits is told why.
    pub fn end(&mut self, why: &Error) {
        self.transport = None;
        self.ended = Some(why.clone());
        self.outbox.fail(why);
        self.requests.fail(why);
        if !matches!(why, Error::Ended) {
            self.queue.push(super::event::Event::Ended(why.clone()));
        }
    }
}

/// Refuses what is over a limit that is known.
fn within(what: &'static str, size: usize, limit: Option<u64>) -> Result<(), Error> {
    let size = size as u64;
    match limit {
        Some(limit) if size > limit => Err(Error::OverLimit { what, size, limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(limits: Value) -> Arc<Shared> {
        let shared = Shared::new(&Options::default());
        let mut state = shared.lock();
        state.limited(serde_json::from_value(limits).unwrap());
        state.transport = Some(Transport::WebSocket);
        drop(state);
        shared
    }

    #[test]
    fn what_a_gateway_would_refuse_is_told_by_the_limit_that_it_said() {
        let limits = json!({ "message": 9_000, "attachment": 10, "tags": 2, "tag": 3, "key": 4,
            "ephemeral_keys": 2, "name": 64, "in_flight": 64, "publish_rate": 20 });
        let shared = told(limits);
        let mut state = shared.lock();
        let tags = |tags: &[&str]| tags.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let over = |refused: Result<(), Error>| match refused {
            Err(Error::OverLimit { what, size, limit }) => (what, size, limit),
            other => panic!("{other:?}"),
        };
        let large = json!("0123456789");
        let refused = over(state.check_seat(Some(&large), None));
        assert_eq!(refused, ("an attachment, in bytes,", 12, 10));
        assert!(state.check_seat(Some(&json!("01234567")), Some(&tags(&["a", "bcd"]))).is_ok());
        let refused = over(state.check_seat(None, Some(&tags(&["a", "b", "c"]))));
        assert_eq!(refused, ("the number of tags", 3, 2));
        assert_eq!(over(state.check_seat(None, Some(&tags(&["bäd"])))).1, 4, "bytes, not letters");

        assert_eq!(over(state.check_ephemeral("12345")).1, 5);
        for key in ["a", "b", "a"] {
            state.check_ephemeral(key).unwrap();
        }
        let refused = over(state.check_ephemeral("c"));
        assert_eq!(refused, ("the number of keys of ephemerals", 3, 2));
        let limits = state.limits.unwrap();
        state.limited(limits);
        state.check_ephemeral("c").unwrap(); // a new connection has shown none
    }

    #[test]
    fn what_a_gateway_does_not_say_it_refuses_by_itself() {
        let shared = told(json!({ "message": 9_000 }));
        let mut state = shared.lock();
        state.check_seat(Some(&json!("x".repeat(99_999))), None).unwrap();
        for key in 0..20 {
            state.check_ephemeral(&key.to_string()).unwrap();
        }
        assert_eq!(state.longest(), Some(9_000));
    }
}
