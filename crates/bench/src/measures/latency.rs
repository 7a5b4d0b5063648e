//! How long the smallest Python program takes.

use std::time::{Duration, Instant};

use super::{Measure, Setting, in_process_name, progress};
use crate::competitors::{ANSWER, BASE, InScript, PRINT_42, Runner, Wisp};
use crate::effort::Effort;
use crate::error::BenchError;
use crate::in_process::InProcess;
use crate::report::Section;
use crate::statistics::{Series, count, milliseconds};
use wisp::provider::Command;

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let effort = setting.effort;
    let method = format!(
        "python3 -c \"{PRINT_42}\", each time in a fresh interpreter; one after the other, warm: after up to {} runs that \
         do not count. wisp: POST /exec in shell mode to a sandbox that exists, connection kept; \"in a script\": where \
         the sandbox's shell starts Python, which wisp else starts itself; \"in process\": argv mode without a server; \
         base: echo of its shell. Native: python3 -I -c. Peers: a call from Python, without HTTP. At \
         most {} runs or {} s each; nearest-rank percentiles.",
        effort.warm_up,
        effort.runs,
        effort.series_budget.as_secs(),
    );
    let columns = ["p50 ms", "p90 ms", "p99 ms", "runs"];
    let mut section = Section::new(
        Measure::Latency.name(),
        "a Python program of one line",
        method,
        &columns,
    );
    for competitor in setting.field.all() {
        progress(&section, &competitor.name);
        let figures = match competitor.runner() {
            Ok(runner) => over_runner(effort, &*runner).await.map(|series| figures(&series)),
            Err(error) => Err(error),
        };
        section.add(&competitor.name, figures);
    }
    for image in &setting.field.images {
        let name = format!("wisp {}, in a script", image.name);
        progress(&section, &name);
        let series = match Wisp::over(&setting.field.server, "wasm", &image.name, 1).await {
            Ok(wisp) => over_runner(effort, &InScript(wisp)).await,
            Err(error) => Err(error),
        };
        section.add(name, series.map(|series| figures(&series)));
    }
    let images = setting.field.images.iter().map(|image| image.name.as_str());
    for image in images.chain([BASE]) {
        let name = in_process_name(image);
        progress(&section, &name);
        let series = in_process(effort, image).await;
        section.add(name, series.map(|series| figures(&series)));
    }
    section
}

async fn over_runner(effort: &Effort, runner: &dyn Runner) -> Result<Series, BenchError> {
    Series::measure(effort, async || runner.answer().await?.checked(ANSWER)).await
}

async fn in_process(effort: &Effort, image: &str) -> Result<Series, BenchError> {
    const SANDBOX: &str = "bench";
    let sandboxes = InProcess::open()?;
    sandboxes.create(SANDBOX, image).await?;
    let argv = if image == BASE {
        vec!["echo", "42"]
    } else {
        vec!["python3", "-c", PRINT_42]
    };
    let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
    Series::measure(effort, async || -> Result<Duration, BenchError> {
        let started = Instant::now();
        let (exit_code, stdout) = sandboxes.run(SANDBOX, Command::Argv(argv.clone())).await?;
        let elapsed = started.elapsed();
        if exit_code == 0 && stdout == ANSWER.as_bytes() {
            Ok(elapsed)
        } else {
            Err(BenchError::Unexpected(format!("exit code {exit_code}, {stdout:?}")))
        }
    })
    .await
}

fn figures(series: &Series) -> Vec<f64> {
    let mut figures: Vec<f64> = [50, 90, 99]
        .map(|percent| milliseconds(series.percentile(percent)))
        .into();
    figures.push(count(series.len()));
    figures
}
