//! A log that cannot be written takes nothing along: the real binary, and what may happen to its
//! outputs.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;

use crate::support::process::{ANYWHERE, Running, dormouse, find, open, run};
use crate::support::{Client, DEADLINE, Takes, Transport, ask, both};
use crate::unwell::Small;

/// Waits until a file says it, and gives back what it says.
async fn until_said(file: &Path, what: &str) -> String {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.contains(what) {
            return text;
        }
        assert!(begun.elapsed() < DEADLINE, "{} never says {what:?}: {text}", file.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The address behind this in a log.
fn address(log: &str, what: &str) -> std::net::SocketAddr {
    let (_, rest) = log.split_once(what).expect("it says where");
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

async fn join(transport: Transport, line: &str, name: &str) -> Client {
    let (address, hashes) = find(line).await;
    let mut client = Client::connect(transport, address, "meadow", &hashes, Takes::Plenty).await;
    client.hello(json!({ "name": name })).await;
    client
}

fn line_of(log: &str) -> &str {
    log.lines().find(|line| line.starts_with("Dormouse is open")).expect("it says that it is open")
}

both! {
    /// Ctrl-C goes to every process of the terminal, and `tee` ends first: the line that says that
    /// the gateway closes panicked the task that was to close it, and nobody was told to return.
    async fn a_drain_needs_no_reader_of_its_log(transport) {
        let dir = tempfile::tempdir().unwrap();
        let bare = dormouse(dir.path(), &ANYWHERE);
        let script = r#"trap : INT; { trap : INT; "$0" "$@" 2>&1; echo $? >code; } | tee gw.log"#;
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(bare.get_program()).args(bare.get_args());
        command.current_dir(dir.path()).stdout(Stdio::null()).process_group(0);
        let shell = Running(command.spawn().unwrap());
        let log = until_said(&dir.path().join("gw.log"), "Dormouse is open").await;
        let mut ann = join(transport, line_of(&log), "ann").await;

        kill_process_group(Pid::from_child(&shell.0), Signal::INT).unwrap();
        ann.next_of("drain").await;
        ann.closed_with(4000, "drain").await;
        assert_eq!(until_said(&dir.path().join("code"), "\n").await, "0\n");
    }

    /// The same with a reader that is there and does not read: a write to it never ends.
    async fn a_log_that_is_not_read_holds_up_nobody(transport) {
        let dir = tempfile::tempdir().unwrap();
        let mut command = dormouse(dir.path(), &ANYWHERE);
        let (_reader, full) = full_pipe();
        let mut child = Running(command.stdout(Stdio::piped()).stderr(full).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut ann = join(transport, &line, "ann").await;
        ann.say("hi").await;
        kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
        ann.next_of("drain").await;
        ann.closed_with(4000, "drain").await;
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
    }
}

/// A pipe that takes no byte until somebody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    for bytes in [4096, 1] {
        while writer.write(&vec![b'x'; bytes]).is_ok() {}
    }
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// Neither stdout nor stderr takes a byte.
#[tokio::test]
async fn it_starts_serves_and_drains_with_outputs_that_take_nothing() {
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let operator = port.to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--operator-listen", &operator];
    let mut command = dormouse(dir.path(), &arguments);
    let child = Running(command.stdout(full()).stderr(full()).spawn().unwrap());
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(port).await.is_err() {
        assert!(begun.elapsed() < DEADLINE, "it never opens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let metrics = ask(port, "GET", "/metrics", "").await.body;
    let lost = metrics.lines().find_map(|l| l.strip_prefix("dormouse_log_lines_lost_total "));
    assert!(lost.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
    assert_eq!(child.told(Signal::TERM), Some(0));
}

/// The log on the disk that is full, too: nobody is less well served than without a log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_with_the_log_on_it_is_told_to_members_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(dir.path()) else {
        return eprintln!("skipped: a file-system of its own can be mounted by root only");
    };
    #[rustfmt::skip]
    let flags = [
        "--store-reserve", "off", "--session-publish-rate", "off", "--room-publish-rate", "off",
    ];
    let path = dir.path().join("gw.log");
    let mut command = dormouse(dir.path(), &[&ANYWHERE[..], &flags].concat());
    let mut log = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap());
    let child = Running(command.spawn().unwrap());
    let said = until_said(&path, "Dormouse is open").await;
    let operator = address(&said, "listening for operators address=");
    let mut ann = join(Transport::WebSocket, line_of(&said), "ann").await;
    let mut bob = join(Transport::WebTransport, line_of(&said), "bob").await;
    let publish = |id: u64| json!({ "type": "publish", "id": id, "key": format!("k{id}"), "data": "x".repeat(20_000) });

    disk.fill();
    while log.write(b"\n").is_ok() {} // nor does anything fit into the log's last page
    let begun = Instant::now();
    let mut said = 0;
    let refused = loop {
        said += 1;
        ann.send(publish(said)).await;
        let answer = ann.answer().await;
        if answer["type"] == "error" {
            break answer;
        }
        assert!(begun.elapsed() < DEADLINE, "it never gets full");
    };
    assert_eq!(refused["code"], "room_unavailable", "{refused}");
    let degraded = bob.next_that(|it| it["type"] == "room" && it["state"] == "degraded").await;
    assert!(degraded["retry_after"].as_u64() > Some(0), "{degraded}");
    assert_eq!(ask(operator, "GET", "/readyz", "").await.status, 503);

    disk.empty();
    bob.next_that(|it| it["type"] == "room" && it["state"] == "well").await;
    loop {
        ann.send(publish(said)).await;
        if ann.answer().await["type"] == "ok" {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "it never gets well");
    }
    until_said(&path, "could not be written").await;
    assert_eq!(ask(operator, "GET", "/readyz", "").await.status, 200);
    assert_eq!(child.told(Signal::TERM), Some(0));
}

/// `dormouse rooms | head -1`, and whatever else writes to a pipe that nobody reads.
#[test]
fn a_command_whose_answer_nobody_reads_ends_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let (child, _) = open(dormouse(dir.path(), &ANYWHERE));
    assert_eq!(child.told(Signal::TERM), Some(0));
    let store = ["--data-dir", "dormouse-data"];
    for asked in [&["rooms"][..], &["history", "lobby"], &["check"]] {
        let (reader, pipe) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = dormouse(dir.path(), &[asked, &store].concat());
        let output = command.stdout(pipe).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match asked {
            ["history", _] => assert_eq!(said, "dormouse: there is no room lobby\n"),
            _ => assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{asked:?}"),
        }
    }
    let (code, said) = run(dir.path(), &["check"]);
    assert_eq!((code, said.as_str()), (Some(0), "The configuration is fine\n"));
}
