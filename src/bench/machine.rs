//! What the machine gives: open files, and a core for each side.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files as far as it may go, for us and whom we start. Says so.
pub fn raise_open_files(said: &mut Vec<String>) {
    let before = getrlimit(Resource::Nofile);
    let mut wanted = before;
    wanted.current = before.maximum;
    if before.current == before.maximum || setrlimit(Resource::Nofile, wanted).is_err() {
        return;
    }
    let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let (before, after) = (text(before.current), text(before.maximum));
    said.push(format!("open files (RLIMIT_NOFILE) raised from {before} to {after}"));
}

/// Two cores, one for the server and one for the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// The server's.
    pub server: usize,
    /// The generator's.
    pub generator: usize,
}

#[cfg(target_os = "linux")]
mod pinning {
    use std::sync::OnceLock;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::Cores;

    /// The first and the last core that this process might use when it was first asked, unless
    /// they are the same: whoever has been pinned since then sees one.
    pub fn cores() -> Option<Cores> {
        static FIRST: OnceLock<Option<Cores>> = OnceLock::new();
        *FIRST.get_or_init(look)
    }

    fn look() -> Option<Cores> {
        let allowed = sched_getaffinity(None).ok()?;
        let allowed: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        let (server, generator) = (*allowed.first()?, *allowed.last()?);
        (server != generator).then_some(Cores { server, generator })
    }

    /// Keeps this thread, and what it will start, on one core.
    pub fn pin(core: usize) -> bool {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod pinning {
    use super::Cores;

    /// Nobody can be kept on a core here.
    pub fn cores() -> Option<Cores> {
        None
    }

    /// Nor is.
    pub fn pin(_core: usize) -> bool {
        false
    }
}

pub use pinning::{cores, pin};
