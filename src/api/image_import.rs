//! `POST /images`: makes an image of a user's WebAssembly program.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use futures_util::StreamExt as _;

use super::audit::Actor;
use super::error::ApiError;
use super::extract::{AsCaller, Query, declared_length, too_large};
use super::images::Image;
use super::router::AppState;
use crate::image::NewImage;
use crate::provider::{ByteStream, ProviderError};
use crate::sandbox::ImageImporter;

/// What an image stands on when nothing else is said.
const DEFAULT_PARENT: &str = "base";
/// The parent of an image that stands on nothing.
const NO_PARENT: &str = "none";

/// Makes an image of the WebAssembly program in the body.
#[utoipa::path(
    post,
    path = "/images",
    tag = "images",
    params(
        ("name" = String, Query, description = "NAME or NAME:TAG of the image"),
        ("program" = Option<String>, Query, description = "Absolute paths of the program in a sandbox, separated by colons; /usr/bin/NAME when absent"),
        ("parent" = Option<String>, Query, description = "The installed image it stands on, or none; base when absent"),
        ("workdir" = Option<String>, Query, description = "Where processes start; the parent's when absent"),
        ("env" = Option<String>, Query, description = "Environment of every process: a JSON object of strings"),
        ("version" = Option<String>, Query, description = "Version of the program; digits of the file's digest when absent"),
        ("summary" = Option<String>, Query, description = "One line for people"),
        ("provenance" = Option<String>, Query, description = "Where the file comes from"),
        ("licence" = Option<String>, Query, description = "SPDX expression"),
        ("replace" = Option<bool>, Query, description = "Take the place of an own image of this name"),
    ),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The WebAssembly file"),
    responses(
        (status = 201, description = "The image", body = Image),
        (status = 400, description = "A parameter is wrong, or the file is malformed, no program, or too expensive to compile"),
        (status = 409, description = "The name is taken"),
        (status = 413, description = "The file is larger than limits.max_image_bytes"),
        (status = 401, description = "No API key, or an unknown one"),
        (status = 403, description = "The API key lacks the scope admin"),
        (status = 408, description = "The client stopped sending"),
        (status = 422, description = "The file is good WebAssembly of a kind that sandboxes do not run"),
        (status = 503, description = "Other images are being compiled"),
    )
)]
pub async fn import(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    actor: Actor,
    query: Query,
    request: Request,
) -> Result<(StatusCode, Json<Image>), ApiError> {
    let limit = state.config.limits.max_image_bytes;
    let importer = importer(&state)?;
    let new = accept(importer, &query).await?;
    let (parts, body) = request.into_parts();
    if declared_length(&parts.headers).is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let share = state.sandboxes.budgets().imports.take(&caller.tenant, 1);
    let _share = share.map_err(|exhausted| ApiError::exhausted(exhausted, "images that are imported at once"))?;
    // Before it is done: what cannot be recorded is not done.
    state.store.record_audit(actor.does("image.import", &new.name)).await?;
    let chunks: ByteStream = body
        .into_data_stream()
        .map(|chunk| chunk.map_err(|_| ProviderError::Invalid("the request body ended early".to_owned())))
        .boxed();
    let description = importer.import(new, chunks).await?;
    Ok((StatusCode::CREATED, Json(description.into())))
}

fn importer(state: &AppState) -> Result<&ImageImporter, ApiError> {
    let none = || ApiError::unsupported("this server has no image store; add images on the provider's own engine");
    state.image_import.as_deref().ok_or_else(none)
}

/// What the query asks for, as far as it can be granted.
async fn accept(importer: &ImageImporter, query: &Query) -> Result<NewImage, ApiError> {
    let text = |name| query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let name = query.require("name")?.to_owned();
    let paths = match query.get("program") {
        Some(paths) => paths.split(':').map(str::to_owned).collect(),
        None => vec![NewImage::default_path(&name)],
    };
    let parent = text("parent").unwrap_or_else(|| DEFAULT_PARENT.to_owned());
    let new = NewImage {
        paths,
        parent: Some(parent).filter(|parent| parent != NO_PARENT),
        env: query.get("env").map_or(Ok(BTreeMap::new()), environment)?,
        workdir: text("workdir"),
        version: text("version"),
        summary: text("summary").unwrap_or_default(),
        provenance: text("provenance").unwrap_or_else(|| "brought by its user over the API".to_owned()),
        licence: text("licence"),
        replace: query.flag("replace")?,
        name,
    };
    importer.check(&new).await?;
    Ok(new)
}

fn environment(text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    serde_json::from_str(text)
        .map_err(|error| ApiError::bad_request(format!("env is not a JSON object of strings: {error}")))
}
