//! What sandboxes can run on.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::error::ApiError;
use super::extract::Name;
use super::router::AppState;
use super::sandboxes::timestamp;
use crate::provider::ProviderError;
use crate::sandbox::ProviderStatus;

/// A provider as clients see it.
#[derive(Serialize)]
pub struct Provider {
    name: &'static str,
    healthy: bool,
    default: bool,
    latency_ms: u128,
    last_checked: String,
    capabilities: Vec<&'static str>,
    differences: Vec<&'static str>,
    runtime_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn shown(state: &AppState, status: ProviderStatus) -> Provider {
    let error = status.health.err().map(|error| match error {
        ProviderError::Internal(cause) => {
            tracing::error!(provider = status.name, %cause, "health check failed");
            "the runtime failed".to_owned()
        }
        other => other.to_string(),
    });
    Provider {
        name: status.name,
        healthy: error.is_none(),
        default: status.default,
        latency_ms: status.latency.as_millis(),
        last_checked: timestamp(status.checked_at),
        capabilities: status.capabilities.names,
        differences: status.capabilities.differences,
        runtime_count: state.sandboxes.count_on(status.name),
        error,
    }
}

/// `GET /providers`
#[utoipa::path(get, path = "/providers")]
pub async fn list(State(state): State<AppState>) -> Json<Vec<Provider>> {
    let statuses = state.sandboxes.providers().statuses().await;
    Json(statuses.into_iter().map(|status| shown(&state, status)).collect())
}

/// `GET /providers/{name}`
#[utoipa::path(get, path = "/providers/{name}")]
pub async fn get(State(state): State<AppState>, Name(name): Name) -> Result<Json<Provider>, ApiError> {
    let status = state.sandboxes.providers().status(&name).await?;
    Ok(Json(shown(&state, status)))
}

/// `POST /providers/test`: which providers are healthy.
#[utoipa::path(post, path = "/providers/test")]
pub async fn test(State(state): State<AppState>) -> Json<BTreeMap<&'static str, bool>> {
    let statuses = state.sandboxes.providers().statuses().await;
    Json(
        statuses
            .into_iter()
            .map(|status| (status.name, status.health.is_ok()))
            .collect(),
    )
}
