//! Starting and stopping.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Command;
use std::time::Duration;

use dormouse::gateway::{Gateway, StartError};
use rustix::process::Signal;

use crate::support::process::{ANYWHERE, dormouse, open, run};
use crate::support::{ask, config, house};

#[tokio::test]
async fn tcp_and_udp_stand_at_the_same_address() {
    let house = house(|_| {}).await;
    let address = house.address();
    assert_ne!(address.port(), 0);
    assert_eq!(house.gateway().url(), format!("http://localhost:{}", address.port()));
    let taken = std::net::UdpSocket::bind(address).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_taken_port_is_one_clear_sentence() {
    let house = house(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let mut second = config(&dir);
    second.listen = vec![house.address()];
    let error = Gateway::start(second).await.err().unwrap();
    let port = house.address().port();
    assert_eq!(
        error.to_string(),
        format!("TCP port {port} of 127.0.0.1 is in use by another program")
    );
    assert!(error.hint().contains("--listen"));

    // A port whose other half is free: some connection may have it.
    let (udp, _) = loop {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = std::net::TcpListener::bind(udp.local_addr().unwrap()) {
            break (udp, drop(tcp));
        }
    };
    let mut third = config(&dir);
    third.listen = vec![udp.local_addr().unwrap()];
    let error = Gateway::start(third).await.err().unwrap().to_string();
    assert!(error.starts_with("UDP port "), "{error}");
}

#[tokio::test]
async fn an_unreadable_certificate_is_one_clear_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    let nowhere = dir.path().join("nowhere.pem");
    let files = dormouse::server::tls::Files { cert: nowhere.clone(), key: nowhere.clone() };
    config.certificate = Some(files);
    let error = Gateway::start(config).await.err().unwrap();
    assert!(matches!(error, StartError::Certificate(_)));
    assert!(error.to_string().contains(nowhere.to_str().unwrap()), "{error}");
    assert!(error.source().is_some(), "and the cause below");
}

#[tokio::test]
async fn several_loopbacks_share_the_work_of_one() {
    let house = house(|config| config.listen.push("[::1]:0".parse().unwrap())).await;
    for address in house.gateway().addresses() {
        assert_eq!(ask(*address, "GET", "/", "").await.status, 200);
    }
}

/// Promise 18 at the doors: while somebody is still inside nobody new comes in, and the
/// gateway says so; when the last has left, it closes.
#[tokio::test]
async fn a_drain_lets_nobody_in_and_ends_when_all_have_left() {
    let house = house(|_| {}).await;
    let (address, operator) = (house.address(), house.gateway().operator_address().unwrap());
    let cx = house.gateway().context().clone();
    let inside = cx.sessions.enter().ok().unwrap();
    let closing = tokio::spawn(house.into_gateway().shutdown());
    while !cx.sessions.is_draining() {
        tokio::task::yield_now().await;
    }

    let ready = ask(operator, "GET", "/readyz", "").await;
    assert_eq!((ready.status, &ready.json()["reason"]), (503, &"draining".into()));
    let late = ask(address, "GET", "/rooms/lobby/ws", crate::support::HANDSHAKE).await;
    assert_eq!(late.status, 503);
    assert_ne!(late.header("retry-after"), "");
    assert!(!closing.is_finished());

    drop(inside);
    tokio::time::timeout(Duration::from_secs(20), closing).await.unwrap().unwrap();
    // A child that another test forks holds a copy of every socket until it becomes its program.
    let given_back = async {
        while tokio::net::TcpStream::connect(address).await.is_ok()
            || std::net::UdpSocket::bind(address).is_err()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, given_back)
        .await
        .expect("the port is given back");
}

#[test]
fn check_reads_the_configuration_and_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["check"]), (Some(0), "The configuration is fine\n".into()));
    std::fs::write(dir.path().join("dormouse.toml"), "[room]\nsleep_after = '5x'\n").unwrap();
    let complaint = "dormouse: room.sleep_after is \"5x\", expected a duration like \"30s\" \
                     (dormouse.toml, line 2)\n";
    assert_eq!(run(dir.path(), &["check"]), (Some(1), complaint.into()));
    assert_eq!(run(dir.path(), &["--room-sleep-after", "5s", "check"]).0, Some(0), "a flag wins");
    assert_eq!(run(dir.path(), &["check", "--room-sleep-after=5s"]).0, Some(0), "on either side");
}

#[test]
fn the_binary_says_one_line_and_leaves_in_order_when_told() {
    let dir = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let (mut child, line) = open(dormouse(dir.path(), &ANYWHERE));
        assert!(line.starts_with("Dormouse is open at http://localhost:"), "{line}");
        let mut stdout = child.0.stdout.take().unwrap();
        assert_eq!(child.told(signal), Some(0));
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "exactly one line");
    }
}

/// Without a spare file nobody can be accepted; when one is free again, somebody can.
#[tokio::test]
async fn running_out_of_files_does_not_end_the_accepting() {
    let dir = tempfile::tempdir().unwrap();
    let limited = format!("ulimit -n 48; exec {:?} \"$@\"", env!("CARGO_BIN_EXE_dormouse"));
    let mut command = Command::new("sh");
    command.current_dir(&dir).args(["-c", &limited, "sh"]).args(ANYWHERE);
    let (mut child, line) = open(command);
    let port = line.trim().rsplit_once(':').unwrap().1;
    let address = format!("127.0.0.1:{port}").parse().unwrap();

    let mut crowd = Vec::new();
    for _ in 0..80 {
        crowd.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let mut stderr = BufReader::new(child.0.stderr.take().unwrap()).lines();
    assert!(stderr.any(|line| line.unwrap().contains("cannot accept a connection")));
    drop(crowd);
    assert_eq!(ask(address, "GET", "/", "").await.status, 200);
    assert_eq!(child.told(Signal::TERM), Some(0));
}

#[test]
fn check_looks_at_the_certificate_too() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = run(dir.path(), &["check", "--tls-cert", "a.pem", "--tls-key", "b.pem"]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("dormouse: cannot read a.pem; "), "{text}");
}

/// Whatever contradicts itself, a check finds it before a start does, and says the same of it.
#[test]
fn a_check_and_a_start_say_the_same_of_settings_that_contradict_each_other() {
    let dir = tempfile::tempdir().unwrap();
    for (contradiction, sentence) in [
        (
            ["--listen", "127.0.0.1:4433", "--operator-listen", "127.0.0.1:4433"],
            "dormouse: operator_listen is \"127.0.0.1:4433\" (flag --operator-listen), but must not \
             be an address of listen, which is \"127.0.0.1:4433\" (flag --listen)\n  \
             hint: change one of the two\n",
        ),
        (
            ["--listen", "127.0.0.1:4433", "--listen", "0.0.0.0:4433"],
            "dormouse: listen is \"127.0.0.1:4433,0.0.0.0:4433\" (flag --listen), but \
             127.0.0.1:4433 and 0.0.0.0:4433 cannot both be listened to\n  \
             hint: change one of the two\n",
        ),
        (
            ["--session-pong-timeout", "30s", "--session-ping-every", "20s"],
            "dormouse: session.pong_timeout is \"30s\" (flag --session-pong-timeout), but must be \
             shorter than session.ping_every, which is \"20s\" (flag --session-ping-every)\n  \
             hint: change one of the two\n",
        ),
    ] {
        for command in ["check", "serve"] {
            let (code, said) = run(dir.path(), &[&[command], &contradiction[..]].concat());
            assert_eq!((code, said.as_str()), (Some(1), sentence), "{command}");
        }
    }
}
