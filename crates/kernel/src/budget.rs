//! What one sandbox may use of the host, counted in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Limits of one sandbox. Files are counted by its [`wisp_vfs::Fs`], everything else here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memories, tables, pipes, argument blocks and process overhead, all processes together.
    pub memory_bytes: u64,
    /// Live processes.
    pub processes: usize,
    /// Open descriptors of one process.
    pub descriptors: usize,
    /// Processes that may execute at the same instant.
    pub vcpus: usize,
    /// Processor time of all processes since the machine was made; `None` for no limit.
    pub cpu_time: Option<Duration>,
}

impl Default for Limits {
    /// 512 MiB, 64 processes, 256 descriptors each, one CPU, any amount of its time.
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            processes: 64,
            descriptors: 256,
            vcpus: 1,
            cpu_time: None,
        }
    }
}

/// The running count against [`Limits`], shared by all processes of a sandbox.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    memory: AtomicU64,
    processes: AtomicUsize,
}

/// A limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sandbox limit reached")]
pub struct OverBudget;

impl Budget {
    /// Nothing used yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            memory: AtomicU64::new(0),
            processes: AtomicUsize::new(0),
        })
    }

    /// The limits counted against.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes of memory in use.
    pub fn memory_used(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Live processes.
    pub fn processes_used(&self) -> usize {
        self.processes.load(Ordering::Relaxed)
    }

    /// Takes `bytes` of memory; given back when the charge is dropped.
    pub fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, OverBudget> {
        self.take(bytes)?;
        Ok(Charge {
            budget: Arc::clone(self),
            bytes,
        })
    }

    /// Takes a place in the process table; given back when the slot is dropped.
    pub fn process_slot(self: &Arc<Self>) -> Result<ProcessSlot, OverBudget> {
        let limit = self.limits.processes;
        self.processes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < limit).then_some(used + 1)
            })
            .map_err(|_| OverBudget)?;
        Ok(ProcessSlot {
            budget: Arc::clone(self),
        })
    }

    fn take(&self, bytes: u64) -> Result<(), OverBudget> {
        let limit = self.limits.memory_bytes;
        self.memory
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|total| *total <= limit)
            })
            .map(|_| ())
            .map_err(|_| OverBudget)
    }
}

/// Memory taken from a [`Budget`].
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    /// Takes `more` bytes on top.
    pub fn grow(&mut self, more: u64) -> Result<(), OverBudget> {
        self.budget.take(more)?;
        self.bytes += more;
        Ok(())
    }

    /// Gives `less` bytes back.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.budget.memory.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.memory.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A place in the process table, taken from a [`Budget`].
#[derive(Debug)]
pub struct ProcessSlot {
    budget: Arc<Budget>,
}

impl Drop for ProcessSlot {
    fn drop(&mut self) {
        self.budget.processes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_over_the_limit_is_refused_and_leaves_no_trace() {
        let budget = Budget::new(Limits {
            memory_bytes: 100,
            ..Limits::default()
        });
        let mut first = budget.charge(60).unwrap();
        assert!(budget.charge(41).is_err());
        assert!(first.grow(u64::MAX).is_err());
        assert_eq!(budget.memory_used(), 60);
        first.grow(40).unwrap();
        drop(first);
        assert_eq!(budget.memory_used(), 0);
    }

    #[test]
    fn process_slots_are_given_back() {
        let budget = Budget::new(Limits {
            processes: 1,
            ..Limits::default()
        });
        let slot = budget.process_slot().unwrap();
        assert!(budget.process_slot().is_err());
        drop(slot);
        assert!(budget.process_slot().is_ok());
    }
}
