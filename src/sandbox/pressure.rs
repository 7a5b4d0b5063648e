//! Refuses new work before the machine runs out of memory.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use super::SandboxError;
use super::machine::Memory;
use crate::config::Limits;

/// How old a measurement may be. Reading one takes some tens of microseconds.
const MAX_AGE: Duration = Duration::from_millis(100);
/// Of the machine's memory, the default reserve is one part in this many.
const RESERVE_PART: u64 = 16;
/// Largest default reserve, bytes.
const MAX_DEFAULT_RESERVE: u64 = 1 << 30;

/// Watches the memory of the machine.
pub(super) struct Pressure {
    /// Bytes that must be available; 0 does not look.
    reserve: u64,
    measure: fn() -> Option<Memory>,
    /// When it was measured last, and what was available then.
    last: Mutex<Option<(Instant, u64)>>,
}

impl Pressure {
    pub(super) fn new(limits: &Limits) -> Self {
        Self::measured_by(limits.memory_reserve_mb, Memory::now)
    }

    fn measured_by(reserve_mb: Option<u64>, measure: fn() -> Option<Memory>) -> Self {
        let default = || measure().map_or(0, |memory| (memory.total / RESERVE_PART).min(MAX_DEFAULT_RESERVE));
        Self {
            reserve: reserve_mb.map_or_else(default, |mb| mb.saturating_mul(1 << 20)),
            measure,
            last: Mutex::new(None),
        }
    }

    /// # Errors
    /// [`SandboxError::Overloaded`] while less memory than the reserve is available.
    pub(super) fn check(&self) -> Result<(), SandboxError> {
        if self.reserve == 0 {
            return Ok(());
        }
        let available = {
            // Whoever finds it taken goes by what the other is about to find: one of many at this instant.
            let Some(mut last) = self.last.try_lock() else {
                return Ok(());
            };
            match *last {
                Some((at, available)) if at.elapsed() < MAX_AGE => available,
                _ => {
                    let available = (self.measure)().map_or(u64::MAX, |memory| memory.available);
                    *last = Some((Instant::now(), available));
                    available
                }
            }
        };
        if available >= self.reserve {
            return Ok(());
        }
        Err(SandboxError::Overloaded(format!(
            "the server has {} MiB of memory left and keeps {} MiB free; try again later",
            available >> 20,
            self.reserve >> 20
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Memory = Memory {
        total: 1 << 30,
        available: 100 << 20,
    };

    #[test]
    fn work_is_refused_while_less_than_the_reserve_is_available() {
        for (reserve_mb, refused) in [(Some(101), true), (Some(100), false), (Some(0), false), (None, false)] {
            let pressure = Pressure::measured_by(reserve_mb, || Some(MEMORY));
            for _ in 0..2 {
                assert_eq!(pressure.check().is_err(), refused, "{reserve_mb:?}");
            }
        }
        let message = Pressure::measured_by(Some(512), || Some(MEMORY))
            .check()
            .unwrap_err()
            .to_string();
        assert!(message.contains("100 MiB") && message.contains("512 MiB"), "{message}");
    }

    #[test]
    fn a_machine_that_says_nothing_is_not_overloaded() {
        assert!(Pressure::measured_by(Some(1), || None).check().is_ok());
    }
}
