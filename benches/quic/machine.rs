//! Cores, CPU time, and system calls.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

/// The servers'; ours is the other one.
pub const SERVER: usize = 0;
pub const CLIENTS: usize = 1;

/// Keeps this thread, and what it starts from now on, on one core.
pub fn pin(core: usize) {
    keep_on(&[core]);
}

/// Lets what is started from now on choose between the two.
pub fn unpin() {
    keep_on(&[SERVER, CLIENTS]);
}

fn keep_on(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).unwrap();
}

/// What the threads of a process have used, to the nanosecond. None of a server's comes or goes.
pub fn cpu(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let used = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(used).sum())
}

const EVENTS: [&str; 3] = ["sendmsg", "recvmmsg", "epoll_wait"];

/// `perf stat` of a process, if this machine lets us.
pub struct Calls(Option<Child>);

/// How often a process called what a QUIC server calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Called {
    pub sendmsg: u64,
    pub recvmmsg: u64,
    pub epoll_wait: u64,
}

impl Calls {
    /// Counts for so long from now on.
    pub fn count(process: u32, each: Duration) -> Self {
        let events = EVENTS.map(|name| format!("syscalls:sys_enter_{name}")).join(",");
        let child = Command::new("perf")
            .args(["stat", "-x", ",", "-e", &events, "-p", &process.to_string(), "--", "sleep"])
            .arg(each.as_secs_f64().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.ok())
    }

    /// Waits until they are counted; nothing if they cannot be.
    pub fn end(self) -> Option<Called> {
        let told = self.0?.wait_with_output().ok()?;
        let told = String::from_utf8(told.stderr).ok()?;
        let count = |name: &str| {
            let line = told.lines().find(|line| line.contains(name))?;
            line.split(',').next()?.parse().ok()
        };
        let [sendmsg, recvmmsg, epoll_wait] = EVENTS.map(|name| count(&format!("enter_{name}")));
        Some(Called { sendmsg: sendmsg?, recvmmsg: recvmmsg?, epoll_wait: epoll_wait? })
    }
}
