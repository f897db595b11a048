//! The server that is measured: started for the purpose, or one that runs already.
//!
//! One that is started is a process of its own, on a core of its own, on a free loopback port,
//! with a temporary directory that goes when it does. Its limits are lifted where they would be
//! what is measured, and that is said.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::arguments::{Asked, From};
use super::folder::Folder;
use super::process::Processes;
use super::wire::Transport;
use super::{Error, machine};

/// How long a server may take to open.
const OPENING: Duration = Duration::from_secs(30);

/// How long one may take to leave in order.
const LEAVING: Duration = Duration::from_secs(30);

/// Limits that would be what is measured.
const LIFTED: [(&str, &str); 5] = [
    ("room-publish-rate", "off"),
    ("session-publish-rate", "off"),
    ("session-requests-rate", "off"),
    ("session-ephemeral-rate", "off"),
    ("session-publishes-in-flight", "1024"),
];

/// What a case wants of the gateway that is started for it.
#[derive(Default)]
pub struct Needs<'a> {
    /// Settings.
    pub settings: &'a [(&'a str, String)],
    /// Where it stores; a folder of its own when `None`.
    pub folder: Option<Arc<Folder>>,
    /// Whether it is asked how it is while it is measured.
    pub operator: bool,
}

/// A server to measure.
pub struct Subject {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it is asked how it is, if it was to be.
    pub operator: Option<SocketAddr>,
    /// When it was started.
    pub begun: Instant,
    /// Its processes, where they are known.
    pub processes: Option<Processes>,
    started: Option<Started>,
}

struct Started {
    child: Child,
    /// Goes when nobody needs it any more.
    _folder: Arc<Folder>,
}

impl Drop for Started {
    fn drop(&mut self) {
        // What it stored is thrown away with it, so it need not be asked to leave.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Subject {
    /// Finds or starts it. What had to be changed for that is added to `said`.
    pub fn open(asked: &Asked, needs: Needs<'_>, said: &mut Vec<String>) -> Result<Self, Error> {
        let begun = Instant::now();
        let cores = if asked.pins { machine::cores() } else { None };
        if let From::Running { address, pid } = &asked.from {
            if let Some(cores) = cores
                && machine::pin(cores.generator)
            {
                said.push(format!("generator on core {}, the server where it is", cores.generator));
            }
            let processes = pid.map(Processes::of);
            let address = *address;
            return Ok(Self { address, operator: None, begun, processes, started: None });
        }
        // What is started inherits our place, so it is taken for it first.
        let pinned = cores.filter(|cores| machine::pin(cores.server));
        let operator = if needs.operator { Some(free_address()?) } else { None };
        let opened = match &asked.from {
            From::Command(line) => start_peer(line),
            _ => start_dormouse(asked, needs, operator, said),
        };
        let text = match pinned {
            Some(cores) if machine::pin(cores.generator) => {
                format!("server on core {}, generator on core {}", cores.server, cores.generator)
            }
            _ => "server and generator share the cores".to_owned(),
        };
        say_once(said, text);
        let (started, address) = opened?;
        let processes = Some(Processes::of(started.child.id()));
        Ok(Self { address, operator, begun, processes, started: Some(started) })
    }

    /// Lets one that was started leave in order, so that it leaves its files in order. Whatever
    /// else happens, it is gone afterwards.
    pub fn leave(mut self) -> Result<(), Error> {
        let Some(started) = &mut self.started else { return Ok(()) };
        kill_process(Pid::from_child(&started.child), Signal::TERM).map_err(io::Error::from)?;
        let begun = Instant::now();
        while started.child.try_wait()?.is_none() {
            if begun.elapsed() > LEAVING {
                return Err(Error::Patience("a gateway to leave".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// What several servers of one case have in common need not be read twice.
fn say_once(said: &mut Vec<String>, text: String) {
    if !said.contains(&text) {
        said.push(text);
    }
}

/// A gateway of this same binary.
fn start_dormouse(
    asked: &Asked,
    needs: Needs<'_>,
    operator: Option<SocketAddr>,
    said: &mut Vec<String>,
) -> Result<(Started, SocketAddr), Error> {
    let folder = needs.folder.map_or_else(|| Folder::new().map(Arc::new), Ok)?;
    let dir = folder.path();
    let operator = operator.map_or("off".to_owned(), |address| address.to_string());
    let binary = std::env::current_exe()?;
    let mut command = Command::new(&binary);
    command.arg("serve").args(["--listen", "127.0.0.1:0", "--operator-listen", &operator]);
    command.args(["--demo", "false"]).arg("--data-dir").arg(folder.store());
    if asked.transport == Transport::Wss {
        let (cert, key) = certificate(dir)?;
        command.arg("--tls-cert").arg(cert).arg("--tls-key").arg(key);
    }
    let asked_for = |name: &str| asked.settings.iter().any(|(flag, _)| flag == name);
    let lifted = LIFTED.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let lifted = lifted.chain(needs.settings.iter().cloned()).filter(|(name, _)| !asked_for(name));
    let lifted = lifted.map(|(name, value)| (name.to_owned(), value));
    let settings: Vec<_> = lifted.chain(asked.settings.iter().cloned()).collect();
    let text: Vec<_> = settings.iter().map(|(name, value)| format!("--{name} {value}")).collect();
    say_once(said, format!("server settings: {}", text.join(" ")));
    for (name, value) in settings {
        command.arg(format!("--{name}")).arg(value);
    }
    command.env("RUST_LOG", "warn").stdout(Stdio::piped());
    let mut started = start(command, folder)?;

    // It says where it is once it is open.
    let mut line = String::new();
    if let Some(stdout) = started.child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let port = line.trim().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port: u16 = port.ok_or_else(|| Error::NotOpen("it said no address".to_owned()))?;
    Ok((started, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

/// Somebody else's server: it is told a port in `PORT`, and a folder of its own in `DATA`.
fn start_peer(line: &str) -> Result<(Started, SocketAddr), Error> {
    let mut words = line.split_whitespace();
    let program = words.next().ok_or(Error::Nonsense("--start needs a command"))?;
    let address = free_address()?;
    let port = address.port();
    let folder = Arc::new(Folder::new()?);
    let here = std::env::current_dir()?;
    let mut command = Command::new(here.join(program));
    if !program.contains('/') {
        command = Command::new(program); // one on the path
    }
    command
        .args(words)
        .env("PORT", port.to_string())
        .env("DATA", folder.path())
        .stdout(Stdio::null());
    let mut started = start(command, folder)?;
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = started.child.try_wait()? {
            return Err(Error::NotOpen(format!("{line:?} ended with {status}")));
        }
        if begun.elapsed() > OPENING {
            return Err(Error::NotOpen(format!("nobody listens on port {port}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((started, address))
}

fn start(mut command: Command, folder: Arc<Folder>) -> Result<Started, Error> {
    // Neither a configuration file nor the environment shall change what is measured.
    command.current_dir(folder.path()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DORMOUSE_") {
            command.env_remove(name);
        }
    }
    match command.spawn() {
        Ok(child) => Ok(Started { child, _folder: folder }),
        Err(source) => {
            Err(Error::Start { command: format!("{:?}", command.get_program()), source })
        }
    }
}

/// A free port on loopback: given back at once, and nobody else takes it in the moment until the
/// server does.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A certificate for loopback, made on the spot.
fn certificate(dir: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(std::io::Error::other)?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((cert, key))
}
