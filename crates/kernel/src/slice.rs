//! Long work of a host call, in slices between which others run.

use std::time::{Duration, Instant};

/// How long a host call works before it lets others run. A killed process ends there.
const SLICE: Duration = Duration::from_micros(500);

/// Measures the slices of one host call.
#[derive(Debug)]
pub struct Slices {
    started: Instant,
}

impl Slices {
    /// The first slice starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Lets others run if the slice is used up. To be called between pieces of work that are far shorter than a slice.
    pub async fn pause(&mut self) {
        if self.started.elapsed() >= SLICE {
            tokio::task::yield_now().await;
            self.started = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn long_work_lets_others_run_and_short_work_does_not_stop() {
        let turns = Cell::new(0);
        let working = async {
            let mut slices = Slices::start();
            slices.pause().await;
            assert_eq!(turns.get(), 0, "the slice was not used up");
            for _ in 0..3 {
                std::thread::sleep(2 * SLICE);
                slices.pause().await;
            }
            assert!(turns.get() >= 2);
        };
        let others = async {
            for _ in 0..10 {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(working, others);
    }
}
