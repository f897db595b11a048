//! Rooms with more and more messages stored, side by side in one gateway.
//!
//! Their store is made by the engine ([`dormitory`]). Then, round after round and room by room:
//! publishes while it is awake; back to sleep, on the operator's word; a member who comes back
//! for the last hundred messages, and pages from the beginning of the log, both read from disk;
//! and publishes that wake it. What differs is how much lies behind the room, so a cost that
//! differs is that.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::guest::{Repeated, arrive};
use super::{Growth, Place, written};
use crate::bench::arguments::Asked;
use crate::bench::dialect::{Hello, Returns};
use crate::bench::figures::{Report, Row};
use crate::bench::folder::Folder;
use crate::bench::load::Load;
use crate::bench::member::Member;
use crate::bench::{Error, dormitory, operator, progress};

/// The name of the rooms, before their number.
const NAME: &str = "history";

/// Messages that a member missed who comes back.
const MISSED: u64 = 100;

/// What of each kind is done in a round.
const PUBLISHES: usize = 20;
const TIMES: usize = 5;

/// As many kinds are measured, so a round of all of them has the time of as many measurements.
const KINDS: usize = 4;

/// How long a message may take.
const HEARING: Duration = Duration::from_secs(30);

/// What is asked for: the log's first hundred messages.
const PAGE: &str = r#"{"type":"history","id":1,"after":0,"limit":100}"#;

/// What was found of one room.
#[derive(Default)]
struct Found {
    publish: Repeated,
    wake: Repeated,
    resume: Repeated,
    page: Repeated,
    page_bytes: usize,
}

impl Found {
    /// What was done in it, each under its name.
    fn kinds(&self) -> [(&'static str, &Repeated); KINDS] {
        [
            ("a publish, p50", &self.publish),
            ("a wake, p50", &self.wake),
            ("a resume of 100, p50", &self.resume),
            ("a page from the beginning, p50", &self.page),
        ]
    }
}

/// One room, and who comes back to it.
struct Room {
    number: usize,
    returns: Returns,
    found: Found,
}

pub(super) async fn measure(
    asked: &Asked,
    report: &mut Report,
    growth: &mut Growth,
) -> Result<(), Error> {
    let mut sizes = vec![0, asked.count / 1_000, asked.count / 10, asked.count];
    sizes.dedup();
    let folder = Arc::new(Folder::new()?);
    let begun = Instant::now();
    progress(format!("{} messages are written", sizes.iter().sum::<usize>()));
    make(&folder, &sizes).await?;
    let made_in = begun.elapsed();
    let place = Place::open(asked, Some(folder.clone()), report).await?;

    let speaking = place.load(asked, NAME, sizes.len());
    let mut speakers = JoinSet::new();
    let mut rooms = Vec::new();
    for number in 0..sizes.len() {
        rooms.push(begin(&place, &speaking, number, &mut speakers).await?);
    }
    let listening = place.load(asked, NAME, sizes.len());
    let (begun, mut rounds) = (Instant::now(), 0);
    while rounds == 0 || begun.elapsed() < asked.each * KINDS as u32 {
        for room in &mut rooms {
            round(&place, &speaking, &listening, room).await?;
        }
        if speakers.try_join_next().is_some() {
            return Err(Error::SentAway("who spoke in a room".to_owned()));
        }
        rounds += 1;
        progress(format!("{rounds} rounds through {} rooms", rooms.len()));
    }

    for (size, Room { found, .. }) in sizes.iter().zip(&rooms) {
        let mut row = Row::new(format!("{} messages stored", written(*size)));
        row.add("publish_p50_ms", found.publish.p50_ms())
            .add("publish_cpu_us", found.publish.cpu_us())
            .add("wake_p50_ms", found.wake.p50_ms())
            .add("wake_cpu_us", found.wake.cpu_us())
            .add("resume_p50_ms", found.resume.p50_ms())
            .add("resume_cpu_us", found.resume.cpu_us())
            .add("page_p50_ms", found.page.p50_ms())
            .add("page_cpu_us", found.page.cpu_us())
            .add("page_kib", found.page_bytes as f64 / 1024.0);
        report.rows.push(row);
    }
    let on_disk = folder.store().join("rooms.redb").metadata()?.len() as f64;
    let mut row = Row::new("their store");
    row.add("rooms_mib", on_disk / f64::from(1 << 20))
        .add("made_in_s", made_in.as_secs_f64())
        .count("rounds", rounds);
    report.rows.push(row);

    let to = format!("{} messages stored", written(asked.count));
    for kind in 0..KINDS {
        let costs = rooms.iter().map(|room| room.found.kinds()[kind]);
        let (names, costs): (Vec<_>, Vec<_>) =
            costs.map(|(name, cost)| (name, cost.p50_ms())).unzip();
        growth.compare(names[0], "none", &to, &costs);
    }
    Ok(())
}

/// Makes the store.
async fn make(folder: &Arc<Folder>, sizes: &[usize]) -> Result<(), Error> {
    let room = |(number, size): (usize, &usize)| {
        let name = format!("{NAME}-{number}").parse().expect("letters and digits are a good name");
        (name, *size as u64)
    };
    let rooms: Vec<_> = sizes.iter().enumerate().map(room).collect();
    let holds = folder.clone();
    dormitory::beside(move |stop| dormitory::talk(&holds.store(), &rooms, stop, &progress)).await
}

/// Seats who speaks in a room, and has as much said there as somebody may miss.
async fn begin(
    place: &Place,
    speaking: &Rc<Load>,
    number: usize,
    speakers: &mut JoinSet<String>,
) -> Result<Room, Error> {
    let (mut speaker, _) = arrive(place, speaking, number, &Hello::default()).await?;
    let returns = returns(&speaker)?;
    speaking.set_mouth(number, speaker.mouth().clone());
    speaking.add_listener(number);
    speakers.spawn_local(async move { speaker.stay().await });
    for _ in 0..MISSED {
        speaking.publish(speaking.room(number), Instant::now());
    }
    heard(speaking).await?;
    let (mut visitor, found) = (returns, Found::default());
    visitor.seq += MISSED;
    visitor.session.clear(); // the first who comes back is somebody new
    Ok(Room { number, returns: visitor, found })
}

/// Everything once, or a few times.
async fn round(
    place: &Place,
    speaking: &Rc<Load>,
    listening: &Rc<Load>,
    room: &mut Room,
) -> Result<(), Error> {
    let found = &mut room.found;
    publish(speaking, room.number, None).await?; // wakes it
    room.returns.seq += 1;
    let before = place.cpu();
    for _ in 0..PUBLISHES {
        publish(speaking, room.number, Some(&mut found.publish)).await?;
        room.returns.seq += 1;
    }
    found.publish.add_cpu(place.since(before));

    hibernate(place, speaking, room.number).await?;
    let (newest, before) = (room.returns.seq, place.cpu());
    let mut visitor = None;
    for _ in 0..TIMES {
        let returns = Returns { seq: newest - MISSED, ..room.returns.clone() };
        let hello = Hello { member: 1, returns: Some(returns), ..Hello::default() };
        let (member, took) = arrive(place, listening, room.number, &hello).await?;
        if member.count != MISSED {
            return Err(Error::Patience(format!("{MISSED} messages, but {} came", member.count)));
        }
        found.resume.add(took, None);
        room.returns.session = self::returns(&member)?.session;
        visitor = Some(member);
    }
    found.resume.add_cpu(place.since(before));

    let mut visitor = visitor.expect("somebody came back");
    let before = place.cpu();
    for _ in 0..TIMES {
        let begun = Instant::now();
        found.page_bytes = visitor.ask(PAGE).await.map_err(Error::SentAway)?;
        found.page.add(begun.elapsed(), None);
    }
    found.page.add_cpu(place.since(before));
    drop(visitor); // without a goodbye: the seat is kept

    for _ in 0..TIMES {
        let before = place.cpu();
        publish(speaking, room.number, Some(&mut found.wake)).await?;
        found.wake.add_cpu(place.since(before));
        room.returns.seq += 1;
        hibernate(place, speaking, room.number).await?;
    }
    Ok(())
}

/// Publishes a message and waits until it is heard, which is when it is durable.
async fn publish(load: &Load, room: usize, into: Option<&mut Repeated>) -> Result<(), Error> {
    load.begin_timing();
    load.publish(load.room(room), Instant::now());
    heard(load).await?;
    let took = load.end_timing().quantile(0.5);
    if let Some((into, took)) = into.zip(took) {
        into.add(took, None);
    }
    Ok(())
}

async fn heard(load: &Load) -> Result<(), Error> {
    match load.settle(HEARING).await {
        true => Ok(()),
        false => Err(Error::Patience("a message to be heard".to_owned())),
    }
}

/// Has a room sleep now; answered when it is out of memory.
async fn hibernate(place: &Place, load: &Load, room: usize) -> Result<(), Error> {
    let address = place.subject.operator.expect("these gateways have one");
    let request = format!("POST /v1/rooms/{}/hibernate", load.room(room).name);
    match operator::ask(address, &request).await? {
        (200, _) => Ok(()),
        (status, _) => Err(Error::NotOpen(format!("a room would not sleep: {status}"))),
    }
}

/// What a member was told of how to come back.
fn returns(member: &Member) -> Result<Returns, Error> {
    let welcome = member.welcome.as_deref().and_then(Returns::from_welcome);
    welcome.ok_or_else(|| Error::NotOpen("a welcome did not say how to return".to_owned()))
}
