//! Errors as clients see them. The only place that knows which status a failure has.
//!
//! The body is `{"code", "message", "request_id"}`. A handler returns an [`ApiError`]; the layer in
//! [`request_id`](super::request_id) writes the body, because only there the request's id is known.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::exec_answer::ExecAnswer;
use crate::provider::ProviderError;
use crate::sandbox::{Exhausted, ImportError, SandboxError};
use crate::store::StoreError;

/// Seconds a client is asked to wait after 429 and 503 when nothing better is known.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A failure, ready to be sent.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Seconds to wait, after 429 and 503.
    retry_after: u64,
    /// What a command that passed its timeout wrote until then.
    partial: Option<Arc<ExecAnswer>>,
}

/// Every error: what kind of failure it is, for programs, and what happened, for people.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody<'a> {
    /// One word per class of failures.
    #[schema(pattern = "^[a-z_]+$", example = "not_found")]
    code: &'a str,
    /// What happened, to which value, and what to do.
    #[schema(min_length = 1, example = "sandbox sb_a1b2c3d4 not found")]
    message: &'a str,
    /// The request's id, which the server's log has as well.
    #[schema(min_length = 1, example = "req_0123456789abcdef")]
    request_id: &'a str,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: RETRY_AFTER_SECONDS,
            partial: None,
        }
    }

    /// 400: the request is malformed.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 401: no key, or none that is known.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403: the key may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404: what was named is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405: the route exists, but not for this method.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 408: the command passed its timeout.
    pub fn exec_timeout(message: impl Into<String>, partial: ExecAnswer) -> Self {
        let error = Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", message);
        Self {
            partial: Some(Arc::new(partial)),
            ..error
        }
    }

    /// 408: the request's body did not come in time.
    pub fn body_timeout() -> Self {
        let message = "the request body did not arrive in time; send it without pauses";
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    }

    /// 409: already in another state, or not ready.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 426: only a WebSocket handshake is answered here.
    pub fn upgrade_required(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, "bad_request", message)
    }

    /// 413: the body is over a limit.
    pub fn payload_too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    }

    /// 422: the provider cannot do this.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported", message)
    }

    /// 429: a limit was reached.
    pub fn resource_limit(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "resource_limit", message)
    }

    /// 429: too many requests; the next one has a chance after this many seconds.
    pub fn rate_limited(retry_after: u64) -> Self {
        let message = format!("too many requests; try again in {retry_after}s");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "resource_limit", message);
        Self { retry_after, ..error }
    }

    /// 500: a defect of the server. The cause belongs in the log.
    pub fn internal() -> Self {
        let message = "the server failed to handle this request; its log has the details under this request_id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 507: the server's disk is full.
    pub fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "insufficient_storage", message)
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The class of failure.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What happened, for the log and for streams that have begun.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What every error has, as a JSON object.
    pub(super) fn text(&self, request_id: &str) -> String {
        // Writing this structure cannot fail.
        serde_json::to_string(&ErrorBody {
            code: self.code,
            message: &self.message,
            request_id,
        })
        .unwrap_or_default()
    }

    /// The answer, once the request's id is known.
    pub(super) fn render(&self, request_id: &str) -> Response {
        let text = self.text(request_id);
        let body = match &self.partial {
            // What the command wrote stands beside what every error has, in the same object.
            Some(partial) => {
                let fields = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
                Arc::clone(partial).into_body(&format!("{},", fields.unwrap_or_default()))
            }
            None => Body::from(text),
        };
        let content_type = HeaderValue::from_static("application/json");
        let mut response = (self.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<SandboxError> for ApiError {
    fn from(error: SandboxError) -> Self {
        let message = error.to_string();
        match error {
            SandboxError::NotFound(_) | SandboxError::ProviderNotFound { .. } | SandboxError::TemplateNotFound(_) => {
                Self::not_found(message)
            }
            SandboxError::QuotaNotFound(_) => Self::not_found(message),
            SandboxError::TemplateExists(_) | SandboxError::NotReady(_) | SandboxError::Unusable { .. } => {
                Self::conflict(message)
            }
            SandboxError::Invalid(_) => Self::bad_request(message),
            SandboxError::Unsupported(_) => Self::unsupported(message),
            SandboxError::LimitReached(_) => Self::resource_limit(message),
            SandboxError::Overloaded(_) | SandboxError::ShuttingDown | SandboxError::Waiting { .. } => {
                Self::unavailable(message)
            }
            SandboxError::Store(cause) if cause.is_out_of_space() => Self::from(cause),
            SandboxError::Store(cause) => {
                tracing::error!(%cause, "the store failed");
                Self::unavailable(message)
            }
            SandboxError::Provider(error) => Self::from(error),
        }
    }
}

impl ApiError {
    /// The refusal of something of which its tenant, or the server, has no more; `what` names it.
    pub fn exhausted(exhausted: Exhausted, what: &str) -> Self {
        Self::from(SandboxError::exhausted(exhausted, what))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        if error.is_out_of_space() {
            return Self::insufficient_storage("the server has no space left to record this; nothing was changed");
        }
        Self::internal()
    }
}

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> Self {
        let message = error.to_string();
        match error {
            ImportError::Invalid(_) => Self::bad_request(message),
            ImportError::Unsupported(_) => Self::unsupported(message),
            ImportError::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", message),
            ImportError::TooLarge(limit) => super::extract::too_large(limit),
            ImportError::Stalled => Self::body_timeout(),
            ImportError::Busy => Self::unavailable(message),
            ImportError::Internal(cause) => {
                tracing::error!(%cause, "an image could not be imported");
                Self::internal()
            }
        }
    }
}

impl From<ProviderError> for ApiError {
    fn from(error: ProviderError) -> Self {
        let message = error.to_string();
        match error {
            ProviderError::ImageNotFound { .. } | ProviderError::SandboxNotFound | ProviderError::FileNotFound(_) => {
                Self::not_found(message)
            }
            ProviderError::BadPath { .. } | ProviderError::Invalid(_) => Self::bad_request(message),
            ProviderError::LimitReached(_) => Self::resource_limit(message),
            ProviderError::StorageFull(_) => Self::insufficient_storage(message),
            ProviderError::InUse(_) => Self::conflict(message),
            ProviderError::Unsupported(_) => Self::unsupported(message),
            ProviderError::Unavailable(_) => Self::unavailable(message),
            lost @ ProviderError::WorkerLost => {
                tracing::error!("{lost}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "worker_lost", lost.to_string())
            }
            ProviderError::Internal(cause) => {
                tracing::error!(%cause, "the provider failed");
                let message = "the runtime failed; the server's log has the details under this request_id";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "provider_error", message)
            }
        }
    }
}
