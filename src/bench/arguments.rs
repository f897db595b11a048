//! What may be asked of a benchmark, and what was.

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::dialect::{LEAST_BYTES, PEERS};
use super::load::Push;
use super::wire::Transport;
use super::{Case, Error};
use crate::config::settings::SETTINGS;

/// Settings that a benchmark chooses itself.
const OURS: [&str; 6] =
    ["listen", "operator_listen", "data_dir", "tls_cert", "tls_key", "certs_dir"];

/// What was asked for, of any case.
#[derive(Debug)]
pub struct Asked {
    /// What to do.
    pub case: Case,
    /// Over what.
    pub transport: Transport,
    /// How the server is spoken to.
    pub peer: String,
    /// Where it comes from.
    pub from: From,
    /// How long each measurement takes.
    pub each: Duration,
    /// Whether server and generator get a core each.
    pub pins: bool,
    /// Whether figures are for a program.
    pub as_json: bool,
    /// Rooms.
    pub rooms: usize,
    /// Members in each.
    pub members: usize,
    /// Bytes of a message.
    pub size: usize,
    /// How messages are sent.
    pub push: Push,
    /// Connections, clients: what is counted and is no member of a crowd.
    pub count: usize,
    /// Deliveries a second, where a case keeps them the same.
    pub deliveries: usize,
    /// Parts of the case; empty for all of them.
    pub parts: Vec<String>,
    /// Settings of the gateway that is started.
    pub settings: Vec<(String, String)>,
}

/// Where the measured server comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// This binary is started as a gateway.
    Ourselves,
    /// This is started.
    Command(String),
    /// It runs already.
    Running {
        /// Where.
        address: SocketAddr,
        /// As which process.
        pid: Option<u32>,
    },
}

/// `dormouse bench`.
pub fn command() -> Command {
    let case = |case: Case| {
        let mut command = Command::new(case.name()).about(case.about()).args(common());
        for (name, default, help) in case.numbers() {
            let arg = Arg::new(*name).long(*name).value_name("N").help(*help);
            let arg = arg.value_parser(value_parser!(u32).range(1..));
            command = command.arg(arg.default_value(default.to_string()));
        }
        if !case.parts().is_empty() {
            command = command.arg(only(case.parts()));
        }
        if let Some(in_flight) = case.in_flight() {
            command = command.args(pushing(in_flight));
        }
        command
    };
    Command::new("bench")
        .about("Measure a gateway: a load generator for loopback")
        .long_about(
            "Starts a gateway of its own on a free loopback port, with a temporary directory \
             (TMPDIR chooses the disk) and on a core of its own, loads it from another core, says \
             what it did, and stops by itself. Settings of the gateway may be given like those of \
             `serve`. docs/performance.md says what was measured so far, and how to read it.",
        )
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands(Case::ALL.map(case))
}

fn common() -> Vec<Arg> {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let transports = Transport::ALL.map(Transport::name);
    vec![
        text("transport", "NAME", "What carries the load")
            .value_parser(transports)
            .default_value("ws"),
        text("seconds", "N", "How long each measurement takes")
            .value_parser(value_parser!(f64))
            .default_value("5"),
        switch("json", "Figures for a program, on one line"),
        text("connect", "ADDRESS", "Measure a server that runs already, on a loopback address"),
        text("pid", "PID", "Its process, for CPU and memory")
            .value_parser(value_parser!(u32))
            .requires("connect"),
        text(
            "start",
            "COMMAND",
            "Start this server instead, with PORT and DATA in its environment",
        )
        .conflicts_with("connect"),
        text("peer", "NAME", "How that server is spoken to")
            .value_parser(PEERS)
            .default_value("dormouse"),
        switch("no-pin", "Let server and generator share all cores"),
    ]
}

fn only(parts: &'static [&'static str]) -> Arg {
    let arg = Arg::new("only").long("only").value_name("PART").action(ArgAction::Append);
    arg.value_parser(PossibleValuesParser::new(parts)).help("A part alone; may be repeated")
}

fn pushing(in_flight: u64) -> [Arg; 3] {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    [
        text("rate", "PER_SECOND", "Open loop: messages a second over all rooms, on a timetable")
            .value_parser(value_parser!(f64))
            .conflicts_with_all(["in-flight", "in-flight-per-room"]),
        text("in-flight", "N", "Closed loop: messages under way at once, over all rooms")
            .value_parser(value_parser!(u64).range(1..))
            .default_value(in_flight.to_string()),
        text("in-flight-per-room", "N", "Closed loop: messages under way at once in each room")
            .value_parser(value_parser!(u64).range(1..))
            .conflicts_with("in-flight"),
    ]
}

impl Asked {
    /// Reads what was asked.
    pub fn read(matches: &ArgMatches) -> Result<Self, Error> {
        let (name, said) = matches.subcommand().expect("clap requires a case");
        let case = Case::ALL.into_iter().find(|case| case.name() == name);
        let case = case.expect("clap knows only our cases");
        let text = |name: &str| said.get_one::<String>(name).cloned().unwrap_or_default();
        let count = |name: &str| match said.try_get_one::<u32>(name) {
            Ok(Some(count)) => *count as usize,
            _ => 0, // this case has no such argument
        };
        let transport = text("transport");
        let transport = Transport::ALL.into_iter().find(|one| one.name() == transport);
        let parts = said.try_get_many::<String>("only").ok().flatten();
        let seconds = said.get_one::<f64>("seconds").copied().unwrap_or(5.0);
        let asked = Self {
            case,
            transport: transport.expect("clap knows only our transports"),
            peer: text("peer"),
            from: from(said)?,
            each: Duration::try_from_secs_f64(seconds)
                .ok()
                .filter(|each| (0.1..=3_600.0).contains(&each.as_secs_f64()))
                .ok_or(Error::Nonsense("--seconds takes 0.1 to 3600"))?,
            pins: !said.get_flag("no-pin"),
            as_json: said.get_flag("json"),
            rooms: count("rooms"),
            members: count("members"),
            size: count("size"),
            push: push(said)?,
            count: count("count"),
            deliveries: count("deliveries"),
            parts: parts.map(|parts| parts.cloned().collect()).unwrap_or_default(),
            settings: settings(said)?,
        };
        asked.check()?;
        Ok(asked)
    }

    fn check(&self) -> Result<(), Error> {
        if self.size > 0 && self.size < LEAST_BYTES {
            return Err(Error::Nonsense("--size takes at least 17: a message has its stamp in it"));
        }
        let is_ours = self.peer == "dormouse";
        if !is_ours && self.transport != Transport::Ws {
            return Err(Error::Nonsense("other servers are measured over plain WebSocket"));
        }
        if !is_ours && self.from == From::Ourselves {
            return Err(Error::Nonsense("--peer needs --start or --connect"));
        }
        if !is_ours && matches!(self.case, Case::Wake | Case::Sleep | Case::Storm | Case::Growth) {
            return Err(Error::Nonsense("only dormouse sleeps, resumes and has pages"));
        }
        if matches!(self.case, Case::Sleep | Case::Growth) && self.from != From::Ourselves {
            return Err(Error::Nonsense("this case starts a gateway for each of its parts"));
        }
        if self.transport == Transport::Datagram {
            match (self.case, self.push) {
                (Case::Fanout | Case::Rooms, Push::Rate(_)) => {}
                (Case::Fanout | Case::Rooms, _) => {
                    return Err(Error::Nonsense("datagrams may be lost, so they need --rate"));
                }
                _ => return Err(Error::Nonsense("datagrams are for fanout and rooms")),
            }
        }
        if !self.settings.is_empty() && self.from != From::Ourselves {
            return Err(Error::Nonsense("settings are for a gateway that the benchmark starts"));
        }
        Ok(())
    }
}

fn from(said: &ArgMatches) -> Result<From, Error> {
    if let Some(command) = said.get_one::<String>("start") {
        return Ok(From::Command(command.clone()));
    }
    let Some(text) = said.get_one::<String>("connect") else { return Ok(From::Ourselves) };
    let address: SocketAddr = text
        .parse()
        .map_err(|_| Error::Nonsense("--connect takes an address like 127.0.0.1:4433"))?;
    if !address.ip().to_canonical().is_loopback() {
        return Err(Error::NotLoopback(address));
    }
    Ok(From::Running { address, pid: said.get_one::<u32>("pid").copied() })
}

fn push(said: &ArgMatches) -> Result<Push, Error> {
    let count = |name: &str| said.try_get_one::<u64>(name).ok().flatten().copied();
    if let Some(rate) = said.try_get_one::<f64>("rate").ok().flatten().copied() {
        return match (0.1..=1e6).contains(&rate) {
            true => Ok(Push::Rate(rate)),
            false => Err(Error::Nonsense("--rate takes 0.1 to 1000000")),
        };
    }
    Ok(match count("in-flight-per-room") {
        Some(count) => Push::PerRoom(count),
        None => Push::InAll(count("in-flight").unwrap_or(1)),
    })
}

/// The gateway's settings among the flags.
fn settings(said: &ArgMatches) -> Result<Vec<(String, String)>, Error> {
    let mut found = Vec::new();
    let is_said = |key: &str| said.value_source(key) == Some(ValueSource::CommandLine);
    for setting in SETTINGS.iter().filter(|setting| is_said(setting.key)) {
        if OURS.contains(&setting.key) {
            return Err(Error::Nonsense(
                "where the gateway listens and stores is the benchmark's own choice",
            ));
        }
        let values = said.get_many::<String>(setting.key).into_iter().flatten();
        found.extend(values.map(|value| (setting.flag(), value.clone())));
    }
    if is_said("config") {
        return Err(Error::Nonsense("settings are given by their flags, not by a file"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Asked, Error> {
        let command = Command::new("dormouse").args(crate::config::flags()).subcommand(command());
        let words = ["dormouse", "bench"].into_iter().chain(line.split(' '));
        let matches = command.try_get_matches_from(words).expect("a line that clap takes");
        Asked::read(matches.subcommand_matches("bench").unwrap())
    }

    #[test]
    fn a_load_is_sent_to_loopback_only() {
        for address in ["192.0.2.1:80", "[2001:db8::1]:80", "0.0.0.0:80", "[::ffff:192.0.2.1]:80"] {
            let refused = read(&format!("fanout --connect {address}")).unwrap_err();
            assert!(matches!(refused, Error::NotLoopback(_)), "{address}: {refused}");
            assert!(refused.to_string().contains("is no loopback address"));
        }
        for address in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            let asked = read(&format!("fanout --connect {address}")).unwrap();
            assert!(matches!(asked.from, From::Running { .. }), "{address}");
        }
        assert!(read("fanout --connect example.org:80").is_err(), "names are not looked up");
    }

    #[test]
    fn open_and_closed_loops_are_told_apart() {
        assert_eq!(read("fanout").unwrap().push, Push::InAll(16));
        assert_eq!(read("fanout --rate 40").unwrap().push, Push::Rate(40.0));
        assert_eq!(read("rooms").unwrap().push, Push::InAll(64));
        assert_eq!(read("rooms --in-flight-per-room 8").unwrap().push, Push::PerRoom(8));
        assert!(read("fanout --rate 0").is_err());
    }

    #[test]
    fn settings_are_handed_on_but_for_those_that_are_ours() {
        let asked = read("fanout --room-ring-bytes 4MiB --members 7").unwrap();
        assert_eq!(asked.settings, [("room-ring-bytes".to_owned(), "4MiB".to_owned())]);
        assert_eq!(asked.members, 7);
        assert!(read("fanout --data-dir /tmp/x").is_err());
        assert!(read("fanout --connect 127.0.0.1:1 --room-ring-bytes 4MiB").is_err());
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for line in [
            "fanout --size 3",
            "fanout --peer plain",
            "wake --peer plain --connect 127.0.0.1:1",
            "fanout --peer plain --connect 127.0.0.1:1 --transport wt",
            "fanout --transport datagram",
            "fanout --seconds 0",
            "sleep --connect 127.0.0.1:1",
            "growth --connect 127.0.0.1:1",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
