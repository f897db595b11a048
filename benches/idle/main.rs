//! What an idle connection costs, by transport.
//!
//! `cargo bench --bench idle -- [--connections N] [--quic N] [--per-room N] [--only NAME]
//! [--minute] [--json]`
//!
//! The gateway is the real binary, in a process of its own; this one is the clients. Each client
//! joins a room as a v1 member, is live, and says nothing more. What the gateway's process holds
//! then, less what it held with a few hundred of them, by their number, is what one costs; the
//! kernel's part is told apart, and so is what stays once all have left. `--minute` looks again
//! after a minute: pings have come and gone, and the records of joining were moved.
//!
//! - `websocket` and `tls`: over TCP, plain and with TLS 1.3.
//! - `webtransport`: over QUIC, beside `quinn`: a server of nothing but quinn, with the same
//!   settings and one stream per connection, in a process of its own as well.
//!
//! To see where the bytes are, start a gateway under `heaptrack` and send the clients to it with
//! `--at ADDRESS --process ID`.
//!
//! It stays on loopback, is bounded, and stops by itself. Memory does not mind a busy machine.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what it measures, it prints")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail where it stands")]
#![allow(missing_docs, reason = "a program, not a library")]

#[path = "../common/bare_quinn.rs"]
mod bare_quinn;
mod memory;
mod people;
mod server;

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use self::memory::Memory;
use self::people::People;
use self::server::Server;

/// As the gateway's, so that the server of nothing but quinn is measured alike.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Those who come before it counts: every table and pool has begun by then.
const FIRST: usize = 256;
/// What is gathered for a moment (rings, news of who is here) is gone after this.
const SETTLE: Duration = Duration::from_secs(4);
const MINUTE: Duration = Duration::from_secs(70);
/// Time enough for an allocator to give back what it will.
const GONE: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    Tls,
    WebTransport,
    Quinn,
}

impl Kind {
    const ALL: [Self; 4] = [Self::WebSocket, Self::Tls, Self::WebTransport, Self::Quinn];

    fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Tls => "tls",
            Self::WebTransport => "webtransport",
            Self::Quinn => "quinn",
        }
    }
}

struct Options {
    connections: usize,
    quic: usize,
    per_room: usize,
    only: Option<String>,
    minute: bool,
    as_json: bool,
    at: Option<(String, u32)>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options {
        connections: 5_000,
        quic: 2_000,
        per_room: 100,
        only: None,
        minute: false,
        as_json: false,
        at: None,
    };
    let (mut at, mut process) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--connections" => options.connections = number(arguments.next()),
            "--quic" => options.quic = number(arguments.next()),
            "--per-room" => options.per_room = number(arguments.next()),
            "--only" => options.only = arguments.next(),
            "--minute" => options.minute = true,
            "--json" => options.as_json = true,
            "--at" => at = arguments.next(),
            "--process" => process = Some(number(arguments.next()) as u32),
            server::BARE => return server::bare(),
            _ => {} // cargo says `--bench`
        }
    }
    options.at = at.zip(process);
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut values = Map::new();
    println!(
        "{:<13} {:>6}  {:>9} {:>9} {:>9}  of the process; of the kernel, both ends",
        "", "", "idle", "minute", "all left"
    );
    for kind in Kind::ALL {
        if options.only.as_ref().is_none_or(|only| only == kind.name()) {
            values.insert(kind.name().to_owned(), runtime.block_on(measure(kind, &options)));
        }
    }
    if options.as_json {
        println!("{}", Value::Object(values));
    }
}

fn number(text: Option<String>) -> usize {
    text.and_then(|text| text.parse().ok()).expect("a number")
}

async fn measure(kind: Kind, options: &Options) -> Value {
    let count = match kind {
        Kind::WebSocket | Kind::Tls => options.connections,
        Kind::WebTransport | Kind::Quinn => options.quic,
    };
    let server = match &options.at {
        Some((address, process)) => Server::running(address, *process),
        None => Server::start(kind),
    };
    let mut people = People::new(kind, &server, options.per_room);
    people.come(FIRST).await;
    tokio::time::sleep(SETTLE).await;
    let before = Memory::of(server.id());
    people.come(count).await;
    tokio::time::sleep(SETTLE).await;
    let idle = Memory::of(server.id());
    let minute = match options.minute {
        true => {
            tokio::time::sleep(MINUTE).await;
            Some(Memory::of(server.id()))
        }
        false => None,
    };
    people.leave(count).await;
    tokio::time::sleep(GONE).await;
    let left = Memory::of(server.id());

    let each = |now: Memory| {
        (now.process_bytes as f64 - before.process_bytes as f64) / count as f64 / 1024.0
    };
    let kernel = (idle.kernel_bytes as f64 - before.kernel_bytes as f64) / count as f64 / 1024.0;
    let show =
        |now: Option<Memory>| now.map_or("-".to_owned(), |now| format!("{:.2} KiB", each(now)));
    println!(
        "{:<13} {count:>6}  {:>9} {:>9} {:>9}  kernel {kernel:.1} KiB, process before {:.1} MiB",
        kind.name(),
        show(Some(idle)),
        show(minute),
        show(Some(left)),
        before.process_bytes as f64 / 1_048_576.0,
    );
    json!({
        "connections": count,
        "idle_kib": each(idle),
        "minute_kib": minute.map(each),
        "left_kib": each(left),
        "kernel_kib": kernel,
    })
}
