//! How many programs a second, by the number of clients.

use std::sync::Arc;
use std::time::Duration;

use super::{Job, Measure, Setting, progress, rate};
use crate::competitors::{ANSWER, Runner};
use crate::error::BenchError;
use crate::report::Section;

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
        let job = |_| -> Job {
            let runner = Arc::clone(&runner);
            Box::new(move || {
                let runner = Arc::clone(&runner);
                Box::pin(async move { runner.answer().await?.checked(ANSWER).map(drop) })
            })
        };
        rates.push(rate(clients, busy_for, job).await?);
    }
    Ok(rates)
}
