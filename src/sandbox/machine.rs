//! Asks the operating system for the machine's memory and disk, and for available memory.

use std::path::{Path, PathBuf};

/// Where control groups are (cgroups(7), version 2).
const CGROUPS: &str = "/sys/fs/cgroup";

/// Memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Of the machine, or what the server's control group may use if that is less.
    pub(super) total: u64,
    /// What can be used before something else must make room.
    pub(super) available: u64,
}

impl Memory {
    /// As it is now; `None` when the system does not say. Reads a few small files of `/proc` and `/sys`.
    pub(super) fn now() -> Option<Self> {
        let machine = Self::of_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
        let groups = own_groups();
        Some(
            groups
                .iter()
                .filter_map(|group| Self::of_group(group))
                .fold(machine, |least, group| Self {
                    total: least.total.min(group.total),
                    available: least.available.min(group.available),
                }),
        )
    }

    fn of_meminfo(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self {
            total: field("MemTotal:")?,
            available: field("MemAvailable:")?,
        })
    }

    /// What a control group allows; `None` when it has no limit.
    fn of_group(group: &Path) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
        let max: u64 = read("memory.max")?.trim().parse().ok()?;
        let current: u64 = read("memory.current")?.trim().parse().ok()?;
        // Pages of files that nobody used lately are dropped before anything else.
        let reclaimable = read("memory.stat")
            .and_then(|stat| {
                stat.lines()
                    .find_map(|line| line.strip_prefix("inactive_file "))?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        Some(Self {
            total: max,
            available: max.saturating_sub(current.saturating_sub(reclaimable)),
        })
    }
}

/// The control group of this process and those around it.
fn own_groups() -> Vec<PathBuf> {
    let Ok(text) = std::fs::read_to_string("/proc/self/cgroup") else {
        return Vec::new();
    };
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let root = Path::new(CGROUPS);
    let own = root.join(path);
    own.ancestors()
        .take_while(|group| group.starts_with(root))
        .map(Path::to_owned)
        .collect()
}

/// Size of the file system that a directory is in, or will be in, bytes; `None` when the system does not say.
pub(super) fn disk_size(directory: &Path) -> Option<u64> {
    let size = |path: &Path| {
        let stat = rustix::fs::statvfs(path).ok()?;
        stat.f_blocks.checked_mul(stat.f_frsize)
    };
    directory.ancestors().find_map(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:       24576 kB\nMemFree:  1 kB\nMemAvailable:    1024 kB\n";
        let memory = Memory::of_meminfo(text).unwrap();
        assert_eq!((memory.total, memory.available), (24_576 << 10, 1024 << 10));
        assert_eq!(Memory::of_meminfo("MemTotal: many kB\n"), None);
    }

    #[test]
    fn control_group_counts_what_it_could_drop_as_available() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(group.path().join(name), text).unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        write("memory.stat", "anon 1\ninactive_file 200\n");
        let memory = Memory::of_group(group.path()).unwrap();
        assert_eq!((memory.total, memory.available), (1000, 500));
        write("memory.max", "max\n");
        assert_eq!(Memory::of_group(group.path()), None);
    }

    #[test]
    fn this_machine_says_what_it_has() {
        let memory = Memory::now().unwrap();
        assert!(memory.available <= memory.total && memory.total > 0);
        assert!(disk_size(Path::new("/tmp/not/there/yet")).unwrap() > 0);
    }
}
