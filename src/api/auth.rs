//! Who may call: API keys, their scopes, and `X-User-ID`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::error::ApiError;
use super::router::AppState;
use crate::config::{AuthConfig, Scope, decode_sha256};
use crate::sandbox::{Caller, UserId};

const X_API_KEY: &str = "x-api-key";
const X_USER_ID: &str = "x-user-id";

/// The keys of a server. Without any, authentication is off.
#[derive(Debug, Clone, Default)]
pub struct ApiKeys(Arc<[ApiKey]>);

/// One key, known by its digest.
#[derive(Debug)]
struct ApiKey {
    digest: [u8; 32],
    scope: Scope,
    user: Option<UserId>,
}

/// A key in the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("API key \"{0}\": its digest, scopes or user are malformed")]
pub struct InvalidApiKey(String);

impl ApiKeys {
    /// The keys of a configuration.
    ///
    /// # Errors
    /// [`InvalidApiKey`] names the first one that is malformed.
    pub fn new(config: &AuthConfig) -> Result<Self, InvalidApiKey> {
        let keys = config.keys.iter().map(|key| {
            let invalid = || InvalidApiKey(key.name.clone());
            let user = key
                .user
                .as_deref()
                .map(UserId::parse)
                .transpose()
                .map_err(|_| invalid())?;
            let digest = decode_sha256(&key.sha256).ok_or_else(invalid)?;
            let scope = key.scopes.iter().copied().max().ok_or_else(invalid)?;
            Ok(ApiKey { digest, scope, user })
        });
        Ok(Self(keys.collect::<Result<Vec<_>, _>>()?.into()))
    }

    /// Finds a key. Takes the same time whichever key it is and however much of it is right.
    fn find(&self, presented: &[u8]) -> Option<&ApiKey> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let none = u64::MAX;
        let mut found = none;
        for (index, key) in (0u64..).zip(self.0.iter()) {
            let equal: Choice = key.digest.ct_eq(&digest);
            found = u64::conditional_select(&found, &index, equal);
        }
        usize::try_from(found).ok().and_then(|index| self.0.get(index))
    }
}

/// Lets a request through with its [`Caller`] when its key has the scope the route needs, or answers 401 or 403.
pub async fn authenticate(
    State((state, needed)): State<(AppState, Scope)>,
    mut request: Request,
    next: Next,
) -> Response {
    match identify(&state.keys, needed, request.uri(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

fn identify(keys: &ApiKeys, needed: Scope, uri: &Uri, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let user = match headers.get(X_USER_ID) {
        None => None,
        Some(value) => {
            let text = value
                .to_str()
                .ok()
                .or_else(|| std::str::from_utf8(value.as_bytes()).ok());
            let user = text.map(UserId::parse).and_then(Result::ok);
            Some(user.ok_or_else(|| ApiError::bad_request(format!("X-User-ID: {}", crate::sandbox::InvalidUserId)))?)
        }
    };
    if keys.0.is_empty() {
        refuse_foreign_pages(uri, headers)?;
        return Ok(Caller {
            user,
            ..Caller::default()
        });
    }
    let key = presented_key(headers)
        .ok_or_else(|| ApiError::unauthorized("an API key is required: send it in the header X-API-Key"))?;
    let key = keys
        .find(key)
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
        user,
        all_tenants: key.scope == Scope::Admin,
        ..Caller::default()
    })
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

/// Without keys, any web page its user opens could use a server on that user's machine: a browser sends `Origin` with
/// such requests, and it differs from the address the request goes to.
fn refuse_foreign_pages(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str));
    let origin_host = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, host)| host);
    if origin_host.is_some() && origin_host == host {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "requests from other web pages need a server with API keys",
    ))
}
