//! Everybody comes back at once for what they missed, and a room that is busy all the while must
//! not notice.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::dialect;
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::dialect::{Hello, Returns};
use crate::bench::figures::{Report, Row};
use crate::bench::load::{Load, Push};
use crate::bench::member::Member;
use crate::bench::process::Processes;
use crate::bench::subject::Subject;
use crate::bench::wire::Opener;
use crate::bench::{Error, progress};

/// The room that is watched: its members, and messages a second.
const STEADY_MEMBERS: usize = 100;
const STEADY_RATE: f64 = 40.0;

/// How many are on their way back at once: more than a listener's backlog would make it a
/// benchmark of lost packets.
const AT_ONCE: usize = 512;

/// How long all of them may take.
const RETURNING: Duration = Duration::from_secs(120);

/// How long a server may take to notice that they left.
const LEAVING: Duration = Duration::from_secs(1);

pub(super) async fn measure(
    asked: &Asked,
    subject: &Subject,
    report: &mut Report,
) -> Result<(), Error> {
    let (clients, missed) = (asked.rooms * asked.members, asked.count);
    report.what = format!(
        "{clients} clients in {} rooms, {missed} messages missed by each; beside them {STEADY_MEMBERS} members, {STEADY_RATE} messages a second",
        asked.rooms
    );
    let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
    let steady = Load::new(dialect(asked), asked.transport, "steady", 1, asked.size);
    let crowd = Crowd::join(&opener, &steady, 1, STEADY_MEMBERS, None).await?;
    let storm = async {
        let load = Load::new(dialect(asked), asked.transport, "storm", asked.rooms, asked.size);
        let returns = leave(&opener, &load, asked).await?;
        miss(&opener, &load, asked).await?;

        progress("nothing happens".to_owned());
        steady.begin_timing();
        // A disk may stall for longer than that: then until one message was heard by everybody.
        let (begun, enough) = (Instant::now(), steady.delivered() + STEADY_MEMBERS as u64);
        sleep(asked.each).await;
        while steady.delivered() < enough && begun.elapsed() < RETURNING {
            sleep(Duration::from_millis(50)).await;
        }
        let before = steady.end_timing();

        let cpu = || subject.processes.as_ref().and_then(Processes::cpu);
        steady.begin_timing();
        let (begun, used) = (Instant::now(), cpu());
        let come_back = come_back(&opener, &load, returns, asked);
        let heard = timeout(RETURNING, come_back).await;
        let heard = heard.map_err(|_| Error::Patience("everybody to come back".to_owned()))??;
        let took = begun.elapsed().as_secs_f64();
        let used = used.zip(cpu()).map(|(before, after)| after.since(&before));
        let during = steady.end_timing();
        crowd.well()?;

        let mut row = Row::new("steady room before");
        row.count("timed", before.count()).quantiles(&before);
        report.rows.push(row);
        let mut row = Row::new("steady room meanwhile");
        row.count("timed", during.count()).quantiles(&during);
        report.rows.push(row);
        let mut row = Row::new("storm");
        row.add("seconds", took)
            .count("clients", clients as u64)
            .add("clients_per_s", clients as f64 / took)
            .add("cpu_ms_per_1000", used.map(|cpu| cpu.as_secs_f64() * 1e6 / clients as f64))
            .count("deliveries", heard)
            .count("expected", (clients * missed) as u64);
        report.rows.push(row);
        Ok::<_, Error>(())
    };
    tokio::select! {
        done = storm => done,
        pushed = steady.push(Push::Rate(STEADY_RATE)) => pushed,
    }
}

/// Everybody joins, learns how to return, and is gone.
async fn leave(opener: &Rc<Opener>, load: &Rc<Load>, asked: &Asked) -> Result<Vec<Returns>, Error> {
    let hello = |number| Hello { member: number, ..Hello::default() };
    let members = come(opener, load, asked, hello).await?;
    let returns = members.iter().map(|member| {
        let welcome = member.welcome.as_deref().and_then(Returns::from_welcome);
        welcome.ok_or(Error::NotOpen("a welcome did not say how to return".to_owned()))
    });
    let returns = returns.collect();
    drop(members);
    sleep(LEAVING).await;
    returns
}

/// Somebody says in each room what the others miss.
async fn miss(opener: &Rc<Opener>, load: &Rc<Load>, asked: &Asked) -> Result<(), Error> {
    progress("messages are missed".to_owned());
    let crowd = Crowd::join(opener, load, asked.rooms, 1, None).await?;
    for room in load.rooms() {
        (0..asked.count).for_each(|_| load.publish(room, Instant::now()));
    }
    if !load.settle(RETURNING).await {
        return Err(Error::Patience("what is missed to be published".to_owned()));
    }
    crowd.well()
}

/// Everybody comes back; how many messages they heard.
async fn come_back(
    opener: &Rc<Opener>,
    load: &Rc<Load>,
    mut returns: Vec<Returns>,
    asked: &Asked,
) -> Result<u64, Error> {
    let hello = |number: usize| Hello {
        member: number,
        returns: returns.get_mut(number).map(std::mem::take),
        ..Hello::default()
    };
    let members = come(opener, load, asked, hello).await?;
    Ok(members.iter().map(|member| member.count).sum())
}

/// Seats everybody, in order of their numbers.
async fn come(
    opener: &Rc<Opener>,
    load: &Rc<Load>,
    asked: &Asked,
    mut hello: impl FnMut(usize) -> Hello,
) -> Result<Vec<Member>, Error> {
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut coming = JoinSet::new();
    let clients = asked.rooms * asked.members;
    for number in 0..clients {
        let (opener, load, gate) = (opener.clone(), load.clone(), gate.clone());
        let (hello, room) = (hello(number), number / asked.members);
        coming.spawn_local(async move {
            let _entering = gate.acquire_owned().await;
            let failed = |source| Error::Connect { member: number, source };
            let member = Member::connect(&opener, &load, room, Some(&hello), None).await;
            let mut member = member.map_err(failed)?;
            member.joined().await.map_err(Error::SentAway)?;
            Ok::<_, Error>((number, member))
        });
    }
    let mut members = Vec::with_capacity(clients);
    while let Some(joined) = coming.join_next().await {
        members.push(joined.map_err(std::io::Error::other)??);
        if members.len().is_multiple_of(1_000) {
            progress(format!("{} of {clients} are there", members.len()));
        }
    }
    members.sort_by_key(|(number, _)| *number);
    Ok(members.into_iter().map(|(_, member)| member).collect())
}
