//! Snapshots of machines that sandboxes start from.

use axum::Json;
use serde_json::Value;

/// Lists snapshots: there are none.
///
/// What StacyVM keeps snapshots for, images that start at once, is part of installing an image
/// here.
#[utoipa::path(
    get,
    path = "/snapshots",
    tag = "system",
    responses((status = 200, description = "Always empty", body = Vec<Value>))
)]
pub async fn list() -> Json<[Value; 0]> {
    Json([])
}
