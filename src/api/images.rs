//! What sandboxes can be made of.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::extract::Name;
use super::router::AppState;
use crate::sandbox::{ImageCatalogError, ImageDescription};

/// Lists the installed images.
#[utoipa::path(
    get,
    path = "/images",
    responses((status = 200, description = "The images.", body = Vec<ImageDescription>))
)]
pub async fn list(State(state): State<AppState>) -> Result<Json<Vec<ImageDescription>>, ApiError> {
    state.images.list().await.map(Json).map_err(unreadable)
}

/// Shows an image, by its name or another name it has.
#[utoipa::path(
    get,
    path = "/images/{name}",
    responses((status = 200, description = "The image.", body = ImageDescription))
)]
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
