//! `GET /sandboxes/{id}/stats`: the resources that a sandbox uses.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::{AsCaller, Id};
use super::router::AppState;

/// What a sandbox uses, and may use.
#[derive(Serialize, ToSchema)]
pub struct Stats {
    /// Whether the provider measures anything; without, the numbers of use are 0.
    supported: bool,
    /// Percent of one processor, averaged since an earlier call at least a second ago, at first since the sandbox
    /// began; `null` when it is not measured.
    cpu_pct: Option<f64>,
    /// Memory in use, bytes.
    mem_bytes: u64,
    /// Memory it may use, bytes.
    mem_limit_bytes: u64,
    /// Files beyond the image, bytes.
    disk_bytes: u64,
    /// Files it may hold, bytes.
    disk_limit_bytes: u64,
    /// Live processes.
    processes: u32,
    /// Commands started since the server started.
    exec_count: u64,
}

/// Tells what a sandbox uses now.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}/stats",
    tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id", pattern = "^sb[_-][a-z0-9]{1,64}$")),
    responses(
        (status = 200, description = "What it uses now", body = Stats),
        (status = 404, description = "There is no such sandbox"),
        (status = 503, description = "The provider cannot be reached"),
    )
)]
pub async fn stats(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
) -> Result<axum::Json<Stats>, ApiError> {
    let stats = state.sandboxes.stats(&caller, &id).await?;
    let usage = stats.usage.unwrap_or_default();
    Ok(axum::Json(Stats {
        supported: stats.usage.is_some(),
        cpu_pct: stats.cpu_percent,
        mem_bytes: usage.mem_bytes,
        mem_limit_bytes: stats.mem_limit_bytes,
        disk_bytes: usage.disk_bytes,
        disk_limit_bytes: stats.disk_limit_bytes,
        processes: usage.processes,
        exec_count: stats.exec_count,
    }))
}
