//! The resources that a container uses now.

use std::time::Duration;

use bollard::query_parameters::{InspectContainerOptionsBuilder, StatsOptionsBuilder};
use futures_util::StreamExt as _;

use super::engine::Engine;
use crate::provider::{ProviderError, SandboxUsage};

/// Processes of a container that are not the sandbox's: its init, and what keeps it running.
const OWN_PROCESSES: u64 = 2;

/// Asks the engine.
///
/// # Errors
/// [`ProviderError::SandboxNotFound`] when there is no such container.
pub async fn usage(engine: &Engine, container: &str) -> Result<SandboxUsage, ProviderError> {
    let connection = engine.connect().await?;
    let options = InspectContainerOptionsBuilder::default().size(true).build();
    let inspected = connection.docker.inspect_container(container, Some(options)).await;
    let inspected = inspected.map_err(|error| engine.failure(error))?;
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let stats = connection.docker.stats(container, Some(options)).next().await;
    let stats = stats
        .transpose()
        .map_err(|error| engine.failure(error))?
        .unwrap_or_default();
    let memory = stats.memory_stats.unwrap_or_default();
    // Pages that the kernel gives back when somebody needs them (cgroup v1, v2).
    let cache = memory.stats.as_ref().and_then(|stats| {
        let inactive = stats.get("total_inactive_file").or_else(|| stats.get("inactive_file"));
        inactive.copied()
    });
    let cpu_ns = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage);
    let processes = stats.pids_stats.and_then(|pids| pids.current).unwrap_or(0);
    Ok(SandboxUsage {
        mem_bytes: memory.usage.unwrap_or(0).saturating_sub(cache.unwrap_or(0)),
        disk_bytes: inspected
            .size_rw
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(0),
        processes: u32::try_from(processes.saturating_sub(OWN_PROCESSES)).unwrap_or(u32::MAX),
        cpu_time: cpu_ns.map(Duration::from_nanos),
    })
}
