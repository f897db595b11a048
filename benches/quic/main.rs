//! What a fan-out over WebTransport costs beside one over nothing but quinn, and how much of that
//! is encryption.
//!
//! `cargo bench --bench quic -- [--connections N] [--rate N] [--in-flight N] [--seconds N]
//! [--rounds N] [--json]`
//!
//! Servers are processes of their own on one core, the clients are on the other. In each round,
//! one after another:
//!
//! - `quinn`: a server that accepts connections with a stream each, with the gateway's transport
//!   settings, and writes to all of them what the first one sends: the floor. Its records are as
//!   long as the gateway's. Nothing is stored, looked up or counted.
//! - `gateway`: the real binary, and the same clients with WebTransport sessions in one room.
//! - `bench`: the real binary and `dormouse bench fanout` over WebTransport, WebSocket with TLS,
//!   and plain WebSocket: another generator, so that these three are to be compared with each
//!   other.
//!
//! Each has messages of 100 bytes on a timetable (`unbatched`), and then as fast as so many under
//! way at once allow (`full`), on streams and as datagrams. The figures are medians of the rounds:
//! CPU time of the server's process for a delivery, what it sent for one as its clients counted
//! it, and its system calls if `perf` may count them. Sealing is measured by itself, for packets
//! of the size that was seen, and told as a share.
//!
//! It stays on loopback, is bounded, and stops by itself. Both cores should have nothing else to
//! do; ratios mind less.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what it measures, it prints")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail where it stands")]
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "../common/bare_quinn.rs"]
mod bare_quinn;
mod cases;
mod clients;
mod figures;
mod machine;
mod seal;
mod server;

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// As the gateway's, so that the server of nothing but quinn is measured alike.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Of a message, as in `dormouse bench`.
const MESSAGE_BYTES: usize = 100;

/// Of what publishes one to the bare server: about as much as to the gateway.
const PUBLISH_BYTES: usize = 130;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Quinn,
    Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Stream,
    Datagram,
}

impl Carrier {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Datagram => "datagram",
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "datagram" => Self::Datagram,
            _ => Self::Stream,
        }
    }
}

/// How messages are sent.
#[derive(Debug, Clone, Copy)]
pub enum Push {
    /// So many a second.
    Rate(f64),
    /// So many at once.
    UnderWay(u64),
}

impl Push {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate(_) => "unbatched",
            Self::UnderWay(_) => "full",
        }
    }
}

/// What was asked for.
pub struct Options {
    pub connections: usize,
    pub rate: f64,
    pub in_flight: u64,
    pub each: Duration,
    pub rounds: usize,
}

fn main() {
    let mut options = Options {
        connections: 1_000,
        rate: 40.0,
        in_flight: 16,
        each: Duration::from_secs(3),
        rounds: 3,
    };
    let mut as_json = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--connections" => options.connections = number(arguments.next()) as usize,
            "--rate" => options.rate = number(arguments.next()) as f64,
            "--in-flight" => options.in_flight = number(arguments.next()),
            "--seconds" => options.each = Duration::from_secs(number(arguments.next())),
            "--rounds" => options.rounds = number(arguments.next()) as usize,
            "--json" => as_json = true,
            server::BARE => return server::bare(arguments),
            _ => {} // cargo says `--bench`
        }
    }
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    machine::pin(machine::CLIENTS);

    let mut figures = figures::Figures::default();
    for round in 1..=options.rounds {
        eprintln!("… round {round} of {}", options.rounds);
        cases::round(&options, &mut figures);
    }
    match as_json {
        true => println!("{}", figures.json()),
        false => println!("{}", figures.table()),
    }
}

fn number(text: Option<String>) -> u64 {
    text.and_then(|text| text.parse().ok()).expect("a number")
}
