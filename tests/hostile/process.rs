//! What a server and the processes it has started use.

use std::collections::BTreeSet;
use std::fs;

/// The process and all it has started, directly or not.
fn family(pid: u32) -> BTreeSet<u32> {
    let mut all = BTreeSet::from([pid]);
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let new = children.split_whitespace().filter_map(|child| child.parse().ok());
            next.extend(new.filter(|child| all.insert(*child)));
        }
    }
    all
}

/// Their private memory, KiB.
pub fn private_kib(pid: u32) -> u64 {
    private_kib_of_each(pid).into_iter().map(|(_, kib)| kib).sum()
}

/// The private memory of each of them, KiB.
pub fn private_kib_of_each(pid: u32) -> Vec<(u32, u64)> {
    let of_process = |pid: u32| -> Option<(u32, u64)> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some((pid, line.trim().trim_end_matches(" kB").parse().ok()?))
    };
    family(pid).into_iter().filter_map(of_process).collect()
}

/// Whether one of their threads runs or could run.
pub fn is_busy(pid: u32) -> bool {
    let runs = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name may have spaces and brackets in it.
        stat.rsplit_once(')')
            .is_some_and(|(_, fields)| fields.trim_start().starts_with('R'))
    };
    let of_process = |pid: u32| fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.flatten().any(runs));
    family(pid).into_iter().any(of_process)
}

/// Their open descriptors.
pub fn descriptors(pid: u32) -> usize {
    let of_process = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    family(pid).into_iter().map(of_process).sum()
}

/// Their threads.
pub fn threads(pid: u32) -> usize {
    let of_process = |pid: u32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    family(pid).into_iter().map(of_process).sum()
}
