//! Metrics of the server, as JSON and in the `OpenMetrics` format that Prometheus reads.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::router::AppState;
use crate::duration::GoDuration;
use crate::sandbox::{CommandOutcome, OperationCount, Rejection, SandboxCount};

/// The answer of `GET /metrics`. Everything is counted since the server started.
#[derive(Serialize, ToSchema)]
pub struct Metrics {
    /// Time since the server started.
    #[schema(value_type = String)]
    uptime: GoDuration,
    /// Memory of the server's process, bytes, guests included; 0 where the system does not tell.
    resident_memory_bytes: u64,
    /// Sandboxes there are.
    sandboxes: SandboxCounts,
    /// Providers and how they are.
    providers: ProviderCounts,
    /// What was done.
    operations: Vec<Performed>,
    /// Commands by how they ended: `ok`, `nonzero`, `timeout`, `killed`, `cancelled`, `error`.
    execs: BTreeMap<&'static str, u64>,
    /// Requests refused by reason: `quota`, `capacity`, `rate`, `commands`.
    rejected: BTreeMap<&'static str, u64>,
    /// Bytes of files and input that went into sandboxes.
    bytes_in: u64,
    /// Bytes of files and output that came out of sandboxes.
    bytes_out: u64,
    /// Events and who listens.
    events: EventCounts,
}

/// How many sandboxes there are.
#[derive(Serialize, ToSchema)]
pub(super) struct SandboxCounts {
    total: usize,
    by_state: BTreeMap<&'static str, usize>,
    by_provider: BTreeMap<&'static str, usize>,
}

/// How many providers there are.
#[derive(Serialize, ToSchema)]
struct ProviderCounts {
    total: usize,
    healthy: usize,
    items: Vec<ProviderHealth>,
}

/// How a provider is.
#[derive(Serialize, ToSchema)]
struct ProviderHealth {
    name: &'static str,
    healthy: bool,
    default: bool,
}

/// How often something was done on one provider, and how long it took.
#[derive(Serialize, ToSchema)]
struct Performed {
    /// `create` or `exec`.
    operation: &'static str,
    provider: &'static str,
    success_total: u64,
    failure_total: u64,
    /// How many were measured.
    latency_count: u64,
    latency_total_ms: f64,
    latency_avg_ms: f64,
}

/// Events told.
#[derive(Serialize, ToSchema)]
pub(super) struct EventCounts {
    /// Connections to `GET /events`.
    subscribers: usize,
    events_total: u64,
}

/// Counts of the whole server.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "system",
    responses((status = 200, description = "Counts of the whole server", body = Metrics))
)]
pub async fn json(State(state): State<AppState>) -> Json<Metrics> {
    let metrics = state.sandboxes.metrics();
    let providers: Vec<_> = state
        .sandboxes
        .providers()
        .statuses()
        .await
        .into_iter()
        .map(|status| ProviderHealth {
            name: status.name,
            healthy: status.is_healthy(),
            default: status.default,
        })
        .collect();
    let operations = providers.iter().flat_map(|provider| {
        let name = provider.name;
        [
            operation("create", name, metrics.creates(name)),
            operation("exec", name, metrics.commands(name)),
        ]
    });
    let execs = CommandOutcome::ALL.map(|outcome| {
        let counts = providers
            .iter()
            .map(|provider| metrics.commands_that(provider.name, outcome));
        (outcome.label(), counts.sum())
    });
    let rejected = Rejection::ALL.map(|reason| (reason.label(), metrics.rejections(reason)));
    Json(Metrics {
        uptime: state.started.elapsed().into(),
        resident_memory_bytes: resident_memory_bytes().unwrap_or_default(),
        sandboxes: sandbox_counts(&state).await,
        operations: operations.collect(),
        execs: execs.into(),
        rejected: rejected.into(),
        bytes_in: metrics.bytes_in(),
        bytes_out: metrics.bytes_out(),
        events: event_counts(&state),
        providers: ProviderCounts {
            total: providers.len(),
            healthy: providers.iter().filter(|provider| provider.healthy).count(),
            items: providers,
        },
    })
}

fn operation(operation: &'static str, provider: &'static str, count: OperationCount) -> Performed {
    let total = count.time.as_secs_f64() * 1000.0;
    let average = count.time.as_nanos() / u128::from(count.measured.max(1));
    let average = Duration::from_nanos(u64::try_from(average).unwrap_or(u64::MAX));
    Performed {
        operation,
        provider,
        success_total: count.succeeded,
        failure_total: count.failed,
        latency_count: count.measured,
        latency_total_ms: total,
        latency_avg_ms: average.as_secs_f64() * 1000.0,
    }
}

/// Sandboxes by state and by provider.
pub(super) async fn sandbox_counts(state: &AppState) -> SandboxCounts {
    let mut counts = SandboxCounts {
        total: 0,
        by_state: BTreeMap::new(),
        by_provider: BTreeMap::new(),
    };
    for SandboxCount { provider, state, count } in state.sandboxes.counts().await {
        counts.total += count;
        *counts.by_state.entry(state).or_default() += count;
        *counts.by_provider.entry(provider).or_default() += count;
    }
    counts
}

/// Events told and who listens.
pub(super) fn event_counts(state: &AppState) -> EventCounts {
    let events = state.sandboxes.events();
    EventCounts {
        subscribers: events.listeners(),
        events_total: events.total(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SandboxLabels {
    provider: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: &'static str,
}

/// Counts and histograms of the whole server, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics/prometheus",
    tag = "system",
    responses((
        status = 200,
        description = "The same counts, and histograms, in the text format of OpenMetrics 1.0",
        body = String,
        content_type = "application/openmetrics-text",
    ))
)]
pub async fn prometheus(State(state): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    let mut registry = Registry::with_prefix("wisp");
    state.sandboxes.metrics().register(&mut registry);
    register_gauges(&state, &mut registry).await;
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| {
        tracing::error!(%error, "cannot write the metrics");
        ApiError::internal()
    })?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text))
}

/// What is so now, as against what was counted.
async fn register_gauges(state: &AppState, registry: &mut Registry) {
    let sandboxes = Family::<SandboxLabels, Gauge>::default();
    for SandboxCount { provider, state, count } in state.sandboxes.counts().await {
        let labels = SandboxLabels { provider, state };
        sandboxes
            .get_or_create(&labels)
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("sandboxes", "Sandboxes there are", sandboxes);
    let healthy = Family::<ProviderLabels, Gauge>::default();
    for status in state.sandboxes.providers().statuses().await {
        let labels = ProviderLabels { provider: status.name };
        healthy.get_or_create(&labels).set(i64::from(status.is_healthy()));
    }
    registry.register("provider_healthy", "Whether the provider can make sandboxes", healthy);
    let events = state.sandboxes.events();
    let listeners = ConstGauge::new(i64::try_from(events.listeners()).unwrap_or(i64::MAX));
    registry.register("event_streams", "Connections that listen to events", listeners);
    registry.register_with_unit(
        "uptime",
        "Time since the server started",
        Unit::Seconds,
        ConstGauge::new(state.started.elapsed().as_secs_f64()),
    );
    if let Some(bytes) = resident_memory_bytes() {
        registry.register_with_unit(
            "resident_memory",
            "Memory of the server's process, guests included",
            Unit::Bytes,
            ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)),
        );
    }
}

/// Resident memory of this process; `None` where `/proc` does not tell.
pub(super) fn resident_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
