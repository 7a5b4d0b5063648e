//! Limits the memory of a worker from outside.
//!
//! The kernel of the guests charges every byte to a sandbox. This bound is for a worker whose native code is no longer
//! what we compiled, and for faults of our own. It has three parts:
//!
//! - the pool looks at each worker twice a second, and kills one that uses more than its sandboxes may;
//! - `RLIMIT_DATA` stops what grows faster than that. It counts address space, of which a process's native stack takes
//!   much more than it uses, so it is a wider bound;
//! - where a cgroup is delegated to the server, `memory.max` holds the bound exactly ([`super::cgroup`]).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid, getrlimit, prlimit};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use super::cgroup::Cgroup;

/// What a worker may use beyond what it used at its start and what its sandboxes may, bytes: buffers of calls.
const FOR_CALLS: u64 = 128 << 20;
/// What a sandbox may use beyond one and a half times its memory and disk, bytes.
const FOR_EACH: u64 = 32 << 20;
/// Address space of the native stacks of one sandbox's processes, bytes: 64 processes of 10 MiB, and guard pages.
const STACKS: u64 = 64 * (11 << 20);
/// Address space of the worker's own threads, bytes: 512 that wait for files, at most, of 2 MiB each.
const THREADS: u64 = 2 << 30;
/// How long memory of a removed sandbox may take to be given back.
const LEAVING: Duration = Duration::from_secs(60);

/// What a sandbox of this shape may make its worker use, bytes.
#[must_use]
pub fn share_of(memory_mb: u64, disk_mb: u64) -> u64 {
    let both = memory_mb.saturating_add(disk_mb).saturating_mul(1 << 20);
    both.saturating_add(both / 2).saturating_add(FOR_EACH)
}

/// Private memory of a process as the system counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Private pages in memory, bytes.
    pub resident: u64,
    /// Address space that `RLIMIT_DATA` counts, bytes.
    pub data: u64,
}

impl Use {
    /// What a process uses now.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(format!("/proc/{pid}/status"))?))
    }

    fn parse(status: &str) -> Self {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
            kib.unwrap_or_default() << 10
        };
        Self {
            resident: bytes("RssAnon:").saturating_add(bytes("VmSwap:")),
            data: bytes("VmData:"),
        }
    }
}

/// Limits the address space for data of another process, which belongs to `uid` if it was given one. What it has already
/// stays.
///
/// # Errors
/// When this process may not.
pub fn limit_data(pid: u32, uid: Option<u32>, bytes: u64) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // The hard limit stays as it was, so that this one can be raised again; the worker cannot change either.
    let maximum = getrlimit(Resource::Data).maximum;
    let current = Some(maximum.map_or(bytes, |maximum| maximum.min(bytes)));
    let limit = move || {
        let limit = Rlimit { current, maximum };
        prlimit(Some(pid), Resource::Data, limit).map(drop)
    };
    match (limit(), uid) {
        // That takes the capability SYS_RESOURCE, which root lacks in many containers, or to be the same user.
        (Err(Errno::PERM), Some(uid)) => {
            let limiting = std::thread::Builder::new().spawn(move || {
                // This thread alone.
                let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
                set_thread_res_gid(group, group, group)?;
                set_thread_res_uid(user, user, user)?;
                limit()
            })?;
            Ok(limiting.join().unwrap_or(Err(Errno::PERM))?)
        }
        (result, _) => Ok(result?),
    }
}

/// The bound of one worker.
#[derive(Debug)]
pub struct MemoryBound {
    pid: u32,
    /// The user it belongs to, if it has one of its own.
    uid: Option<u32>,
    cgroup: Option<Cgroup>,
    /// What it used before it had a sandbox.
    at_start: Use,
    /// What each of its sandboxes may use.
    shares: HashMap<String, u64>,
    /// The sum of the shares. Wider than they are, so that it cannot overflow.
    sum: u128,
    /// What sandboxes were allowed that have left, and when the last of them did.
    leaving: Option<(u64, Instant)>,
}

impl MemoryBound {
    /// The bound of a worker that has no sandboxes yet.
    #[must_use]
    pub fn new(pid: u32, uid: Option<u32>, cgroup: Option<Cgroup>) -> Self {
        let mut bound = Self {
            pid,
            uid,
            cgroup,
            at_start: Use::of(pid).unwrap_or_default(),
            shares: HashMap::new(),
            sum: 0,
            leaving: None,
        };
        bound.apply();
        bound
    }

    /// Allows what a sandbox may use.
    pub fn admit(&mut self, id: &str, share: u64) {
        let before = self.shares.insert(id.to_owned(), share);
        self.sum = self.sum - u128::from(before.unwrap_or_default()) + u128::from(share);
        if before != Some(share) {
            self.apply();
        }
    }

    /// Allows no longer what a sandbox might use; its memory may take a while to be given back.
    pub fn release(&mut self, id: &str) {
        if let Some(share) = self.shares.remove(id) {
            self.sum -= u128::from(share);
            let left = self.leaving.map_or(0, |(left, _)| left);
            self.leaving = Some((left.saturating_add(share), Instant::now()));
        }
    }

    /// What the worker uses, if that is more than it may.
    pub fn excess(&mut self) -> Option<Excess> {
        let resident = Use::of(self.pid).ok()?.resident;
        self.excess_of(resident)
    }

    fn excess_of(&mut self, resident: u64) -> Option<Excess> {
        let own = self.allowed_to_stay();
        if let Some((_, since)) = self.leaving
            && (resident <= own || since.elapsed() >= LEAVING)
        {
            self.leaving = None;
            self.apply();
        }
        let allowed = self.allowed();
        (resident > allowed).then_some(Excess { resident, allowed })
    }

    /// What it may use, bytes.
    fn allowed(&self) -> u64 {
        let leaving = self.leaving.map_or(0, |(left, _)| left);
        self.allowed_to_stay().saturating_add(leaving)
    }

    fn allowed_to_stay(&self) -> u64 {
        let shares = u64::try_from(self.sum).unwrap_or(u64::MAX);
        self.at_start.resident.saturating_add(FOR_CALLS).saturating_add(shares)
    }

    /// Tells the system.
    fn apply(&mut self) {
        let allowed = self.allowed();
        let stacks = STACKS.saturating_mul(self.shares.len() as u64 + 1);
        let data = [self.at_start.data, allowed, stacks, THREADS]
            .into_iter()
            .fold(0, u64::saturating_add);
        if let Err(error) = limit_data(self.pid, self.uid, data) {
            tracing::debug!(pid = self.pid, %error, "the address space of a worker cannot be limited");
        }
        if let Some(cgroup) = &self.cgroup
            && let Err(error) = cgroup.set_memory(allowed)
        {
            tracing::debug!(pid = self.pid, %error, "the memory of a worker's cgroup cannot be limited");
        }
    }
}

/// A worker that uses too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Bytes it uses.
    pub resident: u64,
    /// Bytes it may use.
    pub allowed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> MemoryBound {
        MemoryBound {
            // A process that is not there: nothing is limited.
            pid: u32::MAX >> 1,
            uid: None,
            cgroup: None,
            at_start: Use {
                resident: 10 << 20,
                data: 20 << 20,
            },
            shares: HashMap::new(),
            sum: 0,
            leaving: None,
        }
    }

    #[test]
    fn status_is_read() {
        let status = "Name:\twisp\nVmData:\t  2048 kB\nRssAnon:\t    1024 kB\nVmSwap:\t       4 kB\n";
        let expected = Use {
            resident: 1028 << 10,
            data: 2 << 20,
        };
        assert_eq!(Use::parse(status), expected);
        assert_eq!(Use::parse("Name:\tgone\n"), Use::default());
        assert!(Use::of(std::process::id()).unwrap().resident > 0);
    }

    #[test]
    fn worker_may_use_what_its_sandboxes_may() {
        let mut bound = bound();
        let base = (10 << 20) + FOR_CALLS;
        assert_eq!(bound.excess_of(base), None);
        assert!(bound.excess_of(base + 1).is_some());
        bound.admit("sb_a", share_of(100, 20));
        let more = (180 << 20) + FOR_EACH;
        assert_eq!(bound.excess_of(base + more), None);
        let excess = Excess {
            resident: base + more + 1,
            allowed: base + more,
        };
        assert_eq!(bound.excess_of(base + more + 1), Some(excess));
        bound.admit("sb_a", share_of(100, 20));
        assert!(bound.excess_of(base + more + 1).is_some(), "opened twice, allowed once");
    }

    #[test]
    fn removed_sandbox_may_take_its_time_to_go_but_only_once() {
        let mut bound = bound();
        let base = (10 << 20) + FOR_CALLS;
        bound.admit("sb_a", share_of(100, 0));
        bound.release("sb_a");
        bound.release("sb_a");
        let more = (150 << 20) + FOR_EACH;
        assert_eq!(bound.excess_of(base + more), None, "it is still there");
        assert!(bound.excess_of(base + more + 1).is_some());
        assert_eq!(bound.excess_of(base), None, "it is gone");
        assert!(
            bound.excess_of(base + 1).is_some(),
            "nothing is allowed for it any more"
        );
    }

    #[test]
    fn other_process_is_kept_from_growing() {
        let mut child = std::process::Command::new("sh")
            .args([
                "-c",
                "read go; head -c 300000000 /dev/zero | (x=$(tr '\\0' x); echo ${#x}) 2>/dev/null",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        limit_data(child.id(), None, 64 << 20).unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "300 MB fit into 64 MiB");
    }

    #[test]
    fn share_of_any_shape_is_a_number() {
        assert_eq!(share_of(u64::MAX, u64::MAX), u64::MAX);
    }
}
