//! The real binary, in a process that does not outlive its test.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};

use super::ask;

/// Ports that collide with nobody's.
pub const ANYWHERE: [&str; 4] = ["--listen", "127.0.0.1:0", "--operator-listen", "127.0.0.1:0"];

/// The binary, with nothing said to it but these arguments.
pub fn dormouse(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
    command.current_dir(dir).args(arguments);
    for (name, _) in
        std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("DORMOUSE_"))
    {
        command.env_remove(name);
    }
    command.env_remove("RUST_BACKTRACE"); // a backtrace is for those who ask for it
    command
}

/// Runs it to its end: the exit code and what it said.
pub fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = dormouse(dir, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has left already when all went well
        let _ = self.0.wait();
    }
}

impl Running {
    /// Sends a signal and waits for the end.
    pub fn told(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Running {
    /// Where its operators listen: it says so while it starts. To be asked once; what it says
    /// afterwards is read and forgotten.
    pub fn operator(&mut self) -> SocketAddr {
        let stderr = self.0.stderr.take().expect("a process that was opened, asked once");
        let mut lines = BufReader::new(stderr).lines();
        let told = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening for operators address=")?;
            rest.trim().parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        told.expect("it says where operators listen")
    }
}

/// Starts it and reads the line it says.
pub fn open(mut command: Command) -> (Running, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (Running(child), line)
}

/// Where a process that said this line is, and the hashes of its certificate.
pub async fn find(line: &str) -> (SocketAddr, Vec<[u8; 32]>) {
    let port = line.trim().rsplit_once(':').expect("an address in its line").1;
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let known = ask(address, "GET", "/.well-known/dormouse", "").await.json();
    let hashes = known["webtransport"]["certificate_hashes"].as_array().unwrap().iter();
    let hashes = hashes.map(|hash| STANDARD.decode(hash.as_str().unwrap()).unwrap());
    (address, hashes.map(|hash| hash.try_into().unwrap()).collect())
}
