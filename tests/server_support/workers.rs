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
