//! `GET /diagnostics`: a report for bug reports. It contains no secrets.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::AsCaller;
use super::metrics::resident_memory_bytes;
use super::providers::{self, Provider};
use super::router::AppState;
use crate::config::Config;
use crate::duration::GoDuration;

/// The answer of `GET /diagnostics`.
#[derive(Serialize, ToSchema)]
pub struct Diagnostics {
    #[schema(value_type = String)]
    version: &'static str,
    /// Processor and system this program was built for.
    target: String,
    /// Whether it was built without optimisation.
    debug_build: bool,
    /// Time since the server started.
    #[schema(value_type = GoDuration)]
    uptime: GoDuration,
    /// Processors the server may use.
    processors: usize,
    /// Memory of the server's process, bytes, guests included; 0 where the system does not tell.
    resident_memory_bytes: u64,
    /// Size of the database, bytes.
    store_bytes: u64,
    /// Sandboxes of all tenants.
    sandboxes: usize,
    providers: Vec<Provider>,
    /// Names of installed images.
    images: Vec<String>,
    /// The configuration, without anything that could tell a key.
    configuration: Value,
}

/// Tells all about the server that helps to find a defect: version, machine, providers, images, configuration. Keys are
/// left out.
#[utoipa::path(
    get,
    path = "/diagnostics",
    tag = "system",
    responses((status = 200, description = "The server's state", body = Diagnostics))
)]
pub async fn diagnostics(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
) -> Result<Json<Diagnostics>, ApiError> {
    let images = state.images.list().await.map_err(|error| {
        tracing::error!(%error, "cannot read the image catalog");
        ApiError::internal()
    })?;
    let store_bytes = state.store.size_bytes().await.map_err(|error| {
        tracing::error!(%error, "cannot ask the store for its size");
        ApiError::internal()
    })?;
    let mut providers = Vec::new();
    for status in state.sandboxes.providers().statuses().await {
        providers.push(providers::to_view(&state, &caller, status).await);
    }
    Ok(Json(Diagnostics {
        version: env!("CARGO_PKG_VERSION"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        debug_build: cfg!(debug_assertions),
        uptime: state.started.elapsed().into(),
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        resident_memory_bytes: resident_memory_bytes().unwrap_or_default(),
        store_bytes,
        sandboxes: state.sandboxes.counts().await.iter().map(|count| count.count).sum(),
        providers,
        images: images.into_iter().map(|image| image.name).collect(),
        configuration: redacted(&state.config)?,
    }))
}

/// The configuration without what stands for a secret: of a key, its name and scopes remain.
fn redacted(config: &Config) -> Result<Value, ApiError> {
    let mut value = serde_json::to_value(config).map_err(|_| ApiError::internal())?;
    let keys = value.pointer_mut("/auth/keys").and_then(Value::as_array_mut);
    for key in keys.into_iter().flatten().filter_map(Value::as_object_mut) {
        key.remove("sha256");
    }
    Ok(value)
}
