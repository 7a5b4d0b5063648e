//! Starting a server, and the first command on it.

use std::time::Duration;

use super::{Measure, Setting, progress};
use crate::competitors::{ANSWER, PRINT_42, peer, shell_command};
use crate::error::BenchError;
use crate::report::Section;
use crate::server::Server;
use crate::statistics::{Series, count, milliseconds};

/// What each start took: until it was ready, the first program, the second one.
type Start = [Duration; 3];

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let starts = setting.effort.starts;
    let method = format!(
        "Cold: a new process each time, {starts} times, medians; the files it reads are in the system's cache. wisp: from \
         starting wisp serve until it listens, then creating a sandbox and running the program of latency in it, then \
         running it again. Peers: starting python3 and importing the package, then the first program, then another.",
    );
    let columns = ["ready ms", "first ms", "second ms", "starts"];
    let mut section = Section::new(
        Measure::Start.name(),
        "from nothing to the first program",
        method,
        &columns,
    );
    for image in &setting.field.images {
        let name = format!("wisp {}", image.name);
        progress(&section, &name);
        section.add(name, medians(starts, async || of_wisp(&image.name).await).await);
    }
    for package in peer::PACKAGES {
        progress(&section, package.name);
        let python = setting.choice.peers.as_deref();
        let starting = async || peer::cold_start(python, package).await;
        section.add(package.name, medians(starts, starting).await);
    }
    section
}

async fn of_wisp(image: &str) -> Result<Start, BenchError> {
    let server = Server::start(&[image], 10).await?;
    let asked = std::time::Instant::now();
    let sandbox = server.create("wasm", image).await?;
    let request = shell_command(PRINT_42);
    let run = async || {
        let (stdout, elapsed) = sandbox.output(&request).await?;
        if stdout == ANSWER {
            Ok(elapsed)
        } else {
            Err(BenchError::Unexpected(stdout))
        }
    };
    run().await?;
    let first = asked.elapsed();
    Ok([server.ready, first, run().await?])
}

async fn medians(
    starts: usize,
    mut start: impl AsyncFnMut() -> Result<Start, BenchError>,
) -> Result<Vec<f64>, BenchError> {
    let mut all = Vec::new();
    for _ in 0..starts {
        all.push(start().await?);
    }
    let mut figures = Vec::new();
    for step in 0..3 {
        let series = Series::new(all.iter().map(|start| start[step]).collect())?;
        figures.push(milliseconds(series.percentile(50)));
    }
    figures.push(count(starts));
    Ok(figures)
}
