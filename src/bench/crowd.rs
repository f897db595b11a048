//! Many members, and the rooms they are in.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::dialect::Hello;
use super::load::Load;
use super::member::Member;
use super::wire::Opener;
use super::{Error, progress};

/// How many connect at the same time: enough to keep a server busy, few enough for its backlog.
const AT_ONCE: usize = 32;

/// Without anybody joining for so long, joining has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A receive buffer that is soon full, for those who do not read.
const LITTLE: usize = 4 * 1024;

/// Members that are connected for as long as this lives.
pub struct Crowd {
    shared: Rc<Shared>,
    members: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    joined: Cell<usize>,
    trouble: RefCell<Option<String>>,
    changed: Notify,
}

impl Shared {
    fn failed(&self, why: String) {
        self.trouble.borrow_mut().get_or_insert(why);
        self.changed.notify_one();
    }
}

impl Crowd {
    /// Seats `members` in each of the load's first `rooms` rooms, room by room, and waits until
    /// all are there. The first of each room speaks for it. Of those behind it one in `stalled`
    /// stops reading as soon as it has joined, and is no hearer.
    pub async fn join(
        opener: &Rc<Opener>,
        load: &Rc<Load>,
        rooms: usize,
        members: usize,
        stalled: Option<usize>,
    ) -> Result<Self, Error> {
        Self::join_as(opener, load, [rooms, members], stalled, &Hello::default()).await
    }

    /// The same, where each says this hello, with a number of its own.
    pub async fn join_as(
        opener: &Rc<Opener>,
        load: &Rc<Load>,
        [rooms, members]: [usize; 2],
        stalled: Option<usize>,
        hello: &Hello,
    ) -> Result<Self, Error> {
        let shared = Rc::new(Shared::default());
        let mut crowd = Self { shared: shared.clone(), members: JoinSet::new() };
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let total = rooms * members;
        for number in 0..total {
            let (room, place) = (number / members, number % members);
            let stalls = place > 0 && stalled.is_some_and(|every| place % every == 0);
            let (opener, load, shared) = (opener.clone(), load.clone(), shared.clone());
            let gate = gate.clone();
            let hello = Hello { member: number, ..hello.clone() };
            crowd.members.spawn_local(async move {
                let entering = gate.acquire_owned().await;
                let buffer = stalls.then_some(LITTLE);
                let connected = Member::connect(&opener, &load, room, Some(&hello), buffer).await;
                let mut member = match connected {
                    Ok(member) => member,
                    Err(error) => return shared.failed(format!("member {number}: {error}")),
                };
                if let Err(why) = member.joined().await {
                    return shared.failed(format!("member {number}: {why}"));
                }
                drop(entering);
                if place == 0 {
                    load.set_mouth(room, member.mouth().clone());
                }
                shared.joined.set(shared.joined.get() + 1);
                shared.changed.notify_one();
                if stalls {
                    return std::future::pending().await;
                }
                load.add_listener(room);
                let why = member.stay().await;
                shared.failed(format!("member {number}: {why}"));
            });
        }
        crowd.all_joined(total).await?;
        Ok(crowd)
    }

    async fn all_joined(&self, total: usize) -> Result<(), Error> {
        while self.shared.joined.get() < total {
            self.well()?;
            let joined = self.shared.joined.get();
            if joined.is_multiple_of(1_000) {
                progress(format!("{joined} of {total} have joined"));
            }
            if tokio::time::timeout(PATIENCE, self.shared.changed.notified()).await.is_err() {
                return Err(Error::Patience(format!("{} members to join", total - joined)));
            }
        }
        self.well()
    }

    /// Whether all are still there.
    pub fn well(&self) -> Result<(), Error> {
        match &*self.shared.trouble.borrow() {
            Some(why) => Err(Error::SentAway(why.clone())),
            None => Ok(()),
        }
    }
}
