//! Liveness, readiness and version of the server.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use super::router::AppState;
use crate::duration::GoDuration;
use crate::sandbox::ProviderStatus;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// That the server answers.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Of wisp.
    version: &'static str,
    /// Duration since the start.
    uptime: GoDuration,
}

/// How the server is.
#[derive(Serialize, ToSchema)]
pub struct Status {
    /// `alive` or `ready`.
    status: &'static str,
}

/// What serves.
#[derive(Serialize, ToSchema)]
pub struct Version {
    /// `wisp`.
    name: &'static str,
    /// Its version.
    version: &'static str,
}

/// Tells that the server answers, its version and how long it has run.
#[utoipa::path(get, path = "/health", responses((status = 200, description = "It answers.", body = Health)))]
pub async fn health(State(state): State<AppState>) -> Json<Health> {
    Json(Health {
        status: "ok",
        version: VERSION,
        uptime: state.started.elapsed().into(),
    })
}

/// Tells that the process lives.
#[utoipa::path(get, path = "/live", responses((status = 200, description = "It lives.", body = Status)))]
pub async fn live() -> Json<Status> {
    Json(Status { status: "alive" })
}

/// Tells whether sandboxes can be created.
#[utoipa::path(
    get,
    path = "/ready",
    responses(
        (status = 200, description = "They can.", body = Status),
        (status = 503, description = "No provider is healthy, or the server is shutting down.", body = ErrorBody),
    )
)]
pub async fn ready(State(state): State<AppState>) -> Result<Json<Status>, ApiError> {
    if state.sandboxes.is_closing() {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    let statuses = state.sandboxes.providers().statuses().await;
    if statuses.iter().any(ProviderStatus::is_healthy) {
        Ok(Json(Status { status: "ready" }))
    } else {
        Err(ApiError::unavailable(
            "no provider is healthy; GET /api/v1/providers says why",
        ))
    }
}

/// Tells what serves.
#[utoipa::path(get, path = "/version", responses((status = 200, description = "Name and version.", body = Version)))]
pub async fn version() -> Json<Version> {
    Json(Version {
        name: env!("CARGO_PKG_NAME"),
        version: VERSION,
    })
}
