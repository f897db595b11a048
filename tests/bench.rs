//! The load generator, run: a benchmark that measures nothing, or the wrong thing, is caught here.
//!
//! Each case runs for a second against the real binary, and its figures have to be possible. How
//! good they are is nobody's business here: this is a debug build on a busy machine.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn bench(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
    command.arg("bench").args(line.split(' ')).arg("--no-pin").env("TMPDIR", dir);
    command
}

/// Runs a case to its end; nothing of it may be left behind.
fn run(line: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("{line} --seconds 1 --json");
    let Output { status, stdout, stderr } = bench(dir.path(), &line).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{line}: {said}");
    assert!(!said.is_empty(), "{line}: it shows how far it is");
    assert_is_empty(dir.path());
    serde_json::from_slice(&stdout).unwrap()
}

fn assert_is_empty(dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?} was left behind");
}

fn row<'a>(report: &'a Value, label: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().find(|row| row["label"] == label).unwrap_or_else(|| panic!("{label}: {report:#}"))
}

fn figure(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row:#}"))
}

/// All that was published was heard by all, and that is more than nothing.
fn assert_whole(row: &Value, hearers: f64) {
    let (messages, deliveries) = (figure(row, "messages"), figure(row, "deliveries"));
    assert!(messages > 0.0, "{row:#}");
    assert_eq!(deliveries, messages * hearers, "{row:#}");
    assert_eq!(figure(row, "missing"), 0.0, "{row:#}");
}

/// Rates and times are there and in order.
fn assert_measured(row: &Value) {
    let p = |name| figure(row, name);
    assert!(p("deliveries_per_s") > 0.0, "{row:#}");
    assert!(0.0 < p("p50_ms") && p("p50_ms") <= p("p99_ms"), "{row:#}");
    assert!(p("p99_ms") <= p("p99.9_ms"), "{row:#}");
    if cfg!(target_os = "linux") {
        assert!(p("cpu_s_per_million") > 0.0, "{row:#}");
        assert!(p("server_rss_mib") > 1.0, "{row:#}");
    }
}

#[test]
fn every_delivery_is_counted_over_every_transport() {
    for transport in ["ws", "wss", "wt"] {
        let report = run(&format!("fanout --members 20 --in-flight 4 --transport {transport}"));
        assert_eq!(report["transport"], transport);
        assert_measured(row(&report, "4 in flight"));
        assert_whole(row(&report, "in all"), 20.0);
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let report = run("fanout --members 10 --rate 50");
    assert_measured(row(&report, "50 messages a second"));
    let whole = row(&report, "in all");
    assert_whole(whole, 10.0);
    // Some 60 are due, with the warm-up; what a stalled machine had not sent yet is lacking.
    assert!(figure(whole, "messages") >= 25.0, "{whole:#}");
}

#[test]
fn datagrams_reach_all_but_their_author_or_are_missing() {
    let report = run("fanout --members 10 --rate 50 --transport datagram");
    let whole = row(&report, "in all");
    assert_eq!(figure(whole, "expected"), figure(whole, "messages") * 9.0);
    let heard = figure(whole, "deliveries");
    assert!(heard > 0.0 && heard <= figure(whole, "expected"), "{whole:#}");
}

#[test]
fn rooms_are_loaded_in_turn_or_each_by_itself() {
    for loops in ["--in-flight 8", "--in-flight-per-room 2", "--rate 100"] {
        let report = run(&format!("rooms --rooms 5 --members 4 {loops}"));
        assert_measured(&report["rows"][0]);
        assert_whole(row(&report, "in all"), 4.0);
    }
}

#[test]
fn connections_are_counted_up_to_the_upgrade_and_up_to_the_seat() {
    for (transport, handshakes) in [("ws", vec![""]), ("wss", vec!["full TLS, ", "resumed TLS, "])]
    {
        let report = run(&format!("connect --count 30 --transport {transport}"));
        for handshake in handshakes {
            for end in ["to the upgrade", "to the seat"] {
                let row = row(&report, &format!("{handshake}{end}"));
                assert_eq!(figure(row, "connections"), 30.0);
                assert!(figure(row, "connections_per_s") > 0.0, "{row:#}");
                let resumed = figure(row, "resumed");
                assert_eq!(resumed > 0.0, handshake.starts_with("resumed"), "{row:#}");
            }
        }
        let silent = row(&report, "accepted, and silent");
        assert_eq!(figure(silent, "connections"), 30.0);
    }
}

#[test]
fn idle_connections_have_some_memory() {
    let report = run("idle --count 200 --members 10");
    let server = row(&report, "server");
    assert_eq!(figure(server, "connections"), 220.0);
    if cfg!(target_os = "linux") {
        assert!(figure(server, "rss_mib") > 1.0, "{server:#}");
        // So few may cost less than the allocator gives back meanwhile: then it is below nothing.
        let each = figure(row(&report, "each"), "pss_kib");
        assert!(each != 0.0 && each.abs() < 1_000.0, "{each} KiB for one");
    }
}

#[test]
fn sleeping_rooms_are_woken_and_timed_beside_awake_ones() {
    let report = run("wake --rooms 3 --members 2 --count 5");
    for label in ["asleep", "awake"] {
        let row = row(&report, label);
        assert!(figure(row, "messages") >= 3.0, "{row:#}");
        assert!(figure(row, "p50_ms") > 0.0, "{row:#}");
    }
}

/// Each part of `sleep` finds what it looks for; what it costs is for a quiet machine to say.
#[test]
fn what_sleeping_rooms_cost_is_measured_part_by_part() {
    let report = run("sleep --rooms 300 --count 40");
    for (label, rooms) in [("an empty store", 0.0), ("all asleep, cold", 300.0), ("warm", 300.0)] {
        let opened = row(&report, label);
        assert_eq!(figure(opened, "rooms"), rooms);
        assert!(figure(opened, "ready_ms") > 0.0, "{opened:#}");
    }
    let bytes = figure(row(&report, "on disk"), "bytes_per_room");
    assert!(bytes > 100.0, "{bytes} bytes do not hold a room and its message");

    for label in ["woken, warm", "awake beside it", "woken, cold", "awake beside it, cold"] {
        let times = row(&report, label);
        assert!(figure(times, "messages") >= 40.0 && figure(times, "p50_ms") > 0.0, "{times:#}");
    }
    assert!(figure(row(&report, "rooms that fall asleep"), "times") >= 1.0);
    for label in ["others, all asleep", "others, meanwhile"] {
        let times = row(&report, label);
        assert!(figure(times, "messages") > 0.0 && figure(times, "p99_ms") > 0.0, "{times:#}");
    }
    let alone = row(&report, "a room for each");
    assert_eq!((figure(alone, "rooms"), figure(alone, "seats")), (40.0, 40.0));
    assert_eq!(figure(row(&report, "rooms that are shared"), "rooms"), 1.0);
    assert_eq!(figure(row(&report, "connections that rest"), "connections"), 40.0);
    for aim in ["woken / awake, warm, p50", "meanwhile / before, p99"] {
        assert!(figure(row(&report, aim), "times") > 0.0);
    }
    if cfg!(target_os = "linux") {
        let memory = figure(alone, "pss_mib");
        assert!((1.0..1_000.0).contains(&memory), "{memory} MiB for a gateway");
        assert!(row(&report, "a sleeping room beyond its seats")["bytes"].is_number());
        assert!(row(&report, "connections that rest")["cpu_s"].is_number());
    }
}

/// One part alone, and a store that is being made when nobody wants it any more.
#[test]
fn a_part_of_sleep_can_be_measured_alone_and_its_store_is_not_left_behind() {
    let report = run("sleep --only resting --count 10");
    assert_eq!(report["rows"].as_array().unwrap().len(), 1, "{report:#}");

    let dir = tempfile::tempdir().unwrap();
    let mut command = bench(dir.path(), "sleep --only opening --rooms 10000000");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("rooms are made")));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_is_empty(dir.path());
}

/// Each part of `growth` measures every size that it is asked for, and says what became of a cost.
#[test]
fn what_one_of_each_costs_is_measured_at_every_size() {
    let report = run("growth --members 20 --rooms 10 --count 2000 --deliveries 200 --size 30");
    for label in ["10 members", "20 members", "1 room", "10 rooms", "no attachments", "1 KiB each"]
    {
        let measured = row(&report, label);
        assert!(figure(measured, "messages_per_s") > 0.0, "{measured:#}");
        assert!(measured["pss_kib_per_member"].is_null(), "twenty are too few: {measured:#}");
    }
    for label in ["10 members", "20 members", "no attachments", "1 KiB each", "16 KiB each"] {
        assert!(figure(row(&report, label), "join_p50_ms") > 0.0);
    }
    // A page of members ends at 64 KiB: all twenty-one and the reader fit, but for the largest.
    let page = |label| figure(row(&report, label), "page_kib");
    assert!(page("no attachments") < 10.0 && page("1 KiB each") > 20.0);
    assert!((30.0..70.0).contains(&page("16 KiB each")), "{report:#}");

    for label in ["0", "2", "200", "2,000"] {
        let stored = row(&report, &format!("{label} messages stored"));
        for cost in ["publish_p50_ms", "wake_p50_ms", "resume_p50_ms", "page_p50_ms"] {
            assert!(figure(stored, cost) > 0.0, "{stored:#}");
        }
        assert!(figure(stored, "page_kib") > 5.0, "a hundred messages: {stored:#}");
    }
    assert!(figure(row(&report, "a wake, p50, none → 2,000 messages stored"), "times") > 0.0);
    if cfg!(target_os = "linux") {
        let delivery = row(&report, "CPU of a delivery, 10 → 20 members");
        assert!(figure(delivery, "times") > 0.0);
        assert!(figure(row(&report, "10 rooms"), "cpu_us_per_message") > 0.0);
        let page = row(&report, "200 messages stored");
        assert!(figure(page, "page_cpu_us") > 0.0, "{page:#}");
    }
}

/// One part alone, and a long history that nobody wants any more while it is being made.
#[test]
fn a_part_of_growth_can_be_measured_alone_and_its_store_is_not_left_behind() {
    let report = run("growth --only rooms --rooms 1 --deliveries 200");
    assert_eq!(report["rows"].as_array().unwrap().len(), 2, "{report:#}");

    let dir = tempfile::tempdir().unwrap();
    let mut command = bench(dir.path(), "growth --only history --count 100000000");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("messages are written")));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_is_empty(dir.path());
}

#[test]
fn a_storm_brings_everybody_all_that_they_missed() {
    let report = run("storm --rooms 4 --members 5 --count 30");
    let storm = row(&report, "storm");
    assert_eq!(figure(storm, "deliveries"), 4.0 * 5.0 * 30.0);
    assert_eq!(figure(storm, "expected"), figure(storm, "deliveries"));
    assert!(figure(row(&report, "steady room before"), "timed") > 0.0);
}

#[test]
fn members_that_do_not_read_are_no_hearers() {
    let report = run("slow --members 21 --in-flight 4");
    assert_whole(&report["rows"][2], 21.0);
    // One in ten behind the first: 10 and 20.
    assert_whole(&report["rows"][3], 19.0);
    assert!(figure(row(&report, "ratio"), "messages") > 0.0);
}

#[test]
fn nobody_elses_server_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let ran = bench(dir.path(), "fanout --connect 192.0.2.1:4433").output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(said.contains("192.0.2.1:4433 is no loopback address"), "{said}");
}

#[test]
fn a_table_says_what_was_lifted_and_an_interrupted_run_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ran = bench(dir.path(), "fanout --members 5 --seconds 0.5").output().unwrap();
    let table = String::from_utf8(ran.stdout).unwrap();
    assert!(table.contains("--room-publish-rate off"), "{table}");
    assert!(table.contains("deliveries_per_s") && table.contains("missing"), "{table}");

    let mut command = bench(dir.path(), "fanout --members 5 --seconds 600");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("deliveries a second")));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_is_empty(dir.path());
}
