//! What operators read of one room: its log and its members. Nothing wakes.

use tokio::sync::oneshot;

use super::{Dispatcher, full, gone, unwell};
use crate::keeper::state::{Roster, Unavailable};
use crate::keeper::{Letter, Refused, page_of_disk};
use crate::protocol::v1::PageFrom;
use crate::protocol::{RoomName, Sid};
use crate::store::Engine;

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
        let read = move |engine: &dyn Engine| page_of_disk(engine, &name, from, limit, bytes);
        let (page, newest) = self.shared.world.store.run(read).await.map_err(unwell)?;
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
        let (answer, answered) = oneshot::channel();
        let letter = Letter::Roster { after, limit, answer };
        match kept.map(|mailbox| mailbox.put(letter).map_err(|back| *back)) {
            // Whoever has a seat has a keeper.
            None | Some(Err(Refused::Closed(_))) => {
                Ok(self.cold(room).await?.map(|_| Roster::default()))
            }
            Some(Err(Refused::Full(_))) => Err(full()),
            Some(Ok(())) => answered.await.map(Some).map_err(|_| gone()),
        }
    }
}
