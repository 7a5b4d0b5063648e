//! What a machine gets from outside and what differs from run to run: the time and random bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time a repeatable machine starts at, ns since 1970: the first of January 2026.
const REPEATABLE_START: u64 = 1_767_225_600 * 1_000_000_000;
/// How far its clocks go on with each look at them, ns.
const REPEATABLE_STEP: u64 = 1_000;

/// Where the time and random bytes of a machine come from.
#[derive(Debug)]
pub(super) enum Outside {
    /// From the host.
    Host,
    /// From nowhere: two runs of the same programs see the same. Nothing secret can be made of these bytes.
    Repeatable {
        /// Time since the start, ns.
        elapsed: AtomicU64,
        /// State of the generator.
        random: AtomicU64,
    },
}

impl Outside {
    /// The same each time.
    pub(super) fn repeatable() -> Self {
        Self::Repeatable {
            elapsed: AtomicU64::new(0),
            random: AtomicU64::new(0),
        }
    }

    /// Time since 1970, ns.
    pub(super) fn realtime(&self) -> u64 {
        match self {
            Self::Host => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            }
            Self::Repeatable { elapsed, .. } => REPEATABLE_START + step(elapsed),
        }
    }

    /// Time since the machine started, which was at `started`, ns.
    pub(super) fn monotonic(&self, started: Instant) -> u64 {
        match self {
            Self::Host => u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Self::Repeatable { elapsed, .. } => step(elapsed),
        }
    }

    /// Time a process has executed, which is really `used`, ns.
    pub(super) fn cpu(&self, used: &AtomicU64) -> u64 {
        match self {
            Self::Host => used.load(Ordering::Relaxed),
            Self::Repeatable { elapsed, .. } => step(elapsed),
        }
    }

    /// Fills a buffer with random bytes.
    pub(super) fn fill(&self, buffer: &mut [u8]) -> Result<(), getrandom::Error> {
        match self {
            Self::Host => getrandom::fill(buffer),
            Self::Repeatable { random, .. } => {
                for chunk in buffer.chunks_mut(8) {
                    chunk.copy_from_slice(&split_mix(random).to_le_bytes()[..chunk.len()]);
                }
                Ok(())
            }
        }
    }
}

/// Lets the clock go on.
fn step(elapsed: &AtomicU64) -> u64 {
    elapsed.fetch_add(REPEATABLE_STEP, Ordering::Relaxed)
}

/// The next number of the generator `SplitMix64`.
fn split_mix(state: &AtomicU64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut word = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Outside;

    fn look(outside: &Outside) -> (u64, u64, [u8; 13]) {
        let mut bytes = [0; 13];
        outside.fill(&mut bytes).unwrap();
        (outside.realtime(), outside.monotonic(Instant::now()), bytes)
    }

    #[test]
    fn a_repeatable_machine_sees_the_same_each_time_and_its_clock_goes_on() {
        let (one, other) = (Outside::repeatable(), Outside::repeatable());
        let first = look(&one);
        assert_eq!(first, look(&other));
        let second = look(&one);
        assert!(second.0 > first.0 && second.1 > first.1);
        assert_ne!(second.2, first.2);
    }

    #[test]
    fn random_bytes_of_ordinary_machines_differ() {
        assert_ne!(look(&Outside::Host).2, look(&Outside::Host).2);
    }
}
