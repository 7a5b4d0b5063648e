//! How much is measured.

use std::time::Duration;

/// How many times each thing is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Runs before each series that do not count.
    pub warm_up: usize,
    /// Runs in a series.
    pub runs: usize,
    /// A series of something slow ends after this, with [`Effort::MIN_RUNS`] at least.
    pub series_budget: Duration,
    /// How long each number of clients is kept busy.
    pub busy_for: Duration,
    /// Interpreters that live at once while their memory is measured.
    pub live: usize,
    /// Containers that live at once while their memory is measured.
    pub live_containers: usize,
    /// Sandboxes that wait at once while their memory is measured.
    pub idle: usize,
    /// Starts of a server.
    pub starts: usize,
    /// Commands that pass their deadline.
    pub deadlines: usize,
    /// Runs of each computing program, of which the fastest counts.
    pub repeats: usize,
}

impl Effort {
    /// Fewest runs in a series.
    pub const MIN_RUNS: usize = 5;

    /// A run for figures to publish: about ten minutes.
    pub const FULL: Self = Self {
        warm_up: 20,
        runs: 1000,
        series_budget: Duration::from_secs(10),
        busy_for: Duration::from_secs(3),
        live: 200,
        live_containers: 10,
        idle: 10_000,
        starts: 10,
        deadlines: 40,
        repeats: 3,
    };

    /// A run for a first impression: about a minute and a half.
    pub const QUICK: Self = Self {
        warm_up: 3,
        runs: 100,
        series_budget: Duration::from_secs(2),
        busy_for: Duration::from_millis(500),
        live: 50,
        live_containers: 3,
        idle: 1000,
        starts: 2,
        deadlines: 5,
        repeats: 1,
    };
}
