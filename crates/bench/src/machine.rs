//! The machine the figures are of.

use std::fs;

use serde::Serialize;

/// What a figure depends on beside the program.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Processors this process may use.
    pub processors: usize,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Version of the operating system's kernel.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            processor: value_of("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mb: value_of("/proc/meminfo", "MemTotal").map_or(0, |value| kibibytes(&value) / 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |release| release.trim().to_owned()),
        }
    }
}

/// Processes that ran or wanted to run, on average over the last minute. None where there is no `/proc`.
pub fn load() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Memory that belongs to a process alone and that the system cannot drop (`Private_Dirty`), bytes.
pub fn private_dirty(pid: u32) -> std::io::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path)?;
    let value =
        field(&text, "Private_Dirty").ok_or_else(|| std::io::Error::other(format!("no Private_Dirty in {path}")))?;
    Ok(kibibytes(value) * 1024)
}

/// The processes that a process has started and that are there still.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
            pids.collect::<Vec<u32>>()
        })
        .collect()
}

fn value_of(path: &str, name: &str) -> Option<String> {
    field(&fs::read_to_string(path).ok()?, name).map(str::to_owned)
}

/// The value of the first line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
        .map(str::trim)
}

/// The number in `1234 kB`.
fn kibibytes(value: &str) -> u64 {
    let number = value.split_whitespace().next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::this();
        assert!(machine.processors > 0 && machine.memory_mb > 0, "{machine:?}");
        assert!(machine.kernel.contains('.'), "{machine:?}");
        assert!(load().is_some_and(|load| load >= 0.0));
    }

    #[test]
    fn memory_that_is_written_is_private_and_dirty() {
        const SIZE: usize = 64 << 20;
        let before = private_dirty(std::process::id()).unwrap();
        let written = std::hint::black_box(vec![1_u8; SIZE]);
        let after = private_dirty(std::process::id()).unwrap();
        assert!(
            after >= before + SIZE as u64 / 2,
            "{before} bytes before, {after} after"
        );
        drop(written);
    }
}
