//! The description of the API, an OpenAPI 3.1 document: what the annotations of the handlers say, and what holds for
//! every route, which is added here so that no handler can forget it.

use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{
    Components, Content, HeaderBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required,
    ResponseBuilder, ServerBuilder, Type,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::error::ErrorBody;
use super::router::{Access, RouteRule};
use crate::sandbox::SandboxId;

/// Names of the security schemes.
const API_KEY: &str = "apiKey";
const BEARER: &str = "bearer";

/// What a reader must know before any route.
const DESCRIPTION: &str = "\
Disposable sandboxes over REST: create one from an image, run commands in it, move files, let it expire.

Durations are written as Go writes them: `10m`, `1h30m`, `1.5s`, `250ms`. Timestamps are RFC 3339 in UTC. Fields of a \
request that nobody knows are ignored. Every answer has an `X-Request-ID`, the client's own if it sent one; every error \
repeats it in its body. Where a sandbox's id is read, `sb-…` means the same as `sb_…`.

A server without API keys takes every request from its own machine. One with keys wants one in `X-API-Key` or \
`Authorization: Bearer`; a key has a scope (`read`, `api`, which includes it, or `admin`, which includes both) and \
belongs to a tenant, and sees nothing of other tenants. `X-User-ID` narrows a request to one user of the tenant.";

/// The groups of routes: what a path begins with, or ends with below a sandbox, and what the group is.
const TAGS: [(&str, &str); 15] = [
    ("sandboxes", "Create, look at, extend and destroy sandboxes."),
    ("exec", "Run commands in a sandbox."),
    (
        "files",
        "Files of a sandbox. Paths are absolute; none leads out of the sandbox.",
    ),
    ("logs", "What past commands of a sandbox wrote."),
    ("stats", "What a sandbox uses."),
    ("templates", "Requests for sandboxes, kept under a name."),
    ("images", "What sandboxes are made of."),
    ("providers", "What sandboxes run on."),
    ("quotas", "Limits of one owner."),
    ("keys", "API keys."),
    ("audit", "What administrators did."),
    ("events", "What happens to sandboxes, as it happens."),
    ("metrics", "Numbers about the server."),
    ("system", "The server itself."),
    ("compatibility", "Answers that StacyVM's clients ask for."),
];

/// The errors that a whole class of routes can answer with.
const ERRORS: [(&str, &str, &str); 9] = [
    ("400", "BadRequest", "The request is malformed; the message says where."),
    ("401", "Unauthorized", "The API key is missing or not known."),
    (
        "403",
        "Forbidden",
        "The API key lacks the scope, or belongs to another user than `X-User-ID` names.",
    ),
    (
        "404",
        "NotFound",
        "What the path names does not exist, or belongs to someone else.",
    ),
    (
        "413",
        "PayloadTooLarge",
        "The request body is over a limit of the server.",
    ),
    (
        "429",
        "ResourceLimit",
        "A quota, the server's capacity or the rate limit is reached; see `Retry-After`.",
    ),
    (
        "500",
        "InternalError",
        "The server failed; its log has the details under the request's id.",
    ),
    (
        "503",
        "Unavailable",
        "The provider is down, or the server is shutting down; see `Retry-After`.",
    ),
    (
        "507",
        "InsufficientStorage",
        "The server's disk is full. What was acknowledged before is kept.",
    ),
];

/// The document as JSON. Its routes are among those it describes, so it is filled when all are gathered.
#[derive(Debug, Clone, Default)]
pub struct Document(Arc<OnceLock<Bytes>>);

impl Document {
    /// Keeps the text of a description; the first one only.
    pub fn fill(&self, description: &OpenApi) {
        // Writing this structure to memory cannot fail.
        self.0
            .get_or_init(|| description.to_pretty_json().unwrap_or_default().into());
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        let text = self.0.get().cloned().unwrap_or_default();
        ([(header::CONTENT_TYPE, "application/json")], text).into_response()
    }
}

/// Describes this API: an OpenAPI 3.1 document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    responses((status = 200, description = "The document.", body = serde_json::Value))
)]
pub async fn document(Extension(document): Extension<Document>) -> Document {
    document
}

/// Completes what the handlers say of themselves.
pub fn describe(gathered: OpenApi, rules: &[RouteRule]) -> OpenApi {
    let mut api = gathered;
    api.info = InfoBuilder::new()
        .title("wisp")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(
            LicenseBuilder::new()
                .name("Apache-2.0")
                .identifier(Some("Apache-2.0"))
                .build(),
        ))
        .build();
    api.servers = Some(vec![ServerBuilder::new().url("/api/v1").build()]);
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            let rule = rules.iter().find(|rule| rule.method == method && rule.path == *path);
            complete(operation, method, path, rule.map_or(Access::Open, |rule| rule.access));
        }
    }
    let used = |tag: &str| {
        let mut items = api.paths.paths.values();
        items.any(|item| all(item).any(|operation| operation.tags.iter().flatten().any(|used| used == tag)))
    };
    let tags: Vec<Tag> = TAGS
        .iter()
        .filter(|(name, _)| used(name))
        .map(|(name, description)| TagBuilder::new().name(*name).description(Some(*description)).build())
        .collect();
    api.tags = Some(tags);
    add_components(api.components.get_or_insert_default());
    api
}

/// The operations of a path, with their methods.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("GET", &mut item.get),
        ("PUT", &mut item.put),
        ("POST", &mut item.post),
        ("DELETE", &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn all(item: &PathItem) -> impl Iterator<Item = &Operation> {
    [&item.get, &item.put, &item.post, &item.delete].into_iter().flatten()
}

fn complete(operation: &mut Operation, method: &str, path: &str, access: Access) {
    operation.operation_id = Some(operation_id(method, path));
    if operation.tags.as_ref().is_none_or(Vec::is_empty) {
        operation.tags = Some(vec![tag_of(path).to_owned()]);
    }
    let parameters = operation.parameters.get_or_insert_default();
    for name in path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    {
        let known = parameters.iter().any(|parameter| match parameter {
            RefOr::T(parameter) => parameter.name == name && parameter.parameter_in == ParameterIn::Path,
            RefOr::Ref(_) => false,
        });
        if name == "id" && path.starts_with("/sandboxes/") {
            parameters.retain(|parameter| !matches!(parameter, RefOr::T(known) if known.name == "id"));
            parameters.insert(0, RefOr::Ref(Ref::new("#/components/parameters/SandboxId")));
        } else if !known {
            parameters.push(RefOr::T(path_parameter(name)));
        }
    }
    let mut errors = vec!["500"];
    match access {
        Access::Open => operation.security = Some(Vec::new()),
        Access::Needs(scope) => {
            let scope = scope.to_string();
            operation.security = Some(vec![
                SecurityRequirement::new(API_KEY, [scope.clone()]),
                SecurityRequirement::new(BEARER, [scope]),
            ]);
            parameters.push(RefOr::Ref(Ref::new("#/components/parameters/UserId")));
            errors.extend(["400", "401", "403", "429"]);
        }
    }
    if path.contains('{') {
        errors.push("404");
    }
    if operation.request_body.is_some() {
        errors.push("413");
    }
    if path.contains("{id}") || matches!(method, "POST" | "PUT") {
        errors.push("503");
    }
    if method != "GET" && access != Access::Open {
        errors.push("507");
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
            && response.content.is_empty()
        {
            response
                .content
                .insert("application/json".to_owned(), error_content().into());
        }
    }
    for status in errors {
        let known = ERRORS.iter().find(|(known, ..)| *known == status);
        if let Some((status, name, _)) = known {
            // What the handler says of a status is more exact.
            let responses = &mut operation.responses.responses;
            responses
                .entry((*status).to_owned())
                .or_insert_with(|| RefOr::Ref(Ref::from_response_name(*name)));
        }
    }
}

/// `GET /sandboxes/{id}/files/list` → `get_sandboxes_id_files_list`: one of its own for every route.
fn operation_id(method: &str, path: &str) -> String {
    let words = path
        .split(['/', '.', '-', '_', '{', '}'])
        .filter(|word| !word.is_empty());
    words.fold(method.to_ascii_lowercase(), |id, word| format!("{id}_{word}"))
}

/// The group of a route that names none.
fn tag_of(path: &str) -> &'static str {
    let mut parts = path.trim_start_matches('/').split('/');
    let first = parts.next().unwrap_or_default();
    let below_sandbox = if first == "sandboxes" { parts.nth(1) } else { None };
    let wanted = below_sandbox.unwrap_or(first);
    let known = |wanted: &str| TAGS.iter().map(|(name, _)| *name).find(|name| *name == wanted);
    known(wanted).or_else(|| known(first)).unwrap_or(match first {
        "pool" | "snapshots" => "compatibility",
        _ => "system",
    })
}

/// The name of the schema of errors.
fn error_name() -> String {
    <ErrorBody<'_>>::name().into_owned()
}

fn error_content() -> Content {
    Content::new(Some(Ref::from_schema_name(error_name())))
}

fn path_parameter(name: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))))
        .build()
}

fn add_components(components: &mut Components) {
    components.security_schemes.insert(
        API_KEY.to_owned(),
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))).into(),
    );
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The same API key."));
    components
        .security_schemes
        .insert(BEARER.to_owned(), SecurityScheme::Http(bearer.build()).into());
    let id = ParameterBuilder::new()
        .name("id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The sandbox."))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some(SandboxId::PATTERN))
                .examples(["sb_0123456789abcdef0123"]),
        ));
    components
        .parameters
        .insert("SandboxId".to_owned(), RefOr::T(id.build()));
    let user = ParameterBuilder::new()
        .name("X-User-ID")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The user of the tenant to act for; only what is theirs exists then.",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(128))
                .pattern(Some(r"^[A-Za-z0-9_.@:+-]+$")),
        ));
    components
        .parameters
        .insert("UserId".to_owned(), RefOr::T(user.build()));
    components.schemas.insert(error_name(), <ErrorBody<'_>>::schema());
    for (status, name, description) in ERRORS {
        let request_id = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .description(Some("The request's id."))
            .build();
        let mut response = ResponseBuilder::new()
            .description(description)
            .header("X-Request-ID", request_id)
            .content("application/json", error_content());
        if matches!(status, "429" | "503") {
            let seconds = HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0))))
                .description(Some("Seconds to wait before the next try."))
                .build();
            response = response.header("Retry-After", seconds);
        }
        components.responses.insert(name.to_owned(), response.build().into());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Where the document is committed.
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

    #[tokio::test]
    async fn the_committed_document_is_the_one_that_is_served() {
        let server = crate::api::tests::TestServer::start().await;
        let served = server.get("/openapi.json").await.text + "\n";
        if std::env::var_os("WISP_RECORD").is_some() {
            std::fs::write(GOLDEN, &served).unwrap();
        }
        let committed = std::fs::read_to_string(GOLDEN).unwrap_or_default();
        let line = committed
            .lines()
            .zip(served.lines())
            .position(|(committed, served)| committed != served);
        assert!(
            committed == served,
            "docs/openapi.json differs from what the routes say, first in line {}; look at the change with\n    \
             WISP_RECORD=1 cargo test --lib openapi && git diff docs/openapi.json\nand commit it if it is meant",
            line.map_or_else(|| "its end".to_owned(), |line| (line + 1).to_string())
        );
    }

    #[tokio::test]
    async fn the_document_is_also_at_the_root() {
        let server = crate::api::tests::TestServer::start().await;
        let root = server
            .http
            .get(format!("{}/openapi.json", server.base))
            .send()
            .await
            .unwrap();
        assert_eq!(root.status(), 200);
        assert_eq!(root.headers()["content-type"], "application/json");
        assert_eq!(root.text().await.unwrap(), server.get("/openapi.json").await.text);
    }

    async fn served() -> serde_json::Value {
        crate::api::tests::TestServer::start()
            .await
            .get("/openapi.json")
            .await
            .json()
    }

    #[tokio::test]
    async fn every_route_says_what_it_does_and_answers() {
        let api = served().await;
        let tags: Vec<&str> = TAGS.iter().map(|(name, _)| *name).collect();
        let mut ids = BTreeSet::new();
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let route = format!("{method} {path}");
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{route}: {id} twice");
                let summary = operation["summary"].as_str().unwrap_or_default();
                assert!(
                    summary.len() > 3 && !summary.starts_with('`'),
                    "{route}: what does it do? {summary:?}"
                );
                let tag = operation["tags"][0].as_str().unwrap();
                assert!(tags.contains(&tag), "{route}: the tag {tag} is not described");
                let responses = operation["responses"].as_object().unwrap();
                let success = responses.iter().find(|(status, _)| status.starts_with(['1', '2']));
                let (status, success) = success.unwrap_or_else(|| panic!("{route}: what does it answer?"));
                assert!(
                    status == "101" || success["content"].is_object(),
                    "{route}: what is in its answer?"
                );
            }
        }
        assert!(ids.len() > 20, "{ids:?}");
    }

    #[tokio::test]
    async fn every_reference_leads_somewhere() {
        fn visit(value: &serde_json::Value, whole: &serde_json::Value) {
            match value {
                serde_json::Value::Object(fields) => {
                    if let Some(reference) = fields.get("$ref").and_then(serde_json::Value::as_str) {
                        let target = whole.pointer(reference.strip_prefix('#').unwrap());
                        assert!(target.is_some(), "{reference} leads nowhere");
                    }
                    fields.values().for_each(|value| visit(value, whole));
                }
                serde_json::Value::Array(items) => items.iter().for_each(|value| visit(value, whole)),
                _ => {}
            }
        }
        let whole = served().await;
        visit(&whole, &whole);
    }

    #[test]
    fn ids_and_tags_come_from_the_path() {
        assert_eq!(
            operation_id("GET", "/sandboxes/{id}/files/list"),
            "get_sandboxes_id_files_list"
        );
        for (path, tag) in [
            ("/sandboxes", "sandboxes"),
            ("/sandboxes/admission", "sandboxes"),
            ("/sandboxes/{id}/extend", "sandboxes"),
            ("/sandboxes/{id}/exec/ws", "exec"),
            ("/sandboxes/{id}/files/list", "files"),
            ("/quotas/{owner}/usage", "quotas"),
            ("/pool/status", "compatibility"),
            ("/health", "system"),
        ] {
            assert_eq!(tag_of(path), tag, "{path}");
        }
    }
}
