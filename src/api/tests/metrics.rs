//! What the server did, in numbers.

use super::TestServer;
use crate::config::Limits;

async fn busy_server() -> TestServer {
    let server = TestServer::with_limits(Limits {
        max_sandboxes: 1,
        ..Limits::default()
    })
    .await;
    server.post("/sandboxes", r#"{"image":"broken"}"#).await;
    let sandbox = server.sandbox_with(r#"{"owner_id":"alice"}"#).await;
    server
        .post("/sandboxes", "{}")
        .await
        .assert_error(429, "resource_limit");
    let exec = format!("{sandbox}/exec");
    for body in [
        r#"{"command":"cat","stdin":"12345"}"#,
        r#"{"command":"exit 3"}"#,
        r#"{"command":"sleep","timeout":"1ms"}"#,
        r#"{"command":"vanish"}"#,
        r#"{"command":""}"#,
    ] {
        server.post(&exec, body).await;
    }
    let files = format!("{sandbox}/files");
    server.post(&files, r#"{"path":"/f","content":"1234567890"}"#).await;
    server.get(&format!("{files}?path=/f")).await;
    server
}

#[tokio::test]
async fn metrics_count_what_was_done() {
    let server = busy_server().await;
    let metrics = server.get("/metrics").await.json();
    assert_eq!(metrics["sandboxes"]["by_state"]["running"], 1, "{metrics}");
    assert_eq!(metrics["sandboxes"]["by_provider"]["wasm"], 1, "{metrics}");
    assert_eq!(metrics["providers"]["healthy"], 1);
    let execs = serde_json::json!({"ok":1,"nonzero":1,"timeout":1,"error":1,"killed":0,"cancelled":0});
    assert_eq!(metrics["execs"], execs);
    assert_eq!(metrics["rejected"]["capacity"], 1);
    assert_eq!(metrics["bytes_in"], 5 + 10);
    // What cat, sleep and vanish printed, and the file.
    assert_eq!(metrics["bytes_out"], 5 + 8 + 4 + 10);
    let operations = metrics["operations"].as_array().unwrap();
    let create = operations.iter().find(|row| row["operation"] == "create").unwrap();
    assert_eq!(create["success_total"], 1);
    assert_eq!(create["failure_total"], 1);
    // Created, a failed creation, and four commands: a request that makes no sense is none.
    assert_eq!(metrics["events"]["events_total"], 6);
}

#[tokio::test]
async fn prometheus_reads_the_same_counts_and_no_names() {
    let server = busy_server().await;
    let response = server.request("GET", "/metrics/prometheus").send().await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(
        content_type.starts_with("application/openmetrics-text"),
        "{content_type}"
    );
    let text = response.text().await.unwrap();
    for line in [
        "wisp_sandboxes{provider=\"wasm\",state=\"running\"} 1",
        "wisp_creates_total{provider=\"wasm\",outcome=\"ok\"} 1",
        "wisp_creates_total{provider=\"wasm\",outcome=\"error\"} 1",
        "wisp_execs_total{provider=\"wasm\",outcome=\"timeout\"} 1",
        "wisp_exec_seconds_count{provider=\"wasm\"} 4",
        "wisp_rejected_total{reason=\"capacity\"} 1",
        "wisp_provider_healthy{provider=\"wasm\"} 1",
        "wisp_received_bytes_total 15",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert!(!text.contains("sb_") && !text.contains("alice"), "{text}");
}

#[tokio::test]
async fn a_command_whose_client_goes_is_counted_as_cancelled() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    let running = server
        .request("POST", &format!("{sandbox}/exec"))
        .body(r#"{"command":"sleep","stream":true}"#)
        .send()
        .await
        .unwrap();
    drop(running);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while server.get("/metrics").await.json()["execs"]["cancelled"] != 1 {
        assert!(std::time::Instant::now() < deadline, "it was not counted");
    }
}
