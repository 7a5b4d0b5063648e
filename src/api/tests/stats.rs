//! What a sandbox uses.

use super::TestServer;

#[tokio::test]
async fn stats_tell_limits_and_count_commands() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox_with(r#"{"memory_mb":128,"disk_mb":64}"#).await;
    server.post(&format!("{sandbox}/exec"), r#"{"command":"echo"}"#).await;
    server.post(&format!("{sandbox}/exec"), r#"{"command":"exit 1"}"#).await;
    let stats = server.get(&format!("{sandbox}/stats")).await.json();
    assert_eq!(stats["supported"], true);
    assert_eq!(stats["mem_limit_bytes"], 128 << 20);
    assert_eq!(stats["disk_limit_bytes"], 64 << 20);
    assert_eq!(stats["exec_count"], 2);
    for field in ["mem_bytes", "disk_bytes", "processes"] {
        assert_eq!(stats[field], 0, "{stats}");
    }
    server
        .get("/sandboxes/sb_0000/stats")
        .await
        .assert_error(404, "not_found");
}
