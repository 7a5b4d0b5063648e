//! Checks the limits of the machine that a server with many sandboxes reaches.

use rustix::process::{Resource, getrlimit};

use super::Check;

const GROUP: &str = "machine";
/// Connections, data files and sockets of a busy server.
const WANTED_FILES: u64 = 4096;
/// Guests' memories, stacks and compiled code: each process of a sandbox takes a handful of mappings.
const WANTED_MAPPINGS: u64 = 65_530;
/// Below this a single Python with a compiler beside it is tight, MiB.
const WANTED_MEMORY_MB: u64 = 2048;

pub(super) fn checks() -> Vec<Check> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    [
        Some(Check::ok(GROUP, "processors", processors.to_string())),
        memory(),
        overcommit(),
        Some(address_space()),
        Some(open_files()),
        mappings(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A number in a file of `/proc`; none on other systems.
fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn memory() -> Option<Check> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    let mb = kib / 1024;
    let found = format!("{mb} MiB available");
    Some(if mb < WANTED_MEMORY_MB {
        let fix = format!("{WANTED_MEMORY_MB} MiB are comfortable; lower limits.max_memory_mb to what there is");
        Check::warning(GROUP, "memory", found, fix)
    } else {
        Check::ok(GROUP, "memory", found)
    })
}

/// wasmtime reserves 4 GiB of addresses for each memory of a guest and touches little of it.
fn overcommit() -> Option<Check> {
    const NEVER: u64 = 2;
    let mode = number("/proc/sys/vm/overcommit_memory")?;
    let found = format!("vm.overcommit_memory = {mode}");
    Some(if mode == NEVER {
        let fix = "sysctl vm.overcommit_memory=0: sandboxes reserve addresses they never use";
        Check::warning(GROUP, "memory overcommit", found, fix)
    } else {
        Check::ok(GROUP, "memory overcommit", found)
    })
}

fn address_space() -> Check {
    let Some(limit) = getrlimit(Resource::As).current else {
        return Check::ok(GROUP, "address space", "unlimited");
    };
    let found = format!("limited to {} MiB", limit >> 20);
    let fix = "ulimit -v unlimited, before wisp starts: each process of a sandbox reserves 4 GiB of addresses";
    Check::missing(GROUP, "address space", found, fix)
}

fn open_files() -> Check {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return Check::ok(GROUP, "open files", "unlimited");
    };
    let found = format!("at most {limit}");
    if limit < WANTED_FILES {
        let fix = format!("ulimit -n {WANTED_FILES}, or LimitNOFILE= in the unit, for many connections at once");
        Check::warning(GROUP, "open files", found, fix)
    } else {
        Check::ok(GROUP, "open files", found)
    }
}

fn mappings() -> Option<Check> {
    let limit = number("/proc/sys/vm/max_map_count")?;
    let found = format!("vm.max_map_count = {limit}");
    Some(if limit < WANTED_MAPPINGS {
        let fix = format!("sysctl vm.max_map_count={WANTED_MAPPINGS}");
        Check::warning(GROUP, "memory mappings", found, fix)
    } else {
        Check::ok(GROUP, "memory mappings", found)
    })
}
