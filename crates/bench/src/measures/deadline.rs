//! How late a command ends that passes its deadline.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Measure, Setting, progress};
use crate::competitors::BASE;
use crate::error::BenchError;
use crate::report::Section;
use crate::server::Server;
use crate::statistics::{Series, count, milliseconds};

const TIMEOUT: Duration = Duration::from_millis(500);
const BUSY: &str = "while True: pass";

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let (field, rounds) = (setting.field, setting.effort.deadlines);
    let method = format!(
        "A loop without end and a timeout of {} ms, {rounds} times: how long after it the answer was there. wisp: over \
         HTTP, in shell mode. Peers: their own deadline. docker exec has none.",
        TIMEOUT.as_millis(),
    );
    let columns = ["p50 ms", "p99 ms", "most ms", "runs"];
    let mut section = Section::new(
        Measure::Deadline.name(),
        "how late a busy loop ends after its deadline",
        method,
        &columns,
    );
    let python = format!("python3 -c '{BUSY}'");
    for image in &field.images {
        let name = format!("wisp {}", image.name);
        progress(&section, &name);
        section.add(
            name,
            over_http(&field.server, "wasm", &image.name, &python, rounds).await,
        );
    }
    progress(&section, "wisp base");
    let figures = over_http(&field.server, "wasm", BASE, "while :; do :; done", rounds).await;
    section.add("wisp base (shell loop)", figures);
    progress(&section, "wisp, docker provider");
    section.add(
        "wisp, docker provider",
        async { over_http(&field.server, "docker", field.docker()?.image(), &python, rounds).await }.await,
    );
    for (name, peer) in field.peers() {
        progress(&section, name);
        let figures = async {
            let peer = peer?;
            overshoot(rounds, async || Ok(peer.run_until(BUSY, TIMEOUT).await?.elapsed)).await
        };
        section.add(name, figures.await);
    }
    section
}

async fn over_http(
    server: &Server,
    provider: &str,
    image: &str,
    command: &str,
    rounds: usize,
) -> Result<Vec<f64>, BenchError> {
    let sandbox = server.create(provider, image).await?;
    let request: Value = json!({"command": command, "timeout": format!("{}ms", TIMEOUT.as_millis())});
    overshoot(rounds, async || {
        let answer = sandbox.exec(&request).await?;
        if answer.status == 408 {
            Ok(answer.elapsed)
        } else {
            Err(BenchError::Unexpected(format!(
                "HTTP {}: {}",
                answer.status, answer.body
            )))
        }
    })
    .await
}

/// Runs once in vain and then `rounds` times.
async fn overshoot(
    rounds: usize,
    mut run: impl AsyncFnMut() -> Result<Duration, BenchError>,
) -> Result<Vec<f64>, BenchError> {
    run().await?;
    let mut late = Vec::new();
    for _ in 0..rounds {
        late.push(run().await?.saturating_sub(TIMEOUT));
    }
    let late = Series::new(late)?;
    let figures = [50, 99, 100].map(|percent| milliseconds(late.percentile(percent)));
    Ok([&figures[..], &[count(late.len())]].concat())
}
