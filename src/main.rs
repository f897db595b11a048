//! The doorway: reads what was said, opens the gateway, closes it when told to.

use std::error::Error;
use std::io::{ErrorKind, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use dormouse::bench;
use dormouse::config::said::Said;
use dormouse::config::{self, Config};
use dormouse::gateway::StartError;
use dormouse::server::tls::Certificates;
#[cfg(feature = "client")]
use dormouse::terminal;
use dormouse::{command, store, supervision, telemetry};
use serve::{Failure, LAST_WORDS, serve};

#[path = "main/serve.rs"]
mod serve;
#[path = "main/signals.rs"]
mod signals;
#[cfg(not(feature = "client"))]
#[path = "terminal/nobody.rs"]
mod terminal;

/// Gives back what sessions and rooms held, which glibc's does not (`docs/memory.md`).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code of a fault of the gateway itself, as in BSD's sysexits.
const SOFTWARE: u8 = 70;

fn main() -> ExitCode {
    let matches = cli().get_matches();
    telemetry::log_to_stderr();
    supervision::log_panics();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&matches)));
    let code = match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            complain(&*error);
            match error.is::<Failure>() {
                true => SOFTWARE.into(),
                false => ExitCode::FAILURE,
            }
        }
        Err(panic) => {
            let what = supervision::text_of(&*panic);
            telemetry::log::say(&format!("dormouse: ended by a fault of its own: {what}"));
            SOFTWARE.into()
        }
    };
    telemetry::log::flush(LAST_WORDS);
    code
}

fn run(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    match matches.subcommand_name() {
        Some("check") => check(matches),
        Some("bench") => measure(matches),
        Some(name) if command::NAMES.contains(&name) => ask(matches),
        _ => terminal::run(matches).unwrap_or_else(|| serve(matches)),
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

fn read_settings(matches: &ArgMatches) -> Result<Said, config::Error> {
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Said::read(matches, environment)
}

fn read_config(matches: &ArgMatches) -> Result<Config, config::Error> {
    Config::new(&read_settings(matches)?)
}

fn check(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let config = read_config(matches)?;
    if let Some(files) = &config.certificate {
        Certificates::from_files(files).map_err(StartError::Certificate)?;
    }
    print("The configuration is fine")?;
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
    print(&format!("The store in {}: {found}", dir.display()))?;
    match found.damaged.is_empty() {
        true => Ok(()),
        false => Err("the store is damaged".into()),
    }
}

fn measure(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let asked = matches.subcommand_matches("bench").expect("it is what was asked for");
    Ok(bench::run(asked)?)
}

/// Writes a line to stdout. Who reads no further has what they wanted.
fn print(line: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says what went wrong, why, and what to do, to whoever started us.
fn complain(error: &(dyn Error + 'static)) {
    let mut text = format!("dormouse: {}", with_causes(error));
    let start = || error.downcast_ref::<StartError>().map(StartError::hint);
    let settings = || error.downcast_ref::<config::Error>().and_then(config::Error::hint);
    let command = || error.downcast_ref::<command::Error>().and_then(command::Error::hint);
    let other = || settings().or_else(command).or_else(|| terminal::hint(error));
    if let Some(hint) = start().or_else(|| other().map(str::to_owned)) {
        text += &format!("\n  hint: {hint}");
    }
    telemetry::log::say(&text);
}

/// An error and what caused it.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text += &format!(": {below}");
        cause = below.source();
    }
    text
}
