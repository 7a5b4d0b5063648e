//! `/templates`: creation requests that are stored under a name.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::{AsCaller, Json, Name, OptionalJson};
use super::list::charged;
use super::router::AppState;
use super::sandboxes::{CreateBody, Done, Sandbox, non_empty, timestamp, to_view as to_sandbox_view};
use crate::duration::GoDuration;
use crate::provider::Network;
use crate::sandbox::{self, Saved, TemplateName, TemplateSpec};

/// A template to be kept. What is left out takes the server's default when a sandbox is made.
#[derive(Deserialize, ToSchema)]
pub struct TemplateBody {
    /// Its name: no white space, control characters or path separators. When a template is replaced it may be left
    /// out; it is the one in the path.
    #[schema(min_length = 1, max_length = 128)]
    name: Option<String>,
    /// What sandboxes are made of.
    #[schema(min_length = 1, max_length = 256)]
    image: String,
    /// What they run on.
    #[schema(max_length = 256)]
    provider: Option<String>,
    /// Memory of a sandbox, MiB.
    #[schema(minimum = 1)]
    memory_mb: Option<u64>,
    /// Processes of a sandbox that may run at the same instant.
    #[schema(minimum = 1)]
    vcpus: Option<u32>,
    /// Files of a sandbox beyond its image, MiB.
    #[schema(minimum = 1)]
    disk_mb: Option<u64>,
    /// How long a sandbox lives.
    #[schema(value_type = Option<GoDuration>)]
    ttl: Option<String>,
    /// Labels of a sandbox.
    metadata: Option<BTreeMap<String, String>>,
    /// Environment of every command.
    env: Option<BTreeMap<String, String>>,
    /// What a sandbox may reach over the network.
    network: Option<Network>,
}

/// A template as clients see it.
#[derive(Serialize, ToSchema)]
pub struct Template {
    name: String,
    image: String,
    /// What the server chooses when a sandbox is made is left out, here and below.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vcpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_mb: Option<u64>,
    /// As it was written when the template was saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<GoDuration>)]
    ttl: Option<String>,
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC.
    updated_at: String,
}

impl TemplateBody {
    fn into_spec(self) -> TemplateSpec {
        TemplateSpec {
            image: self.image,
            provider: non_empty(self.provider),
            memory_mb: self.memory_mb,
            vcpus: self.vcpus,
            disk_mb: self.disk_mb,
            ttl: self.ttl,
            network: self.network,
            metadata: self.metadata.unwrap_or_default(),
            env: self.env.unwrap_or_default(),
        }
    }
}

fn to_view(template: sandbox::Template) -> axum::Json<Template> {
    axum::Json(described(template))
}

fn described(template: sandbox::Template) -> Template {
    let spec = template.spec;
    Template {
        name: template.name,
        image: spec.image,
        provider: spec.provider,
        memory_mb: spec.memory_mb,
        vcpus: spec.vcpus,
        disk_mb: spec.disk_mb,
        ttl: spec.ttl,
        metadata: spec.metadata,
        env: spec.env,
        network: spec.network,
        created_at: timestamp(template.created_at),
        updated_at: timestamp(template.updated_at),
    }
}

/// Lists the templates of the caller's tenant, by name.
#[utoipa::path(
    get,
    path = "/templates",
    tag = "templates",
    responses((status = 200, description = "The templates", body = Vec<Template>))
)]
pub async fn list(State(state): State<AppState>, AsCaller(caller): AsCaller) -> Result<Response, ApiError> {
    let templates = state.sandboxes.templates(&caller).await?;
    let templates: Vec<_> = templates.into_iter().map(described).collect();
    charged(&state, &caller, &templates)
}

/// Keeps a template. Saving the very same again is no error.
#[utoipa::path(
    post,
    path = "/templates",
    tag = "templates",
    request_body = TemplateBody,
    responses(
        (status = 201, description = "It is kept", body = Template),
        (status = 200, description = "There was the very same template already", body = Template),
        (status = 400, description = "The request is malformed, or a value is out of range"),
        (status = 404, description = "There is no such provider"),
        (status = 409, description = "There is a template of this name with other values"),
        (status = 429, description = "The tenant has all the templates it may have"),
    )
)]
pub async fn save(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Json(body, _held): Json<TemplateBody>,
) -> Result<(StatusCode, axum::Json<Template>), ApiError> {
    let name = body.name.as_deref();
    let name = TemplateName::parse(name.ok_or_else(|| ApiError::bad_request("name is required"))?)?;
    match state.sandboxes.save_template(&caller, &name, body.into_spec()).await? {
        Saved::New(template) => Ok((StatusCode::CREATED, to_view(template))),
        Saved::Unchanged(template) => Ok((StatusCode::OK, to_view(template))),
    }
}

/// One template.
#[utoipa::path(
    get,
    path = "/templates/{name}",
    tag = "templates",
    params(("name" = String, Path, description = "Name of the template", min_length = 1, max_length = 128)),
    responses(
        (status = 200, description = "The template", body = Template),
        (status = 404, description = "There is no such template"),
    )
)]
pub async fn get(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Name(name): Name,
) -> Result<axum::Json<Template>, ApiError> {
    let name = TemplateName::parse(&name)?;
    Ok(to_view(state.sandboxes.template(&caller, &name).await?))
}

/// Replaces a template. Sandboxes made from it stay as they are.
#[utoipa::path(
    put,
    path = "/templates/{name}",
    tag = "templates",
    params(("name" = String, Path, description = "Name of the template", min_length = 1, max_length = 128)),
    request_body = TemplateBody,
    responses(
        (status = 200, description = "The template as it is now", body = Template),
        (status = 400, description = "The request is malformed, a value is out of range, or `name` is not that of the path"),
        (status = 404, description = "There is no such template or provider"),
    )
)]
pub async fn update(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Name(name): Name,
    Json(body, _held): Json<TemplateBody>,
) -> Result<axum::Json<Template>, ApiError> {
    if body.name.as_ref().is_some_and(|other| *other != name) {
        return Err(ApiError::bad_request(
            "name differs from the one in the path; a template cannot be renamed",
        ));
    }
    let name = TemplateName::parse(&name)?;
    let template = state
        .sandboxes
        .update_template(&caller, &name, body.into_spec())
        .await?;
    Ok(to_view(template))
}

/// Removes a template. Sandboxes made from it stay.
#[utoipa::path(
    delete,
    path = "/templates/{name}",
    tag = "templates",
    params(("name" = String, Path, description = "Name of the template", min_length = 1, max_length = 128)),
    responses(
        (status = 200, description = "It is removed", body = Done),
        (status = 404, description = "There is no such template"),
    )
)]
pub async fn delete(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Name(name): Name,
) -> Result<axum::Json<Done>, ApiError> {
    let name = TemplateName::parse(&name)?;
    state.sandboxes.delete_template(&caller, &name).await?;
    Ok(axum::Json(Done { status: "deleted" }))
}

/// Makes a sandbox from a template. The body may be left out; a value in it counts more than the template's, and labels
/// and environment are joined.
#[utoipa::path(
    post,
    path = "/templates/{name}/spawn",
    tag = "templates",
    params(("name" = String, Path, description = "Name of the template", min_length = 1, max_length = 128)),
    request_body = Option<CreateBody>,
    responses(
        (status = 201, description = "The sandbox", body = Sandbox),
        (status = 400, description = "The request is malformed, or a value is out of range"),
        (status = 404, description = "There is no such template, image or provider"),
        (status = 422, description = "The provider cannot do this"),
        (status = 429, description = "A limit of sandboxes is reached"),
        (status = 503, description = "The provider cannot be reached"),
    )
)]
pub async fn spawn(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Name(name): Name,
    OptionalJson(body, _held): OptionalJson<CreateBody>,
) -> Result<(StatusCode, axum::Json<Sandbox>), ApiError> {
    let name = TemplateName::parse(&name)?;
    let view = state.sandboxes.spawn(&caller, &name, body.into_request()?).await?;
    Ok((StatusCode::CREATED, axum::Json(to_sandbox_view(&state, view))))
}
