//! How much longer a message takes when the room has to be woken for it.
//!
//! Room by room: wait until it sleeps (somebody there is told), publish and wait until all have
//! heard it, then the same again while it is awake.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dialect;
use crate::bench::arguments::Asked;
use crate::bench::crowd::Crowd;
use crate::bench::dialect::Hello;
use crate::bench::figures::{Report, Row};
use crate::bench::histogram::Histogram;
use crate::bench::load::Load;
use crate::bench::member::{Member, Said};
use crate::bench::subject::Subject;
use crate::bench::wire::Opener;
use crate::bench::{Error, progress};

/// Long enough for a message to be heard, short enough to wait for.
pub(super) const SLEEP_AFTER: &str = "1s";

/// How long a room may take to fall asleep; one of a gateway that runs takes its own time.
const FALLING: Duration = Duration::from_secs(60);

/// How long a message may take.
const HEARING: Duration = Duration::from_secs(5);

/// Whether a room sleeps, as its watcher was told.
#[derive(Default)]
struct Watched {
    asleep: Cell<bool>,
    changed: Notify,
}

pub(super) async fn measure(
    asked: &Asked,
    subject: &Subject,
    report: &mut Report,
) -> Result<(), Error> {
    report.what = format!(
        "{} rooms × {} members, {} messages in each beforehand",
        asked.rooms, asked.members, asked.count
    );
    let mut naps = Naps::begin(asked, subject, [asked.rooms, asked.members, asked.count]).await?;
    naps.rounds(asked.each, || {}).await?;
    report.rows.extend([naps.asleep.row("asleep"), naps.awake.row("awake")]);
    Ok(())
}

/// Rooms that doze, and what their messages took.
pub(super) struct Naps {
    load: Rc<Load>,
    crowd: Crowd,
    watched: Vec<Rc<Watched>>,
    _watchers: JoinSet<()>,
    /// Messages to rooms that slept.
    pub asleep: Times,
    /// Messages to the same rooms right afterwards.
    pub awake: Times,
}

/// Messages, and what they took.
#[derive(Default)]
pub(super) struct Times {
    messages: u64,
    took: Histogram,
}

impl Times {
    /// Its figures.
    pub fn row(&self, label: &str) -> Row {
        let mut row = Row::new(label);
        row.count("messages", self.messages).quantiles(&self.took);
        row
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.messages
    }

    /// The middle one, in seconds.
    pub fn median(&self) -> Option<f64> {
        self.took.quantile(0.5).map(|took| took.as_secs_f64())
    }
}

impl Naps {
    /// So many rooms, members in each, and messages in each beforehand.
    pub async fn begin(
        asked: &Asked,
        subject: &Subject,
        [rooms, members, messages]: [usize; 3],
    ) -> Result<Self, Error> {
        let opener = Rc::new(Opener::new(subject.address, asked.transport, true));
        let load = Load::new(dialect(asked), asked.transport, "nap", rooms, asked.size);
        let crowd = Crowd::join(&opener, &load, rooms, members, None).await?;
        let mut watchers = JoinSet::new();
        let mut watched = Vec::new();
        for room in 0..rooms {
            watched.push(watch(&opener, &load, room, &mut watchers).await?);
        }
        for room in load.rooms() {
            (0..messages).for_each(|_| load.publish(room, Instant::now()));
        }
        heard(&load).await?;
        let (asleep, awake) = (Times::default(), Times::default());
        Ok(Self { load, crowd, watched, _watchers: watchers, asleep, awake })
    }

    /// For so long, and once at least: a message to each room that sleeps, and one while it is
    /// awake. `before` is done before each room is woken.
    pub async fn rounds(&mut self, each: Duration, mut before: impl FnMut()) -> Result<(), Error> {
        let begun = Instant::now();
        let mut rounds = 0;
        while rounds == 0 || begun.elapsed() < each {
            for (room, watched) in self.load.rooms().iter().zip(&self.watched) {
                let falling = async {
                    while !watched.asleep.get() {
                        watched.changed.notified().await;
                    }
                };
                if timeout(FALLING, falling).await.is_err() {
                    return Err(Error::Patience("a room to fall asleep".to_owned()));
                }
                watched.asleep.set(false);
                before();
                for times in [&mut self.asleep, &mut self.awake] {
                    self.load.begin_timing();
                    self.load.publish(room, Instant::now());
                    heard(&self.load).await?;
                    times.took.merge(&self.load.end_timing());
                    times.messages += 1;
                }
            }
            self.crowd.well()?;
            rounds += 1;
            progress(format!("{rounds} rounds"));
        }
        Ok(())
    }
}

/// Seats somebody who is told when the room sleeps.
async fn watch(
    opener: &Opener,
    load: &Rc<Load>,
    room: usize,
    watchers: &mut JoinSet<()>,
) -> Result<Rc<Watched>, Error> {
    let hello = Hello { member: 1, watches: true, ..Hello::default() };
    let failed = |source| Error::Connect { member: room, source };
    let mut member =
        Member::connect(opener, load, room, Some(&hello), None).await.map_err(failed)?;
    member.joined().await.map_err(Error::SentAway)?;
    load.add_listener(room);
    let watched = Rc::new(Watched::default());
    let tells = watched.clone();
    watchers.spawn_local(async move {
        loop {
            match member.next().await {
                Said::Asleep => {
                    tells.asleep.set(true);
                    tells.changed.notify_one();
                }
                Said::Joined | Said::Page(_) => {}
                Said::Ended(_) => return,
            }
        }
    });
    Ok(watched)
}

async fn heard(load: &Load) -> Result<(), Error> {
    match load.settle(HEARING).await {
        true => Ok(()),
        false => Err(Error::Patience("a message to be heard".to_owned())),
    }
}
