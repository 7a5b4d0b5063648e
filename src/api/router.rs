//! All routes, and who may use each.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use super::api_keys::ApiKeys;
use super::auth::{Guard, authenticate};
use super::error::ApiError;
use super::openapi::Document;
use super::origin::refuse_ambiguous;
use super::rate_limit::RateLimit;
use super::request_id::name_request;
use super::unread_body::drain_unread_body;
use super::{
    admission, archive, audit, cors, diagnostics, docs, events, exec, exec_ws, files, health, image_import, images,
    keys, logs, metrics, openapi, pool, providers, quotas, sandboxes, snapshots, stats, templates,
};
use crate::config::Config;
use crate::sandbox::{ImageCatalog, ImageImporter, SandboxManager};
use crate::scope::Scope;
use crate::store::Store;

/// What every handler can reach. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The server's configuration.
    pub config: Arc<Config>,
    /// All sandboxes.
    pub sandboxes: SandboxManager,
    /// What survives a restart.
    pub store: Store,
    /// Installed images.
    pub images: Arc<dyn ImageCatalog>,
    /// Takes in images that users bring; `None` on a server without an image store.
    pub image_import: Option<Arc<ImageImporter>>,
    /// All API keys that the server accepts.
    pub keys: ApiKeys,
    /// When the server started, for its uptime.
    pub started: Instant,
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Holders of a key with this scope; everybody on this machine when the server has no keys.
    Needs(Scope),
}

/// One route and who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// `GET`, …
    pub method: &'static str,
    /// Below `/api/v1`, with parameters in braces.
    pub path: String,
    /// Who may use the route.
    pub access: Access,
}

/// Routes while they are gathered. There is no way to add one without saying who may use it.
struct Routes {
    state: AppState,
    rate_limit: RateLimit,
    router: OpenApiRouter<AppState>,
    rules: Vec<RouteRule>,
    document: Document,
}

impl Routes {
    /// Adds handlers of one path that everybody may use.
    fn open(self, handlers: UtoipaMethodRouter<AppState>) -> Self {
        self.add(Access::Open, handlers)
    }

    /// Adds handlers of one path that need a scope.
    fn needs(self, scope: Scope, handlers: UtoipaMethodRouter<AppState>) -> Self {
        let guard = Guard {
            state: self.state.clone(),
            needed: scope,
            rate_limit: self.rate_limit.clone(),
        };
        let layer = from_fn_with_state(guard, authenticate);
        let handlers = handlers.map(|methods| methods.route_layer(layer));
        self.add(Access::Needs(scope), handlers)
    }

    fn add(mut self, access: Access, handlers: UtoipaMethodRouter<AppState>) -> Self {
        for (path, item) in &handlers.1.paths {
            let methods = [
                ("GET", &item.get),
                ("PUT", &item.put),
                ("POST", &item.post),
                ("DELETE", &item.delete),
                ("PATCH", &item.patch),
                ("HEAD", &item.head),
                ("OPTIONS", &item.options),
                ("TRACE", &item.trace),
            ];
            self.rules.extend(
                methods
                    .into_iter()
                    .filter(|(_, operation)| operation.is_some())
                    .map(|(method, _)| RouteRule {
                        method,
                        path: path.clone(),
                        access,
                    }),
            );
        }
        self.router = self.router.routes(handlers);
        self
    }
}

/// Every route of the API.
fn routes(state: AppState) -> Routes {
    let none = Routes {
        rate_limit: RateLimit::new(&state.config.rate_limit),
        state,
        router: OpenApiRouter::new(),
        rules: Vec::new(),
        document: Document::default(),
    };
    let metrics_scope = none.state.config.metrics_scope;
    let document = Extension(none.document.clone());
    none.open(routes!(openapi::document).layer(document))
        .open(routes!(health::health))
        .open(routes!(health::live))
        .open(routes!(health::ready))
        .needs(Scope::Read, routes!(health::version))
        .needs(Scope::Read, routes!(sandboxes::list))
        .needs(Scope::Api, routes!(sandboxes::create, sandboxes::prune))
        .needs(Scope::Api, routes!(admission::admission))
        .needs(Scope::Read, routes!(sandboxes::get))
        .needs(Scope::Api, routes!(sandboxes::destroy))
        .needs(Scope::Api, routes!(sandboxes::extend))
        .needs(Scope::Api, routes!(exec::exec))
        .needs(Scope::Api, routes!(exec_ws::exec_ws))
        .needs(Scope::Read, routes!(files::read))
        .needs(Scope::Api, routes!(files::write, files::upload, files::delete))
        .needs(Scope::Read, routes!(files::list))
        .needs(Scope::Read, routes!(files::stat))
        .needs(Scope::Read, routes!(files::glob))
        .needs(Scope::Api, routes!(files::rename))
        .needs(Scope::Api, routes!(files::chmod))
        .needs(Scope::Read, routes!(archive::read))
        .needs(Scope::Api, routes!(archive::write))
        .needs(Scope::Read, routes!(templates::list))
        .needs(Scope::Api, routes!(templates::save))
        .needs(Scope::Read, routes!(templates::get))
        .needs(Scope::Api, routes!(templates::update, templates::delete))
        .needs(Scope::Api, routes!(templates::spawn))
        .needs(Scope::Read, routes!(providers::list))
        .needs(Scope::Read, routes!(providers::get))
        .needs(Scope::Api, routes!(providers::test))
        .needs(Scope::Read, routes!(images::list))
        .needs(Scope::Admin, routes!(image_import::import))
        .needs(Scope::Read, routes!(images::get))
        .needs(Scope::Admin, routes!(images::pull))
        .needs(Scope::Admin, routes!(images::delete))
        .needs(Scope::Read, routes!(logs::logs))
        .needs(Scope::Read, routes!(stats::stats))
        .needs(Scope::Read, routes!(events::events))
        .needs(metrics_scope, routes!(metrics::json))
        .needs(metrics_scope, routes!(metrics::prometheus))
        .needs(Scope::Admin, routes!(diagnostics::diagnostics))
        .needs(Scope::Read, routes!(pool::status))
        .needs(Scope::Read, routes!(snapshots::list))
        .needs(Scope::Admin, routes!(quotas::list))
        .needs(Scope::Admin, routes!(quotas::summary))
        .needs(Scope::Admin, routes!(quotas::get, quotas::set, quotas::delete))
        .needs(Scope::Admin, routes!(quotas::usage))
        .needs(Scope::Admin, routes!(keys::list, keys::create))
        .needs(Scope::Admin, routes!(keys::revoke))
        .needs(Scope::Admin, routes!(audit::list))
}

/// Every route of the API and who may use it.
#[cfg(test)]
pub(super) fn rules(state: AppState) -> Vec<RouteRule> {
    routes(state).rules
}

/// The whole API, under `/api/v1`.
pub fn router(state: AppState) -> Router {
    let routes = routes(state.clone());
    let (api, gathered) = routes.router.split_for_parts();
    let document = routes.document;
    document.fill(&openapi::describe(gathered, &routes.rules));
    let cors = option_layer(cors::layer(&state.config.cors));
    Router::new()
        .nest("/api/v1", api)
        .route("/openapi.json", get(openapi::document).layer(Extension(document)))
        .merge(docs::router())
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        // Limits of our own hold for each kind of body.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(drain_unread_body))
        .layer(cors)
        .layer(from_fn(refuse_ambiguous))
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
