//! `POST /sandboxes/admission`: checks whether a sandbox would be created now.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use super::extract::{AsCaller, OptionalJson};
use super::router::AppState;
use super::sandboxes::CreateBody;
use crate::duration::GoDuration;
use crate::sandbox::DenialReason;

/// Whether a sandbox would be created now, and what there is room for.
#[derive(Serialize, ToSchema)]
#[schema(as = Admission)]
pub struct Decision {
    /// It would.
    allowed: bool,
    /// It would not, but the request could wait for room.
    queueable: bool,
    /// Which limit is in the way: empty, `max_ttl`, `max_sandboxes`, `max_owner_sandboxes`, `max_total_memory`,
    /// `max_total_disk`, `max_labels`, `memory_pressure` or `provider_unavailable`.
    reason: &'static str,
    /// Sandboxes of the caller's tenant; of the server for a key with the scope `admin`.
    active_sandboxes: usize,
    /// Most of the server's.
    max_sandboxes: usize,
    /// Sandboxes of the owner; 0 for a request without one.
    active_owner_sandboxes: usize,
    /// Most of them; 0 is no limit.
    max_owner_sandboxes: usize,
    /// Longest time to live that may be asked for.
    max_ttl: GoDuration,
}

fn word(reason: DenialReason) -> &'static str {
    match reason {
        DenialReason::MaxTtl => "max_ttl",
        DenialReason::MaxSandboxes => "max_sandboxes",
        DenialReason::MaxSandboxesPerOwner => "max_owner_sandboxes",
        DenialReason::MaxTotalMemory => "max_total_memory",
        DenialReason::MaxTotalDisk => "max_total_disk",
        DenialReason::MaxLabels => "max_labels",
        DenialReason::MemoryPressure => "memory_pressure",
        DenialReason::ProviderUnavailable => "provider_unavailable",
    }
}

/// Tells whether a sandbox would be created now. Creates none and keeps no room.
#[utoipa::path(
    post,
    path = "/sandboxes/admission",
    tag = "sandboxes",
    request_body = CreateBody,
    responses(
        (status = 200, description = "The decision.", body = Decision),
        (status = 404, description = "There is no such template or provider.", body = ErrorBody),
        (status = 422, description = "The provider cannot do this.", body = ErrorBody),
    )
)]
pub async fn admission(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    OptionalJson(body, _held): OptionalJson<CreateBody>,
) -> Result<axum::Json<Decision>, ApiError> {
    let decision = state.sandboxes.admission(&caller, body.into_request()?).await?;
    Ok(axum::Json(Decision {
        allowed: decision.allowed,
        queueable: decision.queueable,
        reason: decision.reason.map_or("", word),
        active_sandboxes: decision.active_sandboxes,
        max_sandboxes: decision.max_sandboxes,
        active_owner_sandboxes: decision.active_owner_sandboxes,
        max_owner_sandboxes: decision.max_owner_sandboxes.unwrap_or_default(),
        max_ttl: decision.max_ttl,
    }))
}
