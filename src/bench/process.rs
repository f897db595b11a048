//! What a process has used, as `/proc` tells it: nothing where there is no `/proc`.
//!
//! A server may be a few processes (a master and its worker): all below the one that was
//! started count.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

/// A process and those it had started when it was looked at.
#[derive(Debug, Clone)]
pub struct Processes {
    pids: Vec<u32>,
}

/// CPU time by thread.
///
/// The time of a whole process is told in hundredths of a second, that of a thread in
/// nanoseconds. A thread that ends in between takes its time with it; one that is let go has
/// been idle for longer than a measurement lasts.
#[derive(Debug, Clone)]
pub struct Cpu {
    threads: BTreeMap<u32, Duration>,
}

impl Cpu {
    /// What was used since an earlier look.
    pub fn since(&self, earlier: &Self) -> Duration {
        let before = |thread| earlier.threads.get(thread).copied().unwrap_or_default();
        self.threads.iter().map(|(thread, used)| used.saturating_sub(before(thread))).sum()
    }
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What is resident.
    pub rss_kib: u64,
    /// The same with what is shared between processes counted once.
    pub pss_kib: u64,
}

impl Processes {
    /// The process and all below it.
    pub fn of(pid: u32) -> Self {
        let mut pids = vec![pid];
        let parents = parents();
        let mut at = 0;
        while let Some(parent) = pids.get(at).copied() {
            pids.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        Self { pids }
    }

    /// This process alone.
    pub fn own() -> Self {
        Self { pids: vec![std::process::id()] }
    }

    /// The CPU time that each of their threads has used.
    pub fn cpu(&self) -> Option<Cpu> {
        let mut threads = BTreeMap::new();
        for pid in &self.pids {
            for thread in numbered(&format!("/proc/{pid}/task")) {
                if let Some(used) = thread_cpu(&format!("/proc/{pid}/task/{thread}")) {
                    threads.insert(thread, used);
                }
            }
        }
        (!threads.is_empty()).then_some(Cpu { threads })
    }

    /// The memory they have.
    pub fn memory(&self) -> Option<Memory> {
        self.pids.iter().try_fold(Memory::default(), |sum, pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            Some(Memory {
                rss_kib: sum.rss_kib + number(&text, "Rss:")?,
                pss_kib: sum.pss_kib + number(&text, "Pss:")?,
            })
        })
    }

    /// Bytes that they had read from a disk, and not from the kernel's cache of its pages.
    pub fn read_bytes(&self) -> Option<u64> {
        let read = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            number(&text, "read_bytes:")
        };
        self.pids.iter().map(read).sum()
    }
}

/// What the kernel keeps in its slabs for the whole machine, in KiB: sockets, above all, when
/// nothing else goes on. Both ends of a loopback connection are in it.
pub fn kernel_kib() -> Option<u64> {
    number(&fs::read_to_string("/proc/meminfo").ok()?, "Slab:")
}

/// The entries of a folder that are numbers.
fn numbered(folder: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The time of a thread: exact where the kernel keeps it, else in ticks.
fn thread_cpu(folder: &str) -> Option<Duration> {
    let exact = fs::read_to_string(format!("{folder}/schedstat")).ok();
    let exact = exact.and_then(|text| text.split_whitespace().next()?.parse().ok());
    if let Some(ns) = exact.filter(|ns| *ns > 0) {
        return Some(Duration::from_nanos(ns));
    }
    let ticks = cpu_ticks(&fs::read_to_string(format!("{folder}/stat")).ok()?)?;
    Some(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

/// Every process and its parent.
fn parents() -> BTreeMap<u32, u32> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, after_the_name(&stat)?.nth(1)?.parse().ok()?))
    };
    numbered("/proc").filter_map(parent).collect()
}

/// The fields of `/proc/PID/stat` from the third on: the second is a name in brackets, and may
/// have anything in it.
fn after_the_name(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = after_the_name(stat)?.skip(11); // utime is the 14th of all
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The number behind a name, on a line of its own.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_brackets_and_spaces() {
        let stat = "7 (a) b (c)) S 42 7 7 0 -1 4194304 1 0 0 0 120 34 5 6 20 0 1 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(154));
        assert_eq!(after_the_name(stat).unwrap().nth(1), Some("42"));
        assert_eq!(cpu_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn memory_is_read_by_its_name() {
        assert_eq!(
            number("Rss:      1400 kB\nPss:       900 kB\nPss_Dirty: 5 kB\n", "Pss:"),
            Some(900)
        );
        assert_eq!(number("Rss: 1 kB", "Pss:"), None);
    }

    #[test]
    fn a_thread_that_is_gone_is_no_time_and_a_new_one_is_all_of_its_time() {
        let cpu = |threads: &[(u32, u64)]| Cpu {
            threads: threads.iter().map(|(id, s)| (*id, Duration::from_secs(*s))).collect(),
        };
        let (before, after) = (cpu(&[(1, 5), (2, 9)]), cpu(&[(1, 7), (3, 4)]));
        assert_eq!(after.since(&before), Duration::from_secs(6));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_works_has_used_time_and_memory() {
        let own = Processes::of(std::process::id());
        let before = own.cpu().unwrap();
        while own.cpu().unwrap().since(&before).is_zero() {
            std::hint::black_box((0..1_000_000).sum::<u64>());
        }
        let memory = own.memory().unwrap();
        assert!(memory.pss_kib > 0 && memory.rss_kib >= memory.pss_kib);
        assert!(kernel_kib().unwrap() > 0);
    }
}
