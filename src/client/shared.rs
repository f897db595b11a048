//! What the handles and the driver share: short tables behind one lock that nobody holds for long.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::Notify;

use super::data::Data;
use super::error::Error;
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
    /// The gateway's limit on a frame, once it was told.
    pub longest: Option<usize>,
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
            longest: None,
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
