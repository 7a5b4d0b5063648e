//! Keys that are made and revoked while the server runs, and the audit trail.

use serde_json::{Value, json};

use super::{Answer, TestServer, answer};
use crate::config::{AuthConfig, Config};

impl TestServer {
    /// Makes a key with the key `with`, and returns its text and its id.
    async fn key(&self, with: Option<&str>, body: Value) -> (String, String) {
        let made = self.with_key(with, "POST", "/keys", &body.to_string()).await;
        assert_eq!(made.status, 201, "{made:?}");
        let made = made.json();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        (text("key"), text("id"))
    }

    async fn with_key(&self, key: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
        let mut request = self.request(method, path).body(body.to_owned());
        if let Some(key) = key {
            request = request.header("X-API-Key", key);
        }
        answer(request).await
    }
}

/// A server whose first key is an administrator's.
async fn administered() -> (TestServer, String) {
    let server = TestServer::start().await;
    let (admin, _) = server.key(None, json!({"name": "ops", "scopes": ["admin"]})).await;
    (server, admin)
}

#[tokio::test]
async fn the_first_key_closes_the_server_and_a_revoked_one_does_not_open_it() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/sandboxes").await.status, 200);
    let (key, id) = server.key(None, json!({"name": "ops", "scopes": ["admin"]})).await;
    server.get("/sandboxes").await.assert_error(401, "unauthorized");
    assert_eq!(server.with_key(Some(&key), "GET", "/sandboxes", "").await.status, 200);

    let revoked = server.with_key(Some(&key), "DELETE", &format!("/keys/{id}"), "").await;
    assert_eq!(
        (revoked.status, revoked.text.as_str()),
        (200, r#"{"status":"revoked"}"#)
    );
    server
        .with_key(Some(&key), "GET", "/sandboxes", "")
        .await
        .assert_error(401, "unauthorized");
    server.get("/sandboxes").await.assert_error(401, "unauthorized");
}

#[tokio::test]
async fn a_key_is_shown_once_and_listed_without_its_text() {
    let (server, admin) = administered().await;
    let body = json!({"name": " ci ", "scopes": ["api", "read", "api"], "tenant": "acme", "user": "ann"});
    let made = server.with_key(Some(&admin), "POST", "/keys", &body.to_string()).await;
    let made = made.json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(made["name"], "ci");
    assert_eq!(made["scopes"], json!(["read", "api"]));
    assert_eq!((&made["tenant"], &made["user"]), (&json!("acme"), &json!("ann")));
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'));

    let listed = server.with_key(Some(&admin), "GET", "/keys", "").await;
    assert!(
        !listed.text.contains(key) && !listed.text.contains(&admin),
        "{}",
        listed.text
    );
    let mut expected = made.clone();
    expected.as_object_mut().unwrap().remove("key");
    assert!(listed.json().as_array().unwrap().contains(&expected), "{}", listed.text);
}

#[tokio::test]
async fn a_malformed_key_is_a_bad_request() {
    let (server, admin) = administered().await;
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "a\u{0}"}),
        json!({"name": "x".repeat(129)}),
        json!({"name": "a", "scopes": []}),
        json!({"name": "a", "scopes": ["root"]}),
        json!({"name": "a", "tenant": ""}),
        json!({"name": "a", "tenant": "a/b"}),
        json!({"name": "a", "user": "a b"}),
        json!({"name": "a", "user": "ann", "scopes": ["admin"]}),
    ] {
        server
            .with_key(Some(&admin), "POST", "/keys", &body.to_string())
            .await
            .assert_error(400, "bad_request");
    }
    server
        .with_key(Some(&admin), "DELETE", "/keys/key_0000", "")
        .await
        .assert_error(404, "not_found");
}

#[tokio::test]
async fn a_key_of_the_configuration_is_listed_and_cannot_be_revoked() {
    let keys = vec![super::auth::key("conf", &[crate::scope::Scope::Admin], None)];
    let server = TestServer::with(Config {
        auth: AuthConfig { keys, required: false },
        ..Config::default()
    })
    .await;
    let listed = server.with_key(Some("conf"), "GET", "/keys", "").await.json();
    assert_eq!(
        listed,
        json!([{"id": "cfg_0", "name": "conf", "scopes": ["admin"], "tenant": "default", "source": "configuration"}])
    );
    server
        .with_key(Some("conf"), "DELETE", "/keys/cfg_0", "")
        .await
        .assert_error(409, "conflict");
}

#[tokio::test]
async fn x_user_id_narrows_keys_to_that_user() {
    let (server, admin) = administered().await;
    let (_, other) = server.key(Some(&admin), json!({"name": "b", "user": "bob"})).await;
    let for_ann = |method: &str, path: &str, body: &str| {
        let request = server.request(method, path).body(body.to_owned());
        answer(request.header("X-API-Key", &admin).header("X-User-ID", "ann"))
    };
    let made = for_ann("POST", "/keys", r#"{"name":"a"}"#).await.json();
    assert_eq!(made["user"], "ann");
    for_ann("POST", "/keys", r#"{"name":"a","user":"bob"}"#)
        .await
        .assert_error(403, "forbidden");
    let listed = for_ann("GET", "/keys", "").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["id"], made["id"]);
    for_ann("DELETE", &format!("/keys/{other}"), "")
        .await
        .assert_error(404, "not_found");
}

#[tokio::test]
async fn changes_of_keys_are_in_the_audit_trail() {
    let (server, admin) = administered().await;
    let (_, id) = server.key(Some(&admin), json!({"name": "ci"})).await;
    server
        .with_key(Some(&admin), "DELETE", &format!("/keys/{id}"), "")
        .await;
    let trail = server.with_key(Some(&admin), "GET", "/audit", "").await.json();
    let actions: Vec<_> = trail
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].clone())
        .collect();
    assert_eq!(actions, ["key.revoke", "key.create", "key.create"]);
    assert_eq!(trail[0]["target"], id.as_str());
    assert!(trail[0]["key"].as_str().unwrap().starts_with("ops key_"), "{trail}");
    assert!(trail[0]["request_id"].as_str().unwrap().starts_with("req_"), "{trail}");
    assert!(
        trail[2].get("key").is_none(),
        "the first key was made without one: {trail}"
    );

    let page = format!("/audit?limit=1&before={}", trail[0]["id"]);
    let page = server.with_key(Some(&admin), "GET", &page, "").await.json();
    assert_eq!(page, json!([trail[1]]));
    for query in ["limit=0", "limit=1001", "limit=x", "before=0", "before=x"] {
        server
            .with_key(Some(&admin), "GET", &format!("/audit?{query}"), "")
            .await
            .assert_error(400, "bad_request");
    }
}

#[tokio::test]
async fn a_server_that_requires_keys_is_closed_before_there_is_one() {
    let server = TestServer::with(Config {
        auth: AuthConfig {
            required: true,
            ..AuthConfig::default()
        },
        ..Config::default()
    })
    .await;
    server.get("/sandboxes").await.assert_error(401, "unauthorized");
    server
        .post("/keys", r#"{"name":"a"}"#)
        .await
        .assert_error(401, "unauthorized");
    assert_eq!(server.get("/health").await.status, 200);
}
