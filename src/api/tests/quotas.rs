//! Quotas and admission.

use serde_json::{Value, json};

use super::auth::key;
use super::{Answer, TestServer, answer};
use crate::config::{AdmissionMode, AuthConfig, Config, Limits};
use crate::scope::Scope;

impl TestServer {
    async fn put_quota(&self, owner: &str, body: &Value) -> Answer {
        let request = self.request("PUT", &format!("/quotas/{owner}"));
        answer(request.body(body.to_string())).await
    }

    async fn admission(&self, body: &'static str) -> Value {
        let decision = self.post("/sandboxes/admission", body).await;
        assert_eq!(decision.status, 200, "{decision:?}");
        decision.json()
    }
}

#[tokio::test]
async fn a_quota_is_set_shown_counted_and_removed() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/quotas").await.json(), json!([]));
    let body = json!({"owner_id": "ann", "max_sandboxes": 2, "max_ttl": "10m", "max_exec_timeout": "0s"});
    let set = server.put_quota("ann", &body).await;
    assert_eq!(set.status, 200, "{set:?}");
    let quota = set.json();
    assert_eq!(
        (&quota["owner_id"], &quota["max_sandboxes"], &quota["max_ttl"]),
        (&json!("ann"), &json!(2), &json!("10m0s"))
    );
    assert!(quota.get("max_exec_timeout").is_none(), "{quota}");
    assert_eq!(server.get("/quotas").await.json(), json!([quota]));
    assert_eq!(server.get("/quotas/ann").await.json(), quota);
    assert_eq!(
        server.get("/quotas/summary").await.json(),
        json!({"total": 1, "with_max_sandboxes": 1, "with_max_ttl": 1, "with_max_exec_timeout": 0})
    );
    // What was answered can be sent back, and changes nothing.
    let again = server.put_quota("ann", &quota).await.json();
    assert_eq!(
        (&again["max_ttl"], &again["created_at"]),
        (&quota["max_ttl"], &quota["created_at"])
    );

    let deleted = server.delete("/quotas/ann").await;
    assert_eq!(
        (deleted.status, deleted.text.as_str()),
        (200, r#"{"status":"deleted"}"#)
    );
    server.delete("/quotas/ann").await.assert_error(404, "not_found");
    server.get("/quotas/ann").await.assert_error(404, "not_found");
    let trail = server.get("/audit").await.json();
    let actions: Vec<_> = trail.as_array().unwrap().iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["quota.delete", "quota.set", "quota.set"]);
}

#[tokio::test]
async fn a_change_that_was_refused_is_not_in_the_audit_trail() {
    let server = TestServer::start().await;
    for method in ["PUT", "DELETE"] {
        let request = server.request(method, "/quotas/ann").header("X-User-ID", "eve");
        answer(request.body(r#"{"max_sandboxes":1}"#))
            .await
            .assert_error(404, "not_found");
    }
    assert_eq!(server.get("/audit").await.json(), json!([]));
}

#[tokio::test]
async fn a_malformed_quota_is_a_bad_request() {
    let server = TestServer::start().await;
    for body in [
        json!([]),
        json!({"max_sandboxes": -1}),
        json!({"max_sandboxes": 1.5}),
        json!({"max_sandboxes": u64::MAX}),
        json!({"max_ttl": "soon"}),
        json!({"max_ttl": 5}),
        json!({"max_exec_timeout": "-1s"}),
    ] {
        server.put_quota("ann", &body).await.assert_error(400, "bad_request");
    }
    for owner in ["a%20b", "a%2Fb", "a%00", &"x".repeat(129)] {
        server
            .put_quota(owner, &json!({}))
            .await
            .assert_error(400, "bad_request");
        let usage = server.get(&format!("/quotas/{owner}/usage")).await;
        usage.assert_error(400, "bad_request");
    }
    assert_eq!(server.get("/quotas").await.json(), json!([]));
}

#[tokio::test]
async fn a_quota_holds_for_its_owner() {
    let server = TestServer::start().await;
    server
        .put_quota("ann", &json!({"max_sandboxes": 1, "max_ttl": "10m"}))
        .await;
    let long = server.post("/sandboxes", r#"{"owner_id":"ann","ttl":"11m"}"#).await;
    long.assert_error(429, "resource_limit");
    let sandbox = server.sandbox_with(r#"{"owner_id":"ann"}"#).await;
    let second = server.post("/sandboxes", r#"{"owner_id":"ann"}"#).await;
    second.assert_error(429, "resource_limit");
    server.sandbox_with(r#"{"owner_id":"bob","ttl":"11m"}"#).await;
    assert_eq!(
        server.get("/quotas/ann/usage").await.json(),
        json!({"owner_id": "ann", "active_sandboxes": 1, "max_sandboxes": 1, "max_ttl": "10m0s",
            "max_exec_timeout": "1h0m0s", "configured": true})
    );
    assert_eq!(server.get("/quotas/eve/usage").await.json()["configured"], false);
    assert_eq!(server.delete(&sandbox).await.status, 200);
    server.sandbox_with(r#"{"owner_id":"ann"}"#).await;
}

#[tokio::test]
async fn quotas_are_the_administrators_and_of_one_tenant() {
    let mut keys = vec![
        key("ours", &[Scope::Admin], None),
        key("theirs", &[Scope::Admin], None),
        key("plain", &[Scope::Read, Scope::Api], None),
    ];
    keys[1].tenant = "acme".to_owned();
    keys[2].tenant = "acme".to_owned();
    let server = TestServer::with(Config {
        auth: AuthConfig { keys, required: false },
        ..Config::default()
    })
    .await;
    let with = |key: &'static str, method: &'static str, path: &'static str| {
        let request = server.request(method, path).header("X-API-Key", key);
        let body = match method {
            "PUT" => r#"{"max_sandboxes":1}"#,
            "POST" => "{}",
            _ => "",
        };
        answer(request.body(body))
    };
    assert_eq!(with("ours", "PUT", "/quotas/ann").await.status, 200);
    for (method, path) in [
        ("GET", "/quotas"),
        ("GET", "/quotas/summary"),
        ("GET", "/quotas/ann"),
        ("PUT", "/quotas/ann"),
        ("DELETE", "/quotas/ann"),
        ("GET", "/quotas/ann/usage"),
    ] {
        with("plain", method, path).await.assert_error(403, "forbidden");
    }
    assert_eq!(with("theirs", "GET", "/quotas").await.json(), json!([]));
    for method in ["GET", "DELETE"] {
        with("theirs", method, "/quotas/ann")
            .await
            .assert_error(404, "not_found");
    }
    assert_eq!(with("ours", "GET", "/quotas/ann").await.status, 200);
    // Not even how many sandboxes others have.
    assert_eq!(with("ours", "POST", "/sandboxes").await.status, 201);
    for (key, active) in [("plain", 0), ("ours", 1)] {
        let decision = with(key, "POST", "/sandboxes/admission").await.json();
        assert_eq!(decision["active_sandboxes"], active, "{key}: {decision}");
    }
}

#[tokio::test]
async fn admission_predicts_a_creation_and_creates_nothing() {
    let server = TestServer::with_limits(Limits {
        max_sandboxes: 2,
        admission: AdmissionMode::Queue,
        ..Limits::default()
    })
    .await;
    server
        .put_quota("ann", &json!({"max_sandboxes": 1, "max_ttl": "5m"}))
        .await;
    // These fields and no others: StacyVM's clients refuse more.
    let expected = |allowed: bool, queueable: bool, reason: &str, active: (u32, u32)| {
        json!({"allowed": allowed, "queueable": queueable, "reason": reason, "active_sandboxes": active.0,
            "max_sandboxes": 2, "active_owner_sandboxes": active.1, "max_owner_sandboxes": 1, "max_ttl": "5m0s"})
    };
    let ann = r#"{"owner_id":"ann"}"#;
    assert_eq!(server.admission(ann).await, expected(true, false, "", (0, 0)));
    let long = server.admission(r#"{"owner_id":"ann","ttl":"6m"}"#).await;
    assert_eq!(long, expected(false, false, "max_ttl", (0, 0)));
    server.sandbox_with(ann).await;
    let reason = "max_owner_sandboxes";
    assert_eq!(server.admission(ann).await, expected(false, true, reason, (1, 1)));
    let anybody = server.admission("{}").await;
    assert_eq!(
        (
            &anybody["allowed"],
            &anybody["max_owner_sandboxes"],
            &anybody["max_ttl"]
        ),
        (&json!(true), &json!(0), &json!("24h0m0s"))
    );
    server.sandbox().await;
    assert_eq!(server.admission("{}").await["reason"], "max_sandboxes");
    assert_eq!(server.get("/sandboxes").await.json().as_array().unwrap().len(), 2);
    for (body, status, code) in [
        (r#"{"memory_mb":0}"#, 400, "bad_request"),
        (r#"{"ttl":"0s"}"#, 400, "bad_request"),
        (r#"{"provider":"none"}"#, 404, "not_found"),
        (r#"{"template":"none"}"#, 404, "not_found"),
    ] {
        server
            .post("/sandboxes/admission", body)
            .await
            .assert_error(status, code);
    }
}
