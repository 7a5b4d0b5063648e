//! `/images`: lists, shows, pulls and deletes images.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Actor;
use super::error::{ApiError, ErrorBody};
use super::extract::{Json, Name};
use super::router::AppState;
use super::sandboxes::{Done, non_empty};
use crate::provider::PullProgress;
use crate::sandbox::{ImageCatalogError, ImageDescription, ImageRemovalError, RunningPull};

/// One installed image, told honestly: what it is made of, what it can do and what it cannot.
#[derive(Serialize, ToSchema)]
#[schema(as = ImageDescription)]
pub struct Image {
    /// Canonical name, such as `python:3.12`.
    name: String,
    /// Other names of the same image.
    aliases: Vec<String>,
    /// The image it builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Exact version of what is inside, such as `CPython 3.12.0`.
    version: String,
    /// Provider that runs it.
    provider: String,
    /// Bytes on disk.
    size_bytes: u64,
    /// `sha256:` and the digest of the image's contents.
    digest: String,
    /// Where its parts come from.
    provenance: String,
    /// SPDX licence expression.
    licence: String,
    /// What it can do.
    capabilities: Vec<String>,
    /// What it cannot do, and what to use instead.
    known_limits: Vec<String>,
}

impl From<ImageDescription> for Image {
    fn from(image: ImageDescription) -> Self {
        Self {
            name: image.name,
            aliases: image.aliases,
            parent: image.parent,
            version: image.version,
            provider: image.provider,
            size_bytes: image.size_bytes,
            digest: image.digest,
            provenance: image.provenance,
            licence: image.licence,
            capabilities: image.capabilities,
            known_limits: image.known_limits,
        }
    }
}

/// An image to pull.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"image": "python:3.12"}))]
pub struct PullBody {
    /// Its name.
    #[schema(min_length = 1, max_length = 256)]
    image: String,
    /// The provider that is to have it; the default one when absent.
    #[schema(max_length = 256)]
    provider: Option<String>,
}

/// A line of a pull: a step, or the end, which comes once and last.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = PullLine)]
enum Line<'a> {
    /// A step that begins, or how far it is.
    Progress(Progress),
    /// The end.
    End(EndLine<'a>),
}

/// One step of a pull, for a progress display.
#[derive(Serialize, ToSchema)]
#[schema(as = PullProgress)]
struct Progress {
    /// What is being done, in a few words.
    status: String,
    /// Which part, such as a layer's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    /// Bytes done.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    /// Bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

impl From<PullProgress> for Progress {
    fn from(step: PullProgress) -> Self {
        Self {
            status: step.status,
            part: step.part,
            current: step.current,
            total: step.total,
        }
    }
}

/// How a pull ended.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[schema(as = PullEnd)]
enum EndLine<'a> {
    /// Sandboxes can be made from the image.
    Done {
        /// The image as it was asked for.
        image: &'a str,
    },
    /// The image cannot be had.
    Error {
        /// As in the body of an error.
        code: &'a str,
        /// What happened.
        message: &'a str,
    },
}

/// Lists the installed images.
#[utoipa::path(
    get,
    path = "/images",
    responses((status = 200, description = "The images.", body = Vec<Image>))
)]
pub async fn list(State(state): State<AppState>) -> Result<axum::Json<Vec<Image>>, ApiError> {
    let images = state.images.list().await.map_err(unreadable)?;
    Ok(axum::Json(images.into_iter().map(Image::from).collect()))
}

/// Shows an image, by its name or another name it has.
#[utoipa::path(
    get,
    path = "/images/{name}",
    responses((status = 200, description = "The image.", body = Image))
)]
pub async fn get(State(state): State<AppState>, Name(name): Name) -> Result<axum::Json<Image>, ApiError> {
    let image = state.images.get(&name).await.map_err(unreadable)?;
    image
        .map(|image| axum::Json(image.into()))
        .ok_or_else(|| ApiError::not_found(format!("image {name} not found; GET /api/v1/images lists all")))
}

fn unreadable(error: ImageCatalogError) -> ApiError {
    tracing::error!(%error, "cannot read the image catalog");
    ApiError::internal()
}

/// Has a provider fetch an image, so that the first sandbox need not wait for that.
///
/// The answer comes as lines of JSON while that is done. An image that is there already is done at once, and replaced
/// where the registry has another of its name. A client that goes away does not stop it.
#[utoipa::path(
    post,
    path = "/images/pull",
    request_body = PullBody,
    responses(
        (status = 200, description = "Steps, and in the last line how it ended.", body = Line,
            content_type = "application/x-ndjson"),
        (status = 404, description = "There is no such image or provider.", body = ErrorBody),
    )
)]
pub async fn pull(
    State(state): State<AppState>,
    actor: Actor,
    Json(body, _held): Json<PullBody>,
) -> Result<Response, ApiError> {
    let provider = non_empty(body.provider);
    let action = actor.does("image.pull", &body.image);
    let pull = state.sandboxes.pull_image(provider.as_deref(), &body.image, action);
    let pull = pull.await?;
    let lines = futures_util::stream::unfold(Some((pull, body.image)), |pull| async {
        let (mut pull, image) = pull?;
        let (line, more) = next_line(&mut pull, &image).await;
        Some((Ok::<_, Infallible>(line), more.then_some((pull, image))))
    });
    let content_type = HeaderValue::from_static("application/x-ndjson");
    // Proxies that gather an answer before they pass it on would defeat the purpose.
    let unbuffered = [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    let body = Body::from_stream(lines);
    Ok(([(header::CONTENT_TYPE, content_type)], unbuffered, body).into_response())
}

/// The next line, and whether more follow.
async fn next_line(pull: &mut RunningPull, image: &str) -> (Bytes, bool) {
    match pull.next().await {
        Ok(Some(step)) => (written(&Line::Progress(step.into())), true),
        Ok(None) => (written(&Line::End(EndLine::Done { image })), false),
        Err(error) => {
            // The status line is out already, so the failure goes into the last line.
            let error = ApiError::from(error);
            let (code, message) = (error.code(), error.message());
            (written(&Line::End(EndLine::Error { code, message })), false)
        }
    }
}

fn written(line: &Line) -> Bytes {
    // Writing this structure to memory cannot fail.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// Removes an image that no sandbox and no other image uses.
#[utoipa::path(
    delete,
    path = "/images/{name}",
    responses(
        (status = 200, description = "It is removed.", body = Done),
        (status = 409, description = "There are sandboxes or images that use it.", body = ErrorBody),
        (status = 422, description = "The provider does not do this.", body = ErrorBody),
        (status = 503, description = "Another image is being pulled, or the provider cannot be reached.", body = ErrorBody),
    )
)]
pub async fn delete(
    State(state): State<AppState>,
    actor: Actor,
    Name(name): Name,
) -> Result<axum::Json<Done>, ApiError> {
    let action = |image: &str| actor.does("image.delete", image);
    match state.sandboxes.remove_image(&*state.images, &name, action).await {
        Ok(()) => Ok(axum::Json(Done { status: "deleted" })),
        Err(ImageRemovalError::Catalog(error)) => Err(unreadable(error)),
        Err(ImageRemovalError::Failed(error)) => Err(error.into()),
        Err(error @ ImageRemovalError::NotFound(_)) => Err(ApiError::not_found(error.to_string())),
        Err(error @ (ImageRemovalError::InUse { .. } | ImageRemovalError::IsParent { .. })) => {
            Err(ApiError::conflict(error.to_string()))
        }
    }
}
