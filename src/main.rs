//! The doorway: reads what was said, opens the gateway, closes it when told to.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use dormouse::bench;
use dormouse::config::{self, Config};
use dormouse::gateway::{Gateway, StartError};
use dormouse::server::listener::VISITORS;
use dormouse::server::tls::Certificates;
#[cfg(feature = "client")]
use dormouse::terminal;
use dormouse::{command, store, telemetry};
use rustix::process::{Resource, Signal as Number, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[cfg(not(feature = "client"))]
#[path = "terminal/nobody.rs"]
mod terminal;

/// Gives back what sessions and rooms held, which glibc's does not (`docs/memory.md`).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Files open besides connections: the store, the listeners, the runtime's own.
const OTHER_FILES: u64 = 256;

fn main() -> ExitCode {
    let matches = cli().get_matches();
    telemetry::log_to_stderr();
    let outcome = match matches.subcommand_name() {
        Some("check") => check(&matches),
        Some("bench") => measure(&matches),
        Some(name) if command::NAMES.contains(&name) => ask(&matches),
        _ => terminal::run(&matches).unwrap_or_else(|| serve(&matches)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn cli() -> Command {
    Command::new("dormouse")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A self-hosted edge gateway for rooms: durable, asleep when idle")
        .after_help(
            "Each flag is also a setting of dormouse.toml and an environment variable:\n\
             --room-sleep-after 30s, [room] sleep_after = \"30s\", DORMOUSE_ROOM_SLEEP_AFTER=30s.\n\
             A flag wins over the environment, the environment over the file.\n\
             What [room] says, a section like [rooms.\"game-*\"] of the file may say otherwise\n\
             for rooms of such names.",
        )
        .args(config::flags())
        .subcommand(Command::new("serve").about("Open the gateway (the default)"))
        .subcommand(Command::new("check").about(
            "Read the configuration and say if it is fine; with --data-dir, the store there too",
        ))
        .subcommand(bench::command())
        .subcommands(command::subcommands())
        .subcommands(terminal::commands())
}

fn read_config(matches: &ArgMatches) -> Result<Config, config::Error> {
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(matches, environment)
}

fn check(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let config = read_config(matches)?;
    if let Some(files) = &config.certificate {
        Certificates::from_files(files)?;
    }
    writeln!(std::io::stdout(), "The configuration is fine")?;
    match names_a_store(matches) {
        true => check_store(&config.data_dir),
        false => Ok(()),
    }
}

/// Whether a data directory was named here: only then is it looked at, for a gateway may have it.
fn names_a_store(matches: &ArgMatches) -> bool {
    matches.subcommand().is_some_and(|(_, said)| said.get_one::<String>("data_dir").is_some())
}

/// `dormouse rooms` and `dormouse history`.
fn ask(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let config = read_config(matches)?;
    let Some((name, said)) = matches.subcommand() else { return Ok(()) };
    Ok(command::run(name, said, &config, names_a_store(matches), &mut std::io::stdout().lock())?)
}

fn check_store(dir: &Path) -> Result<(), Box<dyn Error>> {
    let found = store::check(dir)?;
    writeln!(std::io::stdout(), "The store in {}: {found}", dir.display())?;
    match found.damaged.is_empty() {
        true => Ok(()),
        false => Err("the store is damaged".into()),
    }
}

fn measure(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let asked = matches.subcommand_matches("bench").expect("it is what was asked for");
    Ok(bench::run(asked)?)
}

#[tokio::main]
async fn serve(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let config = read_config(matches)?;
    raise_open_files(&config);
    // Heard from now on: a signal during the start ends it in order, too.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // By default this one kills. Heard, a file that may not grow is an error like a full disk.
    let _too_large = signal(SignalKind::from_raw(Number::XFSZ.as_raw()))?;
    let gateway = Gateway::start(config).await?;
    writeln!(std::io::stdout(), "Dormouse is open at {}", gateway.url())?;

    told_to_stop(&mut interrupt, &mut terminate).await;
    tracing::info!("closing; once more to leave at once");
    tokio::select! {
        () = gateway.shutdown() => Ok(()),
        () = told_to_stop(&mut interrupt, &mut terminate) => {
            tracing::warn!("left before everybody was told");
            std::process::exit(1) // returning would wait for what the store is writing
        }
    }
}

async fn told_to_stop(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
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

/// Says what went wrong, why, and what to do, to whoever started us.
fn complain(error: &(dyn Error + 'static)) {
    let mut text = format!("dormouse: {error}");
    let mut cause = error.source();
    while let Some(below) = cause {
        text += &format!(": {below}");
        cause = below.source();
    }
    let hint = error.downcast_ref::<StartError>().map(StartError::hint);
    if let Some(hint) = hint.or_else(|| terminal::hint(error)) {
        text += &format!("\n  hint: {hint}");
    }
    if let Some(hint) = error.downcast_ref::<command::Error>().and_then(command::Error::hint) {
        text += &format!("\n  hint: {hint}");
    }
    eprintln!("{text}");
}
