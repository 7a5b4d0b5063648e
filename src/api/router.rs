//! Which route leads where.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::auth::{ApiKeys, authenticate};
use super::error::ApiError;
use super::request_id::name_request;
use super::{exec, files, health, images, providers, sandboxes};
use crate::config::Config;
use crate::sandbox::{ImageCatalog, SandboxManager};

/// What every handler can reach. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The server's configuration.
    pub config: Arc<Config>,
    /// All sandboxes.
    pub sandboxes: SandboxManager,
    /// Installed images.
    pub images: Arc<dyn ImageCatalog>,
    /// Who may call.
    pub keys: ApiKeys,
    /// When the server started, for its uptime.
    pub started: Instant,
}

/// The whole API, under `/api/v1`.
pub fn router(state: AppState) -> Router {
    let open = Router::new()
        .route("/health", get(health::health))
        .route("/live", get(health::live))
        .route("/ready", get(health::ready));
    let authenticated = Router::new()
        .route("/version", get(health::version))
        .route(
            "/sandboxes",
            post(sandboxes::create).get(sandboxes::list).delete(sandboxes::prune),
        )
        .route("/sandboxes/{id}", get(sandboxes::get).delete(sandboxes::destroy))
        .route("/sandboxes/{id}/extend", post(sandboxes::extend))
        .route("/sandboxes/{id}/exec", post(exec::exec))
        .route(
            "/sandboxes/{id}/files",
            post(files::write)
                .put(files::upload)
                .get(files::read)
                .delete(files::delete),
        )
        .route("/sandboxes/{id}/files/list", get(files::list))
        .route("/sandboxes/{id}/files/stat", get(files::stat))
        .route("/sandboxes/{id}/files/glob", get(files::glob))
        .route("/sandboxes/{id}/files/move", post(files::rename))
        .route("/sandboxes/{id}/files/chmod", post(files::chmod))
        .route("/providers", get(providers::list))
        .route("/providers/test", post(providers::test))
        .route("/providers/{name}", get(providers::get))
        .route("/images", get(images::list))
        .route("/images/{name}", get(images::get))
        .route_layer(from_fn_with_state(state.clone(), authenticate));
    Router::new()
        .nest("/api/v1", open.merge(authenticated))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        // Limits of our own hold for each kind of body.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(name_request))
        .with_state(state)
}

async fn no_such_route(request: Request) -> ApiError {
    ApiError::not_found(format!(
        "there is no route {} {}",
        request.method(),
        request.uri().path()
    ))
}

async fn method_not_allowed(request: Request) -> ApiError {
    ApiError::method_not_allowed(format!("{} does not take {}", request.uri().path(), request.method()))
}

/// The answer for a handler that panicked: the cause goes to the log, the server lives.
#[expect(clippy::needless_pass_by_value, reason = "the signature is tower-http's")]
fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(cause = text.unwrap_or("not a text"), "a handler panicked");
    ApiError::internal().into_response()
}
