//! What a connection costs: up to the upgrade, which any server has, and up to a seat in a room,
//! which ours has on disk by then. Beside them what it costs over TCP that nothing is said at all:
//! to accept it, and to begin to wait for its first byte.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::dialect;
use crate::bench::arguments::Asked;
use crate::bench::dialect::Hello;
use crate::bench::figures::{Report, Row};
use crate::bench::histogram::Histogram;
use crate::bench::load::Load;
use crate::bench::member::Member;
use crate::bench::process::Processes;
use crate::bench::subject::Subject;
use crate::bench::wire::{Opener, Transport};
use crate::bench::{Error, progress};

/// How many connect at the same time.
const AT_ONCE: usize = 32;

/// And how many that resume TLS: a client keeps no more than a few tickets of one server.
const RESUME_AT_ONCE: usize = 4;

/// Silent connections that are open at once: fewer than a listener's backlog, and than the places
/// a server has for those who have not said what they want.
const SILENT: usize = 100;

/// Members of a room.
const TOGETHER: usize = 20;

/// How long a server may take to forget those of the figure before.
const FORGETTING: Duration = Duration::from_millis(500);

pub(super) async fn measure(
    asked: &Asked,
    subject: &Subject,
    report: &mut Report,
) -> Result<(), Error> {
    report.what = format!("{} connections each", asked.count);
    let speaks = !dialect(asked).joins_by_connecting();
    let tls: &[(&str, bool)] = match asked.transport {
        Transport::Wss => &[("full TLS, ", false), ("resumed TLS, ", true)],
        _ => &[("", false)],
    };
    for (handshake, resumes) in tls {
        let opener = Rc::new(Opener::new(subject.address, asked.transport, *resumes));
        for hello in [false, true].into_iter().filter(|hello| speaks || !hello) {
            let what = if hello { "to the seat" } else { "to the upgrade" };
            let at_once = if *resumes { RESUME_AT_ONCE } else { AT_ONCE };
            progress(format!("{handshake}{what}"));
            let row = connect(asked, subject, &opener, hello, at_once).await?;
            report.rows.push(row.labelled(format!("{handshake}{what}")));
            tokio::time::sleep(FORGETTING).await;
        }
    }
    if !asked.transport.is_quic() {
        progress(ACCEPTED.to_owned());
        report.rows.push(accept(asked, subject).await?.labelled(ACCEPTED.to_owned()));
    }
    Ok(())
}

const ACCEPTED: &str = "accepted, and silent";

/// Connections that say nothing. The one behind each hundred of them asks for an upgrade, whose
/// hundredth part is counted: with its answer all before it are accepted, for that goes by turns.
async fn accept(asked: &Asked, subject: &Subject) -> Result<Row, Error> {
    let load = Load::new(dialect(asked), asked.transport, "door", 1, 0);
    let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
    let _first = one(&opener, &load, 0, false).await?;
    let cpu = || subject.processes.as_ref().and_then(Processes::cpu);
    let (mut made, mut spent) = (0, None);
    while made < asked.count {
        let count = SILENT.min(asked.count - made);
        let mut silent = Vec::with_capacity(count);
        let before = cpu();
        for number in 0..count {
            let stream = TcpStream::connect(subject.address).await;
            silent.push(stream.map_err(|source| Error::Connect { member: number, source })?);
        }
        made += count;
        let answered = one(&opener, &load, 0, false).await?;
        // The time of a thread that runs is told late; by now all of them wait.
        tokio::time::sleep(FORGETTING / 10).await;
        if let Some((before, after)) = before.zip(cpu()) {
            *spent.get_or_insert(Duration::ZERO) += after.since(&before);
        }
        drop((silent, answered));
        tokio::time::sleep(FORGETTING / 10).await;
    }
    let mut row = Row::default();
    // A client is connected before it is accepted, so how long that takes is the kernel's to say.
    row.count("connections", made as u64)
        .add("connections_per_s", None)
        .add("cpu_ms_per_1000", spent.map(|cpu| cpu.as_secs_f64() * 1e6 / made as f64))
        .quantiles(&Histogram::default())
        .count("at_once", 1)
        .count("resumed", 0);
    Ok(row)
}

async fn connect(
    asked: &Asked,
    subject: &Subject,
    opener: &Rc<Opener>,
    hello: bool,
    at_once: usize,
) -> Result<Row, Error> {
    let rooms = asked.count.div_ceil(TOGETHER);
    let load = Load::new(dialect(asked), asked.transport, "door", rooms, 0);
    // The first one is not counted: it is a process that warms up, and a TLS session to resume.
    let _first = one(opener, &load, 0, hello).await?;
    let cpu = || subject.processes.as_ref().and_then(Processes::cpu);
    let (begun, before) = (Instant::now(), cpu());
    let gate = Arc::new(Semaphore::new(at_once));
    let mut connecting = JoinSet::new();
    for number in 0..asked.count {
        let (opener, load, gate) = (opener.clone(), load.clone(), gate.clone());
        connecting.spawn_local(async move {
            let _entering = gate.acquire_owned().await;
            let begun = Instant::now();
            let member = one(&opener, &load, number, hello).await?;
            Ok::<_, Error>((member, begun.elapsed()))
        });
    }
    let (mut members, mut took, mut resumed) = (Vec::new(), Histogram::default(), 0);
    while let Some(joined) = connecting.join_next().await {
        let (member, one_took) = joined.map_err(std::io::Error::other)??;
        took.record(one_took.as_nanos() as u64);
        resumed += usize::from(member.resumed);
        members.push(member); // all stay until the last has come
    }
    let seconds = begun.elapsed().as_secs_f64();
    let spent = before.zip(cpu()).map(|(before, after)| after.since(&before));
    let mut row = Row::default();
    row.count("connections", members.len() as u64)
        .add("connections_per_s", members.len() as f64 / seconds)
        .add("cpu_ms_per_1000", spent.map(|cpu| cpu.as_secs_f64() * 1e6 / members.len() as f64))
        .quantiles(&took)
        .count("at_once", at_once as u64)
        .count("resumed", resumed as u64);
    Ok(row)
}

async fn one(
    opener: &Rc<Opener>,
    load: &Rc<Load>,
    number: usize,
    hello: bool,
) -> Result<Member, Error> {
    let said = Hello { member: number, ..Hello::default() };
    let failed = |source| Error::Connect { member: number, source };
    let room = number / TOGETHER;
    let mut member =
        Member::connect(opener, load, room, hello.then_some(&said), None).await.map_err(failed)?;
    if hello {
        member.joined().await.map_err(Error::SentAway)?;
    }
    Ok(member)
}
