//! What is told of many figures.

use std::time::{Duration, Instant};

use super::effort::Effort;
use super::error::BenchError;

/// How long each run of a series took.
#[derive(Debug, Clone)]
pub struct Series {
    /// Rising, and not empty.
    sorted: Vec<Duration>,
}

impl Series {
    /// A series of at least one run.
    pub fn new(mut runs: Vec<Duration>) -> Result<Self, BenchError> {
        if runs.is_empty() {
            return Err(BenchError::Unexpected("nothing was measured".to_owned()));
        }
        runs.sort_unstable();
        Ok(Self { sorted: runs })
    }

    /// Does something again and again, one run after the other, and keeps what it says it took. The first runs do not
    /// count.
    pub async fn measure(
        effort: &Effort,
        mut run: impl AsyncFnMut() -> Result<Duration, BenchError>,
    ) -> Result<Self, BenchError> {
        let begun = Instant::now();
        // Something slow is warm after a few runs.
        for _ in 0..effort.warm_up {
            run().await?;
            if begun.elapsed() > effort.series_budget / 4 {
                break;
            }
        }
        let begun = Instant::now();
        let mut runs = Vec::new();
        while runs.len() < effort.runs && (runs.len() < Effort::MIN_RUNS || begun.elapsed() < effort.series_budget) {
            runs.push(run().await?);
        }
        Self::new(runs)
    }

    /// The nearest-rank percentile: the smallest figure that at least `percent` % of all do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted[rank.min(self.sorted.len()) - 1]
    }

    /// How many runs there were.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }
}

/// The geometric mean; none of nothing.
pub fn geometric_mean(figures: &[f64]) -> Option<f64> {
    let logarithms: f64 = figures.iter().map(|figure| figure.ln()).sum();
    (!figures.is_empty()).then(|| (logarithms / count(figures.len())).exp())
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A number of things, for calculating with.
pub fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(milliseconds: impl IntoIterator<Item = u64>) -> Series {
        Series::new(milliseconds.into_iter().map(Duration::from_millis).collect()).unwrap()
    }

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let hundred = series((1..=100).rev());
        for percent in [1, 50, 90, 99, 100] {
            assert_eq!(hundred.percentile(percent), Duration::from_millis(percent as u64));
        }
        let five = series([50, 10, 40, 20, 30]);
        assert_eq!(five.percentile(50), Duration::from_millis(30));
        // Of few runs, the slowest is all that can be said of the worst.
        assert_eq!(five.percentile(99), Duration::from_millis(50));
        assert_eq!(series([7]).percentile(50), Duration::from_millis(7));
    }

    #[test]
    fn a_ratio_and_its_inverse_cancel_out() {
        assert!((geometric_mean(&[4.0, 0.25]).unwrap() - 1.0).abs() < 1e-9);
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(geometric_mean(&[]), None);
    }

    #[tokio::test]
    async fn warming_up_does_not_count_and_slow_runs_are_few() {
        let mut runs = 0;
        let effort = Effort {
            runs: 10,
            warm_up: 3,
            series_budget: Duration::from_secs(60),
            ..Effort::QUICK
        };
        let counted = Series::measure(&effort, async || {
            runs += 1;
            Ok(Duration::from_millis(runs))
        })
        .await
        .unwrap();
        assert_eq!((counted.len(), counted.percentile(1)), (10, Duration::from_millis(4)));
        let impatient = Effort {
            series_budget: Duration::ZERO,
            ..effort
        };
        let few = Series::measure(&impatient, async || Ok(Duration::ZERO)).await.unwrap();
        assert_eq!(few.len(), Effort::MIN_RUNS);
    }
}
