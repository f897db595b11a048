//! `dormouse chat` and `dormouse tail`: a room in the terminal, through [`client`](crate::client).
//!
//! What members say goes to stdout, what there is to remark goes to stderr, so that both work in a pipe. Nothing
//! that a stranger said reaches the terminal as a control character.

mod chat;
mod lines;
mod print;
mod tail;

use std::error::Error;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::{self, Choice, Options, Token, Trust};

/// How it ended.
pub type Outcome = Result<(), Box<dyn Error>>;

/// The commands that are here.
pub fn commands() -> [Command; 2] {
    let chat = Command::new("chat")
        .about(
            "Chat in a room: lines in, messages out; Ctrl-C or the end of the input says goodbye",
        )
        .args(door())
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .help("What others see [default: who you are here]"),
        );
    let tail = Command::new("tail")
        .about("Print a room's messages as they come, through every restart of the gateway")
        .args(door())
        .arg(
            Arg::new("history")
                .long("history")
                .value_name("N")
                .value_parser(value_parser!(u32).range(0..=1_000))
                .default_value("10")
                .help("Begin with the last N messages, 1,000 at most"),
        )
        .arg(
            Arg::new("since")
                .long("since")
                .value_name("SEQ")
                .value_parser(value_parser!(u64))
                .conflicts_with("history")
                .help("Begin behind this message, however long ago it was"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("One JSON object a line: seq, time, from, and data or data64"),
        );
    [chat, tail]
}

/// Runs the command that was named, if it is one of these.
pub fn run(matches: &ArgMatches) -> Option<Outcome> {
    match matches.subcommand()? {
        ("chat", said) => Some(on_a_runtime(chat::run(said))),
        ("tail", said) => Some(on_a_runtime(tail::run(said))),
        _ => None,
    }
}

/// What to do about an error of these commands.
pub fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    error.downcast_ref::<client::Error>()?.hint()
}

/// How to get into a room, the same for both.
fn door() -> [Arg; 5] {
    [
        Arg::new("room").value_name("ROOM").required(true).help("The room's name"),
        Arg::new("url")
            .long("url")
            .value_name("URL")
            .env("DORMOUSE_URL")
            .default_value("http://localhost:4433")
            .help("The gateway's address"),
        Arg::new("transport")
            .long("transport")
            .value_name("WHICH")
            .value_parser(["any", "websocket", "webtransport"])
            .default_value("any")
            .help("WebTransport where it comes about, or just this one"),
        Arg::new("ca")
            .long("ca")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Trust these PEM certificates and no others"),
        Arg::new("token")
            .long("token")
            .value_name("TOKEN")
            .env("DORMOUSE_TOKEN")
            .hide_env_values(true)
            .help("The token to show at the door"),
    ]
}

/// The room's address.
fn address(said: &ArgMatches) -> String {
    let text = |name| said.get_one::<String>(name).map_or("", String::as_str);
    format!("{}/rooms/{}", text("url").trim_end_matches('/'), text("room"))
}

fn options(said: &ArgMatches) -> Result<Options, Box<dyn Error>> {
    let text = |name| said.get_one::<String>(name).map(String::as_str);
    let transport = match text("transport") {
        Some("websocket") => Choice::WebSocket,
        Some("webtransport") => Choice::WebTransport,
        _ => Choice::Any,
    };
    let trust = match said.get_one::<PathBuf>("ca") {
        None => Trust::System,
        Some(file) => {
            let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
            let read: Vec<_> = read.map_err(|error| format!("{}: {error}", file.display()))?;
            if read.is_empty() {
                return Err(format!("{}: there is no PEM certificate in it", file.display()).into());
            }
            Trust::Only(read)
        }
    };
    Ok(Options { transport, trust, token: text("token").map(Token::fixed), ..Options::default() })
}

fn on_a_runtime(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background(); // a thread may still wait for a line that nobody types
    outcome
}

/// Returns when somebody wants it to end.
async fn told_to_stop() -> std::io::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
