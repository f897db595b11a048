//! HUP: from a terminal that goes away it drains, from an operator it reads the settings again, and
//! under `nohup` it is nothing.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormouse::gateway::reload::RELOADABLE;
use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::CertificateDer;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::process::{ANYWHERE, Running, dormouse, find, open};
use crate::support::{Client, DEADLINE, HANDSHAKE, Takes, Transport, ask, both, certificate};

/// What a process says in its log, line by line.
struct Said(std::io::Lines<BufReader<ChildStderr>>);

impl Said {
    fn of(child: &mut Running) -> Self {
        Self(BufReader::new(child.0.stderr.take().unwrap()).lines())
    }

    /// The next line that says this.
    fn until(&mut self, what: &str) -> String {
        let line = self.0.find_map(|line| line.ok().filter(|line| line.contains(what)));
        line.unwrap_or_else(|| panic!("it ended without a word of {what:?}"))
    }
}

fn hang_up(child: &Running) {
    kill_process(Pid::from_child(&child.0), Signal::HUP).unwrap();
}

async fn until_said(file: &Path) -> String {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.ends_with('\n') {
            return text;
        }
        assert!(begun.elapsed() < DEADLINE, "{} stays empty", file.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

both! {
    /// A window that is closed, a connection by ssh that is lost.
    async fn a_terminal_that_goes_away_drains(transport) {
        if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
            return eprintln!("skipped: script is missing (Debian: bsdutils)");
        }
        let dir = tempfile::tempdir().unwrap();
        let bare = dormouse(dir.path(), &ANYWHERE);
        let program = bare.get_program().to_str().unwrap();
        let inner = format!(
            "trap : HUP; {program} {} >out 2>err; echo $? >code",
            ANYWHERE.join(" ")
        );
        std::fs::write(dir.path().join("inner"), inner).unwrap();
        let mut command = Command::new("script");
        // The system tells the outer shell alone; its end is what the others are told.
        command.args(["-q", "-e", "-c", "sh inner; true", "/dev/null"]).current_dir(dir.path());
        command.env("SHELL", "/bin/sh").stdin(Stdio::null()).stdout(Stdio::null());
        for (name, _) in bare.get_envs().filter(|(_, value)| value.is_none()) {
            command.env_remove(name);
        }
        let mut terminal = Running(command.stderr(Stdio::null()).spawn().unwrap());
        let line = until_said(&dir.path().join("out")).await;
        let (address, hashes) = find(&line).await;
        let mut ann =
            Client::connect(transport, address, "meadow", &hashes, Takes::Plenty).await;
        ann.hello(json!({ "name": "ann" })).await;

        terminal.0.kill().unwrap();
        terminal.0.wait().unwrap();
        ann.next_of("drain").await;
        ann.closed_with(4000, "drain").await;
        assert_eq!(until_said(&dir.path().join("code")).await, "0\n");
    }
}

/// What `nohup` is for.
#[tokio::test]
async fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let bare = dormouse(dir.path(), &ANYWHERE);
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" HUP; exec "$0" "$@""#]).current_dir(dir.path());
    command.arg(bare.get_program()).args(bare.get_args());
    let (mut child, line) = open(command);
    let mut said = Said::of(&mut child);
    let (address, _) = find(&line).await;
    hang_up(&child);
    assert_eq!(ask(address, "GET", "/", "").await.status, 200);
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    said.until("closing"); // and nothing was read again before
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

/// Whether a TLS client that trusts this certificate alone gets in.
async fn gets_in(address: SocketAddr, trusts: &CertificateDer<'static>) -> bool {
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(trusts.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(address).await.unwrap();
    connector.connect("localhost".try_into().unwrap(), stream).await.is_ok()
}

/// A certificate that was renewed needs no restart, one that is broken changes nothing, and what
/// does need a restart is said by name.
#[tokio::test]
async fn a_hangup_reads_the_certificate_and_the_settings_again() {
    let (_old, files, old) = certificate(&["localhost"]);
    let (_new, renewed, new) = certificate(&["localhost"]);
    let dir = tempfile::tempdir().unwrap();
    let write = |more: &str| {
        let text = format!(
            "tls_cert = {:?}\ntls_key = {:?}\n{more}",
            files.cert.to_str().unwrap(),
            files.key.to_str().unwrap()
        );
        std::fs::write(dir.path().join("dormouse.toml"), text).unwrap();
    };
    write("");
    let (mut child, line) = open(dormouse(dir.path(), &ANYWHERE));
    let mut said = Said::of(&mut child);
    let port = line.trim().rsplit_once(':').unwrap().1;
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    assert!(gets_in(address, &old).await && !gets_in(address, &new).await);

    std::fs::write(&files.cert, "no certificate").unwrap();
    hang_up(&child);
    said.until("the settings are not taken over");
    assert!(gets_in(address, &old).await, "the old one stays");

    std::fs::copy(&renewed.cert, &files.cert).unwrap();
    std::fs::copy(&renewed.key, &files.key).unwrap();
    write(
        "[room]\nsleep_after = '1m'\n[gateway]\norigins = 'https://b.example'\n[rooms.'g-*']\nmembers = 3",
    );
    hang_up(&child);
    let taken = said.until("again");
    assert!(taken.contains(r#"changed="gateway.origins""#), "{taken}");
    let left = said.until("this needs a restart");
    assert!(left.contains("room.sleep_after, rooms.") && left.contains("g-*"), "{left}");
    assert!(gets_in(address, &new).await && !gets_in(address, &old).await);

    write("[room]\nsleep_after = 'soon'");
    hang_up(&child);
    let why = said.until("the settings are not read again");
    assert!(why.contains("room.sleep_after is"), "{why}");
    assert_eq!(child.told(Signal::TERM), Some(0));
}

#[tokio::test]
async fn origins_that_are_taken_over_hold_for_the_next_page() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, line) = open(dormouse(dir.path(), &ANYWHERE));
    let mut said = Said::of(&mut child);
    let (address, _) = find(&line).await;
    let page = format!("{HANDSHAKE}origin: https://b.example\r\n");
    assert_eq!(ask(address, "GET", "/rooms/meadow/ws", &page).await.status, 403);
    let settings = "[gateway]\norigins = 'https://b.example'";
    std::fs::write(dir.path().join("dormouse.toml"), settings).unwrap();
    hang_up(&child);
    said.until("again");
    assert_eq!(ask(address, "GET", "/rooms/meadow/ws", &page).await.status, 101);
    assert_eq!(child.told(Signal::TERM), Some(0));
}

#[test]
fn the_operators_page_lists_what_is_read_again() {
    let page = include_str!("../../docs/operating.md");
    let (_, list) = page.split_once("These settings are taken over").expect("the page says so");
    let list = list.split("\n\n").next().unwrap();
    let told: Vec<_> = list.split('`').skip(1).step_by(2).collect();
    assert_eq!(told, RELOADABLE);
}
