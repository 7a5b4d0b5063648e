//! Which web pages of other origins may read the API's answers (the Fetch standard's CORS protocol).

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::CorsConfig;

/// How long a browser may keep the answer to a preflight request.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Answers preflight requests, without a key as browsers send none, and tells browsers which pages may read answers.
/// `None` when no origin is configured: then no page of another origin may.
pub fn layer(config: &CorsConfig) -> Option<CorsLayer> {
    if config.origins.is_empty() {
        return None;
    }
    let origins = if config.allows_all() {
        AllowOrigin::any()
    } else {
        let origins = config.origins.iter();
        AllowOrigin::list(origins.filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::PUT, Method::POST, Method::DELETE])
        .allow_headers([
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("x-user-id"),
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("last-event-id"),
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
        ])
        .expose_headers([
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("x-ratelimit-limit"),
            HeaderName::from_static("x-ratelimit-remaining"),
            HeaderName::from_static("x-ratelimit-reset"),
            header::RETRY_AFTER,
        ])
        .max_age(MAX_AGE);
    Some(layer)
}
