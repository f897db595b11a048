//! What is measured, one after another.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::LocalSet;

use super::clients::{Clients, Look};
use super::figures::{Figures, Seen};
use super::machine::{self, Calls};
use super::server::Server;
use super::{Carrier, Kind, Options, Push};

/// Before a load counts: windows have opened, and pools have filled.
const WARM_UP: Duration = Duration::from_secs(1);

/// How `dormouse bench` is told of a transport.
const TRANSPORTS: [&str; 3] = ["wt", "wss", "ws"];

/// Everything once.
pub fn round(options: &Options, figures: &mut Figures) {
    let pushes = [Push::Rate(options.rate), Push::UnderWay(options.in_flight)];
    for carrier in [Carrier::Stream, Carrier::Datagram] {
        // The gateway first: its records tell how long those of the other are.
        let mut record_bytes = 1;
        for kind in [Kind::Gateway, Kind::Quinn] {
            // Of ephemerals with one key the gateway sends the newest only: at full speed it
            // would be measured at what it leaves out.
            let pushes = match (kind, carrier) {
                (Kind::Gateway, Carrier::Datagram) => &pushes[..1],
                _ => &pushes[..],
            };
            for (push, seen) in ours(options, kind, carrier, pushes, record_bytes) {
                record_bytes = (seen.look.bytes / seen.look.deliveries.max(1)) as usize;
                figures.add(kind, carrier, push, seen);
            }
        }
    }
    for push in pushes {
        for transport in TRANSPORTS {
            let (cpu, deliveries) = bench(options, transport, push);
            figures.add_bench(transport, push, cpu, deliveries);
        }
    }
}

/// With our own clients.
fn ours(
    options: &Options,
    kind: Kind,
    carrier: Carrier,
    pushes: &[Push],
    record_bytes: usize,
) -> Vec<(Push, Seen)> {
    let server = Server::start(kind, carrier, record_bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = LocalSet::new();
    all.block_on(&runtime, async {
        let clients = Clients::come(&server, kind, carrier, options.connections).await;
        let mut seen = Vec::new();
        for push in pushes {
            clients.push(*push, WARM_UP).await;
            let window = Window::open(&server, &clients);
            clients.push(*push, options.each).await;
            let (cpu, took, look) = window.close(&server, &clients);
            // Counting system calls costs, so it is done beside.
            let calls = Calls::count(server.id(), options.each);
            let before = clients.look();
            clients.push(*push, options.each).await;
            let counted = clients.look().since(before).deliveries;
            let calls = calls.end().map(|called| (called, counted));
            clients.settle().await;
            seen.push((*push, Seen { cpu, took, look, hearers: clients.hearers(), calls }));
        }
        seen
    })
}

struct Window {
    begun: Instant,
    cpu: Duration,
    look: Look,
}

impl Window {
    fn open(server: &Server, clients: &Clients) -> Self {
        Self { look: clients.look(), cpu: machine::cpu(server.id()), begun: Instant::now() }
    }

    fn close(self, server: &Server, clients: &Clients) -> (Duration, Duration, Look) {
        let (cpu, took) = (machine::cpu(server.id()) - self.cpu, self.begun.elapsed());
        (cpu, took, clients.look().since(self.look))
    }
}

/// CPU seconds for a million deliveries, and deliveries a second, as `dormouse bench` sees them.
fn bench(options: &Options, transport: &str, push: Push) -> (f64, f64) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
    command.args(["bench", "fanout", "--json", "--transport", transport]);
    command.args(["--members", &options.connections.to_string()]);
    command.args(["--seconds", &options.each.as_secs().to_string()]);
    match push {
        Push::Rate(rate) => command.args(["--rate", &rate.to_string()]),
        Push::UnderWay(count) => command.args(["--in-flight", &count.to_string()]),
    };
    machine::unpin(); // it takes its own places
    let told = command.output().unwrap();
    machine::pin(machine::CLIENTS);
    let told: Value = serde_json::from_slice(&told.stdout).expect("figures");
    let figure = |name: &str| told["rows"][0][name].as_f64().unwrap();
    (figure("cpu_s_per_million"), figure("deliveries_per_s"))
}
