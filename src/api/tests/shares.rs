//! What tenants share: none of them can take all of it.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::auth::key;
use super::{Answer, TestServer, answer, eventually};
use crate::config::{ApiKeyConfig, AuthConfig, Config, Limits};
use crate::scope::Scope;

/// A server with the tenants `a` and `b`, whose keys are their names.
async fn two_tenants(limits: Limits) -> TestServer {
    let keys = ["a", "b"].map(|name| ApiKeyConfig {
        tenant: name.to_owned(),
        ..key(name, &[Scope::Api], None)
    });
    let auth = AuthConfig {
        keys: keys.to_vec(),
        ..AuthConfig::default()
    };
    TestServer::with(Config {
        auth,
        limits,
        ..Config::default()
    })
    .await
}

async fn post(server: &TestServer, tenant: &str, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    answer(server.request("POST", path).header("x-api-key", tenant).body(body)).await
}

async fn sandbox(server: &TestServer, tenant: &str) -> String {
    let created = post(server, tenant, "/sandboxes", "{}").await;
    assert_eq!(created.status, 201, "{created:?}");
    format!("/sandboxes/{}", created.json()["id"].as_str().unwrap())
}

#[tokio::test]
async fn one_tenant_cannot_take_all_memory_or_disk() {
    for (limits, named) in [
        (
            Limits {
                max_total_memory_mb: Some(1024),
                default_memory_mb: 128,
                ..Limits::default()
            },
            "MiB of memory",
        ),
        (
            Limits {
                max_total_disk_mb: Some(1024),
                default_disk_mb: 128,
                ..Limits::default()
            },
            "MiB of disk",
        ),
    ] {
        let server = two_tenants(limits).await;
        let mut first = String::new();
        for _ in 0..6 {
            first = sandbox(&server, "a").await;
        }
        let refused = post(&server, "a", "/sandboxes", "{}").await;
        refused.assert_error(429, "resource_limit");
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(named) && message.contains("1024"), "{message}");
        let decision = post(&server, "a", "/sandboxes/admission", "{}").await.json();
        assert_eq!(decision["allowed"], false, "{decision}");
        // It finds room again once it has given some back, and the other tenant always.
        let destroyed = server.request("DELETE", &first).header("x-api-key", "a");
        assert_eq!(answer(destroyed).await.status, 200);
        sandbox(&server, "a").await;
        sandbox(&server, "b").await;
    }
}

#[tokio::test]
async fn full_server_refuses_sandboxes_with_503() {
    let server = two_tenants(Limits {
        max_total_memory_mb: Some(1000),
        tenant_share_percent: 100,
        default_memory_mb: 1000,
        ..Limits::default()
    })
    .await;
    sandbox(&server, "a").await;
    let refused = post(&server, "b", "/sandboxes", "{}").await;
    refused.assert_error(503, "unavailable");
    assert_eq!(server.provider.count(), 1, "nothing is made of what is refused");
}

#[tokio::test]
async fn zero_is_no_limit_of_memory() {
    let server = two_tenants(Limits {
        max_total_memory_mb: Some(0),
        max_total_disk_mb: Some(0),
        max_memory_mb: u64::MAX >> 20,
        max_disk_mb: u64::MAX >> 20,
        ..Limits::default()
    })
    .await;
    let most = json!({"memory_mb": u64::MAX >> 21, "disk_mb": u64::MAX >> 21}).to_string();
    for _ in 0..3 {
        assert_eq!(post(&server, "a", "/sandboxes", most.clone()).await.status, 201);
    }
}

#[tokio::test]
async fn metadata_and_env_of_all_sandboxes_are_bounded() {
    let server = two_tenants(Limits {
        max_label_bytes: 160_000,
        ..Limits::default()
    })
    .await;
    let labelled = json!({"metadata": {"a": "x".repeat(30_000)}, "env": {"A": "x".repeat(30_000)}}).to_string();
    assert_eq!(post(&server, "a", "/sandboxes", labelled.clone()).await.status, 201);
    post(&server, "a", "/sandboxes", labelled)
        .await
        .assert_error(429, "resource_limit");
    sandbox(&server, "b").await;
}

#[tokio::test]
async fn machine_without_memory_takes_no_new_work() {
    // More than any machine has.
    let server = two_tenants(Limits {
        memory_reserve_mb: Some(u64::MAX >> 20),
        ..Limits::default()
    })
    .await;
    let refused = server
        .request("POST", "/sandboxes")
        .header("x-api-key", "a")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.unwrap().contains("memory left"));
    let decision = post(&server, "a", "/sandboxes/admission", "{}").await.json();
    assert_eq!(decision["reason"], "memory_pressure");
}

#[tokio::test]
async fn one_tenant_cannot_have_all_requests_in_progress() {
    let server = two_tenants(Limits {
        max_connections: 8,
        max_connections_per_address: 8,
        ..Limits::default()
    })
    .await;
    let (of_a, of_b) = (sandbox(&server, "a").await, sandbox(&server, "b").await);
    let sleep = r#"{"command":"sleep","timeout":"1500ms"}"#;
    let path = format!("{of_a}/exec");
    let greedy = futures_util::future::join_all((0..6).map(|_| post(&server, "a", &path, sleep)));
    let asking = async {
        eventually(|| server.provider.running.load(Ordering::SeqCst) == 6).await;
        post(&server, "a", &format!("{of_a}/exec"), r#"{"command":"echo"}"#)
            .await
            .assert_error(429, "resource_limit");
        let honest = post(&server, "b", &format!("{of_b}/exec"), r#"{"command":"echo hi"}"#).await;
        assert_eq!(honest.json()["stdout"], "hi\n");
    };
    let (sleepers, ()) = tokio::join!(greedy, asking);
    for sleeper in sleepers {
        sleeper.assert_error(408, "timeout");
    }
    assert_eq!(server.sandboxes.budgets().requests.used(), 0);
}

#[tokio::test]
async fn one_tenant_cannot_have_all_event_streams() {
    let server = two_tenants(Limits {
        max_event_streams: 4,
        ..Limits::default()
    })
    .await;
    let listen = async |tenant: &str| {
        let request = server.request("GET", "/events").header("x-api-key", tenant);
        request.send().await.unwrap()
    };
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(listen("a").await);
    }
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(listen("a").await.status(), 429);
    assert_eq!(listen("b").await.status(), 200);
}
