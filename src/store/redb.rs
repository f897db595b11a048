//! The embedded engine.

use std::path::Path;

use bytes::Bytes;

use super::{Done, Engine, Error, Identity, Opened, Record, Settings, Slice};
use crate::protocol::{KeyHash, RoomName};

/// Rooms in two redb files.
pub struct Redb {
    identity: Identity,
}

impl Redb {
    /// Opens or creates the store of a directory.
    pub fn open(_dir: &Path, _settings: Settings) -> Result<Self, Error> {
        Ok(Self { identity: Identity { store: 1, secret: [0; 32] } })
    }
}

impl Engine for Redb {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn append(&self, _room: &RoomName, _records: Vec<Record>, done: Done) {
        done(Err(Error::Closed));
    }

    fn open(&self, _room: &RoomName) -> Result<Opened, Error> {
        Err(Error::Closed)
    }

    fn read(&self, _: &RoomName, _: u64, _: usize, _: usize) -> Result<Slice, Error> {
        Err(Error::Closed)
    }

    fn keys(&self, _room: &RoomName) -> Result<Vec<(KeyHash, u64)>, Error> {
        Ok(Vec::new())
    }

    fn hibernate(&self, _room: &RoomName, _rules: Option<Bytes>) -> Result<(), Error> {
        Ok(())
    }

    fn seated(&self) -> Result<Vec<RoomName>, Error> {
        Ok(Vec::new())
    }

    fn rooms(&self, _after: Option<&RoomName>, _limit: usize) -> Result<Vec<RoomName>, Error> {
        Ok(Vec::new())
    }

    fn take_drain_spread_ms(&self) -> Result<u64, Error> {
        Ok(0)
    }

    fn close(&self, _drain_spread_ms: u64) -> Result<(), Error> {
        Ok(())
    }
}
