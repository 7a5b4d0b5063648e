//! Files.

use serde_json::json;

use super::{TestServer, answer};
use crate::config::Limits;

#[tokio::test]
async fn a_file_is_written_read_listed_moved_and_deleted() {
    let server = TestServer::start().await;
    let files = format!("{}/files", server.sandbox().await);
    let written = server
        .post(&files, r#"{"path":"/app/a b.txt","content":"hällo","mode":"0600"}"#)
        .await;
    assert_eq!((written.status, written.json()), (200, json!({"status":"written"})));
    assert_eq!(server.get(&format!("{files}?path=/app/a%20b.txt")).await.text, "hällo");
    assert_eq!(server.get(&format!("{files}?path=/app/a+b.txt")).await.text, "hällo");
    let stat = server.get(&format!("{files}/stat?path=/app/a%20b.txt")).await.json();
    assert_eq!(
        stat,
        json!({"name":"a b.txt","path":"/app/a b.txt","size":6,"is_dir":false,
            "mod_time":"2023-11-14T22:13:20.000Z","mode":"0600"})
    );
    let changed = server
        .post(&format!("{files}/chmod"), r#"{"path":"/app/a b.txt","mode":"755"}"#)
        .await;
    assert_eq!(changed.json(), json!({"status":"chmod applied"}));
    let moved = server
        .post(
            &format!("{files}/move"),
            r#"{"old_path":"/app/a b.txt","new_path":"/app/c.py"}"#,
        )
        .await;
    assert_eq!(moved.json(), json!({"status":"moved"}));
    let listed = server.get(&format!("{files}/list?path=/app")).await.json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["mode"]),
        (&json!("c.py"), &json!("0755"))
    );
    assert_eq!(server.get(&format!("{files}/list")).await.json()[0]["is_dir"], true);
    assert_eq!(
        server.get(&format!("{files}/glob?pattern=/app/**/*.py")).await.json(),
        json!(["/app/c.py"])
    );
    server
        .delete(&format!("{files}?path=/app"))
        .await
        .assert_error(400, "bad_request");
    let deleted = server.delete(&format!("{files}?path=/app&recursive=true")).await;
    assert_eq!(deleted.json(), json!({"status":"deleted"}));
    server
        .get(&format!("{files}?path=/app/c.py"))
        .await
        .assert_error(404, "not_found");
    server
        .get(&format!("{files}/stat?path=/app"))
        .await
        .assert_error(404, "not_found");
}

#[tokio::test]
async fn bytes_that_are_not_text_come_back_unchanged() {
    let server = TestServer::start().await;
    let files = format!("{}/files", server.sandbox().await);
    server.post(&files, r#"{"path":"/a","content_base64":"AP+A"}"#).await;
    let read = server.request("GET", &format!("{files}?path=/a")).send().await.unwrap();
    assert_eq!(read.headers()["content-type"], "application/octet-stream");
    assert_eq!(read.bytes().await.unwrap()[..], b"\x00\xff\x80"[..]);
    let all: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let put = answer(
        server
            .request("PUT", &format!("{files}?path=/b&mode=0700"))
            .body(all.clone()),
    )
    .await;
    assert_eq!(put.json(), json!({"status":"written"}));
    let read = server.request("GET", &format!("{files}?path=/b")).send().await.unwrap();
    assert_eq!(read.bytes().await.unwrap()[..], all[..]);
    assert_eq!(
        server.get(&format!("{files}/stat?path=/b")).await.json()["mode"],
        "0700"
    );
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused() {
    let server = TestServer::with_limits(Limits {
        max_upload_bytes: 1000,
        ..Limits::default()
    })
    .await;
    let files = format!("{}/files?path=/a", server.sandbox().await);
    let declared = server.request("PUT", &files).body(vec![0; 1001]);
    answer(declared).await.assert_error(413, "payload_too_large");
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = (0..3).map(|_| Ok(vec![0; 500])).collect();
    let streamed = server
        .request("PUT", &files)
        .body(reqwest::Body::wrap_stream(futures_util::stream::iter(chunks)));
    answer(streamed).await.assert_error(413, "payload_too_large");
    server.get(&files).await.assert_error(404, "not_found");
    assert_eq!(
        answer(server.request("PUT", &files).body(vec![0; 1000])).await.status,
        200
    );
}
