//! The power goes after the n-th write or sync of a scripted run, for every n there is.
//!
//! The script says, sleeps, trims, deletes and restarts; each cut leaves images with what the disk had not
//! synced kept in part, reordered or torn. Each image must open, hold every acknowledged append in
//! its place and, of the others, the first few, each whole; and it must go on from there.

use std::sync::LazyLock;

use super::super::super::standing::Standing;
use super::super::super::suite::key;
use super::super::check::{Findings, read};
use super::*;

/// History is short, so that chunks are trimmed; bodies are large, so that there are chunks.
const KEPT: u64 = 8;
const BODY: usize = 9_000;

fn power_settings() -> Settings {
    Settings { retention: Retention { messages: KEPT, ..settings().retention }, ..settings() }
}

fn said(seq: u64) -> Message {
    static BODIES: LazyLock<Vec<Bytes>> =
        LazyLock::new(|| (0..100).map(|seq| noise(seq, BODY)).collect());
    Message { body: BODIES[seq as usize].clone(), ..keyed(seq) }
}

enum Step {
    /// Appends, all at once: those of a moment share a commit.
    Say(Vec<(usize, Vec<Record>)>),
    Sleep(usize),
    Restart,
}

/// What is done, always the same: some thirty appends in three rooms.
fn script() -> Vec<Step> {
    let mut newest = [0; 3];
    let mut messages = |room: usize, count: u64| {
        let from = newest[room] + 1;
        newest[room] += count;
        (from..from + count).map(|seq| Record::Message(said(seq))).collect::<Vec<_>>()
    };
    let left = Record::SeatLeft(crate::protocol::Sid(1));
    let ended = Record::SeatEnded(crate::protocol::Sid(2));
    let seated = |sid| Record::Seat(seat(sid));
    let mut steps = vec![
        Step::Say(vec![(0, [vec![seated(1), seated(2)], messages(0, 3)].concat())]),
        Step::Say(vec![(1, vec![seated(1)]), (0, messages(0, 5)), (2, messages(2, 1))]),
        Step::Sleep(0),
        Step::Say(vec![(0, [vec![left], messages(0, 2)].concat()), (2, messages(2, 2))]),
        Step::Sleep(2),
        Step::Sleep(0),
    ];
    for turn in 0..3 {
        steps.push(Step::Say((0..3).map(|room| (room, messages(room, 1 + turn % 3))).collect()));
        steps.push(Step::Sleep(turn as usize % 3));
        steps.push(Step::Say(vec![(2, messages(2, 4))])); // trims what has slept
        if turn == 1 {
            steps.push(Step::Restart);
            steps.push(Step::Say(vec![(0, vec![ended.clone()])]));
        }
    }
    let alarm = |at| Record::Alarm(Some(Timestamp(at)));
    let knows = Record::State(Bytes::from_static(b"something"));
    steps.extend([
        Step::Say(vec![(0, vec![alarm(7), knows]), (1, vec![alarm(8)])]),
        Step::Sleep(2),
        Step::Sleep(0),
        Step::Say(vec![(1, messages(1, 1)), (0, vec![Record::Alarm(None)])]),
    ]);
    // Rooms that are deleted, moved and unmoved, and what comes after them.
    let anew = |count| (1..=count).map(|seq| Record::Message(said(seq))).collect::<Vec<_>>();
    steps.extend([
        Step::Say(vec![
            (2, vec![Record::Deleted]),
            (1, [messages(1, 1), vec![Record::Deleted]].concat()),
        ]),
        Step::Sleep(2),
        Step::Say(vec![(2, [vec![seated(5)], anew(2)].concat())]),
        Step::Sleep(1),
        Step::Say(vec![(0, vec![Record::Deleted])]),
        Step::Say(vec![(0, anew(3))]),
        Step::Sleep(0),
        Step::Say(vec![(1, anew(1))]),
    ]);
    steps
}

/// What was acknowledged, and what was asked for last and was not.
#[derive(Default)]
struct Told {
    acked: [Standing; 3],
    pending: Vec<(usize, Vec<Record>)>,
}

fn apply_all(standing: &mut Standing, records: Vec<Record>) {
    records.into_iter().for_each(|record| standing.apply(record).unwrap());
}

fn rooms() -> [RoomName; 3] {
    ["a", "b", "c"].map(room)
}

/// Runs the script until the power goes.
fn run(disk: &Faulty) -> Told {
    let mut told = Told::default();
    let rooms = rooms();
    let Ok(mut store) = Redb::open_on(disk.clone(), power_settings()) else { return told };
    for step in script() {
        match step {
            Step::Say(appends) => {
                let answers = appends.iter().map(|(room, records)| {
                    let (done, answer) = mpsc::sync_channel(1);
                    let done = Box::new(move |result| done.send(result).unwrap());
                    store.append(&rooms[*room], records.clone(), done);
                    answer
                });
                let answers = answers.collect::<Vec<_>>();
                for ((room, records), answer) in appends.into_iter().zip(answers) {
                    match answer.recv_timeout(Duration::from_secs(60)).unwrap() {
                        Ok(_) => {
                            assert!(told.pending.is_empty(), "acknowledged after one that failed");
                            apply_all(&mut told.acked[room], records);
                        }
                        Err(_) => told.pending.push((room, records)),
                    }
                }
                if !told.pending.is_empty() {
                    return told;
                }
            }
            Step::Sleep(room) => {
                if store.hibernate(&rooms[room], None).is_err() {
                    return told;
                }
            }
            Step::Restart => {
                drop(store);
                match Redb::open_on(disk.clone(), power_settings()) {
                    Ok(opened) => store = opened,
                    Err(_) => return told,
                }
            }
        }
    }
    told
}

/// Holds the store against what was told. Says where each room's log ends.
fn judge(store: &Redb, told: &Told, case: &str) -> [u64; 3] {
    let there = rooms().map(|room| {
        let opened = store.open(&room).unwrap_or_else(|error| panic!("{case}: {error}"));
        let slice = store.read(&room, 1, usize::MAX, usize::MAX).unwrap();
        assert_eq!((slice.oldest, slice.newest), (opened.oldest, opened.newest), "{case}");
        let kept = opened.newest + 1 - opened.oldest;
        assert!(kept >= opened.newest.min(KEPT), "{case}: {kept} of {}", opened.newest);
        assert!(
            slice.messages.iter().eq(&(slice.oldest..=slice.newest).map(said).collect::<Vec<_>>())
        );
        let keys = (1..=opened.newest).map(|seq| (key(seq), seq)).collect::<Vec<_>>();
        assert_eq!(store.keys(&room).unwrap(), keys, "{case}");
        Standing {
            newest: opened.newest,
            newest_time: opened.newest_time,
            seats: opened.seats.into_iter().map(|seat| (seat.sid, seat)).collect(),
            alarm: opened.alarm,
            rules: opened.rules,
        }
    });
    let mut expected = told.acked.clone();
    let mut pending = told.pending.iter().cloned();
    while expected != there {
        let next = pending.next();
        let (room, records) =
            next.unwrap_or_else(|| panic!("{case}: {there:?} is not what was told"));
        apply_all(&mut expected[room], records);
    }
    there.map(|standing| standing.newest)
}

fn findings(disk: &Faulty) -> Findings {
    let open = |name| disk.open(name).unwrap();
    let (rooms, journal) = (open(Name::Rooms), open(Name::Journal));
    let mut found = Findings::default();
    read(Some(&rooms), Some(&journal), &mut found);
    found
}

#[test]
fn the_power_may_go_at_every_single_write_and_sync() {
    let more = std::env::var("DORMOUSE_POWER_SEEDS").ok().map(|seeds| seeds.parse().unwrap());
    let seeds: u64 = more.unwrap_or(1);
    let (mut cuts, mut kept_more) = (0, 0);
    for seed in 1..=seeds {
        for n in 0.. {
            let disk = Faulty::with_seed((seed << 20) | (n << 1) | 1);
            disk.cut_after(n);
            let told = run(&disk);
            if !disk.is_dead() {
                break;
            }
            cuts += 1;
            for image in 0..2 {
                let case = format!("seed {seed}, cut after {n}, image {image}");
                let mut left = disk.image();
                if (n + seed + image).is_multiple_of(3) {
                    // It goes once more, while the store is being opened.
                    left.cut_after(left.dice(12));
                    drop(Redb::open_on(left.clone(), power_settings()));
                    left.pull();
                    left = left.image();
                }
                let store = Redb::open_on(left.clone(), power_settings());
                let store = store.unwrap_or_else(|error| panic!("{case}: {error}"));
                let newest = judge(&store, &told, &case);
                let acked: u64 = told.acked.iter().map(|standing| standing.newest).sum();
                kept_more += u64::from(newest.iter().sum::<u64>() > acked);
                for (room, newest) in rooms().iter().zip(newest) {
                    append(&store, room, vec![Record::Message(said(newest + 1))]).unwrap();
                    store.hibernate(room, None).unwrap();
                }
                drop(store);
                let found = findings(&left);
                assert!(found.damaged.is_empty(), "{case}: {found}");
            }
        }
    }
    assert!(cuts > 100 * seeds, "the script is shorter than it looks: {cuts} cuts");
    println!("{cuts} cuts, {kept_more} of {} images held more than was acknowledged", cuts * 2);
}
