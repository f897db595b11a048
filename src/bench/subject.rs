//! The server that is measured: started for the purpose, or one that runs already.
//!
//! One that is started is a process of its own, on a core of its own, on a free loopback port,
//! with a temporary directory that goes when it does. Its limits are lifted where they would be
//! what is measured, and that is said.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::arguments::{Asked, From};
use super::process::Processes;
use super::wire::Transport;
use super::{Error, machine};

/// How long a server may take to open.
const OPENING: Duration = Duration::from_secs(30);

/// Limits that would be what is measured.
const LIFTED: [(&str, &str); 5] = [
    ("room-publish-rate", "off"),
    ("session-publish-rate", "off"),
    ("session-requests-rate", "off"),
    ("session-ephemeral-rate", "off"),
    ("session-publishes-in-flight", "1024"),
];

/// A server to measure.
pub struct Subject {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its processes, where they are known.
    pub processes: Option<Processes>,
    _started: Option<Started>,
}

struct Started {
    child: Child,
    dir: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        // What it stored is thrown away with it, so it need not be asked to leave.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Subject {
    /// Finds or starts it. What had to be changed for that is added to `said`; `needs` are
    /// settings of the case.
    pub fn open(
        asked: &Asked,
        needs: &[(&str, String)],
        said: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let cores = if asked.pins { machine::cores() } else { None };
        if let From::Running { address, pid } = &asked.from {
            if let Some(cores) = cores
                && machine::pin(cores.generator)
            {
                said.push(format!("generator on core {}, the server where it is", cores.generator));
            }
            let processes = pid.map(Processes::of);
            return Ok(Self { address: *address, processes, _started: None });
        }
        // What is started inherits our place, so it is taken for it first.
        let pinned = cores.filter(|cores| machine::pin(cores.server));
        let opened = match &asked.from {
            From::Command(line) => start_peer(line),
            _ => start_dormouse(asked, needs, said),
        };
        match pinned {
            Some(cores) if machine::pin(cores.generator) => said.push(format!(
                "server on core {}, generator on core {}",
                cores.server, cores.generator
            )),
            _ => said.push("server and generator share the cores".to_owned()),
        }
        let (started, address) = opened?;
        let processes = Some(Processes::of(started.child.id()));
        Ok(Self { address, processes, _started: Some(started) })
    }
}

/// A gateway of this same binary.
fn start_dormouse(
    asked: &Asked,
    needs: &[(&str, String)],
    said: &mut Vec<String>,
) -> Result<(Started, SocketAddr), Error> {
    let dir = temporary()?;
    let binary = std::env::current_exe()?;
    let mut command = Command::new(&binary);
    command.arg("serve").args(["--listen", "127.0.0.1:0", "--operator-listen", "off"]);
    command.args(["--demo", "false"]).arg("--data-dir").arg(dir.join("data"));
    if asked.transport == Transport::Wss {
        let (cert, key) = certificate(&dir)?;
        command.arg("--tls-cert").arg(cert).arg("--tls-key").arg(key);
    }
    let asked_for = |name: &str| asked.settings.iter().any(|(flag, _)| flag == name);
    let lifted = LIFTED.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let lifted = lifted.chain(needs.iter().cloned()).filter(|(name, _)| !asked_for(name));
    let lifted = lifted.map(|(name, value)| (name.to_owned(), value));
    let settings: Vec<_> = lifted.chain(asked.settings.iter().cloned()).collect();
    let text: Vec<_> = settings.iter().map(|(name, value)| format!("--{name} {value}")).collect();
    said.push(format!("server settings: {}", text.join(" ")));
    for (name, value) in settings {
        command.arg(format!("--{name}")).arg(value);
    }
    command.env("RUST_LOG", "warn").stdout(Stdio::piped());
    let mut started = start(command, dir)?;

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
    // Given back at once; nobody else takes it in the moment until the server does.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let dir = temporary()?;
    let here = std::env::current_dir()?;
    let mut command = Command::new(here.join(program));
    if !program.contains('/') {
        command = Command::new(program); // one on the path
    }
    command.args(words).env("PORT", port.to_string()).env("DATA", &dir).stdout(Stdio::null());
    let mut started = start(command, dir)?;
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

fn start(mut command: Command, dir: PathBuf) -> Result<Started, Error> {
    // Neither a configuration file nor the environment shall change what is measured.
    command.current_dir(&dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DORMOUSE_") {
            command.env_remove(name);
        }
    }
    match command.spawn() {
        Ok(child) => Ok(Started { child, dir }),
        Err(source) => {
            let _ = fs::remove_dir_all(&dir);
            Err(Error::Start { command: format!("{:?}", command.get_program()), source })
        }
    }
}

/// A directory of our own.
fn temporary() -> Result<PathBuf, Error> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("dormouse-bench-{}-{count}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
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
