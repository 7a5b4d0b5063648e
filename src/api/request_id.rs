//! The outermost layer: names every request and writes the bodies of errors.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use super::error::ApiError;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a client is replaced.
const MAX_BYTES: usize = 128;

/// The id of a request, for handlers.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Keeps the client's `X-Request-ID`, or makes one; puts it in the log, in the answer's header and in error bodies.
pub async fn name_request(mut request: Request, next: Next) -> Response {
    let id = match request.headers().get(&X_REQUEST_ID).and_then(acceptable) {
        Some(id) => id.clone(),
        None => random_id(),
    };
    // Both sources are visible ASCII.
    let text = id.to_str().unwrap_or_default().to_owned();
    request.extensions_mut().insert(RequestId(text.clone()));
    let span = tracing::info_span!("request", id = %text, method = %request.method(), path = request.uri().path());
    let mut response = next.run(request).instrument(span).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let status_of_route = std::mem::take(response.headers_mut());
        response = error.render(&text);
        // Headers that belong to the refusal, such as Allow.
        for (name, value) in &status_of_route {
            if !response.headers().contains_key(name) && *name != axum::http::header::CONTENT_LENGTH {
                response.headers_mut().insert(name.clone(), value.clone());
            }
        }
    }
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

/// A client's id that is fit for logs: not empty, short, visible ASCII.
fn acceptable(id: &HeaderValue) -> Option<&HeaderValue> {
    let bytes = id.as_bytes();
    ((1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)).then_some(id)
}

/// An id for a request that has none.
pub fn random_id() -> HeaderValue {
    let mut bytes = [0; 8];
    // An id that is not unique is a nuisance for who reads the log, no more: keep serving.
    let _ = getrandom::fill(&mut bytes);
    HeaderValue::from_str(&format!("req_{}", hex::encode(bytes))).unwrap_or_else(|_| HeaderValue::from_static("req_0"))
}
