//! `/sandboxes`: creates, lists, shows, extends and destroys sandboxes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::error::{ApiError, ErrorBody};
use super::extract::{AsCaller, Id, Json, Query};
use super::list::{streamed, with_next};
use super::router::AppState;
use super::schemas::Timestamp;
use crate::duration::GoDuration;
use crate::provider::Network;
use crate::sandbox::{CreateRequest, SandboxId, SandboxView, UserId};

/// Most sandboxes of a page.
const MAX_PAGE: usize = 1000;

/// A sandbox to create. Unknown fields are ignored, as StacyVM does, so that newer clients work.
#[derive(Default, Deserialize, utoipa::ToSchema)]
pub struct CreateBody {
    /// What it is made of; the template's or the server's default when absent.
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\s\x00-\x1f\x7f]+$")]
    image: Option<String>,
    /// What it runs on; the template's or the server's default when absent or empty.
    #[schema(max_length = 256)]
    provider: Option<String>,
    /// Memory, MiB.
    #[schema(minimum = 1)]
    memory_mb: Option<u64>,
    /// Processes that may run at the same instant.
    #[schema(minimum = 1)]
    vcpus: Option<u32>,
    /// Files beyond the image, MiB.
    #[schema(minimum = 1)]
    disk_mb: Option<u64>,
    /// Processor time that all its processes together may use, counted from its creation, or from the start of the
    /// server if that was later; when it is used up they are killed and no more run. No limit when absent.
    #[schema(value_type = Option<GoDuration>)]
    cpu_time: Option<GoDuration>,
    /// How long it lives; at most the server's longest.
    #[schema(value_type = Option<GoDuration>)]
    ttl: Option<GoDuration>,
    /// Labels.
    metadata: Option<BTreeMap<String, String>>,
    /// Environment of every command.
    env: Option<BTreeMap<String, String>>,
    /// A template whose values hold where this request has none.
    #[schema(max_length = 128)]
    template: Option<String>,
    /// The user it is attributed to, when the caller is not bound to one.
    #[schema(max_length = 128, pattern = r"^[^\s/\\\x00-\x1f\x7f]*$")]
    owner_id: Option<String>,
    /// What it may reach over the network.
    network: Option<Network>,
}

/// Body of `POST /sandboxes/{id}/extend`.
#[derive(Deserialize, utoipa::ToSchema)]
pub struct ExtendBody {
    /// From now on; at most the server's longest.
    #[schema(value_type = GoDuration)]
    ttl: GoDuration,
}

/// A sandbox as clients see it.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Sandbox {
    id: String,
    state: &'static str,
    /// Why it cannot be used, in the state `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    provider: String,
    image: String,
    memory_mb: u64,
    vcpus: u32,
    disk_mb: u64,
    #[schema(value_type = Timestamp)]
    created_at: String,
    #[schema(value_type = Timestamp)]
    expires_at: String,
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: Option<String>,
    preview_domain: String,
}

/// Answer of `DELETE /sandboxes`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Pruned {
    /// How many were removed.
    pruned: usize,
}

/// Answer of a change that has nothing else to tell.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Done {
    /// What was done, in the past tense.
    #[schema(value_type = String)]
    pub status: &'static str,
}

impl CreateBody {
    /// The request in the words of the sandbox layer.
    pub(super) fn into_request(self) -> Result<CreateRequest, ApiError> {
        let owner = non_empty(self.owner_id).map(|owner| UserId::parse(&owner)).transpose();
        Ok(CreateRequest {
            image: self.image,
            provider: non_empty(self.provider),
            template: non_empty(self.template),
            memory_mb: self.memory_mb,
            vcpus: self.vcpus,
            disk_mb: self.disk_mb,
            cpu_time: self.cpu_time.map(|cpu_time| cpu_time.0),
            ttl: self.ttl.map(|ttl| ttl.0),
            metadata: self.metadata.unwrap_or_default(),
            env: self.env.unwrap_or_default(),
            network: self.network,
            owner: owner.map_err(|error| ApiError::bad_request(format!("owner_id: {error}")))?,
        })
    }
}

/// StacyVM's clients send "" for what they leave to the server.
pub(super) fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// RFC 3339, UTC, milliseconds.
pub(super) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

pub(super) fn to_view(state: &AppState, view: SandboxView) -> Sandbox {
    Sandbox {
        id: view.id.to_string(),
        state: view.state.label(),
        error: view.error,
        provider: view.provider,
        image: view.spec.image,
        memory_mb: view.spec.memory_mb,
        vcpus: view.spec.vcpus,
        disk_mb: view.spec.disk_mb,
        created_at: timestamp(view.created_at),
        expires_at: timestamp(view.expires_at),
        metadata: view.metadata,
        owner_id: view.owner.map(|owner| owner.to_string()),
        preview_domain: state.config.preview_domain.clone(),
    }
}

/// Creates a sandbox.
#[utoipa::path(
    post,
    path = "/sandboxes",
    request_body = CreateBody,
    responses(
        (status = 201, description = "The sandbox.", body = Sandbox),
        (status = 404, description = "There is no such image, template or provider.", body = ErrorBody),
        (status = 409, description = "The sandbox was destroyed while it was made.", body = ErrorBody),
        (status = 422, description = "The provider cannot do this.", body = ErrorBody),
    )
)]
pub async fn create(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Json(body, _held): Json<CreateBody>,
) -> Result<(StatusCode, axum::Json<Sandbox>), ApiError> {
    let view = state.sandboxes.create(&caller, body.into_request()?).await?;
    Ok((StatusCode::CREATED, axum::Json(to_view(&state, view))))
}

/// Lists the caller's sandboxes: all of them, oldest first, or with `limit` or `after` some of them, in the order of
/// their ids.
///
/// Of a page that is not the last, the header `Link` leads to the next one.
#[utoipa::path(
    get,
    path = "/sandboxes",
    params(
        ("limit" = Option<u32>, Query, description = "Most sandboxes to answer with; 1000 when only `after` is given", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "Only sandboxes whose id comes after this one, which need not exist any more"),
    ),
    responses((status = 200, description = "The sandboxes.", body = Vec<Sandbox>))
)]
pub async fn list(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    query: Query,
) -> Result<Response, ApiError> {
    let after = query.get("after");
    if after.is_none() && query.get("limit").is_none() {
        let listing = state.sandboxes.listing(&caller);
        return streamed(stream::unfold((listing, state), |(mut listing, state)| async {
            let view = listing.next().await?;
            Some((Ok(to_view(&state, view)), (listing, state)))
        }))
        .await;
    }
    let limit = query.number("limit", MAX_PAGE, MAX_PAGE)?;
    let bad = || ApiError::bad_request("query parameter after must be the id of a sandbox");
    let after = after.map(|id| SandboxId::parse(id).ok_or_else(bad)).transpose()?;
    let page = state.sandboxes.page(&caller, after, limit).await;
    let last = page.views.last().map(|view| view.id.to_string());
    let sandboxes: Vec<_> = page.views.into_iter().map(|view| Ok(to_view(&state, view))).collect();
    let response = streamed(stream::iter(sandboxes)).await?;
    Ok(match last {
        Some(last) if page.more => {
            let limit = limit.to_string();
            with_next(response, "/sandboxes", &[("limit", &limit), ("after", &last)])
        }
        _ => response,
    })
}

/// Removes the caller's expired sandboxes.
#[utoipa::path(
    delete,
    path = "/sandboxes",
    responses((status = 200, description = "They are removed.", body = Pruned))
)]
pub async fn prune(State(state): State<AppState>, AsCaller(caller): AsCaller) -> axum::Json<Pruned> {
    axum::Json(Pruned {
        pruned: state.sandboxes.prune(&caller).await,
    })
}

/// Shows a sandbox.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}",
    responses((status = 200, description = "The sandbox.", body = Sandbox))
)]
pub async fn get(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
) -> Result<axum::Json<Sandbox>, ApiError> {
    let view = state.sandboxes.get(&caller, &id)?;
    Ok(axum::Json(to_view(&state, view)))
}

/// Destroys a sandbox.
///
/// Also when it is gone, or the id never was one, so that cleaning up always succeeds.
#[utoipa::path(
    delete,
    path = "/sandboxes/{id}",
    responses((status = 200, description = "It is gone.", body = Done))
)]
pub async fn destroy(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    id: Result<Id, ApiError>,
) -> Result<axum::Json<Done>, ApiError> {
    if let Ok(Id(id)) = id {
        state.sandboxes.destroy(&caller, &id).await?;
    }
    Ok(axum::Json(Done { status: "destroyed" }))
}

/// Moves a sandbox's expiry: the time to live counts from now.
#[utoipa::path(
    post,
    path = "/sandboxes/{id}/extend",
    request_body = ExtendBody,
    responses(
        (status = 200, description = "The sandbox with its new expiry.", body = Sandbox),
        (status = 409, description = "The sandbox is not running.", body = ErrorBody),
    )
)]
pub async fn extend(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Json(body, _held): Json<ExtendBody>,
) -> Result<axum::Json<Sandbox>, ApiError> {
    let view = state.sandboxes.extend(&caller, &id, body.ttl.0).await?;
    Ok(axum::Json(to_view(&state, view)))
}
