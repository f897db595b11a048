//! `dormouse chat` and `dormouse tail`, the real binary, through pipes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::support::process::{ANYWHERE, Running, dormouse, find, open, run};
use crate::support::{DEADLINE, Front, Transport, both, house};

/// A killed gateway says nothing, and QUIC waits 20 s for it before there is another.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command under way, its two outputs read line by line.
struct Spoken {
    running: Running,
    input: Option<ChildStdin>,
    out: Lines<BufReader<pipe::Receiver>>,
    remarks: Lines<BufReader<pipe::Receiver>>,
}

impl Spoken {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = dormouse(dir, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = command.spawn().unwrap();
        let input = child.stdin.take();
        let out = pipe::Receiver::from_owned_fd(child.stdout.take().unwrap().into()).unwrap();
        let remarks = pipe::Receiver::from_owned_fd(child.stderr.take().unwrap().into()).unwrap();
        Self {
            running: Running(child),
            input,
            out: BufReader::new(out).lines(),
            remarks: BufReader::new(remarks).lines(),
        }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.out.next_line()).await.expect("in time").unwrap().expect("a line")
    }

    /// The next remark that says this.
    async fn remarks(&mut self, what: &str) -> String {
        loop {
            let line = timeout(DEADLINE, self.remarks.next_line()).await.expect("in time").unwrap();
            let line = line.expect("it goes on");
            if line.contains(what) {
                return line;
            }
        }
    }

    fn tell(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running.0), signal).unwrap();
    }

    /// How it ended, with what it had still to say.
    async fn ended(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let mut rest = String::new();
        let reading = async {
            self.out.get_mut().read_to_string(&mut rest).await.unwrap();
            self.remarks.get_mut().read_to_string(&mut rest).await.unwrap();
        };
        timeout(DEADLINE, reading).await.expect("it ends in time");
        (self.running.0.wait().unwrap().code(), rest)
    }
}

fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::WebSocket => "websocket",
        Transport::WebTransport => "webtransport",
    }
}

both! {
    async fn lines_become_messages_and_messages_lines(transport) {
        let house = house(|_| {}).await;
        let dir = tempfile::tempdir().unwrap();
        let url = format!("http://{}", house.address());
        let command = |name| ["chat", "lobby", "--url", &url, "--name", name, "--transport", word(transport)];
        let mut ann = Spoken::start(dir.path(), &command("ann"));
        ann.remarks("you are here, alone").await;
        let mut bob = Spoken::start(dir.path(), &command("bob"));
        bob.remarks("you are here, with ann").await;
        ann.remarks("bob came").await;
        bob.types("hi \u{1b}[2J there");
        assert_eq!(ann.line().await, "bob: hi \u{fffd}[2J there");
        assert_eq!(bob.line().await, "bob: hi \u{fffd}[2J there");
        ann.types("");
        ann.types("one");
        ann.types("two");
        assert_eq!(bob.line().await, "ann: one");
        assert_eq!(bob.line().await, "ann: two");
        // The end of the input says goodbye, and only when everything was said and heard.
        ann.types("three");
        let (code, rest) = ann.ended().await;
        assert_eq!((code, rest.lines().last()), (Some(0), Some("ann: three")), "{rest}");
        assert_eq!(bob.line().await, "ann: three");
        bob.remarks("ann left").await;
        // And so does Ctrl-C.
        let mut cyd = house.join(transport, "lobby", "cyd").await;
        bob.remarks("cyd came").await;
        bob.tell(Signal::INT);
        assert_eq!(bob.ended().await.0, Some(0));
        let left = cyd.next_that(|it| it["type"] == "presence" && it["leave"] != json!(null)).await;
        assert_eq!(left["count"], 1);
    }

    async fn tail_goes_on_where_a_killed_gateway_stopped(transport) {
        let dir = tempfile::tempdir().unwrap();
        let start = || async {
            let (running, line) = open(dormouse(dir.path(), &ANYWHERE));
            (running, find(&line).await.0)
        };
        let (running, gateway) = start().await;
        let front = Front::of(gateway).await;
        let url = front.url();
        let say = |lines: &'static str| {
            let chat = ["chat", "lobby", "--url", &url, "--name", "ann", "--transport", word(transport)];
            let mut chat = Spoken::start(dir.path(), &chat);
            lines.lines().for_each(|line| chat.types(line));
            async move { assert_eq!(chat.ended().await.0, Some(0)) }
        };
        say("one\ntwo\nthree").await;
        let command = ["tail", "lobby", "--url", &url, "--transport", word(transport)];
        let mut json = Spoken::start(dir.path(), &[&command[..], &["--history", "2", "--json"]].concat());
        let mut since = Spoken::start(dir.path(), &[&command[..], &["--since", "1"]].concat());
        for (seq, text) in [(2, "two"), (3, "three")] {
            let line: Value = serde_json::from_str(&json.line().await).unwrap();
            assert_eq!((&line["seq"], &line["data"]), (&json!(seq), &json!({"text": text})));
            assert_eq!(line["from"]["name"], "ann");
            assert!(since.line().await.ends_with(&format!("Z ann: {text}")));
        }
        running.told(Signal::KILL);
        let (_running, gateway) = start().await;
        front.lead_to(gateway);
        say("four").await;
        let line: Value = serde_json::from_str(&json.line().await).unwrap();
        assert_eq!((&line["seq"], &line["data"]["text"]), (&json!(4), &json!("four")));
        assert!(since.line().await.ends_with("ann: four"));
        json.remarks("trying again").await;
        for tail in [json, since] {
            tail.tell(Signal::TERM);
            assert_eq!(tail.ended().await.0, Some(0));
        }
    }
}

/// `dormouse tail lobby | head -1` ends.
#[tokio::test]
async fn tail_ends_when_nobody_reads_it() {
    let house = house(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}", house.address());
    let mut tail = Spoken::start(dir.path(), &["tail", "lobby", "--url", &url]);
    let mut ann = house.join(Transport::WebSocket, "lobby", "ann").await;
    ann.say("one").await;
    assert!(tail.line().await.ends_with("ann: one"));
    drop(tail.out);
    ann.say("two").await;
    let child = tokio::task::spawn_blocking(move || tail.running.0.wait().unwrap().code());
    assert_eq!(timeout(DEADLINE, child).await.expect("it ends").unwrap(), Some(0));
}

#[tokio::test]
async fn what_goes_wrong_is_told_with_what_to_do() {
    let house = house(|config| {
        config.keeper.limits.members = 1;
        config.session.limits.members = 1;
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let nobody = Front::of(house.address()).await.url(); // gone by the time it is asked
    let (url, secure) =
        (format!("http://{}", house.address()), format!("https://{}", house.address()));
    let operators = format!("http://{}", house.gateway().operator_address().unwrap());
    let _ann = house.join(Transport::WebSocket, "lobby", "ann").await;
    for (room, url, says) in [
        ("lobby", &nobody, "is a gateway running there?"),
        ("lobby", &secure, "a gateway without a certificate is plain"),
        ("lobby", &operators, "is this a Dormouse gateway?"),
        ("lobby", &url, "room_full (4506): somebody has to leave first"),
        ("..", &url, "no room's address"),
        ("two words", &url, "there is a space in it (one is http://localhost:4433/rooms/lobby)"),
    ] {
        for command in ["chat", "tail"] {
            let arguments = [command, room, "--url", url].map(str::to_owned);
            let dir = dir.path().to_owned();
            let running = tokio::task::spawn_blocking(move || {
                run(&dir, &arguments.each_ref().map(String::as_str))
            });
            let (code, said) = timeout(DEADLINE, running).await.expect("it ends").unwrap();
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(says), "{command} {room} {url}: {said}");
        }
    }
}
