//! `/keys`: creates, lists and revokes API keys.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api_keys::{KeyRequest, KeyRequestError, configured_id};
use super::audit::Actor;
use super::error::ApiError;
use super::extract::{AsCaller, Json, Name};
use super::router::AppState;
use super::sandboxes::{Done, timestamp};
use crate::config::{ApiKeyConfig, AuthConfig};
use crate::sandbox::{Caller, UserId};
use crate::scope::Scope;
use crate::store::ApiKeyRecord;

/// An API key to make.
#[derive(Deserialize, ToSchema)]
pub struct CreateKeyBody {
    /// What to call it.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// What it may do; `read` and `api` when absent.
    #[schema(min_items = 1)]
    scopes: Option<Vec<Scope>>,
    /// Whose things it sees; the caller's tenant when absent.
    #[schema(min_length = 1, max_length = 128)]
    tenant: Option<String>,
    /// The only user it acts for; any when absent.
    #[schema(min_length = 1, max_length = 128)]
    user: Option<String>,
}

/// A key as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct Key {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) tenant: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    source: Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<String>,
    /// To the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<String>,
}

/// Where a key is kept.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ApiKeySource)]
enum Source {
    /// In the server's database: the API can revoke it.
    Database,
    /// In its configuration: only that can remove it.
    Configuration,
}

/// A new API key.
#[derive(Serialize, ToSchema)]
#[schema(as = NewApiKey)]
pub struct NewKey {
    /// The key. It is shown this once.
    key: String,
    #[serde(flatten)]
    details: Key,
}

impl NewKey {
    /// A key and what is kept of it.
    #[must_use]
    pub fn new(key: String, kept: ApiKeyRecord) -> Self {
        Self {
            key,
            details: kept.into(),
        }
    }
}

impl From<ApiKeyRecord> for Key {
    fn from(record: ApiKeyRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            scopes: record.scopes,
            tenant: record.tenant,
            user: record.user,
            source: Source::Database,
            created_at: Some(timestamp(record.created_at)),
            last_used_at: record.last_used_at.map(timestamp),
            revoked_at: record.revoked_at.map(timestamp),
        }
    }
}

impl Key {
    /// All keys of a server: those of its configuration, then those of its database.
    #[must_use]
    pub fn all(configuration: &AuthConfig, database: Vec<ApiKeyRecord>) -> Vec<Self> {
        let configured = configuration.keys.iter().enumerate();
        let configured = configured.map(|(index, key)| Self::of_configuration(index, key));
        configured.chain(database.into_iter().map(Self::from)).collect()
    }

    /// Whether it is in the server's configuration, which only its owner changes.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.source == Source::Configuration
    }

    fn of_configuration(index: usize, key: &ApiKeyConfig) -> Self {
        Self {
            id: configured_id(index),
            name: key.name.clone(),
            scopes: key.scopes.clone(),
            tenant: key.tenant.clone(),
            user: key.user.clone(),
            source: Source::Configuration,
            created_at: None,
            last_used_at: None,
            revoked_at: None,
        }
    }
}

/// Whether a key exists for the caller, who may have narrowed the request to one user.
fn sees(caller: &Caller, key: &Key) -> bool {
    let user = caller.user.as_ref().map(UserId::as_str);
    (caller.all_tenants || key.tenant == caller.tenant.as_str()) && (user.is_none() || user == key.user.as_deref())
}

/// The keys that exist for the caller.
async fn visible(state: &AppState, caller: &Caller) -> Result<Vec<Key>, ApiError> {
    let mut keys = Key::all(&state.config.auth, state.store.api_keys().await?.keys);
    keys.retain(|key| sees(caller, key));
    Ok(keys)
}

/// Makes an API key.
#[utoipa::path(
    post,
    path = "/keys",
    tag = "keys",
    request_body = CreateKeyBody,
    params(("X-User-ID" = Option<String>, Header, description = "The user to bind the key to")),
    responses(
        (status = 201, description = "The key, shown this once", body = NewKey),
        (status = 400, description = "A malformed body or value"),
        (status = 401, description = "No API key, or an unknown one"),
        (status = 403, description = "The API key lacks the scope admin, or X-User-ID is another than user"),
        (status = 413, description = "The body is too large"),
    )
)]
pub async fn create(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    actor: Actor,
    Json(body, _held): Json<CreateKeyBody>,
) -> Result<(StatusCode, axum::Json<NewKey>), ApiError> {
    let user = match (caller.user, body.user) {
        (Some(named), Some(user)) if named.as_str() != user.trim() => {
            return Err(ApiError::forbidden("user is another than X-User-ID names"));
        }
        (Some(named), _) => Some(named.to_string()),
        (None, user) => user,
    };
    let request = KeyRequest {
        name: body.name,
        scopes: body.scopes,
        tenant: Some(body.tenant.unwrap_or_else(|| caller.tenant.to_string())),
        user,
    };
    let (record, key) = request.issue()?;
    let action = actor.does("key.create", record.id.clone());
    state.keys.add(record.clone(), action).await?;
    Ok((StatusCode::CREATED, axum::Json(NewKey::new(key, record))))
}

/// Lists all API keys, revoked ones too.
#[utoipa::path(
    get,
    path = "/keys",
    tag = "keys",
    params(("X-User-ID" = Option<String>, Header, description = "Only keys bound to this user")),
    responses(
        (status = 200, description = "Keys, without their text", body = Vec<Key>),
        (status = 401, description = "No API key, or an unknown one"),
        (status = 403, description = "The API key lacks the scope admin"),
    )
)]
pub async fn list(State(state): State<AppState>, AsCaller(caller): AsCaller) -> Result<axum::Json<Vec<Key>>, ApiError> {
    visible(&state, &caller).await.map(axum::Json)
}

/// Revokes an API key: it opens nothing from now on. It stays in the list.
#[utoipa::path(
    delete,
    path = "/keys/{id}",
    tag = "keys",
    params(
        ("id" = String, Path, description = "The id of a key, not the key"),
        ("X-User-ID" = Option<String>, Header, description = "Only a key bound to this user"),
    ),
    responses(
        (status = 200, description = "It is revoked, maybe since earlier", body = Done),
        (status = 401, description = "No API key, or an unknown one"),
        (status = 403, description = "The API key lacks the scope admin"),
        (status = 404, description = "There is no key of this id"),
        (status = 409, description = "The key is in the server's configuration"),
    )
)]
pub async fn revoke(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    actor: Actor,
    Name(id): Name,
) -> Result<axum::Json<Done>, ApiError> {
    let Some(key) = visible(&state, &caller).await?.into_iter().find(|key| key.id == id) else {
        return Err(no_such_key(&id));
    };
    if key.is_configured() {
        return Err(ApiError::conflict(format!(
            "API key {id} is in the server's configuration; remove it there and restart the server"
        )));
    }
    let action = actor.does("key.revoke", id.clone());
    if state.keys.revoke(id.clone(), action).await? {
        Ok(axum::Json(Done { status: "revoked" }))
    } else {
        Err(no_such_key(&id))
    }
}

fn no_such_key(id: &str) -> ApiError {
    let shown: String = id.chars().take(80).collect();
    ApiError::not_found(format!("API key {shown} not found"))
}

impl From<KeyRequestError> for ApiError {
    fn from(error: KeyRequestError) -> Self {
        match error {
            KeyRequestError::Invalid(message) => Self::bad_request(message),
            KeyRequestError::Random(_) => {
                tracing::error!(%error, "cannot make an API key");
                Self::internal()
            }
        }
    }
}
