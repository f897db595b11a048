//! All rooms, page by page: those in memory and those that only lie on disk.
//!
//! Pages follow the names, so that a room that comes or goes meanwhile moves no other one. Looking
//! wakes no room: a keeper is asked how its room is, also one at rest, and the rows of a room
//! without one are read. A page looks at so many rooms and no more, wherever they are; one that is asked for
//! few of them may therefore come back empty and still have a next.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Dispatcher, unwell};
use crate::keeper::state::{Inspection, Operation, Unavailable};
use crate::keeper::{Letter, Mailbox, Refused};
use crate::protocol::RoomName;
use crate::store::{Engine, Error};

/// The most rooms of a page.
pub const PAGE_MOST: usize = 1_000;

/// How many rooms a page looks at when only some of them are wanted.
const LOOKS: usize = 1_000;

/// How long keepers may take to tell how their rooms are.
const PATIENCE: Duration = Duration::from_millis(500);

/// A room without a keeper.
const COLD: &str = "cold";
/// One whose keeper did not answer in time.
const BUSY: &str = "busy";
/// One whose rows cannot be read.
const DAMAGED: &str = "damaged";

/// What a room in a list may be.
pub const STATES: [&str; 7] = ["awake", "asleep", "waking", "degraded", COLD, BUSY, DAMAGED];

/// Which rooms.
#[derive(Debug, Clone)]
pub struct Query {
    /// In this one of [`STATES`]; all of them if none is named.
    pub state: Option<&'static str>,
    /// Behind this name.
    pub after: Option<RoomName>,
    /// So many at most, and never more than [`PAGE_MOST`].
    pub limit: usize,
}

/// A page of rooms.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rooms {
    /// By name.
    pub rooms: Vec<Listed>,
    /// What to ask for behind; nothing when these were the last.
    pub next: Option<String>,
}

/// A room in a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Listed {
    /// As it is.
    Seen(Box<Inspection>),
    /// There is one, and no more is known.
    Unseen {
        /// Its name.
        room: String,
        /// `busy` or `damaged`.
        state: &'static str,
    },
}

impl Listed {
    /// What it is, one of [`STATES`].
    pub fn state(&self) -> &'static str {
        match self {
            Self::Seen(seen) => seen.state,
            Self::Unseen { state, .. } => state,
        }
    }

    fn unseen(room: &RoomName, state: &'static str) -> Self {
        Self::Unseen { room: room.to_string(), state }
    }
}

/// Rooms by name, each with the way to its keeper if it has one.
type Named = BTreeMap<RoomName, Option<Arc<Mailbox>>>;

impl Dispatcher {
    /// A page of all rooms.
    pub async fn rooms(&self, query: Query) -> Result<Rooms, Unavailable> {
        let limit = query.limit.min(PAGE_MOST);
        let looks = if query.state.is_some() { LOOKS.max(limit) } else { limit };
        let on_disk = match query.state {
            None | Some(COLD | DAMAGED) => {
                let after = query.after.clone();
                let names = move |engine: &dyn Engine| engine.rooms(after.as_ref(), looks);
                self.shared.world.store.run(names).await.map_err(unwell)?
            }
            Some(_) => Vec::new(), // only a keeper has such a room
        };
        let kept = self.kept(query.after.as_ref(), looks);
        let may_be_more = on_disk.len() == looks || kept.len() == looks;
        let mut named: Named = on_disk.into_iter().map(|room| (room, None)).collect();
        named.extend(kept);
        let has_more = may_be_more || named.len() > looks;

        let asked = ask(named, looks).await;
        let is_wanted = |state| query.state.is_none_or(|wanted| wanted == state);
        let (mut rooms, mut last, mut all_seen) = (Vec::new(), None, true);
        for (room, seen) in asked {
            if rooms.len() == limit {
                all_seen = false;
                break;
            }
            last = Some(room.clone());
            let listed = match seen {
                Some(listed) => Some(listed),
                None if is_wanted(COLD) || is_wanted(DAMAGED) => self.lies(&room).await?,
                None => None,
            };
            rooms.extend(listed.filter(|listed| is_wanted(listed.state())));
        }
        let next = last.filter(|_| has_more || !all_seen).map(|room| room.to_string());
        Ok(Rooms { rooms, next })
    }

    /// The first rooms by name, however the store is: one that is unwell does not hide those that
    /// are kept. Nothing is read of the others but their names.
    pub async fn first_rooms(&self, limit: usize) -> Vec<(RoomName, Option<Listed>)> {
        let on_disk = self.shared.world.store.run(move |engine| engine.rooms(None, limit)).await;
        let mut named: Named =
            on_disk.unwrap_or_default().into_iter().map(|room| (room, None)).collect();
        named.extend(self.kept(None, limit));
        ask(named, limit).await
    }

    /// The rooms with a keeper.
    fn kept(&self, after: Option<&RoomName>, limit: usize) -> Named {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mailboxes = self.mailboxes();
        let rooms = mailboxes.range::<RoomName, _>((after, Bound::Unbounded)).take(limit);
        rooms.map(|(room, mailbox)| (room.clone(), Some(mailbox.clone()))).collect()
    }

    /// A room without a keeper; nothing if it left nothing.
    async fn lies(&self, room: &RoomName) -> Result<Option<Listed>, Unavailable> {
        let name = room.clone();
        match self.shared.world.store.run(move |engine| engine.open(&name)).await {
            Ok(opened) => {
                Ok(Inspection::of_cold(room, &opened).map(|seen| Listed::Seen(Box::new(seen))))
            }
            Err(Error::Corrupt { .. }) => Ok(Some(Listed::unseen(room, DAMAGED))),
            Err(error) => Err(unwell(error)),
        }
    }
}

/// Asks the keepers of the first so many rooms, all at once; who does not answer in time is busy.
async fn ask(named: Named, looks: usize) -> Vec<(RoomName, Option<Listed>)> {
    let deadline = Instant::now() + PATIENCE;
    let mut asked = Vec::with_capacity(named.len().min(looks));
    for (room, mailbox) in named.into_iter().take(looks) {
        let (answer, answered) = oneshot::channel();
        let letter = Letter::Operate(Operation::Inspect, answer);
        let is_kept = match mailbox.map(|mailbox| mailbox.put(letter).map_err(|back| *back)) {
            None | Some(Err(Refused::Closed(_))) => false, // or no more: its keeper has retired
            Some(Ok(()) | Err(Refused::Full(_))) => true,
        };
        asked.push((room, is_kept.then_some(answered)));
    }
    let mut seen = Vec::with_capacity(asked.len());
    for (room, answered) in asked {
        let listed = match answered {
            None => None,
            Some(answered) => {
                let told = timeout_at(deadline, answered).await.ok().and_then(Result::ok);
                Some(match told.and_then(Result::ok) {
                    Some(told) => Listed::Seen(Box::new(told)),
                    None => Listed::unseen(&room, BUSY),
                })
            }
        };
        seen.push((room, listed));
    }
    seen
}
