//! Sandboxes from their creation to their end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::{TestServer, answer, eventually};
use crate::config::Limits;

#[tokio::test]
async fn a_created_sandbox_has_what_was_asked_for() {
    let server = TestServer::start().await;
    let body = r#"{"image":"python:3.12","provider":"wasm","memory_mb":256,"vcpus":2,"ttl":"10m",
        "metadata":{"purpose":"quickstart"},"owner_id":"user_123","from_the_future":[1]}"#;
    let answer = server.post("/sandboxes", body).await;
    assert_eq!(answer.status, 201);
    let created = answer.json();
    for (field, value) in [
        ("state", json!("running")),
        ("provider", json!("wasm")),
        ("image", json!("python:3.12")),
        ("memory_mb", json!(256)),
        ("vcpus", json!(2)),
        ("metadata", json!({"purpose":"quickstart"})),
        ("owner_id", json!("user_123")),
        ("preview_domain", json!("localhost")),
    ] {
        assert_eq!(created[field], value, "{field}");
    }
    let time = |field: &str| humantime::parse_rfc3339(created[field].as_str().unwrap()).unwrap();
    assert_eq!(
        time("expires_at").duration_since(time("created_at")).unwrap(),
        Duration::from_secs(600)
    );
    let id = created["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/sandboxes/{id}")).await.json(), created);
    assert_eq!(
        server.get(&format!("/sandboxes/{}", id.replace('_', "-"))).await.json(),
        created
    );
    assert_eq!(server.get("/sandboxes").await.json(), json!([created]));
}

#[tokio::test]
async fn destroy_is_idempotent() {
    let server = TestServer::start().await;
    let path = server.sandbox().await;
    for _ in 0..2 {
        let destroyed = server.delete(&path).await;
        assert_eq!(
            (destroyed.status, destroyed.json()),
            (200, json!({"status":"destroyed"}))
        );
    }
    server.get(&path).await.assert_error(404, "not_found");
    assert_eq!(server.delete("/sandboxes/sb_a1b2c3d4").await.status, 200);
    assert_eq!(server.provider.count(), 0);
}

#[tokio::test]
async fn an_expired_sandbox_is_gone_at_once_and_freed_soon() {
    let server = TestServer::start().await;
    let path = server.sandbox_with(r#"{"ttl":"60ms"}"#).await;
    assert_eq!(
        server
            .post(&format!("{path}/exec"), r#"{"command":"echo"}"#)
            .await
            .status,
        200
    );
    tokio::time::sleep(Duration::from_millis(70)).await;
    server
        .post(&format!("{path}/exec"), r#"{"command":"echo"}"#)
        .await
        .assert_error(404, "not_found");
    server.get(&path).await.assert_error(404, "not_found");
    server
        .post(&format!("{path}/extend"), r#"{"ttl":"1h"}"#)
        .await
        .assert_error(404, "not_found");
    assert_eq!(server.get("/sandboxes").await.text, "[]");
    assert_eq!(server.delete(&path).await.status, 200);
    server.sandbox_with(r#"{"ttl":"10ms"}"#).await;
    eventually(|| server.provider.count() == 0).await;
}

#[tokio::test]
async fn prune_counts_what_it_removed() {
    let server = TestServer::start().await;
    server.sandbox().await;
    server.sandbox_with(r#"{"ttl":"1ms"}"#).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    // The reaper may have come first; `sandbox::tests` has none.
    let pruned = server.delete("/sandboxes").await.json();
    assert!([json!({"pruned":1}), json!({"pruned":0})].contains(&pruned), "{pruned}");
    eventually(|| server.provider.count() == 1).await;
    assert_eq!(server.delete("/sandboxes").await.json(), json!({"pruned":0}));
}

#[tokio::test]
async fn extend_counts_from_now_up_to_the_maximum() {
    let server = TestServer::start().await;
    let path = server.sandbox_with(r#"{"ttl":"10m"}"#).await;
    let left = |text: &str| {
        let expires = humantime::parse_rfc3339(text).unwrap();
        expires
            .duration_since(std::time::SystemTime::now())
            .unwrap()
            .as_secs_f64()
    };
    let extended = server.post(&format!("{path}/extend"), r#"{"ttl":"1h"}"#).await.json();
    assert!(
        (3595.0..=3600.1).contains(&left(extended["expires_at"].as_str().unwrap())),
        "{extended}"
    );
    let extended = server.post(&format!("{path}/extend"), r#"{"ttl":"100h"}"#).await.json();
    assert!(
        (86395.0..=86400.1).contains(&left(extended["expires_at"].as_str().unwrap())),
        "{extended}"
    );
    for body in [
        "{}",
        r#"{"ttl":"banana"}"#,
        r#"{"ttl":"0s"}"#,
        r#"{"ttl":"-1h"}"#,
        r#"{"ttl":null}"#,
    ] {
        server
            .post(&format!("{path}/extend"), body)
            .await
            .assert_error(400, "bad_request");
    }
}

#[tokio::test]
async fn a_full_server_says_when_to_come_back() {
    let server = TestServer::with_limits(Limits {
        max_sandboxes: 1,
        ..Limits::default()
    })
    .await;
    let path = server.sandbox().await;
    let refused = server.request("POST", "/sandboxes").body("{}").send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    server
        .post("/sandboxes", "{}")
        .await
        .assert_error(429, "resource_limit");
    server.delete(&path).await;
    server.sandbox().await;
}

#[tokio::test]
async fn a_sandbox_the_provider_cannot_free_is_gone_and_freed_later() {
    let server = TestServer::start().await;
    let path = server.sandbox().await;
    server.provider.failing_destroys.store(1, Ordering::SeqCst);
    server.delete(&path).await.assert_error(503, "unavailable");
    server.get(&path).await.assert_error(404, "not_found");
    eventually(|| server.provider.count() == 0).await;
}

#[tokio::test]
async fn a_creation_whose_client_goes_leaves_nothing() {
    let server = TestServer::start().await;
    let creating = server.post("/sandboxes", r#"{"image":"slow"}"#);
    assert!(tokio::time::timeout(Duration::from_millis(20), creating).await.is_err());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(server.get("/sandboxes").await.text, "[]");
    assert_eq!(server.provider.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_destroyed_while_it_is_created_leaves_nothing() {
    let server = TestServer::start().await;
    let creating = server.post("/sandboxes", r#"{"image":"slow"}"#);
    let destroying = async {
        let listed = loop {
            let listed = server.get("/sandboxes").await.json();
            if listed != json!([]) {
                break listed;
            }
        };
        assert_eq!(listed[0]["state"], "creating");
        let path = format!("/sandboxes/{}", listed[0]["id"].as_str().unwrap());
        server
            .post(&format!("{path}/exec"), r#"{"command":"echo"}"#)
            .await
            .assert_error(409, "conflict");
        assert_eq!(server.delete(&path).await.status, 200);
    };
    let (created, ()) = tokio::join!(creating, destroying);
    created.assert_error(404, "not_found");
    assert_eq!(server.provider.count(), 0);
    assert_eq!(server.get("/sandboxes").await.text, "[]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn races_of_every_call_leave_nothing_behind() {
    let server = TestServer::start().await;
    for _ in 0..30 {
        let path = server.sandbox_with(r#"{"ttl":"20ms"}"#).await;
        let exec = format!("{path}/exec");
        let extend = format!("{path}/extend");
        let (ran, streamed, extended, first, second, pruned) = tokio::join!(
            server.post(&exec, r#"{"command":"sleep","timeout":"1s"}"#),
            server.post(&exec, r#"{"command":"sleep","stream":true}"#),
            server.post(&extend, r#"{"ttl":"1h"}"#),
            server.delete(&path),
            server.delete(&path),
            server.delete("/sandboxes"),
        );
        assert!([200, 404].contains(&ran.status), "{ran:?}");
        assert!([200, 404].contains(&streamed.status), "{streamed:?}");
        assert!([200, 404].contains(&extended.status), "{extended:?}");
        assert_eq!((first.status, second.status, pruned.status), (200, 200, 200));
        server.get(&path).await.assert_error(404, "not_found");
    }
    eventually(|| server.provider.count() == 0).await;
    eventually(|| server.provider.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn providers_tell_how_they_are() {
    let server = TestServer::start().await;
    server.sandbox().await;
    let listed = server.get("/providers").await.json();
    assert_eq!(listed[0]["name"], "wasm");
    assert_eq!(
        (&listed[0]["healthy"], &listed[0]["default"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(listed[0]["runtime_count"], 1);
    assert_eq!(server.get("/providers/wasm").await.json()["name"], "wasm");
    assert_eq!(
        answer(server.request("POST", "/providers/test")).await.json(),
        json!({"wasm":true})
    );
    assert_eq!(server.get("/health").await.json()["status"], "ok");
    assert_eq!(server.get("/images").await.text, "[]");
}
