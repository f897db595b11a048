//! A gateway for tests of your own: of what a room does, or of an application that talks to one.
//!
//! A [`House`] is the gateway that serves, whole and in this process, with real listeners on
//! loopback and a store on disk; what it has besides are hands for what a test cannot wait for.
//!
//! - Nothing here is pretended: a room that is told to hibernate is asleep, and what a crash leaves
//!   is what a killed process leaves.
//! - The house's clock is its own. Deadlines only ever move forward ([`House::advance`]); its wall
//!   time can be set as well ([`House::set_wall`]).
//! - It has a runtime of its own too, so that it is there under any test, and so that all of it
//!   ends with a crash.
//!
#![cfg_attr(feature = "client", doc = include_str!("../docs/testing.md"))]

mod life;
mod place;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config::Config;
use crate::dispatcher::{Dispatcher, Inspection, Unavailable};
use crate::gateway::StartError;
use crate::protocol::{RoomName, Timestamp};
use life::Life;
use place::Place;

/// How often a room that should sleep is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why a house does not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No directory, or no threads.
    #[error("cannot {doing}")]
    System {
        /// As in "make a directory".
        doing: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The gateway does not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A gateway in a directory of its own, gone with it when dropped.
///
/// It panics, as an assertion does, when it is asked for something while it is closed, for a room
/// by a name that cannot be one, or for what its store cannot do.
pub struct House {
    change: Box<dyn Fn(&mut Config) + Send + Sync>,
    clock: Clock,
    /// Where it listened before, to be found there again.
    addresses: Vec<SocketAddr>,
    life: Option<Life>,
    place: Place,
}

impl House {
    /// Starts a gateway with the settings of one that serves, except that it takes ports that are
    /// free, keeps its files in a directory of its own and none of the disk back. `change` may
    /// change what it likes, each time the house is opened.
    pub async fn open(change: impl Fn(&mut Config) + Send + Sync + 'static) -> Result<Self, Error> {
        let failed = |source| Error::System { doing: "make a directory", source };
        let place = Place::make().map_err(failed)?;
        let (change, clock) = (Box::new(change), Clock::movable());
        let mut house = Self { change, clock, addresses: Vec::new(), life: None, place };
        house.reopen().await?;
        Ok(house)
    }

    /// Starts the next gateway in the directory of the one before, and at its address, unless
    /// somebody took that meanwhile; [`address`](Self::address) knows.
    pub async fn reopen(&mut self) -> Result<(), Error> {
        assert!(self.life.is_none(), "the house is open already");
        let mut config = self.config();
        for (wanted, before) in config.listen.iter_mut().zip(&self.addresses) {
            if wanted.port() == 0 {
                *wanted = *before;
            }
        }
        let life = match Life::begin(config).await {
            Err(Error::Start(StartError::Bind(_))) => Life::begin(self.config()).await?,
            begun => begun?,
        };
        self.addresses = life.gateway.addresses().to_vec();
        self.life = Some(life);
        Ok(())
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.operator_listen = Some(config.listen[0]);
        config.data_dir = self.place.path().join("data");
        config.certs_dir = self.place.path().join("certs");
        config.store.reserve = None; // writing it would be the slowest part of a short test
        (self.change)(&mut config);
        config.clock = self.clock.clone();
        config
    }

    // Where it is

    /// Where clients come in, TCP and UDP.
    pub fn address(&self) -> SocketAddr {
        self.life().gateway.addresses()[0]
    }

    /// Where operators come in.
    pub fn operator_address(&self) -> Option<SocketAddr> {
        self.life().gateway.operator_address()
    }

    /// The address to open in a browser.
    pub fn url(&self) -> String {
        self.life().gateway.url()
    }

    /// Where a room is for a WebSocket.
    pub fn websocket_url(&self, room: &str) -> String {
        format!("{}/rooms/{room}/ws", self.url().replacen("http", "ws", 1))
    }

    /// Where a room is for a WebTransport session.
    pub fn webtransport_url(&self, room: &str) -> String {
        format!("https://{}/rooms/{room}/wt", self.address())
    }

    /// The SHA-256 hashes of the certificate that WebTransport clients are to trust.
    pub fn certificate_hashes(&self) -> Vec<[u8; 32]> {
        self.life().gateway.context().certificates.hashes()
    }

    /// Where its store lies.
    pub fn data_dir(&self) -> PathBuf {
        self.config().data_dir
    }

    // Its rooms

    /// How a room is, as operators see it; `None` if there is none. Looking wakes nothing.
    pub async fn room(&self, room: &str) -> Option<Inspection> {
        let name = named(room);
        let seen = self.ask(async move |rooms| rooms.inspect(&name).await).await;
        well(room, seen)
    }

    /// Has a room asleep now, whatever `sleep_after` says; it is out of memory when this returns.
    pub async fn hibernate(&self, room: &str) {
        let name = named(room);
        let seen = self.ask(async move |rooms| rooms.hibernate(&name).await).await;
        if let Some(seen) = well(room, seen) {
            assert!(is_asleep(&seen), "{}", self.why(&seen));
        }
    }

    /// Has a room awake now, and keeps it so for `sleep_after`.
    pub async fn wake(&self, room: &str) {
        let name = named(room);
        let seen = self.ask(async move |rooms| rooms.wake(&name).await).await;
        assert!(well(room, seen).is_some(), "there is no room {room:?}");
    }

    /// Waits until a room is asleep, for as long by the real clock: an application that keeps it
    /// awake goes by that. Panics with what keeps it awake, or when there is no such room.
    pub async fn assert_asleep_within(&self, room: &str, within: Duration) {
        let name = named(room);
        let looking = async move |rooms: Dispatcher| {
            let begun = Instant::now();
            loop {
                let is_over = begun.elapsed() >= within;
                let seen = rooms.inspect(&name).await;
                let is_awake = matches!(&seen, Ok(Some(seen)) if !is_asleep(seen));
                if is_over || !is_awake {
                    return seen;
                }
                tokio::time::sleep(LOOK_AGAIN.min(within)).await;
            }
        };
        match well(room, self.ask(looking).await) {
            None => panic!("there is no room {room:?}"),
            Some(seen) => assert!(is_asleep(&seen), "{}, after {within:?}", self.why(&seen)),
        }
    }

    // Its time

    /// What time it is in the house.
    pub fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Moves the house's clock forward. When this returns, every room has seen what time it is:
    /// windows have ended, and who is to fall asleep has begun to. Due alarms are being rung.
    ///
    /// It is one step, as if the machine had been suspended for so long: what would have happened
    /// one after the other meanwhile happens at its end. To see a room through a day hour by hour,
    /// move the clock hour by hour. For a closed house it is time in which there was no gateway.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        if self.life.is_some() {
            // Whoever has read a letter since has looked at the clock for it.
            self.ask(async |rooms| rooms.close().await).await;
        }
    }

    /// Sets the house's wall clock, forward or back, as an operator or a time server does; deadlines
    /// go on as if nothing had happened. When this returns, an open house has noticed. A closed one
    /// finds its clock so when it is opened.
    pub async fn set_wall(&self, to: Timestamp) {
        self.clock.set_wall(to);
        if let Some(life) = &self.life {
            life.gateway.look_at_the_clock();
        }
    }

    // Its end, and the next beginning

    /// Ends the gateway as `kill -9` ends a process: at once, telling nobody. All that was in
    /// memory is gone, and the store lies there as it was, without having been closed. It is the
    /// death of a process, not a power cut: what the system was given to write is written.
    pub async fn crash(&mut self) {
        self.taken().crash().await.expect("a store can be left as it is");
    }

    /// Ends the gateway as a deploy does: everybody is told when to come back.
    pub async fn shutdown(&mut self) {
        self.taken().shutdown().await;
    }

    fn taken(&mut self) -> Life {
        self.life.take().expect("the house is open")
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("the house is open")
    }

    async fn ask<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        what: impl FnOnce(Dispatcher) -> F,
    ) -> T {
        self.life().inside(what(self.life().gateway.context().dispatcher.clone())).await
    }

    /// Why a room is awake, in words.
    fn why(&self, seen: &Inspection) -> String {
        let Inspection { room, state, why_awake, .. } = seen;
        let Some(why) = why_awake else { return format!("room {room:?} is {state}") };
        let ago = Duration::from_millis(self.now().since_ms(why.since));
        let left = Duration::from_millis(why.sleeps_in_ms);
        match why.holder {
            "store" => format!("room {room:?} is {state}: the store owes it an answer"),
            by => format!(
                "room {room:?} is {state}: {by} needed it {ago:?} ago, and it sleeps in {left:?} \
                 if nothing happens"
            ),
        }
    }
}

fn named(room: &str) -> RoomName {
    room.parse().unwrap_or_else(|error| panic!("{room:?} cannot be a room's name: {error}"))
}

fn well<T>(room: &str, seen: Result<T, Unavailable>) -> T {
    seen.unwrap_or_else(|error| panic!("room {room:?} cannot be asked: {error}"))
}

fn is_asleep(seen: &Inspection) -> bool {
    matches!(seen.state, "asleep" | "cold")
}
