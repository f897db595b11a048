//! A member that talks to a real keeper, without a wire between them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use dormouse::config::Config;
use dormouse::dispatcher::Dispatcher;
use dormouse::keeper::state::{Join, Mail};
use dormouse::keeper::{Letter, Rates};
use dormouse::outbox::{Filled, Outbox, Reader, Tally};
use dormouse::protocol::{Author, Framing, Payload, Profile, RoomName, Sid};
use dormouse::room::{Connection, Rate};
use dormouse::store::{Redb, Store};

use crate::room;

pub struct Talk {
    dispatcher: Dispatcher,
    store: Store,
    room: RoomName,
    connection: Connection,
    reader: Reader,
    said: u64,
}

impl Talk {
    /// A member of a room in a store of its own.
    pub async fn begin(dir: &Path) -> Self {
        let mut config = Config::default();
        config.keeper.rates = Rates { publishes: Rate::OFF, requests: Rate::OFF, room: Rate::OFF };
        let store = Store::new(Redb::open(dir, config.store).unwrap());
        let dispatcher = Dispatcher::new(config.keeper, store.clone(), Arc::default());
        let outbox = Outbox::new(Framing::V1WebSocket, &dispatcher.settings().outbox);
        let reader = Reader::new(outbox.clone());
        let (room, connection) = (room(0), dispatcher.connection());
        let join = Join::new(connection, Profile::V1, Sid(1), Author(1));
        let letter = Letter::Mail(Mail::Join(Box::new(join)), Some(outbox));
        dispatcher.deliver(&room, letter).await;
        let mut talk = Self { dispatcher, store, room, connection, reader, said: 0 };
        talk.until(br#"{"type":"live""#).await;
        talk
    }

    /// Publishes and waits for the `ok`.
    pub async fn publish(&mut self) {
        self.said += 1;
        let publish = Mail::Publish {
            connection: self.connection,
            id: Some(self.said),
            key: Some(self.said.to_string()),
            to: None,
            payload: Payload::Json(format!("\"{}\"", "x".repeat(100))),
        };
        self.dispatcher.deliver(&self.room, Letter::Mail(publish, None)).await;
        let ok = format!(r#"{{"type":"ok","id":{}"#, self.said);
        self.until(ok.as_bytes()).await;
    }

    /// Reads until a frame that holds this.
    async fn until(&mut self, wanted: &[u8]) {
        loop {
            let mut unsent = VecDeque::new();
            let filled = self.reader.fill(&mut unsent, &mut Tally::default());
            let is_there =
                |bytes: &bytes::Bytes| bytes.windows(wanted.len()).any(|part| part == wanted);
            if unsent.iter().any(is_there) {
                return;
            }
            match filled {
                Filled::Enough if unsent.is_empty() => self.reader.changed().await,
                Filled::Enough => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn end(self) {
        self.dispatcher.close().await;
        self.store.run(|engine| engine.close(0)).await.unwrap();
    }
}
