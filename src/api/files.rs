//! Files of a sandbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json as JsonAnswer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{AsCaller, Id, Json, Query, check_path, declared_length, discard, parse_mode, too_large};
use super::router::AppState;
use super::sandboxes::{Done, timestamp};
use crate::provider::{ByteStream, FileInfo, ProviderError};

/// Body of `POST /files`: `content` is text, `content_base64` any bytes; one of the two.
#[derive(Deserialize)]
pub struct WriteBody {
    path: String,
    content: Option<String>,
    content_base64: Option<String>,
    mode: Option<String>,
}

/// Body of `POST /files/move`.
#[derive(Deserialize)]
pub struct MoveBody {
    old_path: String,
    new_path: String,
}

/// Body of `POST /files/chmod`.
#[derive(Deserialize)]
pub struct ChmodBody {
    path: String,
    mode: String,
}

/// A file as clients see it.
#[derive(Serialize)]
pub struct File {
    name: String,
    path: String,
    size: u64,
    is_dir: bool,
    mod_time: String,
    mode: String,
}

impl From<FileInfo> for File {
    fn from(info: FileInfo) -> Self {
        let mtime = std::time::Duration::from_nanos(info.mtime_ns);
        Self {
            name: info.name,
            path: info.path,
            size: info.size,
            is_dir: info.is_dir,
            mod_time: timestamp(std::time::UNIX_EPOCH + mtime),
            mode: format!("{:04o}", info.mode),
        }
    }
}

/// `POST /sandboxes/{id}/files`
#[utoipa::path(post, path = "/sandboxes/{id}/files")]
pub async fn write(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Json(body): Json<WriteBody>,
) -> Result<JsonAnswer<Done>, ApiError> {
    let path = check_path("path", &body.path)?;
    let mode = body
        .mode
        .as_deref()
        .filter(|mode| !mode.is_empty())
        .map(parse_mode)
        .transpose()?;
    let content = match (body.content, body.content_base64) {
        (Some(text), None) => Bytes::from(text),
        (None, Some(encoded)) => STANDARD
            .decode(encoded)
            .map(Bytes::from)
            .map_err(|error| ApiError::bad_request(format!("content_base64 is not standard base64: {error}")))?,
        (None, None) => return Err(ApiError::bad_request("content or content_base64 is required")),
        (Some(_), Some(_)) => return Err(ApiError::bad_request("give either content or content_base64, not both")),
    };
    let stream: ByteStream = futures_util::stream::once(async { Ok(content) }).boxed();
    state.sandboxes.write_file(&caller, &id, path, mode, stream).await?;
    Ok(JsonAnswer(Done { status: "written" }))
}

/// `PUT /sandboxes/{id}/files?path=&mode=`: the body is the file.
#[utoipa::path(put, path = "/sandboxes/{id}/files")]
pub async fn upload(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
    request: Request,
) -> Result<JsonAnswer<Done>, ApiError> {
    let path = check_path("path", query.require("path")?)?;
    let mode = query.get("mode").map(parse_mode).transpose()?;
    let limit = state.config.limits.max_upload_bytes;
    let (parts, body) = request.into_parts();
    if declared_length(&parts.headers).is_some_and(|length| length > limit) {
        discard(&parts.headers, body).await;
        return Err(too_large(limit));
    }
    let exceeded = Arc::new(AtomicBool::new(false));
    let stream = bounded(body, limit, Arc::clone(&exceeded));
    let written = state.sandboxes.write_file(&caller, &id, path, mode, stream).await;
    if exceeded.load(Ordering::Relaxed) {
        return Err(too_large(limit));
    }
    written?;
    Ok(JsonAnswer(Done { status: "written" }))
}

/// A body as a provider takes it; ends in an error, and says so in `exceeded`, beyond `limit` bytes.
fn bounded(body: Body, limit: u64, exceeded: Arc<AtomicBool>) -> ByteStream {
    let mut total = 0_u64;
    body.into_data_stream()
        .map(move |chunk| {
            let chunk = chunk.map_err(|_| ProviderError::Invalid("the request body ended early".to_owned()))?;
            total = total.saturating_add(chunk.len() as u64);
            if total > limit {
                exceeded.store(true, Ordering::Relaxed);
                return Err(ProviderError::Invalid("the request body is too large".to_owned()));
            }
            Ok(chunk)
        })
        .boxed()
}

/// `GET /sandboxes/{id}/files?path=`
#[utoipa::path(get, path = "/sandboxes/{id}/files")]
pub async fn read(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<Response, ApiError> {
    let path = check_path("path", query.require("path")?)?;
    let content = state.sandboxes.read_file(&caller, &id, path).await?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        // A tenant's file must never become a page of ours in someone's browser.
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (
            HeaderName::from_static("content-security-policy"),
            HeaderValue::from_static("sandbox"),
        ),
    ];
    Ok((headers, Body::from_stream(content)).into_response())
}

/// `DELETE /sandboxes/{id}/files?path=&recursive=`
#[utoipa::path(delete, path = "/sandboxes/{id}/files")]
pub async fn delete(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<JsonAnswer<Done>, ApiError> {
    let path = check_path("path", query.require("path")?)?;
    state
        .sandboxes
        .delete_file(&caller, &id, path, query.flag("recursive")?)
        .await?;
    Ok(JsonAnswer(Done { status: "deleted" }))
}

/// `GET /sandboxes/{id}/files/list?path=/`
#[utoipa::path(get, path = "/sandboxes/{id}/files/list")]
pub async fn list(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<JsonAnswer<Vec<File>>, ApiError> {
    let path = check_path("path", query.get("path").unwrap_or("/"))?;
    let entries = state.sandboxes.list_dir(&caller, &id, path).await?;
    Ok(JsonAnswer(entries.into_iter().map(File::from).collect()))
}

/// `GET /sandboxes/{id}/files/stat?path=`
#[utoipa::path(get, path = "/sandboxes/{id}/files/stat")]
pub async fn stat(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<JsonAnswer<File>, ApiError> {
    let path = check_path("path", query.require("path")?)?;
    let info = state.sandboxes.stat(&caller, &id, path).await?;
    Ok(JsonAnswer(info.into()))
}

/// `GET /sandboxes/{id}/files/glob?pattern=`
#[utoipa::path(get, path = "/sandboxes/{id}/files/glob")]
pub async fn glob(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<JsonAnswer<Vec<String>>, ApiError> {
    let pattern = check_path("pattern", query.require("pattern")?)?;
    Ok(JsonAnswer(state.sandboxes.glob(&caller, &id, pattern).await?))
}

/// `POST /sandboxes/{id}/files/move`
#[utoipa::path(post, path = "/sandboxes/{id}/files/move")]
pub async fn rename(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Json(body): Json<MoveBody>,
) -> Result<JsonAnswer<Done>, ApiError> {
    let from = check_path("old_path", &body.old_path)?;
    let to = check_path("new_path", &body.new_path)?;
    state.sandboxes.rename(&caller, &id, from, to).await?;
    Ok(JsonAnswer(Done { status: "moved" }))
}

/// `POST /sandboxes/{id}/files/chmod`
#[utoipa::path(post, path = "/sandboxes/{id}/files/chmod")]
pub async fn chmod(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Json(body): Json<ChmodBody>,
) -> Result<JsonAnswer<Done>, ApiError> {
    let path = check_path("path", &body.path)?;
    state
        .sandboxes
        .chmod(&caller, &id, path, parse_mode(&body.mode)?)
        .await?;
    Ok(JsonAnswer(Done {
        status: "chmod applied",
    }))
}
