//! `dormouse bench`: a load generator inside the binary, for loopback only.
//!
//! It measures a server from outside: a process of its own, reached through real sockets, of
//! which it knows the protocol and nothing else. What serves does not know that this module
//! exists. Other servers can be measured beside ours when somebody has written how they are
//! spoken to ([`dialect`]), so that ratios come from one run on one machine.
//!
//! ```text
//!   arguments ─▶ subject: the server, started and pinned
//!                   ▲
//!                 wire: connections ◀─ member ◀─ crowd
//!                                        │ ▲
//!                     deliveries counted ▼ │ messages with a stamp
//!                                       load ◀─ pressure: looks before and after ─▶ figures
//! ```
//!
//! - One thread, so that nothing is locked and a core is enough for millions of deliveries a
//!   second; frames are counted, and parsed only as far as their stamp.
//! - Everything ends by itself: `--seconds` bounds each measurement, patience everything else.
//! - What was lifted, raised or missed is said beside the figures.

mod arguments;
mod cases;
mod crowd;
mod dialect;
pub mod dormitory;
mod error;
mod figures;
mod folder;
mod histogram;
mod load;
mod machine;
mod member;
mod operator;
mod pace;
mod pressure;
mod process;
mod subject;
mod wire;

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use clap::ArgMatches;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use arguments::Asked;
use figures::Report;

pub use arguments::command;
pub use cases::Case;
pub use error::Error;

/// Runs what was asked for, and prints what it found.
pub fn run(matches: &ArgMatches) -> Result<(), Error> {
    let asked = Asked::read(matches)?;
    let mut report = Report {
        case: asked.case.name().to_owned(),
        peer: asked.peer.clone(),
        transport: asked.transport.name(),
        ..Report::default()
    };
    machine::raise_open_files(&mut report.said);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let members = LocalSet::new();
    let measured = members.block_on(&runtime, async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = asked.case.measure(&asked, &mut report) => done,
            _ = interrupt.recv() => Err(Error::Interrupted),
            _ = terminate.recv() => Err(Error::Interrupted),
        }
    });
    drop((members, runtime));
    end_progress();
    measured?;
    let text = if asked.as_json { report.json() + "\n" } else { report.table() };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()), // nobody wants it any more
        written => Ok(written?),
    }
}

/// Says on the standard error how far it is: over the last such line on a terminal.
fn progress(what: String) {
    let mut stderr = std::io::stderr().lock();
    let _ = match stderr.is_terminal() {
        true => write!(stderr, "\r\x1b[K{what}"),
        false => writeln!(stderr, "{what}"),
    };
}

fn end_progress() {
    let mut stderr = std::io::stderr().lock();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K");
    }
}
