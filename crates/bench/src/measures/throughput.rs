//! How many programs a second, by the number of clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Measure, Setting, progress};
use crate::competitors::{ANSWER, Runner};
use crate::error::BenchError;
use crate::report::Section;
use crate::statistics::count;

/// How many clients ask at once.
const CLIENTS: [usize; 6] = [1, 2, 4, 8, 16, 32];

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let method = format!(
        "The same program as for latency, a second, while so many clients ask at once, each for the next as soon as it has \
         its answer, for {} ms each. wisp spreads them over as many sandboxes; the clients use the same processors.",
        setting.effort.busy_for.as_millis(),
    );
    let columns = CLIENTS.map(|clients| {
        if clients == 1 {
            "1 client".to_owned()
        } else {
            clients.to_string()
        }
    });
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut section = Section::new(
        Measure::Throughput.name(),
        "Python programs a second, by clients",
        method,
        &columns,
    );
    for competitor in setting.field.all() {
        progress(&section, &competitor.name);
        let figures = match competitor.runner() {
            Ok(runner) => rates(runner, setting.effort.busy_for).await,
            Err(error) => Err(error),
        };
        section.add(&competitor.name, figures);
    }
    section
}

async fn rates(runner: Arc<dyn Runner>, busy_for: Duration) -> Result<Vec<f64>, BenchError> {
    let mut rates = Vec::new();
    for clients in CLIENTS {
        rates.push(rate(&runner, clients, busy_for).await?);
    }
    Ok(rates)
}

async fn rate(runner: &Arc<dyn Runner>, clients: usize, busy_for: Duration) -> Result<f64, BenchError> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let runner = Arc::clone(runner);
        running.spawn(async move {
            let mut done = 0_usize;
            while started.elapsed() < busy_for {
                runner.answer().await?.checked(ANSWER)?;
                done += 1;
            }
            Ok::<usize, BenchError>(done)
        });
    }
    let mut done = 0;
    while let Some(client) = running.join_next().await {
        done += client??;
    }
    // The last programs end after the time is up, and count, so their time does as well.
    Ok(count(done) / started.elapsed().as_secs_f64())
}
