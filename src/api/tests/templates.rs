//! Templates, and sandboxes made from them.

use serde_json::{Value, json};

use super::{TestServer, answer};
use crate::config::{ApiKeyConfig, AuthConfig, Config, Limits};
use crate::scope::Scope;
use sha2::{Digest as _, Sha256};

/// What the `stacyvm` client's `templates.save` sends.
const STACYVM: &str = r#"{"name":"small","image":"python:3.12","memory_mb":128,"vcpus":1,"ttl":"5m","provider":"",
    "metadata":{"a":"b"}}"#;

async fn put(server: &TestServer, path: &str, body: &'static str) -> super::Answer {
    answer(server.request("PUT", path).body(body)).await
}

#[tokio::test]
async fn a_template_is_kept_as_it_was_sent() {
    let server = TestServer::start().await;
    let saved = server.post("/templates", STACYVM).await;
    assert_eq!(saved.status, 201, "{saved:?}");
    let template = saved.json();
    for (field, value) in [
        ("name", json!("small")),
        ("image", json!("python:3.12")),
        ("memory_mb", json!(128)),
        ("vcpus", json!(1)),
        ("ttl", json!("5m")),
        ("metadata", json!({"a":"b"})),
        ("provider", Value::Null),
        ("disk_mb", Value::Null),
    ] {
        assert_eq!(template[field], value, "{field}");
    }
    assert_eq!(server.get("/templates/small").await.json(), template);
    assert_eq!(server.get("/templates").await.json(), json!([template]));
}

#[tokio::test]
async fn saving_the_same_again_is_no_error_and_another_is_a_conflict() {
    let server = TestServer::start().await;
    let first = server.post("/templates", STACYVM).await.json();
    let again = server.post("/templates", STACYVM).await;
    assert_eq!((again.status, again.json()), (200, first.clone()));
    server
        .post("/templates", r#"{"name":"small","image":"alpine:latest"}"#)
        .await
        .assert_error(409, "conflict");
    assert_eq!(server.get("/templates/small").await.json(), first);
}

#[tokio::test]
async fn a_template_can_be_replaced_and_removed() {
    let server = TestServer::start().await;
    put(&server, "/templates/small", r#"{"image":"alpine:latest"}"#)
        .await
        .assert_error(404, "not_found");
    server.post("/templates", STACYVM).await;
    let updated = put(&server, "/templates/small", r#"{"image":"alpine:latest"}"#).await;
    assert_eq!(updated.status, 200, "{updated:?}");
    assert_eq!(updated.json()["image"], "alpine:latest");
    assert_eq!(updated.json()["memory_mb"], Value::Null);
    put(
        &server,
        "/templates/small",
        r#"{"name":"other","image":"alpine:latest"}"#,
    )
    .await
    .assert_error(400, "bad_request");
    assert_eq!(
        server.delete("/templates/small").await.json(),
        json!({"status":"deleted"})
    );
    server.delete("/templates/small").await.assert_error(404, "not_found");
    server.get("/templates/small").await.assert_error(404, "not_found");
    assert_eq!(server.get("/templates").await.text, "[]");
}

#[tokio::test]
async fn a_sandbox_is_made_from_a_template_with_and_without_a_body() {
    let server = TestServer::start().await;
    let body = r#"{"name":"small","image":"python:3.12","memory_mb":128,"ttl":"5m","metadata":{"a":"t","b":"t"}}"#;
    server.post("/templates", body).await;
    let spawned = server.post("/templates/small/spawn", "").await;
    assert_eq!(spawned.status, 201, "{spawned:?}");
    let sandbox = spawned.json();
    assert_eq!(
        (&sandbox["image"], &sandbox["memory_mb"], &sandbox["metadata"]),
        (&json!("python:3.12"), &json!(128), &json!({"a":"t","b":"t"}))
    );
    let time = |field: &str| humantime::parse_rfc3339(sandbox[field].as_str().unwrap()).unwrap();
    let lifetime = time("expires_at").duration_since(time("created_at")).unwrap();
    assert_eq!(lifetime.as_secs(), 300);
    let own = r#"{"image":"alpine:latest","memory_mb":256,"metadata":{"b":"own"},"owner_id":"ann"}"#;
    let spawned = server.post("/templates/small/spawn", own).await.json();
    assert_eq!(
        (
            &spawned["image"],
            &spawned["memory_mb"],
            &spawned["metadata"],
            &spawned["owner_id"]
        ),
        (
            &json!("alpine:latest"),
            &json!(256),
            &json!({"a":"t","b":"own"}),
            &json!("ann")
        )
    );
    server
        .post("/templates/nothing/spawn", "")
        .await
        .assert_error(404, "not_found");
    server
        .post("/templates/small/spawn", "[")
        .await
        .assert_error(400, "bad_request");
    server
        .post("/templates/small/spawn", r#"{"memory_mb":0}"#)
        .await
        .assert_error(400, "bad_request");
}

#[tokio::test]
async fn a_template_may_be_named_in_a_creation() {
    let server = TestServer::start().await;
    server.post("/templates", STACYVM).await;
    // What the client's `spawn(template=…)` sends: always with the default image.
    let body = r#"{"image":"alpine:latest","template":"small","vcpus":2}"#;
    let created = server.post("/sandboxes", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let sandbox = created.json();
    assert_eq!(
        (&sandbox["image"], &sandbox["memory_mb"], &sandbox["vcpus"]),
        (&json!("python:3.12"), &json!(128), &json!(2))
    );
    let body = r#"{"image":"slow","template":"small"}"#;
    assert_eq!(server.post("/sandboxes", body).await.json()["image"], "slow");
}

#[tokio::test]
async fn unusable_templates_are_refused_when_saved() {
    let server = TestServer::start().await;
    for body in [
        "",
        "[]",
        "{}",
        r#"{"name":"x"}"#,
        r#"{"image":"python:3.12"}"#,
        r#"{"name":"x","image":""}"#,
        r#"{"name":"x","image":"a b"}"#,
        r#"{"name":"","image":"a"}"#,
        r#"{"name":"a/b","image":"a"}"#,
        r#"{"name":"..","image":"a"}"#,
        r#"{"name":"a\u0000","image":"a"}"#,
        r#"{"name":"x","image":"a","memory_mb":0}"#,
        r#"{"name":"x","image":"a","memory_mb":-1}"#,
        r#"{"name":"x","image":"a","memory_mb":100000000}"#,
        r#"{"name":"x","image":"a","ttl":"banana"}"#,
        r#"{"name":"x","image":"a","ttl":"0s"}"#,
        r#"{"name":"x","image":"a","ttl":"1000h"}"#,
        r#"{"name":"x","image":"a","env":{"":"x"}}"#,
        r#"{"name":"x","image":"a","network":"lan"}"#,
    ] {
        server.post("/templates", body).await.assert_error(400, "bad_request");
    }
    server
        .post("/templates", r#"{"name":"x","image":"a","provider":"nothing"}"#)
        .await
        .assert_error(404, "not_found");
    let large = json!({"name":"x","image":"a","metadata":{"a":"x".repeat(60_000)},"env":{"A":"x".repeat(60_000)}});
    server
        .post("/templates", large.to_string())
        .await
        .assert_error(400, "bad_request");
    assert_eq!(server.get("/templates").await.text, "[]");
    for path in ["/templates/a%2Fb", "/templates/%00", "/templates/%20"] {
        server.get(path).await.assert_error(400, "bad_request");
    }
}

#[tokio::test]
async fn a_tenant_keeps_so_many_templates() {
    let server = TestServer::with_limits(Limits {
        max_templates_per_tenant: 1,
        ..Limits::default()
    })
    .await;
    assert_eq!(server.post("/templates", STACYVM).await.status, 201);
    server
        .post("/templates", r#"{"name":"x","image":"a"}"#)
        .await
        .assert_error(429, "resource_limit");
    assert_eq!(server.post("/templates", STACYVM).await.status, 200);
}

#[tokio::test]
async fn a_key_that_may_only_look_changes_no_template() {
    let key = |name: &str, scope| ApiKeyConfig {
        name: name.to_owned(),
        sha256: hex::encode(Sha256::digest(name)),
        scopes: vec![scope],
        tenant: "default".to_owned(),
        user: None,
    };
    let server = TestServer::with(Config {
        auth: AuthConfig {
            keys: vec![key("looks", Scope::Read), key("works", Scope::Api)],
            ..AuthConfig::default()
        },
        ..Config::default()
    })
    .await;
    let request = |method, path, key| {
        let request = server.request(method, path).header("X-API-Key", key);
        answer(request.body(STACYVM))
    };
    assert_eq!(request("POST", "/templates", "works").await.status, 201);
    for (method, path) in [
        ("POST", "/templates"),
        ("PUT", "/templates/small"),
        ("DELETE", "/templates/small"),
        ("POST", "/templates/small/spawn"),
    ] {
        request(method, path, "looks").await.assert_error(403, "forbidden");
    }
    assert_eq!(request("GET", "/templates/small", "looks").await.status, 200);
}
