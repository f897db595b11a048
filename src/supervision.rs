//! The tasks and threads that live as long as a gateway: none of them fails unnoticed.
//!
//! Each is begun through a [`Supervisor`], under a name of [`Task`]. When it panics, or ends though
//! it should not, that is logged and counted, `/readyz` says it, and it is begun anew after a pause
//! that doubles. One that fails [`FAILURES`] times, each within [`STEADY`] of its beginning, will
//! not get well in this process: the supervisor gives up, and the process drains and ends.
//!
//! - A gateway that says it is ready has all of its tasks.
//! - A task is begun anew from what its owner keeps of it (a socket, a queue, a file), never from
//!   what the failed one was in the middle of.
//! - Sessions and keepers are many and end by themselves. A fault in one of them is its client's
//!   or its room's; they only use [`caught_in`] and the same counter.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::telemetry::Metrics;

/// Failures in a row after which a task is given up.
pub const FAILURES: u32 = 5;

/// A task that has lived for so long has not failed in a row.
const STEADY: Duration = Duration::from_secs(60);

/// The pause before a task is begun anew; it doubles with every failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What lives as long as a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Accepts connections over TCP; one for each address.
    TcpListener,
    /// Accepts connections over QUIC; one for each address.
    QuicEndpoint,
    /// Accepts the connections of operators.
    OperatorListener,
    /// Rings alarms and deletes idle rooms.
    Clock,
    /// Looks at the wall clock, and renews the development certificate.
    Certificates,
    /// The thread that writes the journal.
    Journal,
    /// The thread that moves records from the journal to the rooms' rows.
    Mover,
}

impl Task {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::TcpListener,
        Self::QuicEndpoint,
        Self::OperatorListener,
        Self::Clock,
        Self::Certificates,
        Self::Journal,
        Self::Mover,
    ];

    /// Its label in `dormouse_task_failures_total`.
    pub fn label(self) -> &'static str {
        match self {
            Self::TcpListener => "tcp_listener",
            Self::QuicEndpoint => "quic_endpoint",
            Self::OperatorListener => "operator_listener",
            Self::Clock => "clock",
            Self::Certificates => "certificates",
            Self::Journal => "journal",
            Self::Mover => "mover",
        }
    }

    /// What `/readyz` says while it is down.
    pub fn trouble(self) -> &'static str {
        match self {
            Self::TcpListener => "the TCP listener has failed",
            Self::QuicEndpoint => "the QUIC endpoint has failed",
            Self::OperatorListener => "the operator listener has failed",
            Self::Clock => "the clock of the rooms has failed",
            Self::Certificates => {
                "the look at the wall clock, which renews the certificate, has failed"
            }
            Self::Journal => "the journal's thread has failed",
            Self::Mover => "the mover's thread has failed",
        }
    }
}

/// Begins tasks, and begins them anew. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    metrics: Arc<Metrics>,
    /// The tasks that have failed and are not yet begun anew.
    down: Mutex<Vec<Task>>,
    given_up: watch::Sender<Option<Task>>,
    #[cfg(debug_assertions)]
    planted: planted::Panics,
}

impl Default for Supervisor {
    /// One that counts for itself.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("down", &self.shared.down).finish_non_exhaustive()
    }
}

impl Supervisor {
    /// One that counts failures in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        for task in Task::ALL {
            metrics.task_failures.of(task.label()); // shown from the start
        }
        Self {
            shared: Arc::new(Shared {
                metrics,
                down: Mutex::default(),
                given_up: watch::Sender::new(None),
                #[cfg(debug_assertions)]
                planted: planted::Panics::from_environment(),
            }),
        }
    }

    /// Runs a task until it ends as it should (`Ok`) or is given up. `begin` begins it, and begins
    /// it anew after each failure: a panic, or an `Err` with the reason.
    pub async fn keep<F>(self, task: Task, mut begin: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), String>>,
    {
        let mut life = Life::new(&self, task);
        loop {
            life.begins();
            let running = async {
                tokio::select! {
                    biased;
                    () = self.planted(task) => Ok(()), // it only ever panics
                    ended = begin() => ended,
                }
            };
            let Err(why) = caught_in(running).await.and_then(|ended| ended) else { return };
            match life.failed(&why) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return,
            }
        }
    }

    /// The same for a thread: runs `work` on this one until it returns or is given up. `recover`
    /// puts right, after a panic, what the thread alone knows of.
    pub fn keep_thread(&self, task: Task, mut work: impl FnMut(), mut recover: impl FnMut(&str)) {
        let mut life = Life::new(self, task);
        loop {
            life.begins();
            let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) else { return };
            let why = text_of(&*panic);
            if catch_unwind(AssertUnwindSafe(|| recover(&why))).is_err() {
                tracing::error!(task = task.label(), "it panicked again while it was put right");
            }
            match life.failed(&why) {
                Some(pause) => std::thread::sleep(pause),
                None => return,
            }
        }
    }

    /// What is down now, in a few words.
    pub fn trouble(&self) -> Option<&'static str> {
        self.shared.down().first().map(|task| task.trouble())
    }

    /// Waits until a task is given up, and says which.
    pub async fn given_up(&self) -> Task {
        let mut given_up = self.shared.given_up.subscribe();
        let task = given_up.wait_for(Option::is_some).await.map(|task| *task);
        match task {
            Ok(Some(task)) => task,
            _ => std::future::pending().await, // the sender is as old as this handle
        }
    }
}

impl Shared {
    fn down(&self) -> MutexGuard<'_, Vec<Task>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a task fares. Dropped, it is no longer missed.
struct Life<'a> {
    supervisor: &'a Supervisor,
    task: Task,
    begun: Instant,
    failures: u32,
    is_down: bool,
}

impl<'a> Life<'a> {
    fn new(supervisor: &'a Supervisor, task: Task) -> Self {
        Self { supervisor, task, begun: Instant::now(), failures: 0, is_down: false }
    }

    fn begins(&mut self) {
        self.begun = Instant::now();
        if std::mem::take(&mut self.is_down) {
            self.leave();
            tracing::info!(task = self.task.label(), "begun anew");
        }
    }

    /// Notes a failure. Says how long to wait before the next beginning; `None` if there is to be
    /// none.
    fn failed(&mut self, why: &str) -> Option<Duration> {
        let Shared { metrics, given_up, .. } = &*self.supervisor.shared;
        let task = self.task.label();
        metrics.task_failures.of(task).inc();
        self.is_down = true;
        self.supervisor.shared.down().push(self.task);
        self.failures = if self.begun.elapsed() < STEADY { self.failures + 1 } else { 1 };
        if self.failures == FAILURES {
            tracing::error!(task, why, "failed {FAILURES} times in a row, and is given up");
            given_up.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(self.task);
                is_first
            });
            return None;
        }
        tracing::error!(task, why, "failed, and is begun anew");
        Some(FIRST_PAUSE * 2u32.pow(self.failures - 1))
    }

    fn leave(&self) {
        let mut down = self.supervisor.shared.down();
        if let Some(at) = down.iter().position(|task| *task == self.task) {
            down.swap_remove(at);
        }
    }
}

/// A task that is stopped while it is down is not missed; one that was given up is.
impl Drop for Life<'_> {
    fn drop(&mut self) {
        if self.is_down && self.failures < FAILURES {
            self.leave();
        }
    }
}

thread_local! {
    /// How many calls of [`caught`] are under way on this thread.
    static CAUGHT: Cell<u32> = const { Cell::new(0) };
}

/// Does something that may panic on input that is not ours, a damaged file above all. A panic is an
/// error with what was said, and nothing else is said of it.
pub fn caught<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    CAUGHT.set(CAUGHT.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(what));
    CAUGHT.set(CAUGHT.get() - 1);
    done.map_err(|panic| text_of(&*panic))
}

/// Has panics said as one log line each, with a backtrace only if `RUST_BACKTRACE` asks for it.
/// Without this, std writes them to stderr itself, and waits for its reader.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("a panic");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        if CAUGHT.get() > 0 {
            return tracing::debug!(at, what, "caught a panic");
        }
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!(thread, at, what, "panicked\n{backtrace}"),
            _ => tracing::error!(thread, at, what, "panicked"),
        }
    }));
}

/// Runs a future to its end; a panic in it is an error with what was said.
pub async fn caught_in<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = Box::pin(future);
    let polled = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(text_of(&*panic))),
    });
    let ended = polled.await;
    // What a panic left half done may panic once more when it is dropped.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
    ended
}

/// What a panic said.
pub fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.map_or_else(|| "a panic".to_owned(), |text| format!("a panic: {text}"))
}

/// Panics that a test plants: there are none in a release build.
#[cfg(debug_assertions)]
mod planted {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    use tokio::sync::Notify;

    use super::{Supervisor, Task};

    /// The environment variable that plants them in a process: a task's label and how often.
    const VARIABLE: &str = "PLANTED_PANICS";

    #[derive(Default)]
    pub(super) struct Panics {
        left: Mutex<BTreeMap<Task, u32>>,
        changed: Notify,
    }

    impl Panics {
        pub(super) fn from_environment() -> Self {
            let panics = Self::default();
            let said = std::env::var(VARIABLE).unwrap_or_default();
            if let Some((label, times)) = said.split_once(' ')
                && let Some(task) = Task::ALL.into_iter().find(|task| task.label() == label)
            {
                panics.plant(task, times.parse().unwrap_or(1));
            }
            panics
        }

        fn plant(&self, task: Task, times: u32) {
            self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(task, times);
            self.changed.notify_waiters();
        }

        fn spring(&self, task: Task) {
            let is_planted = {
                let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
                let left = left.get_mut(&task).filter(|left| **left > 0);
                left.map(|left| *left -= 1).is_some()
            };
            assert!(!is_planted, "the panic that was planted");
        }
    }

    impl Supervisor {
        /// Makes a task panic so many times: at once, and each time it has begun anew. A thread
        /// panics when it next has something to do.
        pub fn plant(&self, task: Task, times: u32) {
            self.shared.planted.plant(task, times);
        }

        pub(super) async fn planted(&self, task: Task) {
            let panics = &self.shared.planted;
            loop {
                let mut changed = std::pin::pin!(panics.changed.notified());
                changed.as_mut().enable();
                panics.spring(task);
                changed.await;
            }
        }

        /// Where a thread panics if that was planted.
        pub fn spring(&self, task: Task) {
            self.shared.planted.spring(task);
        }
    }
}

#[cfg(not(debug_assertions))]
impl Supervisor {
    async fn planted(&self, _: Task) {
        std::future::pending().await
    }

    /// Where a thread panics if a test planted that: nowhere, in a release build.
    pub fn spring(&self, _: Task) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_is_begun_anew_after_growing_pauses_and_given_up_in_the_end() {
        let supervisor = Supervisor::default();
        let mut begun = 0;
        let began = tokio::time::Instant::now();
        let keep = supervisor.clone().keep(Task::Clock, || {
            begun += 1;
            let number = begun;
            async move {
                match number % 2 {
                    0 => Err("it ended".to_owned()),
                    _ => panic!("it fell"),
                }
            }
        });
        keep.await;
        assert_eq!(begun, FAILURES);
        assert_eq!(began.elapsed(), Duration::from_millis(100 + 200 + 400 + 800));
        assert_eq!(supervisor.given_up().await, Task::Clock);
        assert_eq!(supervisor.trouble(), Some(Task::Clock.trouble()), "it stays down");
        let failures = &supervisor.shared.metrics.task_failures;
        assert_eq!(failures.of("clock").get(), u64::from(FAILURES));
    }

    #[tokio::test]
    async fn a_task_is_missed_while_it_is_down_and_no_longer_than_that() {
        let supervisor = Supervisor::default();
        let (ready, mut is_ready) = watch::channel(0);
        let kept = tokio::spawn(supervisor.clone().keep(Task::Clock, move || {
            ready.send_modify(|begun| *begun += 1);
            std::future::pending()
        }));
        is_ready.wait_for(|begun| *begun == 1).await.unwrap();
        assert_eq!(supervisor.trouble(), None);
        supervisor.plant(Task::Clock, 1);
        while supervisor.trouble().is_none() {
            tokio::task::yield_now().await;
        }
        is_ready.wait_for(|begun| *begun == 2).await.unwrap();
        assert_eq!(supervisor.trouble(), None);
        supervisor.plant(Task::Clock, 1);
        while supervisor.trouble().is_none() {
            tokio::task::yield_now().await;
        }
        kept.abort();
        let _ = kept.await;
        assert_eq!(supervisor.trouble(), None, "it was stopped");
    }

    #[test]
    fn a_thread_recovers_before_it_goes_on() {
        let supervisor = Supervisor::default();
        let (mut turns, mut recovered) = (0, Vec::new());
        let work = || {
            turns += 1;
            assert!(turns > 1, "it fell");
        };
        supervisor.keep_thread(Task::Journal, work, |why| recovered.push(why.to_owned()));
        assert_eq!((turns, recovered), (2, vec!["a panic: it fell".to_owned()]));
    }

    #[test]
    fn no_two_tasks_have_the_same_name() {
        let labels: std::collections::BTreeSet<_> = Task::ALL.iter().map(|it| it.label()).collect();
        let troubles: std::collections::BTreeSet<_> =
            Task::ALL.iter().map(|it| it.trouble()).collect();
        assert_eq!((labels.len(), troubles.len()), (Task::ALL.len(), Task::ALL.len()));
    }
}
