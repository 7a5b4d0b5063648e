//! Console lines of past commands.

use super::TestServer;

#[tokio::test]
async fn logs_are_the_last_lines_of_all_commands() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    let logs = format!("{sandbox}/logs");
    assert_eq!(server.get(&logs).await.text, "[]");
    for body in [
        r#"{"command":"echo one"}"#,
        r#"{"command":"missing"}"#,
        r#"{"command":"echo two","stream":true}"#,
        r#"{"command":"cat","stdin":"three\nfour"}"#,
    ] {
        server.post(&format!("{sandbox}/exec"), body).await;
    }
    let all = r#"["one","sh: missing: not found","two","three","four"]"#;
    assert_eq!(server.get(&logs).await.text, all);
    assert_eq!(server.get(&format!("{logs}?lines=2")).await.text, r#"["three","four"]"#);
}

#[tokio::test]
async fn logs_hold_the_end_of_what_is_too_long() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    server
        .post(&format!("{sandbox}/exec"), r#"{"command":"flood 1000000"}"#)
        .await;
    server
        .post(&format!("{sandbox}/exec"), r#"{"command":"echo end"}"#)
        .await;
    let lines = server.get(&format!("{sandbox}/logs")).await.json();
    let lines = lines.as_array().unwrap();
    assert_eq!(lines.last().unwrap(), "end");
    let bytes: usize = lines.iter().map(|line| line.as_str().unwrap().len()).sum();
    assert!(bytes <= 64 << 10, "{bytes}");
}

#[tokio::test]
async fn odd_requests_for_logs_are_refused() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    for lines in ["0", "-1", "+5", "ten", "", "10001", "99999999999999999999"] {
        let answer = server.get(&format!("{sandbox}/logs?lines={lines}")).await;
        answer.assert_error(400, "bad_request");
    }
    server
        .get("/sandboxes/sb_0000/logs")
        .await
        .assert_error(404, "not_found");
    server.delete(&sandbox).await;
    server
        .get(&format!("{sandbox}/logs"))
        .await
        .assert_error(404, "not_found");
}
