//! Kill -9: nothing that was answered or heard is lost, nothing happens twice, nobody has a hole.
//!
//! The real binary is killed again and again: in mid-traffic, while people come back, and while
//! it starts. Three rooms: one that everybody talks in, one beside it, and one that falls asleep
//! between any two messages. [`checker`](crate::support::checker) is the judge.
//!
//! `DORMOUSE_CRASH_ROUNDS=1000 cargo test --test gateway killed -- --nocapture` goes on for longer
//! and shows how it gets on; `DORMOUSE_CRASH_SEED=n` throws the dice of an earlier run again.

mod people;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::process::{ANYWHERE, Running, dormouse, find, open, run};
use crate::support::{DEADLINE, ask};
use people::{Habit, Judge, Person, Round, read};

const ROUNDS: u64 = 20;
/// Rounds between two lines about how it gets on.
const TOLD_EVERY: u64 = 25;
/// Messages behind which the log is read again between rounds.
const READ_AGAIN: u64 = 300;

/// Naps, moves and trims its journal all the time, so that kills hit them, too; and keeps
/// everything.
#[rustfmt::skip]
const RESTLESS: [&str; 12] = [
    "--room-sleep-after", "10ms", "--room-journal-bytes", "4KiB",
    "--session-publish-rate", "off", "--room-publish-rate", "off",
    "--room-history-messages", "off", "--room-history-bytes", "off",
];

/// Seeded dice (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

pub fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

async fn start(dir: &Path) -> (Running, SocketAddr, Vec<[u8; 32]>) {
    let mut command = dormouse(dir, &ANYWHERE);
    command.args(RESTLESS);
    let (child, line) = open(command);
    let (address, hashes) = find(&line).await;
    (child, address, hashes)
}

/// Starts it and kills it, wherever it has got to.
async fn kill_in_start_up(dir: &Path, dice: &mut Dice) {
    let mut command = dormouse(dir, &ANYWHERE);
    command.args(RESTLESS).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Running(command.spawn().unwrap());
    tokio::time::sleep(Duration::from_micros(dice.below(60_000))).await; // the seeded moment
    child.0.kill().unwrap();
    child.0.wait().unwrap();
}

/// A round with everybody, up to its kill; says how many publishes were answered.
async fn kill_in_traffic(dir: &Path, people: &mut Vec<Person>, dice: &mut Dice) -> u64 {
    let (mut child, address, hashes) = start(dir).await;
    let (answers, mut counted) = watch::channel(0);
    let (crash, crashed) = watch::channel(false);
    let round = Round { address, hashes, crashed, answers };
    let mut rooms = std::collections::BTreeMap::new();
    rooms.extend(people.iter().map(|person| (person.room, person.judge.clone())));
    if dice.below(2) == 0 {
        for (room, judge) in &rooms {
            read(&round, room, judge, judge.newest().saturating_sub(READ_AGAIN)).await;
        }
    }
    let mut tasks = JoinSet::new();
    for person in people.drain(..) {
        tasks.spawn(person.live(round.clone(), Dice(dice.below(u64::MAX))));
    }
    let (enough, moment) = match dice.below(4) {
        0 => (0, 30_000), // while they come back
        _ => (1 + dice.below(150), 5_000),
    };
    let busy = counted.wait_for(|count| *count >= enough);
    tokio::time::timeout(DEADLINE, busy).await.expect("answers in time").unwrap();
    tokio::time::sleep(Duration::from_micros(dice.below(moment))).await; // the seeded moment
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    crash.send_replace(true);
    while let Some(person) = tasks.join_next().await {
        people.push(person.unwrap());
    }
    people.sort_by_key(|person| person.name); // the same dice, the same run
    *counted.borrow()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_mid_traffic_it_comes_back_with_all_that_anybody_knows() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = environment("DORMOUSE_CRASH_SEED").unwrap_or(clock);
    let rounds = environment("DORMOUSE_CRASH_ROUNDS").unwrap_or(ROUNDS);
    println!("DORMOUSE_CRASH_SEED={seed}");
    let (mut dice, began) = (Dice(seed), Instant::now());
    let dir = tempfile::tempdir().unwrap();
    let [lobby, attic, den] = [Judge::default(), Judge::default(), Judge::default()];
    let mut people = Vec::from([
        Person::new("ann", "lobby", Habit::Talks, &lobby),
        Person::new("bob", "lobby", Habit::Talks, &lobby),
        Person::new("cyd", "attic", Habit::Talks, &attic),
        Person::new("dan", "den", Habit::WakesIt, &den),
        Person::new("eve", "lobby", Habit::ComesAndGoes, &lobby),
        Person::new("fay", "lobby", Habit::ComesAndGoes, &lobby),
        Person::new("gus", "den", Habit::ComesAndGoes, &den),
    ]);

    let mut answered = 0;
    for round in 1..=rounds {
        if dice.below(4) == 0 {
            kill_in_start_up(dir.path(), &mut dice).await;
        }
        answered += kill_in_traffic(dir.path(), &mut people, &mut dice).await;
        if round % TOLD_EVERY == 0 {
            let seconds = began.elapsed().as_secs();
            eprintln!("{round} of {rounds} rounds, {answered} publishes answered, {seconds} s");
        }
    }

    let (child, address, hashes) = start(dir.path()).await;
    let (_never, crashed) = watch::channel(false);
    let round = Round { address, hashes, crashed, answers: watch::channel(0).0 };
    for person in &mut people {
        person.settle(&round).await;
    }
    for (room, judge) in [("lobby", &lobby), ("attic", &attic), ("den", &den)] {
        assert!(judge.newest() > 0, "there was traffic in the {room}");
        read(&round, room, judge, 0).await;
    }
    let naps: u64 = people.iter().map(|person| person.naps).sum();
    assert!(answered >= rounds && naps > rounds / 2, "{answered} answers, {naps} naps");
    assert_eq!(child.told(Signal::TERM), Some(0));
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_says_so_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (first, address, _) = start(dir.path()).await;
    let few = ["--gateway-connections", "9"]; // or it says how many files it may open
    let (code, said) = run(dir.path(), &[&ANYWHERE[..], &few].concat());
    assert_eq!(code, Some(1));
    assert!(said.starts_with("dormouse: the data directory "), "{said}");
    assert!(said.contains("is in use by another dormouse\n  hint: stop the other"), "{said}");
    assert_eq!(said.lines().count(), 2, "one sentence and a hint: {said}");
    assert_eq!(ask(address, "GET", "/", "").await.status, 200, "the first one goes on");
    assert_eq!(first.told(Signal::TERM), Some(0));
}
