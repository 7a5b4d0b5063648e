//! Creating and destroying a sandbox.

use std::time::{Duration, Instant};

use super::{Measure, Setting, in_process_name, progress};
use crate::competitors::BASE;
use crate::competitors::docker::Docker;
use crate::competitors::peer::Peer;
use crate::effort::Effort;
use crate::error::BenchError;
use crate::in_process::InProcess;
use crate::report::Section;
use crate::server::Server;
use crate::statistics::{Series, count, milliseconds};

/// What one creation and one destruction took.
type Pair = (Duration, Duration);

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let (field, effort) = (setting.field, setting.effort);
    let method = format!(
        "One sandbox after the other, nothing run in it; warm. Over HTTP: POST and DELETE, connection kept. docker run: \
         docker run --detach and docker rm --force. pyeryx: eryx.Sandbox(). At most {} or {} s.",
        effort.runs,
        effort.series_budget.as_secs(),
    );
    let columns = [
        "create p50 ms",
        "create p99 ms",
        "destroy p50 ms",
        "destroy p99 ms",
        "runs",
    ];
    let mut section = Section::new(
        Measure::Lifecycle.name(),
        "creating and destroying a sandbox",
        method,
        &columns,
    );
    let images: Vec<&str> = field
        .images
        .iter()
        .map(|image| image.name.as_str())
        .chain([BASE])
        .collect();
    for image in &images {
        let name = format!("wisp {image}");
        progress(&section, &name);
        section.add(name, over_http(effort, &field.server, "wasm", image).await);
    }
    for image in &images {
        let name = in_process_name(image);
        progress(&section, &name);
        section.add(name, in_process(effort, image).await);
    }
    progress(&section, "docker");
    section.add(
        "wisp, docker provider",
        async { over_http(effort, &field.server, "docker", field.docker()?.image()).await }.await,
    );
    section.add("docker run", async { by_docker(effort, field.docker()?).await }.await);
    for (name, peer) in field.peers() {
        progress(&section, name);
        section.add_partly(name, async { of_peer(effort, peer?).await }.await);
    }
    section
}

async fn over_http(effort: &Effort, server: &Server, provider: &str, image: &str) -> Result<Vec<f64>, BenchError> {
    pairs(effort, async || {
        let started = Instant::now();
        let sandbox = server.create(provider, image).await?;
        let created = started.elapsed();
        sandbox.destroy().await?;
        Ok((created, started.elapsed().saturating_sub(created)))
    })
    .await
}

async fn in_process(effort: &Effort, image: &str) -> Result<Vec<f64>, BenchError> {
    const SANDBOX: &str = "bench";
    let sandboxes = InProcess::open()?;
    pairs(effort, async || {
        let started = Instant::now();
        sandboxes.create(SANDBOX, image).await?;
        let created = started.elapsed();
        sandboxes.destroy(SANDBOX).await?;
        Ok((created, started.elapsed().saturating_sub(created)))
    })
    .await
}

async fn by_docker(effort: &Effort, docker: &Docker) -> Result<Vec<f64>, BenchError> {
    pairs(effort, async || {
        let started = Instant::now();
        let container = docker.start("import time; time.sleep(600)").await?;
        let created = started.elapsed();
        docker.remove(&container).await?;
        Ok((created, started.elapsed().saturating_sub(created)))
    })
    .await
}

/// A peer's sandbox ends when its Python drops it, which nobody can time from outside.
async fn of_peer(effort: &Effort, peer: &Peer) -> Result<Vec<Option<f64>>, BenchError> {
    let created = Series::measure(effort, async || peer.create().await).await?;
    let of = |percent| Some(milliseconds(created.percentile(percent)));
    Ok(vec![of(50), of(99), None, None, Some(count(created.len()))])
}

/// Two series of the same runs.
async fn pairs(
    effort: &Effort,
    mut pair: impl AsyncFnMut() -> Result<Pair, BenchError>,
) -> Result<Vec<f64>, BenchError> {
    let mut all: Vec<Pair> = Vec::new();
    let both = Series::measure(effort, async || {
        let (created, destroyed) = pair().await?;
        all.push((created, destroyed));
        Ok(created + destroyed)
    })
    .await?;
    // The first were for warming up.
    let counted = &all[all.len() - both.len()..];
    let created = Series::new(counted.iter().map(|pair| pair.0).collect())?;
    let destroyed = Series::new(counted.iter().map(|pair| pair.1).collect())?;
    let of = |series: &Series, percent| milliseconds(series.percentile(percent));
    Ok(vec![
        of(&created, 50),
        of(&created, 99),
        of(&destroyed, 50),
        of(&destroyed, 99),
        count(both.len()),
    ])
}
