//! Files of a sandbox.

use axum::Json as JsonAnswer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use super::extract::{AsCaller, Id, Json, Query, check_path, parse_mode, work_on};
use super::list::{charged, streamed, with_next};
use super::router::AppState;
use super::sandboxes::{Done, timestamp};
use super::schemas::{FileMode, FilePath, Timestamp};
use super::upload::Upload;
use crate::provider::{ByteStream, DirPage, FileInfo, MAX_PAGE, Page};
use crate::sandbox::{Caller, SandboxId};

/// Memory for the entries of a directory that wait to be sent, bytes.
const HELD_BYTES: usize = 512 << 10;
/// What an entry takes beside its directory's path, bytes, about.
const ENTRY_BYTES: usize = 384;

/// A file to write: `content` is text, `content_base64` any bytes; one of the two.
#[derive(Deserialize, ToSchema)]
#[schema(as = WriteFile, example = json!({"path": "/app/hello.txt", "content": "hello\n"}))]
pub struct WriteBody {
    /// Where to; directories on the way are made.
    #[schema(value_type = FilePath)]
    path: String,
    /// The file as text.
    content: Option<String>,
    /// The file as bytes, in standard base64.
    #[schema(pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]
    content_base64: Option<String>,
    /// Its permission bits; kept when absent, 0644 for a new file.
    #[schema(value_type = Option<FileMode>)]
    mode: Option<String>,
}

/// What to rename, as `rename(2)`.
#[derive(Deserialize, ToSchema)]
#[schema(as = MoveFile)]
pub struct MoveBody {
    /// What it is called.
    #[schema(value_type = FilePath)]
    old_path: String,
    /// What it shall be called; a file of that name is replaced.
    #[schema(value_type = FilePath)]
    new_path: String,
}

/// Whose permission bits to set.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChangeMode)]
pub struct ChmodBody {
    /// The file or directory.
    #[schema(value_type = FilePath)]
    path: String,
    /// The permission bits.
    #[schema(value_type = FileMode)]
    mode: String,
}

/// A file or directory.
#[derive(Serialize, ToSchema)]
pub struct File {
    /// The last component of its path.
    name: String,
    /// Its path.
    path: String,
    /// Bytes.
    size: u64,
    /// Whether it is a directory.
    is_dir: bool,
    /// When it was changed last.
    #[schema(value_type = Timestamp)]
    mod_time: String,
    /// Its permission bits.
    #[schema(value_type = FileMode)]
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

/// Writes a file from JSON.
#[utoipa::path(
    post,
    path = "/sandboxes/{id}/files",
    request_body = WriteBody,
    responses(
        (status = 200, description = "It is written.", body = Done),
    )
)]
pub async fn write(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Json(body, _held): Json<WriteBody>,
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
        (None, Some(encoded)) => {
            let bad = |error| ApiError::bad_request(format!("content_base64 is not standard base64: {error}"));
            let length = encoded.len() as u64;
            work_on(length, move || STANDARD.decode(encoded).map(Bytes::from).map_err(bad)).await?
        }
        (None, None) => return Err(ApiError::bad_request("content or content_base64 is required")),
        (Some(_), Some(_)) => return Err(ApiError::bad_request("give either content or content_base64, not both")),
    };
    let stream: ByteStream = futures_util::stream::once(async { Ok(content) }).boxed();
    state.sandboxes.write_file(&caller, &id, path, mode, stream).await?;
    Ok(JsonAnswer(Done { status: "written" }))
}

/// Writes a file from the bytes of the body, as they come.
#[utoipa::path(
    put,
    path = "/sandboxes/{id}/files",
    params(
        ("path" = inline(FilePath), Query, description = "Where to; directories on the way are made."),
        ("mode" = inline(Option<FileMode>), Query, description = "Its permission bits; kept when absent, 0644 for a new file."),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The file."),
    responses(
        (status = 200, description = "It is written.", body = Done),
    )
)]
pub async fn upload(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
    request: Request,
) -> Result<JsonAnswer<Done>, ApiError> {
    let path = check_path("path", query.require("path")?)?;
    let mode = query.get("mode").map(parse_mode).transpose()?;
    let (upload, body) = Upload::begin(
        request,
        state.config.limits.max_upload_bytes,
        state.config.limits.body_timeout.0,
    )?;
    upload.outcome(state.sandboxes.write_file(&caller, &id, path, mode, body).await)?;
    Ok(JsonAnswer(Done { status: "written" }))
}

/// Reads a file.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}/files",
    params(
        ("path" = inline(FilePath), Query, description = "The file."),
    ),
    responses(
        (status = 200, description = "Its bytes.", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "There is no such sandbox, or no such file in it.", body = ErrorBody),
    )
)]
pub async fn read(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<Response, ApiError> {
    let path = check_path("path", query.require("path")?)?;
    let content = state.sandboxes.read_file(&caller, &id, path).await?;
    Ok(download("application/octet-stream", content))
}

/// The answer that carries a tenant's bytes.
pub(super) fn download(content_type: &'static str, content: ByteStream) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        // A tenant's file must never become a page of ours in someone's browser.
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (
            HeaderName::from_static("content-security-policy"),
            HeaderValue::from_static("sandbox"),
        ),
    ];
    (headers, Body::from_stream(content)).into_response()
}

/// Removes a file or a directory.
#[utoipa::path(
    delete,
    path = "/sandboxes/{id}/files",
    params(
        ("path" = inline(FilePath), Query, description = "What to remove."),
        ("recursive" = Option<bool>, Query, description = "Whether to remove a directory with all that is in it."),
    ),
    responses(
        (status = 200, description = "It is gone.", body = Done),
        (status = 404, description = "There is no such sandbox, or no such file in it.", body = ErrorBody),
    )
)]
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

/// Lists a directory, by name: all of it, or with `limit` or `after` a part.
///
/// Of a part that is not the last, the header `Link` leads to the next one; a part may have fewer entries than `limit`.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}/files/list",
    params(
        ("path" = inline(Option<FilePath>), Query, description = "The directory; `/` when absent."),
        ("limit" = Option<u32>, Query, description = "Most entries to answer with; 1000 when only `after` is given", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "Only entries that come after this name, which need not exist, or what `Link` has"),
    ),
    responses(
        (status = 200, description = "What is in it.", body = Vec<File>),
        (status = 404, description = "There is no such sandbox, or no such file in it.", body = ErrorBody),
    )
)]
pub async fn list(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<Response, ApiError> {
    let path = check_path("path", query.get("path").unwrap_or("/"))?.to_owned();
    let after = query.get("after").map(str::to_owned);
    if after.is_none() && query.get("limit").is_none() {
        // Entries repeat the path of the directory: with a long one, fewer are held at once.
        let limit = (HELD_BYTES / (path.len() + ENTRY_BYTES)).min(MAX_PAGE);
        let whole = Directory {
            state,
            caller,
            id,
            path,
            page: Some(Page { after: None, limit }),
        };
        let pages = stream::try_unfold(whole, move |mut directory| async move {
            let Some(page) = directory.page.take() else {
                return Ok(None);
            };
            let found = directory.read(page).await?;
            directory.page = found.next.map(|next| Page {
                after: Some(next),
                limit,
            });
            Ok::<_, ApiError>(Some((found.entries, directory)))
        });
        let entries = pages.map_ok(|entries| stream::iter(entries.into_iter().map(|entry| Ok(File::from(entry)))));
        return streamed(entries.try_flatten()).await;
    }
    let limit = query.number("limit", MAX_PAGE, MAX_PAGE)?;
    let found = state
        .sandboxes
        .list_dir(&caller, &id, &path, Page { after, limit })
        .await?;
    let files = found.entries.into_iter().map(|entry| Ok(File::from(entry)));
    let response = streamed(stream::iter(files.collect::<Vec<_>>())).await?;
    Ok(match found.next {
        Some(next) => {
            let limit = limit.to_string();
            let parameters = [("path", path.as_str()), ("limit", &limit), ("after", &next)];
            with_next(response, &format!("/sandboxes/{id}/files/list"), &parameters)
        }
        None => response,
    })
}

/// A directory that is listed page by page.
struct Directory {
    state: AppState,
    caller: Caller,
    id: SandboxId,
    path: String,
    /// The next page; `None` after the last.
    page: Option<Page>,
}

impl Directory {
    async fn read(&self, page: Page) -> Result<DirPage, ApiError> {
        let sandboxes = &self.state.sandboxes;
        Ok(sandboxes.list_dir(&self.caller, &self.id, &self.path, page).await?)
    }
}

/// Tells about a file or directory.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}/files/stat",
    params(
        ("path" = inline(FilePath), Query, description = "Which."),
    ),
    responses(
        (status = 200, description = "What it is.", body = File),
        (status = 404, description = "There is no such sandbox, or no such file in it.", body = ErrorBody),
    )
)]
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

/// Finds files by a pattern.
///
/// `*` and `?` match within a name, `**` any directories, `[…]` one of several characters, `{a,b}` one of several
/// texts.
#[utoipa::path(
    get,
    path = "/sandboxes/{id}/files/glob",
    params(
        ("pattern" = inline(FilePath), Query, description = "An absolute pattern.", example = "/app/**/*.py"),
    ),
    responses(
        (status = 200, description = "The paths that match, in order.", body = Vec<String>),
        (status = 429, description = "More paths match than an answer may have.", body = ErrorBody),
    )
)]
pub async fn glob(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    query: Query,
) -> Result<Response, ApiError> {
    let pattern = check_path("pattern", query.require("pattern")?)?;
    charged(&state, &caller, &state.sandboxes.glob(&caller, &id, pattern).await?)
}

/// Moves a file or directory, as `rename(2)`.
#[utoipa::path(
    post,
    path = "/sandboxes/{id}/files/move",
    request_body = MoveBody,
    responses(
        (status = 200, description = "It is moved.", body = Done),
        (status = 404, description = "There is no such sandbox, or no such file in it.", body = ErrorBody),
    )
)]
pub async fn rename(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Json(body, _held): Json<MoveBody>,
) -> Result<JsonAnswer<Done>, ApiError> {
    let from = check_path("old_path", &body.old_path)?;
    let to = check_path("new_path", &body.new_path)?;
    state.sandboxes.rename(&caller, &id, from, to).await?;
    Ok(JsonAnswer(Done { status: "moved" }))
}

/// Sets the permission bits of a file or directory.
#[utoipa::path(
    post,
    path = "/sandboxes/{id}/files/chmod",
    request_body = ChmodBody,
    responses(
        (status = 200, description = "They are set.", body = Done),
        (status = 404, description = "There is no such sandbox, or no such file in it.", body = ErrorBody),
    )
)]
pub async fn chmod(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Json(body, _held): Json<ChmodBody>,
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
