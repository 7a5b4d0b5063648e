//! The resources that a sandbox uses.

use parking_lot::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::{Caller, SandboxError, SandboxId, SandboxManager};
use crate::provider::{ProviderError, SandboxUsage};

/// Shortest time over which the use of processors is averaged, once the sandbox is older.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// What a sandbox uses, and may use.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxStats {
    /// `None` when its provider cannot tell.
    pub usage: Option<SandboxUsage>,
    /// Processor time used over wall-clock time, in percent of one processor, since one of the last times somebody
    /// asked, at least a second ago; at first since the sandbox began. `None` when it is not measured.
    pub cpu_percent: Option<f64>,
    /// Memory it may use, bytes.
    pub mem_limit_bytes: u64,
    /// Files it may hold, bytes.
    pub disk_limit_bytes: u64,
    /// Commands started since the server started.
    pub exec_count: u64,
}

/// Two earlier measurements of processor time.
#[derive(Debug)]
pub(super) struct CpuMeter(Mutex<(Sample, Sample)>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    used: Duration,
}

impl CpuMeter {
    /// A meter of something that begins now, with nothing used.
    pub(super) fn new() -> Self {
        let begin = Sample {
            at: Instant::now(),
            used: Duration::ZERO,
        };
        Self(Mutex::new((begin, begin)))
    }

    /// Takes a measurement; percent of one processor since an earlier one.
    fn percent(&self, at: Instant, used: Duration) -> f64 {
        let (older, newer) = {
            let mut samples = self.0.lock();
            let (older, newer) = *samples;
            if at.duration_since(newer.at) >= MIN_INTERVAL {
                *samples = (newer, Sample { at, used });
            }
            (older, newer)
        };
        let since = if at.duration_since(newer.at) >= MIN_INTERVAL {
            newer
        } else {
            older
        };
        let elapsed = at.duration_since(since.at).as_secs_f64();
        if elapsed > 0.0 {
            100.0 * used.saturating_sub(since.used).as_secs_f64() / elapsed
        } else {
            0.0
        }
    }
}

impl SandboxManager {
    /// What a sandbox uses now.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`] and what the provider reports.
    pub async fn stats(&self, caller: &Caller, id: &SandboxId) -> Result<SandboxStats, SandboxError> {
        let sandbox = self.running(caller, id)?;
        let usage = match sandbox.provider()?.usage(id.as_str()).await {
            Ok(usage) => Some(usage),
            Err(ProviderError::Unsupported(_)) => None,
            Err(error) => return Err(SandboxError::of_provider(id, error)),
        };
        let cpu_time = usage.and_then(|usage| usage.cpu_time);
        let spec = &sandbox.spec;
        Ok(SandboxStats {
            usage,
            cpu_percent: cpu_time.map(|used| sandbox.cpu_meter.percent(Instant::now(), used)),
            mem_limit_bytes: spec.memory_mb.saturating_mul(1 << 20),
            disk_limit_bytes: spec.disk_mb.saturating_mul(1 << 20),
            exec_count: sandbox.exec_count(),
        })
    }

    /// The last console lines of a sandbox's commands, oldest first.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`].
    pub fn console_lines(&self, caller: &Caller, id: &SandboxId, count: usize) -> Result<Vec<String>, SandboxError> {
        Ok(self.running(caller, id)?.console.last_lines(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_averages_over_at_least_a_second() {
        let meter = CpuMeter::new();
        let begin = meter.0.lock().0.at;
        let percent = |at_ms, used_ms| {
            let at = begin + Duration::from_millis(at_ms);
            meter.percent(at, Duration::from_millis(used_ms)).round() as i64
        };
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(500, 250), 50);
        assert_eq!(percent(2000, 1000), 50);
        // A moment later there is no measurement that is old enough but the first.
        assert_eq!(percent(2001, 1001), 50);
        assert_eq!(percent(4000, 3000), 100);
        assert_eq!(percent(4500, 3000), 80);
        assert_eq!(percent(6000, 3000), 0);
        // A provider whose clock went back uses nothing.
        assert_eq!(percent(8000, 10), 0);
    }
}
