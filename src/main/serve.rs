//! `dormouse serve`: from the start to the last word.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use clap::ArgMatches;
use dormouse::config::{Config, said::Said};
use dormouse::gateway::{Gateway, reload};
use dormouse::server::listener::VISITORS;
use dormouse::supervision::{self, Task};
use dormouse::telemetry::log;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::signals::{Asked, Signals};

/// Files open besides connections: the store, the listeners, the runtime's own.
const OTHER_FILES: u64 = 256;

/// How long the log's last lines may take.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// A fault of the gateway itself, which a restart may end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A task failed again and again.
    #[error("{}, again and again; the gateway has drained and ends", .0.trouble())]
    Task(Task),
    /// The end was not orderly. What was acknowledged is on disk all the same.
    #[error("the drain failed ({0}); clients were cut off")]
    Drain(String),
}

/// Opens a gateway, and closes it when asked to or when it fails.
#[tokio::main]
pub async fn serve(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let mut said = super::read_settings(matches)?;
    let config = Config::new(&said)?;
    raise_open_files(&config);
    // Heard from now on: a signal during the start ends it in order, too.
    let mut signals = Signals::hear()?;
    let gateway = Gateway::start(config).await?;
    if let Err(error) = writeln!(std::io::stdout(), "Dormouse is open at {}", gateway.url()) {
        tracing::warn!(%error, url = gateway.url(), "open, and stdout takes no line about it");
    }

    let failed = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break None,
                Asked::Reload => read_again(&gateway, matches, &mut said),
            },
            task = gateway.failed() => break Some(task),
        }
    };
    tracing::info!("closing; once more to leave at once");
    // In a task of its own: if it panics, somebody is left to say so.
    let closing = tokio::spawn(gateway.shutdown());
    tokio::select! {
        closed = closing => match (closed, failed) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(task)) => Err(Failure::Task(task).into()),
            (Err(ended), _) => Err(Failure::Drain(match ended.try_into_panic() {
                Ok(panic) => supervision::text_of(&*panic),
                Err(ended) => ended.to_string(),
            }).into()),
        },
        () = signals.stop() => {
            tracing::warn!("left before everybody was told");
            log::flush(LAST_WORDS);
            std::process::exit(1) // returning would wait for what the store is writing
        }
    }
}

/// Reads the settings again, and has the gateway take over what it can. Whatever is wrong with them
/// is said, and nothing changes.
fn read_again(gateway: &Gateway, matches: &ArgMatches, before: &mut Said) {
    let read = super::read_settings(matches).and_then(|said| Ok((Config::new(&said)?, said)));
    let (config, said) = match read {
        Ok(read) => read,
        Err(error) => return tracing::error!(%error, "the settings are not read again"),
    };
    if let Err(error) = gateway.reload(&config) {
        let error = super::with_causes(&error);
        return tracing::error!(error, "the settings are not taken over");
    }
    let changed = said.differences(before);
    let (taken, left): (Vec<_>, Vec<_>) =
        changed.into_iter().partition(|key| reload::RELOADABLE.contains(&&**key));
    tracing::info!(changed = taken.join(", "), "read the settings and the certificate again");
    if !left.is_empty() {
        tracing::warn!(changed = left.join(", "), "not taken over: this needs a restart");
    }
    // What needs a restart is said each time until there is one.
    before.take_over(&said, &reload::RELOADABLE);
}

/// A connection is an open file; raises the limit to match, or says how small it is.
fn raise_open_files(config: &Config) {
    let connections = config.server.connections as u64;
    let listeners = config.listen.len() as u64 + 1;
    let besides = listeners * VISITORS as u64 + OTHER_FILES;
    let wanted = connections + besides;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    let raised = setrlimit(Resource::Nofile, limit);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    if raised.is_err() || files < wanted {
        let fits = files.saturating_sub(besides);
        tracing::warn!(
            "open files are limited to {files}: room for about {fits} connections over TCP, \
             not {connections} (raise `ulimit -n`, or lower gateway.connections)"
        );
    }
}
