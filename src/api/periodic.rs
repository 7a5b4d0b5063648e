//! Tasks that run at intervals beside the requests.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// A task that does something at an interval; it ends when this is dropped.
#[must_use = "the task ends when this is dropped"]
pub struct Periodic(JoinHandle<()>);

impl Periodic {
    /// Starts the task on the current runtime. The next turn comes an interval after the last one has ended.
    pub fn start<F: Future<Output = ()> + Send>(
        interval: Duration,
        mut turn: impl FnMut() -> F + Send + 'static,
    ) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                turn().await;
            }
        }))
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        self.0.abort();
    }
}
