//! Authentication: API keys, their scopes, and `X-User-ID`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use super::origin;
use super::rate_limit::RateLimit;
use super::router::AppState;
use crate::sandbox::{Caller, InvalidUserId, Permit, UserId};
use crate::scope::Scope;

const X_API_KEY: &str = "x-api-key";
const X_USER_ID: &str = "x-user-id";

/// What stands before a route's handlers.
#[derive(Clone)]
pub struct Guard {
    /// The server.
    pub state: AppState,
    /// What a key must allow.
    pub needed: Scope,
    /// How often a client may call.
    pub rate_limit: RateLimit,
}

/// Lets a request through with its [`Caller`] when its key has the scope the route needs, or answers 401 or 403; 429
/// when the client calls too often, whatever its key.
pub async fn authenticate(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let identified = identify(&guard.state, guard.needed, request.uri(), request.headers()).await;
    let verdict = guard.rate_limit.check(identified.as_ref().ok(), &request);
    let mut response = match (verdict.and_then(|verdict| verdict.refused()), identified) {
        (Some(retry_after), _) => ApiError::rate_limited(retry_after).into_response(),
        (None, Ok(caller)) => match share_of_requests(&guard.state, &caller) {
            Ok(share) => {
                request.extensions_mut().insert(caller);
                let mut response = next.run(request).await;
                if let Some(share) = share {
                    response.extensions_mut().insert(share);
                }
                response
            }
            Err(error) => error.into_response(),
        },
        (None, Err(error)) => error.into_response(),
    };
    if let Some(verdict) = verdict {
        verdict.describe(response.headers_mut());
    }
    response
}

/// One of the requests that a tenant may have in progress, until its answer is complete. A clone is the same one.
#[derive(Clone)]
pub struct ShareOfRequests {
    /// Held for its `Drop`.
    _permit: Arc<Permit>,
}

/// Counts a request for its tenant. A server without keys has one tenant, which may have all there are.
///
/// # Errors
/// 429 when the tenant has its share in progress already.
pub fn share_of_requests(state: &AppState, caller: &Caller) -> Result<Option<ShareOfRequests>, ApiError> {
    if !state.keys.required() {
        return Ok(None);
    }
    let permit = state.sandboxes.budgets().requests.take(&caller.tenant, 1);
    let permit = permit.map_err(|exhausted| ApiError::exhausted(exhausted, "requests in progress"))?;
    Ok(Some(ShareOfRequests {
        _permit: Arc::new(permit),
    }))
}

async fn identify(state: &AppState, needed: Scope, uri: &Uri, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let user = named_user(headers)?;
    if !state.keys.required() {
        origin::check(&state.config, uri, headers)?;
        return Ok(Caller {
            user,
            ..Caller::default()
        });
    }
    let key = presented_key(headers)
        .ok_or_else(|| ApiError::unauthorized("an API key is required: send it in the header X-API-Key"))?;
    let key = state
        .keys
        .find(key)
        .await
        .ok_or_else(|| ApiError::unauthorized("this API key is not known"))?;
    if key.scope < needed {
        return Err(ApiError::forbidden(format!(
            "this API key lacks the scope \"{needed}\", which this needs"
        )));
    }
    let user = match (&key.user, user) {
        (Some(bound), Some(named)) if *bound != named => {
            return Err(ApiError::forbidden(
                "this API key belongs to another user than X-User-ID names",
            ));
        }
        (Some(bound), _) => Some(bound.clone()),
        (None, user) => user,
    };
    Ok(Caller {
        tenant: key.tenant.clone(),
        user,
        all_tenants: key.scope == Scope::Admin,
        key: Some(key.label.clone()),
    })
}

/// The user that `X-User-ID` names. Two of them are refused: which one holds would be a guess.
fn named_user(headers: &HeaderMap) -> Result<Option<UserId>, ApiError> {
    let mut values = headers.get_all(X_USER_ID).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes()).ok();
    match (text.map(UserId::parse), values.next()) {
        (Some(Ok(user)), None) => Ok(Some(user)),
        (_, Some(_)) => Err(ApiError::bad_request("X-User-ID is given twice")),
        _ => Err(ApiError::bad_request(format!("X-User-ID: {InvalidUserId}"))),
    }
}

/// The key of `X-API-Key`, else of `Authorization: Bearer`.
fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(X_API_KEY) {
        return Some(key.as_bytes());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
}
