//! `/quotas`: what each owner may use.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Actor;
use super::error::{ApiError, ErrorBody};
use super::extract::{AsCaller, Json, Name};
use super::list::charged;
use super::router::AppState;
use super::sandboxes::{Done, timestamp};
use super::schemas::Timestamp;
use crate::duration::GoDuration;
use crate::sandbox::{OwnerQuota, OwnerUsage, Quota, QuotaSummary, UserId};

/// Limits of one owner. What is absent, 0 or `0s` is limited by the server only.
#[expect(clippy::struct_field_names, reason = "the names are the contract's")]
#[derive(Deserialize, ToSchema)]
#[schema(as = QuotaLimits, example = json!({"max_sandboxes": 5, "max_ttl": "1h", "max_exec_timeout": "5m"}))]
pub struct QuotaBody {
    /// Sandboxes at once.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    max_sandboxes: Option<u32>,
    /// Longest time to live of a sandbox.
    max_ttl: Option<GoDuration>,
    /// Longest timeout of a command.
    max_exec_timeout: Option<GoDuration>,
}

/// The quota of an owner.
#[derive(Serialize, ToSchema)]
#[schema(as = Quota)]
pub struct Shown {
    owner_id: String,
    /// Sandboxes at once; 0 is no limit.
    max_sandboxes: usize,
    /// Longest time to live of a sandbox; absent when only the server's limit holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ttl: Option<GoDuration>,
    /// Longest timeout of a command; absent when only the server's limit holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_exec_timeout: Option<GoDuration>,
    #[schema(value_type = Timestamp)]
    created_at: String,
    #[schema(value_type = Timestamp)]
    updated_at: String,
}

/// What an owner uses, beside what they may.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaUsage)]
pub struct Usage {
    owner_id: String,
    /// Sandboxes that hold something now.
    active_sandboxes: usize,
    /// Most sandboxes at once; 0 is no limit but the server's.
    max_sandboxes: usize,
    /// Longest time to live of a sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ttl: Option<GoDuration>,
    /// Longest timeout of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_exec_timeout: Option<GoDuration>,
    /// Whether a quota was set for this owner.
    configured: bool,
}

/// How many quotas there are, and how many limit what.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaSummary)]
pub struct Summary {
    total: usize,
    with_max_sandboxes: usize,
    with_max_ttl: usize,
    with_max_exec_timeout: usize,
}

impl From<OwnerQuota> for Shown {
    fn from(owner: OwnerQuota) -> Self {
        Self {
            owner_id: owner.owner.to_string(),
            max_sandboxes: owner.quota.max_sandboxes.unwrap_or_default(),
            max_ttl: owner.quota.max_ttl.map(GoDuration),
            max_exec_timeout: owner.quota.max_exec_timeout.map(GoDuration),
            created_at: timestamp(owner.created_at),
            updated_at: timestamp(owner.updated_at),
        }
    }
}

impl From<OwnerUsage> for Usage {
    fn from(usage: OwnerUsage) -> Self {
        Self {
            owner_id: usage.owner.to_string(),
            active_sandboxes: usage.active_sandboxes,
            max_sandboxes: usage.effective.max_sandboxes.unwrap_or_default(),
            max_ttl: usage.effective.max_ttl.map(GoDuration),
            max_exec_timeout: usage.effective.max_exec_timeout.map(GoDuration),
            configured: usage.configured,
        }
    }
}

impl From<QuotaSummary> for Summary {
    fn from(summary: QuotaSummary) -> Self {
        Self {
            total: summary.total,
            with_max_sandboxes: summary.with_max_sandboxes,
            with_max_ttl: summary.with_max_ttl,
            with_max_exec_timeout: summary.with_max_exec_timeout,
        }
    }
}

impl QuotaBody {
    fn into_quota(self) -> Quota {
        let some = |duration: Option<GoDuration>| duration.map(|own| own.0).filter(|own| !own.is_zero());
        Quota {
            max_sandboxes: self.max_sandboxes.filter(|max| *max > 0).map(|max| max as usize),
            max_ttl: some(self.max_ttl),
            max_exec_timeout: some(self.max_exec_timeout),
        }
    }
}

fn owner(text: &str) -> Result<UserId, ApiError> {
    UserId::parse(text).map_err(|error| ApiError::bad_request(format!("owner: {error}")))
}

/// Lists the quotas of the caller's tenant, by owner.
#[utoipa::path(
    get,
    path = "/quotas",
    tag = "quotas",
    responses((status = 200, description = "The quotas.", body = Vec<Shown>))
)]
pub async fn list(State(state): State<AppState>, AsCaller(caller): AsCaller) -> Result<Response, ApiError> {
    let quotas: Vec<_> = state.sandboxes.quotas(&caller).into_iter().map(Shown::from).collect();
    charged(&state, &caller, &quotas)
}

/// Counts the quotas of the caller's tenant by what they limit.
#[utoipa::path(
    get,
    path = "/quotas/summary",
    tag = "quotas",
    responses((status = 200, description = "The counts.", body = Summary))
)]
pub async fn summary(State(state): State<AppState>, AsCaller(caller): AsCaller) -> axum::Json<Summary> {
    axum::Json(state.sandboxes.quota_summary(&caller).into())
}

/// Shows the quota of an owner.
#[utoipa::path(
    get,
    path = "/quotas/{owner}",
    tag = "quotas",
    params(("owner" = String, Path, description = "The owner", min_length = 1, max_length = 128)),
    responses(
        (status = 200, description = "The quota.", body = Shown),
        (status = 404, description = "No quota is set for this owner.", body = ErrorBody),
    )
)]
pub async fn get(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Name(name): Name,
) -> Result<axum::Json<Shown>, ApiError> {
    Ok(axum::Json(state.sandboxes.quota(&caller, &owner(&name)?)?.into()))
}

/// Sets the quota of an owner. Sandboxes that exist already stay as they are.
#[utoipa::path(
    put,
    path = "/quotas/{owner}",
    tag = "quotas",
    params(("owner" = String, Path, description = "The owner", min_length = 1, max_length = 128)),
    request_body = QuotaBody,
    responses(
        (status = 200, description = "The quota that holds from now on.", body = Shown),
        (status = 404, description = "The caller is narrowed to another user.", body = ErrorBody),
    )
)]
pub async fn set(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    actor: Actor,
    Name(name): Name,
    Json(body, _held): Json<QuotaBody>,
) -> Result<axum::Json<Shown>, ApiError> {
    let owner = owner(&name)?;
    let action = actor.does("quota.set", owner.as_str());
    let quota = state
        .sandboxes
        .set_quota(&caller, &owner, body.into_quota(), action)
        .await?;
    Ok(axum::Json(quota.into()))
}

/// Removes the quota of an owner.
#[utoipa::path(
    delete,
    path = "/quotas/{owner}",
    tag = "quotas",
    params(("owner" = String, Path, description = "The owner", min_length = 1, max_length = 128)),
    responses(
        (status = 200, description = "It is gone.", body = Done),
        (status = 404, description = "No quota is set for this owner.", body = ErrorBody),
    )
)]
pub async fn delete(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    actor: Actor,
    Name(name): Name,
) -> Result<axum::Json<Done>, ApiError> {
    let owner = owner(&name)?;
    let action = actor.does("quota.delete", owner.as_str());
    state.sandboxes.delete_quota(&caller, &owner, action).await?;
    Ok(axum::Json(Done { status: "deleted" }))
}

/// Shows what an owner uses and may use, with or without a quota of their own.
#[utoipa::path(
    get,
    path = "/quotas/{owner}/usage",
    tag = "quotas",
    params(("owner" = String, Path, description = "The owner", min_length = 1, max_length = 128)),
    responses(
        (status = 200, description = "Use and limits.", body = Usage),
        (status = 404, description = "The caller is narrowed to another user.", body = ErrorBody),
    )
)]
pub async fn usage(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Name(name): Name,
) -> Result<axum::Json<Usage>, ApiError> {
    Ok(axum::Json(state.sandboxes.quota_usage(&caller, &owner(&name)?)?.into()))
}
