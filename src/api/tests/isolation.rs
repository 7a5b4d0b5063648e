//! No key sees or changes what is another tenant's or another user's: on no route.
//!
//! Each route has a row in [`TABLE`]. A route without a row, or a row without a route, fails a test. The strangers of a
//! row send its request to two servers: one on which ann of tenant `a` has things, and one on which she has none. They
//! must not be able to tell which is which, and her things must stay as they are.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::events::Listener;
use super::{TestServer, answer};
use crate::api::router::{Access, RouteRule};
use crate::config::{ApiKeyConfig, AuthConfig, Config};
use crate::scope::Scope;

/// Whose things a route shows or changes, which is who must not notice those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A user of a tenant: strangers are other tenants, and the other users of the same tenant.
    User,
    /// A tenant; its users share them: strangers are other tenants.
    Tenant,
    /// A user, with all tenants in the hands of administrators: strangers are administrators who name another user.
    UserForAdmins,
    /// Nobody: everybody is a stranger, and gets the same answer whatever there is of others.
    Nobody,
    /// The whole server: only administrators may ask.
    Server,
}
use Of::{Nobody, Server, Tenant, User, UserForAdmins};

/// Method, path as in the router, query, body, whose things it is about.
type Row = (&'static str, &'static str, &'static str, &'static str, Of);

/// What names a thing in a path is replaced by ann's: `{id}`, `{owner}`, the `{name}` of a template.
const TABLE: &[Row] = &[
    ("GET", "/openapi.json", "", "", Nobody),
    ("GET", "/health", "", "", Nobody),
    ("GET", "/live", "", "", Nobody),
    ("GET", "/ready", "", "", Nobody),
    ("GET", "/version", "", "", Nobody),
    ("GET", "/sandboxes", "", "", User),
    ("POST", "/sandboxes", "", r#"{"template":"private"}"#, Tenant),
    // It counts by tenant.
    ("POST", "/sandboxes/admission", "", "{}", Tenant),
    // What the reaper has not removed yet; there is none.
    ("DELETE", "/sandboxes", "", "", Nobody),
    ("GET", "/sandboxes/{id}", "", "", User),
    ("DELETE", "/sandboxes/{id}", "", "", User),
    ("POST", "/sandboxes/{id}/extend", "", r#"{"ttl":"2h"}"#, User),
    ("POST", "/sandboxes/{id}/exec", "", r#"{"command":"echo hello"}"#, User),
    ("GET", "/sandboxes/{id}/exec/ws", "", "", User),
    (
        "POST",
        "/sandboxes/{id}/files",
        "",
        r#"{"path":"/secret","content":"mine"}"#,
        User,
    ),
    ("PUT", "/sandboxes/{id}/files", "?path=/secret", "mine", User),
    ("GET", "/sandboxes/{id}/files", "?path=/secret", "", User),
    ("DELETE", "/sandboxes/{id}/files", "?path=/secret", "", User),
    ("GET", "/sandboxes/{id}/files/list", "?path=/", "", User),
    ("GET", "/sandboxes/{id}/files/stat", "?path=/secret", "", User),
    ("GET", "/sandboxes/{id}/files/glob", "?pattern=/*", "", User),
    (
        "POST",
        "/sandboxes/{id}/files/move",
        "",
        r#"{"old_path":"/secret","new_path":"/mine"}"#,
        User,
    ),
    (
        "POST",
        "/sandboxes/{id}/files/chmod",
        "",
        r#"{"path":"/secret","mode":"0777"}"#,
        User,
    ),
    ("GET", "/sandboxes/{id}/files/archive", "?path=/", "", User),
    ("PUT", "/sandboxes/{id}/files/archive", "?path=/", "", User),
    ("GET", "/sandboxes/{id}/logs", "", "", User),
    ("GET", "/sandboxes/{id}/stats", "", "", User),
    ("GET", "/templates", "", "", Tenant),
    ("POST", "/templates", "", r#"{"name":"private","image":"slow"}"#, Tenant),
    ("GET", "/templates/{name}", "", "", Tenant),
    ("PUT", "/templates/{name}", "", r#"{"image":"slow"}"#, Tenant),
    ("DELETE", "/templates/{name}", "", "", Tenant),
    ("POST", "/templates/{name}/spawn", "", "", Tenant),
    ("GET", "/providers", "", "", Nobody),
    ("GET", "/providers/{name}", "", "", Nobody),
    ("POST", "/providers/test", "", "", Nobody),
    ("GET", "/images", "", "", Nobody),
    ("GET", "/images/{name}", "", "", Nobody),
    ("DELETE", "/images/{name}", "", "", Server),
    ("POST", "/images", "?name=mine", "", Server),
    ("POST", "/images/pull", "", r#"{"image":"nowhere"}"#, Server),
    ("GET", "/events", "", "", User),
    ("GET", "/metrics", "", "", Server),
    ("GET", "/metrics/prometheus", "", "", Server),
    ("GET", "/diagnostics", "", "", Server),
    ("GET", "/pool/status", "", "", Nobody),
    ("GET", "/snapshots", "", "", Nobody),
    ("GET", "/quotas", "", "", User),
    ("GET", "/quotas/summary", "", "", User),
    ("GET", "/quotas/{owner}", "", "", User),
    ("PUT", "/quotas/{owner}", "", r#"{"max_sandboxes":9}"#, User),
    ("DELETE", "/quotas/{owner}", "", "", User),
    ("GET", "/quotas/{owner}/usage", "", "", User),
    ("GET", "/keys", "", "", UserForAdmins),
    ("POST", "/keys", "", r#"{"name":"more","user":"ann"}"#, UserForAdmins),
    ("DELETE", "/keys/{id}", "", "", UserForAdmins),
    ("GET", "/audit", "", "", Server),
];

/// Routes that need no key.
const OPEN: [&str; 4] = ["/openapi.json", "/health", "/live", "/ready"];

/// Who asks: an API key, if any, and the user that `X-User-ID` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asker {
    key: Option<&'static str>,
    user: Option<&'static str>,
}

const fn asker(key: &'static str, user: Option<&'static str>) -> Asker {
    Asker { key: Some(key), user }
}

const NOBODY: Asker = Asker { key: None, user: None };
const UNKNOWN: Asker = asker("unknown", None);
/// Keys of one tenant by what they allow.
const SCOPED: [(Scope, Asker); 3] = [
    (Scope::Read, asker("a-reads", None)),
    (Scope::Api, asker("a", None)),
    (Scope::Admin, asker("a-admin", None)),
];
const OTHER_TENANT: [Asker; 3] = [asker("b", None), asker("b", Some("ann")), asker("b-ann", None)];
const OTHER_USER: [Asker; 2] = [asker("a", Some("eve")), asker("a-eve", None)];
const OTHER_TENANT_ADMIN: [Asker; 2] = [asker("b-admin", None), asker("b-admin", Some("ann"))];
const OTHER_USER_ADMIN: [Asker; 2] = [asker("a-admin", Some("eve")), asker("b-admin", Some("eve"))];

/// Those who must not notice ann's things on a route.
fn strangers(of: Of, access: Access) -> Vec<Asker> {
    let admin = access == Access::Needs(Scope::Admin);
    match (of, admin) {
        (Server, _) => Vec::new(),
        (UserForAdmins, _) => OTHER_USER_ADMIN.to_vec(),
        (Tenant, false) => OTHER_TENANT.to_vec(),
        (Tenant, true) => OTHER_TENANT_ADMIN.to_vec(),
        (User | Nobody, false) => [&OTHER_TENANT[..], &OTHER_USER].concat(),
        // An administrator who names a user sees that user's only, one who names none all of their own tenant.
        (User | Nobody, true) => [&OTHER_TENANT_ADMIN[..], &OTHER_USER_ADMIN].concat(),
    }
}

/// A server with all the keys.
async fn server() -> TestServer {
    let key = |name: &str, scope, tenant: &str, user: Option<&str>| ApiKeyConfig {
        name: name.to_owned(),
        sha256: hex::encode(Sha256::digest(name)),
        scopes: vec![scope],
        tenant: tenant.to_owned(),
        user: user.map(str::to_owned),
    };
    let keys = vec![
        key("a-reads", Scope::Read, "a", None),
        key("a", Scope::Api, "a", None),
        key("a-eve", Scope::Api, "a", Some("eve")),
        key("a-admin", Scope::Admin, "a", None),
        key("b", Scope::Api, "b", None),
        key("b-ann", Scope::Api, "b", Some("ann")),
        key("b-admin", Scope::Admin, "b", None),
    ];
    TestServer::with(Config {
        auth: AuthConfig { keys, required: true },
        ..Config::default()
    })
    .await
}

/// Names of ann's things.
#[derive(Clone)]
struct Things {
    sandbox: String,
    key: String,
}

impl Things {
    /// Gives ann of tenant `a` one of everything.
    async fn on(server: &TestServer) -> Self {
        let ann = asker("a", Some("ann"));
        let admin = asker("a-admin", None);
        let made = |answer: (u16, Value)| {
            assert!(matches!(answer.0, 200 | 201), "{answer:?}");
            answer.1
        };
        let body = r#"{"ttl":"1h","metadata":{"note":"private"}}"#;
        let sandbox = made(server.send(ann, "POST", "/sandboxes", body).await);
        let sandbox = sandbox["id"].as_str().unwrap().to_owned();
        let file = format!("/sandboxes/{sandbox}/files?path=/secret");
        made(server.send(ann, "PUT", &file, "s3cret").await);
        let exec = format!("/sandboxes/{sandbox}/exec");
        made(server.send(ann, "POST", &exec, r#"{"command":"echo s3cret"}"#).await);
        let template = r#"{"name":"private","image":"python:3.12"}"#;
        made(server.send(ann, "POST", "/templates", template).await);
        made(server.send(admin, "PUT", "/quotas/ann", r#"{"max_sandboxes":7}"#).await);
        let key = json!({"name": "anns", "user": "ann"}).to_string();
        let key = made(server.send(admin, "POST", "/keys", &key).await);
        let key = key["id"].as_str().unwrap().to_owned();
        Self { sandbox, key }
    }

    /// A row's path, with their names in it.
    fn named_in(&self, (_, path, query, _, _): &Row) -> String {
        let path = match path.split('/').nth(1) {
            Some("sandboxes") => path.replace("{id}", &self.sandbox),
            Some("keys") => path.replace("{id}", &self.key),
            Some("templates") => path.replace("{name}", "private"),
            Some("providers") => path.replace("{name}", "wasm"),
            Some("images") => path.replace("{name}", "none"),
            Some("quotas") => path.replace("{owner}", "ann"),
            _ => (*path).to_owned(),
        };
        assert!(!path.contains('{'), "say what {path} names");
        path + query
    }

    /// All that can be known about them, apart from times.
    async fn state(&self, server: &TestServer) -> Vec<(u16, Value)> {
        let ann = asker("a", Some("ann"));
        let sandbox = format!("/sandboxes/{}", self.sandbox);
        let mut known = Vec::new();
        for path in [
            "/sandboxes".to_owned(),
            sandbox.clone(),
            format!("{sandbox}/files?path=/secret"),
            format!("{sandbox}/files/list?path=/"),
            format!("{sandbox}/logs"),
            format!("{sandbox}/stats"),
            "/templates".to_owned(),
        ] {
            known.push(server.send(ann, "GET", &path, "").await);
        }
        // Its expiry is no secret to her, and a change of it is one.
        let shown = answer(server.as_asker(ann, "GET", &sandbox)).await;
        known.push((shown.status, shown.json_or_text()["expires_at"].clone()));
        for path in ["/quotas", "/keys"] {
            let admin = asker("a-admin", Some("ann"));
            known.push(server.send(admin, "GET", path, "").await);
        }
        known
    }
}

impl TestServer {
    fn rule(&self, row: &Row) -> &RouteRule {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.method == row.0 && rule.path == row.1);
        rule.unwrap_or_else(|| panic!("{} {} is no route", row.0, row.1))
    }

    fn as_asker(&self, asker: Asker, method: &str, path: &str) -> reqwest::RequestBuilder {
        let headers = [("X-API-Key", asker.key), ("X-User-ID", asker.user)];
        headers
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .fold(self.request(method, path), |request, (name, value)| {
                request.header(name, value)
            })
    }

    /// Status and body of an answer, without what differs from one request to the next. Of a stream of events, whether
    /// the first one is about a sandbox the asker makes then.
    async fn send(&self, asker: Asker, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = self.as_asker(asker, method, path).body(body.to_owned());
        let response = request.header("Last-Event-ID", "0").send().await.unwrap();
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type");
        if kind.is_some_and(|kind| kind == "text/event-stream") {
            let made = self.as_asker(
                Asker {
                    key: worker(asker.key),
                    ..asker
                },
                "POST",
                "/sandboxes",
            );
            let made = answer(made.body("{}")).await.json();
            let first = Listener::of(response).next().await.unwrap();
            return (status, json!(first["sandbox_id"] == made["id"]));
        }
        let text = response.text().await.unwrap();
        let mut value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        forget_times(&mut value);
        (status, value)
    }

    async fn send_row(&self, asker: Asker, row: &Row, things: &Things) -> (u16, Value) {
        self.send(asker, row.0, &things.named_in(row), row.3).await
    }
}

/// The key of the same tenant that may make sandboxes.
fn worker(key: Option<&'static str>) -> Option<&'static str> {
    key.map(|key| if key == "a-reads" { "a" } else { key })
}

impl super::Answer {
    fn json_or_text(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| Value::String(self.text.clone()))
    }
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in [
                "request_id",
                "created_at",
                "updated_at",
                "expires_at",
                "last_used_at",
                "last_checked",
                "latency_ms",
                "uptime",
                "duration",
                "cpu_pct",
            ] {
                fields.remove(field);
            }
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

#[tokio::test]
async fn every_route_has_a_row_and_every_row_a_route() {
    let server = server().await;
    let routes: BTreeSet<_> = server
        .rules
        .iter()
        .map(|rule| (rule.method, rule.path.as_str()))
        .collect();
    let rows: BTreeSet<_> = TABLE.iter().map(|row| (row.0, row.1)).collect();
    let without_row: Vec<_> = routes.difference(&rows).collect();
    let without_route: Vec<_> = rows.difference(&routes).collect();
    assert!(
        without_row.is_empty() && without_route.is_empty(),
        "add rows to TABLE for {without_row:?}; remove those of {without_route:?}"
    );
    assert_eq!((rows.len(), routes.len()), (TABLE.len(), server.rules.len()));
    for rule in &server.rules {
        let open = rule.access == Access::Open;
        assert_eq!(open, OPEN.contains(&rule.path.as_str()), "{rule:?}");
    }
    for row in TABLE.iter().filter(|row| matches!(row.4, Server | UserForAdmins)) {
        assert_eq!(server.rule(row).access, Access::Needs(Scope::Admin), "{row:?}");
    }
}

#[tokio::test]
async fn a_route_takes_only_keys_with_its_scope() {
    for row in TABLE {
        let server = server().await;
        let things = Things::on(&server).await;
        let before = things.state(&server).await;
        let status = async |asker| server.send_row(asker, row, &things).await.0;
        let Access::Needs(needed) = server.rule(row).access else {
            assert_ne!(status(NOBODY).await, 401, "{row:?}");
            continue;
        };
        assert_eq!(status(NOBODY).await, 401, "{row:?}");
        assert_eq!(status(UNKNOWN).await, 401, "{row:?}");
        let (lower, enough): (Vec<_>, Vec<_>) = SCOPED.into_iter().partition(|(scope, _)| *scope < needed);
        for (_, asker) in lower {
            assert_eq!(status(asker).await, 403, "{row:?} {asker:?}");
        }
        assert_eq!(things.state(&server).await, before, "{row:?} did something");
        for (_, asker) in enough {
            let got = status(asker).await;
            assert!(!matches!(got, 401 | 403), "{row:?} {asker:?}: {got}");
        }
    }
}

#[tokio::test]
async fn no_route_shows_or_changes_anything_across_tenants_or_users() {
    let mut leaks = Vec::new();
    let mut callers = Vec::from([NOBODY, UNKNOWN]);
    callers.extend(SCOPED.map(|(_, asker)| asker));
    for row in TABLE {
        let (inhabited, empty) = (server().await, server().await);
        let things = Things::on(&inhabited).await;
        let before = things.state(&inhabited).await;
        for stranger in strangers(row.4, inhabited.rule(row).access) {
            let got = inhabited.send_row(stranger, row, &things).await;
            let expected = empty.send_row(stranger, row, &things).await;
            if got != expected {
                leaks.push(format!("{row:?} to {stranger:?}: {got:?} instead of {expected:?}"));
            }
            // What names a thing that is not there is a 404, but for what is idempotent or about any owner.
            let named = row.1.contains("/sandboxes/{") || row.1.contains("/templates/{") || row.1.contains("/keys/{");
            if named && (row.0, row.1) != ("DELETE", "/sandboxes/{id}") && got.0 != 404 {
                leaks.push(format!("{row:?} to {stranger:?}: {got:?} is no 404"));
            }
            if things.state(&inhabited).await != before {
                leaks.push(format!("{row:?} by {stranger:?} changed ann's things"));
            }
            if !callers.contains(&stranger) {
                callers.push(stranger);
            }
        }
        // The row would show a leak: ann herself gets another answer, or changes something.
        if matches!(row.4, User | Tenant | UserForAdmins) {
            let admin = inhabited.rule(row).access == Access::Needs(Scope::Admin);
            let ann = asker(if admin { "a-admin" } else { "a" }, Some("ann"));
            let got = inhabited.send_row(ann, row, &things).await;
            let differs = got != empty.send_row(ann, row, &things).await;
            assert!(
                differs || things.state(&inhabited).await != before,
                "{row:?} says nothing about ann's things: {got:?}"
            );
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    #[expect(clippy::print_stderr, reason = "the figure the test is for")]
    {
        eprintln!("{} routes × {} callers, 0 leaks", TABLE.len(), callers.len());
    }
}
