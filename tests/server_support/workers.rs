//! The worker processes of a server.

use std::fs;

/// The processes whose parent is this one and that are workers.
pub fn workers_of(server: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc");
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let is_child = worker_status(*pid).lines().any(|line| {
            line.strip_prefix("PPid:")
                .is_some_and(|parent| parent.trim() == server.to_string())
        });
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        is_child && command.split(|byte| *byte == 0).nth(1) == Some(b"worker")
    })
    .collect()
}

/// What the system says of a process; nothing when it is gone.
pub fn worker_status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// The environment a process was started with.
pub fn worker_environment(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/environ")).expect("its environment")
}

/// Resident memory of a server and its workers together, KiB. What they share counts for each.
pub fn resident_kib(server: u32) -> u64 {
    sum_of_kib(server, "VmRSS:")
}

/// Resident memory of a server and its workers that is no part of a file, KiB: a worker that starts adds little to it.
pub fn anonymous_kib(server: u32) -> u64 {
    sum_of_kib(server, "RssAnon:")
}

fn sum_of_kib(server: u32, field: &str) -> u64 {
    let value = |pid: u32| {
        let status = worker_status(pid);
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let own = value(server).expect("the server's memory");
    // A worker may end meanwhile.
    own + workers_of(server).into_iter().filter_map(value).sum::<u64>()
}
