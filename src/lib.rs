//! Dormouse is a self-hosted edge gateway for rooms. Browsers reach it over WebTransport,
//! everything else over WebSocket; both become the same session in the same room. A room that
//! falls idle hibernates: its memory is given back, its state lies in redb, its sockets stay
//! connected, and the next event that needs it wakes it.
//!
//! # The floor plan
//!
//! Imports point down this list, never up; `tests/layering.rs` holds it.
//!
//! | room | what it is for |
//! | --- | --- |
//! | [`testkit`] | a gateway for the tests of others, with a clock and a plug of its own |
//! | [`bench`](mod@bench) | a load generator: measures a gateway from outside |
//! | [`command`] | what is asked of a gateway or a store from a terminal |
//! | [`gateway`] | assembly: opens the store, binds listeners, drains on shutdown |
//! | [`config`] | what an operator may say, merged and checked once |
//! | [`server`] | the transports: bytes in, bytes out, no policy |
//! | [`session`] | one client's life, whatever brought it |
//! | [`dispatcher`] | finds or starts a room's keeper; never on a message's path |
//! | [`keeper`] | looks after one room: `state` decides, `task` does |
//! | [`outbox`] | the ring all members share, and a cursor into it for each |
//! | [`room`] | the rules: pure |
//! | [`store`] | journal and rooms on disk, behind one small trait |
//! | [`clock`] | what time it is |
//! | [`protocol`] | the words on the wire |
//! | [`budget`] | counters of what is held, checked in tests |
//! | [`supervision`] | what lives as long as the gateway, and what is done when it fails |
//! | [`telemetry`] | every metric's name; where log lines go |
//!
//! Beside the house stand `client`, for whoever comes to visit, which shares nothing with the rooms above but the
//! protocol's page, and `terminal`, which is `dormouse chat` and `dormouse tail`.
//!
//! # The path of a message
//!
//! A V, down once and up once: two bounded queues, one decode, one encode per framing that all
//! receivers share, no lookup, and no lock that anybody waits for held across an await or a system
//! call (the state of TLS has one, which only the holder of the session's cursor takes).
//!
//! ```text
//!  link → session ─▶[mailbox]─▶ keeper ─(asleep? store.open → Room::wake)─▶ room.handle
//!                                 │                                            │
//!  link ◀─────────[ring+outbox]◀ keeper: effects in order ◀───────────────────┘
//!                                 └─ a Commit is on disk (group commit) before the ring
//! ```

pub mod testkit;

pub mod bench;
pub mod command;

#[cfg(feature = "client")]
pub mod terminal;

pub mod gateway;

pub mod config;

pub mod server;

pub mod session;

pub mod dispatcher;

pub mod keeper;

pub mod outbox;

pub mod room;

pub mod store;

pub mod clock;

pub mod protocol;

pub mod budget;

pub mod supervision;

pub mod telemetry;

#[cfg(feature = "client")]
pub mod client;
