//! What a process holds, as the kernel counts it.

use std::fs;

#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// What it wrote to and holds: heap, stacks, tables.
    pub process_bytes: u64,
    /// What the kernel keeps for everybody in its tables: sockets and their files, above all.
    pub kernel_bytes: u64,
}

impl Memory {
    pub fn of(process: u32) -> Self {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
        let system = fs::read_to_string("/proc/meminfo").unwrap();
        Self {
            process_bytes: kib(&rollup, "Anonymous:") * 1024,
            kernel_bytes: kib(&system, "Slab:") * 1024,
        }
    }
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
