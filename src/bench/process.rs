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

    /// The CPU time they have used.
    pub fn cpu(&self) -> Option<Duration> {
        let ticks = |pid: &u32| cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
        let ticks: u64 = self.pids.iter().map(ticks).sum::<Option<u64>>()?;
        Some(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
    }

    /// The memory they have.
    pub fn memory(&self) -> Option<Memory> {
        self.pids.iter().try_fold(Memory::default(), |sum, pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            Some(Memory {
                rss_kib: sum.rss_kib + kib(&text, "Rss:")?,
                pss_kib: sum.pss_kib + kib(&text, "Pss:")?,
            })
        })
    }
}

/// What the kernel keeps in its slabs for the whole machine, in KiB: sockets, above all, when
/// nothing else goes on. Both ends of a loopback connection are in it.
pub fn kernel_kib() -> Option<u64> {
    kib(&fs::read_to_string("/proc/meminfo").ok()?, "Slab:")
}

/// Every process and its parent.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, after_the_name(&stat)?.nth(1)?.parse().ok()?))
    };
    pids.filter_map(parent).collect()
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
fn kib(text: &str, name: &str) -> Option<u64> {
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
            kib("Rss:      1400 kB\nPss:       900 kB\nPss_Dirty: 5 kB\n", "Pss:"),
            Some(900)
        );
        assert_eq!(kib("Rss: 1 kB", "Pss:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_works_has_used_time_and_memory() {
        let own = Processes::of(std::process::id());
        while own.cpu().unwrap().is_zero() {
            std::hint::black_box((0..1_000_000).sum::<u64>());
        }
        let memory = own.memory().unwrap();
        assert!(memory.pss_kib > 0 && memory.rss_kib >= memory.pss_kib);
        assert!(kernel_kib().unwrap() > 0);
    }
}
