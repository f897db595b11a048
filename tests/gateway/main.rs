//! The gateway from outside: real listeners on ports of their own, a file per behaviour, and
//! every behaviour over both transports.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what is skipped is said")]

mod addresses;
mod alarms;
mod auto;
mod bad_input;
mod bad_quic;
mod bad_websocket;
mod bounds;
mod clock;
mod crash;
mod damaged;
mod day;
mod deletion;
mod deploy;
mod direct;
mod doors;
mod ephemeral;
mod full_disk;
mod hibernate;
mod history;
mod http;
mod http3;
mod kinds;
mod life;
mod limits;
mod liveness;
mod log;
mod operator;
mod origins;
mod presence;
mod protocol_page;
mod publish;
mod resting;
mod resume;
mod rooms;
#[cfg(feature = "client")]
mod rust_client;
#[cfg(feature = "client")]
mod rust_client_odd;
#[cfg(feature = "client")]
mod rust_client_returns;
mod seats;
mod seed;
mod seed_endings;
mod seed_mixed;
mod set;
mod signals;
mod sleeping;
mod slow;
mod slow_presence;
mod soak;
#[cfg(debug_assertions)] // a release build has no panics planted
mod supervision;
mod support;
#[cfg(feature = "client")]
mod terminal;
mod testkit;
mod unwell;
mod wakes;
