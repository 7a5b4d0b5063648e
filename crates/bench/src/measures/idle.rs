//! Memory of sandboxes that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use super::{Measure, Setting, progress};
use crate::competitors::BASE;
use crate::error::BenchError;
use crate::report::Section;
use crate::server::Server;
use crate::statistics::count;

/// Clients that create them.
const CLIENTS: usize = 8;

pub(super) async fn measure(setting: &Setting<'_>) -> Section {
    let idle = setting.effort.idle;
    let method = format!(
        "{idle} sandboxes on a fresh server, created by {CLIENTS} clients, nothing run in them: growth of the server's \
         Private_Dirty. The others have no sandbox without a process, a container or an interpreter: see memory.",
    );
    let columns = ["KiB each", "MiB all", "sandboxes", "created a second"];
    let mut section = Section::new(Measure::Idle.name(), "memory of idle sandboxes", method, &columns);
    for image in setting
        .field
        .images
        .iter()
        .map(|image| image.name.as_str())
        .chain([BASE])
    {
        let name = format!("wisp {image}");
        progress(&section, &name);
        section.add(name, of_wisp(image, idle).await);
    }
    section
}

async fn of_wisp(image: &str, idle: usize) -> Result<Vec<f64>, BenchError> {
    let server = Arc::new(Server::start(&[image], idle + 1).await?);
    server.create("wasm", image).await?;
    let before = server.private_dirty()?;
    let started = Instant::now();
    let made = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (server, made, image) = (Arc::clone(&server), Arc::clone(&made), image.to_owned());
        clients.spawn(async move {
            while made.fetch_add(1, Ordering::Relaxed) < idle {
                server.create("wasm", &image).await?;
            }
            Ok::<(), BenchError>(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let elapsed = started.elapsed();
    let grown = server.private_dirty()?.saturating_sub(before);
    let kibibytes = count(usize::try_from(grown >> 10).unwrap_or(usize::MAX));
    Ok(vec![
        kibibytes / count(idle),
        kibibytes / 1024.0,
        count(idle),
        count(idle) / elapsed.as_secs_f64(),
    ])
}
