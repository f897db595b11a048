//! The log: lines go to stderr through a bounded queue and a thread of their own.
//!
//! A log that cannot be written must not stop what it tells of. A write to a pipe without a reader
//! fails, one to a pipe with a reader that does not read never ends, and a disk may be full; none
//! of it reaches the task that has something to say.
//!
//! - Saying a line never waits for the reader of the log, never fails and never panics.
//! - At most [`WAITING_BYTES`] of lines wait. A line beyond that is lost, as is one whose write
//!   fails; both are counted ([`lost`]).
//! - Once a line can be written again, it is preceded by one that says how many were lost.
//! - At the end of the process, [`flush`] waits for the lines that wait, not longer than it is told.
//!
//! `tracing-appender` has such a queue, but counts no failed write, and says what goes wrong at the
//! end with `println!`, which panics when stdout is closed.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes of lines that wait to be written: some seconds of a very talkative gateway.
pub const WAITING_BYTES: usize = 1 << 20;

/// How long the thread waits before it tries again to write to a stderr that does not block.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// The log of this process, once there is one.
static LOG: OnceLock<Log> = OnceLock::new();

/// Sends log lines to stderr, as `RUST_LOG` says, else from `info` on.
pub fn log_to_stderr() {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;

    let log = LOG.get_or_init(|| Log::to(io::stderr()));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(move || log.clone())
        .log_internal_errors(false)
        .finish();
    // Only a second call fails, and then the first one's lines go where these would.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Says something to the person who started the process, among the log lines and like them.
pub fn say(text: &str) {
    match LOG.get() {
        Some(log) => log.push(format!("{text}\n").as_bytes()),
        None => _ = writeln!(io::stderr(), "{text}"), // nothing else can be done about it
    }
}

/// How many lines of this process' log could not be written.
pub fn lost() -> u64 {
    LOG.get().map_or(0, Log::lost)
}

/// Waits until every line is written or lost, at most for `patience`.
pub fn flush(patience: Duration) {
    if let Some(log) = LOG.get() {
        log.flush(patience);
    }
}

/// Lines on their way to be written. Cheap to clone.
#[derive(Clone)]
struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// A line has been taken and not yet been written.
    is_writing: bool,
}

impl Log {
    /// A log that a thread writes to `out`.
    fn to(out: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            lost: AtomicU64::new(0),
        });
        let mut pen = Pen { out, shared: shared.clone(), told: 0, is_torn: false };
        let write = move || {
            loop {
                let line = pen.shared.next();
                pen.write(&line);
            }
        };
        // Without a thread lines wait, and are lost and counted beyond the bound.
        let _ = std::thread::Builder::new().name("log".into()).spawn(write);
        Self { shared }
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.shared.queue();
        if queue.bytes + line.len() > WAITING_BYTES {
            drop(queue);
            self.shared.lose();
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.into());
        drop(queue);
        self.shared.changed.notify_all();
    }

    fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut queue = self.shared.queue();
        while !queue.lines.is_empty() || queue.is_writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.shared.changed.wait_timeout(queue, left);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// One call is one line: the subscriber formats a whole one before it writes.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// Waits for the next line.
    fn next(&self) -> Box<[u8]> {
        let mut queue = self.queue();
        queue.is_writing = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes lines, and says how many were lost.
struct Pen<W> {
    out: W,
    shared: Arc<Shared>,
    /// How many of the lost lines the log has told of.
    told: u64,
    /// The last write ended within a line.
    is_torn: bool,
}

impl<W: Write> Pen<W> {
    fn write(&mut self, line: &[u8]) {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if lost > self.told {
            let begin = if self.is_torn { "\n" } else { "" };
            let lines = if lost - self.told == 1 { "line" } else { "lines" };
            let note = format!("{begin}{} log {lines} could not be written\n", lost - self.told);
            if self.put(note.as_bytes()).is_err() {
                return self.shared.lose();
            }
            self.told = lost;
        }
        if self.put(line).is_err() {
            self.shared.lose();
        }
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process may have set this for the terminal that both have.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(TRY_AGAIN)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A disk with so much space.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn space(&self, bytes: usize) {
            self.0.lock().unwrap().1 = bytes;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (written, space) = &mut *self.0.lock().unwrap();
            let count = bytes.len().min(*space);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            *space -= count;
            written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_of_once_one_can() {
        let disk = Disk::default();
        let log = Log::to(disk.clone());
        let say = |line: &str| {
            log.push(line.as_bytes());
            log.flush(DEADLINE);
        };
        disk.space(6);
        say("one\n");
        say("two\n"); // half of it
        say("three\n");
        assert_eq!(log.lost(), 2);
        disk.space(1_000);
        say("four\n");
        say("five\n");
        assert_eq!(disk.text(), "one\ntw\n2 log lines could not be written\nfour\nfive\n");
        assert_eq!(log.lost(), 2);
    }

    /// Without its thread, so that nothing is taken meanwhile.
    #[test]
    fn so_many_bytes_wait_and_the_next_is_lost() {
        let (queue, changed, lost) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        let log = Log { shared: Arc::new(Shared { queue, changed, lost }) };
        log.push(&vec![b'x'; WAITING_BYTES - 1]);
        log.push(b"x");
        assert_eq!((log.lost(), log.shared.queue().bytes), (0, WAITING_BYTES));
        log.push(b"x");
        assert_eq!((log.lost(), log.shared.queue().lines.len()), (1, 2));
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody_and_what_is_kept_for_it_is_bounded() {
        let (reader, pipe) = io::pipe().unwrap();
        let log = Log::to(pipe);
        let line = [b'x'; 1_000];
        for _ in 0..2_000 {
            log.push(&line);
        }
        log.flush(Duration::from_millis(1));
        let queue = log.shared.queue();
        assert!(!queue.lines.is_empty() && queue.bytes <= WAITING_BYTES, "{}", queue.bytes);
        drop(queue);
        let most = (WAITING_BYTES / line.len()) as u64;
        assert!((1..=2_000 - most).contains(&log.lost()), "{}", log.lost());
        drop(reader); // and the thread ends with its test
    }
}
