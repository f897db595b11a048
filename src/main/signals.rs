//! The signals that a gateway hears, and what each asks for.
//!
//! - INT and TERM ask it to stop; the second of them, at once.
//! - HUP has two senders. A terminal that goes away takes its programs along: that asks to stop.
//!   Everybody else means *read your settings again*. What tells them apart is whether there was a
//!   controlling terminal at the start and is none now.
//! - A HUP that was ignored at the start, as `nohup` does, stays ignored.
//! - XFSZ, by default the end, is heard and forgotten: a file that may not grow is an error like a
//!   full disk. So is a write to a pipe without a reader: std has PIPE ignored.

use std::fs::File;
use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The controlling terminal, if there is one.
const TERMINAL: &str = "/dev/tty";

/// What Linux says of a process, its ignored signals included.
const STATUS: &str = "/proc/self/status";

/// What a signal asks for.
pub enum Asked {
    /// Drain and end.
    Stop,
    /// Read the settings again.
    Reload,
}

/// The signals, heard from when this is made.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Not heard if it was ignored.
    hangup: Option<Signal>,
    _too_large: Signal,
    had_terminal: bool,
}

impl Signals {
    /// Hears them from now on.
    pub fn hear() -> io::Result<Self> {
        let ignores = std::fs::read_to_string(STATUS).is_ok_and(|status| ignores_hangup(&status));
        let hangup = if ignores { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
            _too_large: signal(SignalKind::from_raw(Number::XFSZ.as_raw()))?,
            had_terminal: has_terminal(),
        })
    }

    /// Waits for the next signal that asks for something.
    pub async fn next(&mut self) -> Asked {
        let Self { interrupt, terminate, hangup, .. } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => Asked::Stop,
            _ = terminate.recv() => Asked::Stop,
            _ = hung_up => match self.had_terminal && !has_terminal() {
                true => Asked::Stop,
                false => Asked::Reload,
            },
        }
    }

    /// Waits until somebody asks to stop who is not a terminal: one that goes away tells its
    /// programs more than once.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn has_terminal() -> bool {
    File::open(TERMINAL).is_ok()
}

/// Whether a process of this status ignores HUP, the first signal.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|it| it & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_found_in_the_status() {
        assert!(ignores_hangup("Name:\tdormouse\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("Name:\tdormouse\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup("no status"));
    }
}
