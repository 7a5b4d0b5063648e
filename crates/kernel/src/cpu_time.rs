//! Processor time: how much an exec or a sandbox has used, and how much it may use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Processor time of many processes together, with a limit.
///
/// What counts is what guest threads use of a processor in their turns, host calls included. A turn that follows a short
/// one counts with the time it took, which is more when others had the processor meanwhile.
#[derive(Debug)]
pub struct CpuTime {
    used_ns: AtomicU64,
    /// `u64::MAX` for no limit.
    limit_ns: u64,
}

impl CpuTime {
    /// Nothing used yet of this much; of any amount if `None`.
    pub fn new(limit: Option<Duration>) -> Self {
        Self {
            used_ns: AtomicU64::new(0),
            limit_ns: limit.map_or(u64::MAX, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)),
        }
    }

    /// Adds time that was used, nanoseconds. `false` when no more is left.
    pub fn add(&self, spent: u64) -> bool {
        let before = self.used_ns.fetch_add(spent, Ordering::Relaxed);
        before.saturating_add(spent) < self.limit_ns
    }

    /// Nanoseconds used.
    pub fn used_ns(&self) -> u64 {
        self.used_ns.load(Ordering::Relaxed)
    }

    /// Whether no more is left.
    pub fn is_used_up(&self) -> bool {
        self.used_ns() >= self.limit_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_reached_by_what_is_used_in_all() {
        let time = CpuTime::new(Some(Duration::from_nanos(100)));
        assert!(time.add(60) && !time.is_used_up());
        assert!(!time.add(40) && time.is_used_up());
        assert!(!time.add(0), "whoever comes later is told as well");
        assert_eq!(time.used_ns(), 100);
        let endless = CpuTime::new(None);
        assert!(endless.add(u64::MAX / 2) && !endless.is_used_up());
    }
}
