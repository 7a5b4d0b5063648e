//! What sandboxes can be made of.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::extract::Name;
use super::router::AppState;
use crate::sandbox::{ImageCatalogError, ImageDescription};

/// `GET /images`
#[utoipa::path(get, path = "/images")]
pub async fn list(State(state): State<AppState>) -> Result<Json<Vec<ImageDescription>>, ApiError> {
    state.images.list().await.map(Json).map_err(unreadable)
}

/// `GET /images/{name}`
#[utoipa::path(get, path = "/images/{name}")]
pub async fn get(State(state): State<AppState>, Name(name): Name) -> Result<Json<ImageDescription>, ApiError> {
    let image = state.images.get(&name).await.map_err(unreadable)?;
    image
        .map(Json)
        .ok_or_else(|| ApiError::not_found(format!("image {name} not found; GET /api/v1/images lists all")))
}

fn unreadable(error: ImageCatalogError) -> ApiError {
    tracing::error!(%error, "cannot read the image catalog");
    ApiError::internal()
}
