//! `GET /pool/status`. There is no pool of warm machines: a sandbox starts faster than one could be taken from a pool.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// State of the pool.
#[derive(Serialize, ToSchema)]
pub struct PoolStatus {
    /// Always false.
    enabled: bool,
}

/// Tells whether sandboxes are kept ready: they need not be.
#[utoipa::path(
    get,
    path = "/pool/status",
    tag = "system",
    responses((status = 200, description = "This server keeps no pool", body = PoolStatus))
)]
pub async fn status() -> Json<PoolStatus> {
    Json(PoolStatus { enabled: false })
}
