//! `/providers`: lists, shows and tests what sandboxes run on.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::error::ApiError;
use super::extract::{AsCaller, Name};
use super::router::AppState;
use super::sandboxes::timestamp;
use super::schemas::Timestamp;
use crate::provider::ProviderError;
use crate::sandbox::{Caller, ProviderStatus};

/// A provider as clients see it.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Provider {
    #[schema(value_type = String)]
    name: &'static str,
    healthy: bool,
    default: bool,
    /// How long the last health check took, in milliseconds.
    #[schema(value_type = u64)]
    latency_ms: u128,
    #[schema(value_type = Timestamp)]
    last_checked: String,
    /// What it can do.
    #[schema(value_type = Vec<String>)]
    capabilities: Vec<&'static str>,
    /// What it does otherwise than the other providers.
    #[schema(value_type = Vec<String>)]
    differences: Vec<&'static str>,
    /// How many sandboxes it runs that the caller sees.
    runtime_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Why it is not healthy.
    error: Option<String>,
}

pub(super) async fn to_view(state: &AppState, caller: &Caller, status: ProviderStatus) -> Provider {
    let checked = status.checked;
    let error = checked.health.as_ref().err().map(|error| match error {
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
        latency_ms: checked.latency.as_millis(),
        last_checked: timestamp(checked.at),
        capabilities: status.capabilities.names,
        differences: status.capabilities.differences,
        runtime_count: state.sandboxes.count_on(caller, status.name).await,
        error,
    }
}

/// Lists what sandboxes can run on.
#[utoipa::path(
    get,
    path = "/providers",
    responses((status = 200, description = "The providers.", body = Vec<Provider>))
)]
pub async fn list(State(state): State<AppState>, AsCaller(caller): AsCaller) -> Json<Vec<Provider>> {
    let statuses = state.sandboxes.providers().statuses().await;
    let mut providers = Vec::new();
    for status in statuses {
        providers.push(to_view(&state, &caller, status).await);
    }
    Json(providers)
}

/// Shows a provider.
#[utoipa::path(
    get,
    path = "/providers/{name}",
    responses((status = 200, description = "The provider.", body = Provider))
)]
pub async fn get(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Name(name): Name,
) -> Result<Json<Provider>, ApiError> {
    let status = state.sandboxes.providers().status(&name).await?;
    Ok(Json(to_view(&state, &caller, status).await))
}

/// Tells which providers are healthy, when each has answered or its health check has timed out.
#[utoipa::path(
    post,
    path = "/providers/test",
    responses((status = 200, description = "Each provider, and whether it is.", body = BTreeMap<String, bool>))
)]
pub async fn test(State(state): State<AppState>) -> Json<BTreeMap<&'static str, bool>> {
    let statuses = state.sandboxes.providers().awaited_statuses().await;
    Json(
        statuses
            .into_iter()
            .map(|status| (status.name, status.is_healthy()))
            .collect(),
    )
}
