//! The audit trail: who is acting, for the changes that go into it, and the route that reads it.

use std::convert::Infallible;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::Query;
use super::request_id::RequestId;
use super::router::AppState;
use super::sandboxes::timestamp;
use crate::sandbox::Caller;
use crate::store::{AuditAction, AuditEntry};

/// Entries of a page when the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// Most entries of a page.
const MAX_LIMIT: usize = 1000;

/// Who makes a change, for the audit trail.
pub struct Actor {
    caller: Caller,
    request_id: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self {
            caller: parts.extensions.get().cloned().unwrap_or_default(),
            request_id: parts.extensions.get().map(|RequestId(id)| id.clone()),
        })
    }
}

impl Actor {
    /// What it does now.
    pub fn does(&self, action: &'static str, target: impl Into<String>) -> AuditAction {
        AuditAction {
            key: self.caller.key.clone(),
            tenant: self.caller.tenant.to_string(),
            action,
            target: target.into(),
            request_id: self.request_id.clone(),
        }
    }
}

/// An entry of the audit trail as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct Entry {
    /// Its number; later entries have higher ones.
    id: i64,
    /// When it was done, RFC 3339, UTC.
    at: String,
    /// Name and id of the API key that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The tenant of that key.
    tenant: String,
    /// What was done, such as `key.create`.
    action: String,
    /// What it was done to.
    target: String,
    /// Id of the request, as in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: timestamp(entry.at),
            key: entry.key,
            tenant: entry.tenant,
            action: entry.action,
            target: entry.target,
            request_id: entry.request_id,
        }
    }
}

/// Lists what administrators changed, newest first. The next page is the one before the last entry's `id`.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "audit",
    params(
        ("limit" = Option<u32>, Query, description = "Most entries to answer with; 100 when absent", minimum = 1, maximum = 1000),
        ("before" = Option<i64>, Query, description = "Only entries with a lower id", minimum = 1),
    ),
    responses(
        (status = 200, description = "Changes of the server, newest first", body = Vec<Entry>),
        (status = 400, description = "A malformed parameter"),
        (status = 401, description = "No API key, or an unknown one"),
        (status = 403, description = "The API key lacks the scope admin"),
    )
)]
pub async fn list(State(state): State<AppState>, query: Query) -> Result<Json<Vec<Entry>>, ApiError> {
    let limit = match query.get("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| ApiError::bad_request(format!("limit must be a number from 1 to {MAX_LIMIT}")))?,
    };
    let before = query.get("before").map(|text| {
        let id = text.parse().ok().filter(|id| *id > 0_i64);
        id.ok_or_else(|| ApiError::bad_request("before must be the id of an entry"))
    });
    let entries = state.store.audit_entries(before.transpose()?, limit).await?;
    Ok(Json(entries.into_iter().map(Entry::from).collect()))
}
