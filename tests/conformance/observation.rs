//! What a sandbox uses and what it printed.

use serde_json::json;

use crate::target::Target;

crate::cases![
    statistics_tell_use_and_limits,
    the_log_has_the_last_lines,
    the_provider_tells_what_it_can
];

async fn statistics_tell_use_and_limits(target: &Target) {
    let sandbox = target.create(json!({"memory_mb": 256, "disk_mb": 512})).await;
    sandbox.output("head -c 3000000 /dev/urandom > /tmp/data").await;
    let stats = sandbox.get("stats").await.json();
    assert_eq!(stats["supported"], json!(true), "{stats}");
    assert_eq!(stats["mem_limit_bytes"], json!(256 << 20), "{stats}");
    assert_eq!(stats["disk_limit_bytes"], json!(512 << 20), "{stats}");
    assert_eq!(stats["exec_count"], json!(1), "{stats}");
    assert!(
        stats["disk_bytes"].as_u64().is_some_and(|bytes| bytes >= 3_000_000),
        "{stats}"
    );
    assert!(stats["mem_bytes"].is_u64() && stats["cpu_pct"].is_number(), "{stats}");
}

async fn the_log_has_the_last_lines(target: &Target) {
    let sandbox = target.sandbox().await;
    sandbox.output("seq 1 5").await;
    sandbox.run("echo problem >&2").await;
    let logs = sandbox.get("logs?lines=3").await;
    assert_eq!(logs.status, 200, "{logs:?}");
    let lines = logs.json();
    let lines: Vec<_> = lines
        .as_array()
        .expect("a list")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, expected) in lines.iter().zip(["4", "5", "problem"]) {
        assert!(line.contains(expected), "{lines:?}");
    }
    for bad in ["logs?lines=-1", "logs?lines=x"] {
        sandbox.get(bad).await.assert_error(400, "bad_request");
    }
}

async fn the_provider_tells_what_it_can(target: &Target) {
    let provider = target
        .api
        .get(&format!("/providers/{}", target.provider()))
        .await
        .json();
    assert_eq!(provider["name"], json!(target.provider()), "{provider}");
    assert_eq!(provider["healthy"], json!(true), "{provider}");
    assert!(
        provider["capabilities"].as_array().is_some_and(|list| !list.is_empty()),
        "{provider}"
    );
    assert!(provider["differences"].is_array(), "{provider}");
    let tested = target.api.post("/providers/test", "").await.json();
    assert_eq!(tested[target.provider()], json!(true), "{tested}");
}
