//! A client of rooms, for programs in Rust.
//!
//! It says and hears what `docs/protocol.md` describes, was written from that page alone and shares no code with
//! the gateway beside it: each shows that the other keeps to the page.
//!
//! ```no_run
//! use dormouse::client::{Event, Options, connect};
//!
//! # async fn example() -> Result<(), dormouse::client::Error> {
//! let (room, mut events) = connect("http://localhost:4433/rooms/lobby", Options::named("ada")).await?;
//! let published = room.publish("hi").await?; // durable now
//! println!("it is number {}", published.seq);
//! while let Some(event) = events.next().await {
//!     if let Event::Message(message) = event { // history first, then live, in order, once each
//!         println!("{:?}: {:?}", message.from.name, message.data);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//!  Room ──▶ outbox, requests ─┐                          ┌─▶ WebTransport, or
//!                             ├─ driver ─ connection ────┤
//!  Events ◀── queue ◀── log ──┘  (again)  (hello … end)  └─▶ WebSocket
//! ```
//!
//! - A publish settles once: durable with its `seq`, or an error that says what to do. It survives lost
//!   connections and restarts of the gateway, in order, and takes effect once.
//! - A message is told once and in order, whatever the connection does. Where the log does not go on, a
//!   [`Gap`] says so.
//! - Everything that waits has a limit ([`Limits`]), and what happens at it is said there.
//! - Nothing here blocks on the application: who takes no events still gets its publishes through.

mod address;
mod backoff;
mod connection;
mod data;
mod driver;
mod error;
mod event;
mod finite;
mod frames;
mod framing;
mod liveness;
mod log;
mod options;
mod outbox;
mod queue;
mod requests;
mod room;
mod roster;
mod shared;
mod wire;
mod writing;

pub use data::{Author, Data, Member, Message, Position, To};
pub use error::{Close, Error, Lost};
pub use event::{Connected, Event, Gap, Presence};
pub use frames::RoomState;
pub use framing::Broken;
pub use options::{Choice, Limits, Options, Presence as PresenceWanted, Saved, Token, Trust};
pub use outbox::Published;
pub use requests::Page;
pub use room::{Events, Pages, Publishing, Room, connect};
pub use roster::{MEMBERS, Move, Roster};
pub use wire::Transport;

/// The page for people, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/client-rust.md")]
struct PageForPeople;
