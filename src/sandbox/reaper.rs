//! Removes expired sandboxes, and returns freed memory to the operating system.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::SandboxManager;
use super::allocator::Trimmer;
use crate::kernel::give_memory_back;

/// How often expired sandboxes are looked for. Requests do not wait for it: to them a sandbox is gone the moment it
/// expires. Only what it holds is freed this much later.
const INTERVAL: Duration = Duration::from_secs(1);

/// The expiry task of a manager; it ends when this is dropped.
#[must_use = "the task ends when this is dropped"]
pub struct Reaper(JoinHandle<()>);

impl Reaper {
    /// Starts the task on the current runtime.
    pub fn start(manager: SandboxManager) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut trimmer = Trimmer::new();
            loop {
                ticks.tick().await;
                manager.sweep().await;
                if trimmer.is_due(manager.metrics().sandboxes_ended()) {
                    // Not waited for.
                    tokio::task::spawn_blocking(give_memory_back);
                }
            }
        }))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
