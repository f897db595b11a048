//! What operators read of one room: its log and its members. Nothing wakes.

use tokio::sync::oneshot;

use super::{Dispatcher, FULL_RETRY_MS, unwell};
use crate::keeper::state::{Roster, Unavailable};
use crate::keeper::{Letter, page_of_disk};
use crate::protocol::v1::PageFrom;
use crate::protocol::{RoomName, Sid};

impl Dispatcher {
    /// A page of a room's log as JSON, as members are sent it; `None` if there never was the
    /// room. It is read from disk, beside the keeper: what is there is as durable as what was
    /// heard, and stable while more arrives.
    pub async fn messages(
        &self,
        room: &RoomName,
        from: PageFrom,
        limit: usize,
    ) -> Result<Option<String>, Unavailable> {
        let bytes = self.settings_of(room).outbox.page_bytes;
        let name = room.clone();
        let read = move |engine: &dyn crate::store::Engine| {
            page_of_disk(engine, &name, from, limit, bytes)
        };
        let (page, newest) = self.shared.store.run(read).await.map_err(unwell)?;
        let is_there = newest > 0 || self.inspect(room).await?.is_some();
        Ok(is_there.then_some(page))
    }

    /// Who is in a room, behind `after`; `None` if there never was the room.
    pub async fn roster(
        &self,
        room: &RoomName,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Option<Roster>, Unavailable> {
        let kept = self.mailboxes().get(room).cloned();
        let Some(mailbox) = kept else {
            // Whoever has a seat has a keeper.
            return Ok(self.cold(room).await?.map(|_| Roster::default()));
        };
        let unavailable =
            |reason: &str| Unavailable { retry_after_ms: FULL_RETRY_MS, reason: reason.to_owned() };
        let (answer, answered) = oneshot::channel();
        if mailbox.put(Letter::Roster { after, limit, answer }).is_err() {
            return Err(unavailable("the room has more to do than it can take"));
        }
        match answered.await {
            Ok(roster) => Ok(Some(roster)),
            Err(_) => Err(unavailable("the room is being let go, or the gateway shuts down")),
        }
    }
}
