//! The pool of warm machines, of which there is none: a sandbox starts in less time than it takes to keep one warm.

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
