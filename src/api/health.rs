//! Whether the server lives, and whether it can work.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::error::ApiError;
use super::router::AppState;
use crate::duration::GoDuration;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
pub struct Health {
    status: &'static str,
    version: &'static str,
    /// Duration since the start.
    uptime: GoDuration,
}

#[derive(Serialize)]
pub struct Status {
    status: &'static str,
}

#[derive(Serialize)]
pub struct Version {
    name: &'static str,
    version: &'static str,
}

/// `GET /health`
#[utoipa::path(get, path = "/health")]
pub async fn health(State(state): State<AppState>) -> Json<Health> {
    Json(Health {
        status: "ok",
        version: VERSION,
        uptime: state.started.elapsed().into(),
    })
}

/// `GET /live`: the process answers.
#[utoipa::path(get, path = "/live")]
pub async fn live() -> Json<Status> {
    Json(Status { status: "alive" })
}

/// `GET /ready`: sandboxes can be created.
#[utoipa::path(get, path = "/ready")]
pub async fn ready(State(state): State<AppState>) -> Result<Json<Status>, ApiError> {
    if state.sandboxes.is_closing() {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    let statuses = state.sandboxes.providers().statuses().await;
    if statuses.iter().any(|status| status.health.is_ok()) {
        Ok(Json(Status { status: "ready" }))
    } else {
        Err(ApiError::unavailable(
            "no provider is healthy; GET /api/v1/providers says why",
        ))
    }
}

/// `GET /version`
#[utoipa::path(get, path = "/version")]
pub async fn version() -> Json<Version> {
    Json(Version {
        name: env!("CARGO_PKG_NAME"),
        version: VERSION,
    })
}
