//! Requests as no client library writes them.

use std::sync::Arc;

use crate::attack::{Attack, Verdict, http, steps};
use crate::check;
use crate::scene::Scene;

/// What a refusal may be.
const REFUSED: &[u16] = &[0, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 421, 422, 426, 429, 431, 501, 505];

pub fn attacks() -> Vec<Attack> {
    vec![
        http("no HTTP at all", "\0\u{16}\u{3}\u{1}nonsense\r\n\r\n", REFUSED),
        http("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
        http("a version from the future", "GET /api/v1/health HTTP/9.9\r\n\r\n", REFUSED),
        http("HTTP/1.0 without a host", "GET /api/v1/health HTTP/1.0\r\n\r\n", &[200, 400]),
        http("lines that end in a line feed", "GET /api/v1/health HTTP/1.1\nHost: a\nConnection: close\n\n", &[200, 400]),
        http("no host", "GET /api/v1/sandboxes HTTP/1.1\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n", &[200, 400, 403]),
        http("two hosts", get("/api/v1/sandboxes", "Host: evil.example\r\nX-API-Key: {key}\r\n"), &[200, 400, 403]),
        http("a host with a line in it", "GET /api/v1/health HTTP/1.1\r\nHost: a\u{1}b\r\n\r\n", &[0, 200, 400]),
        http("another origin without a key", get("/api/v1/sandboxes", "Origin: https://evil.example\r\n"), &[401, 403]),
        http("another origin with a wrong key", get("/api/v1/sandboxes", "Origin: null\r\nX-API-Key: x\r\n"), &[401, 403]),
        http("two keys", get("/api/v1/sandboxes", "X-API-Key: x\r\nX-API-Key: {key}\r\n"), &[200, 400, 401]),
        http("a length and chunks", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"), &[0, 400]),
        http("two encodings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), REFUSED),
        http("an unknown encoding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), REFUSED),
        http("two lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}x"), REFUSED),
        http("a length with a sign", post("Content-Length: +2\r\n", "{}"), REFUSED),
        http("a negative length", post("Content-Length: -1\r\n", "{}"), REFUSED),
        http("a length of 20 digits", post("Content-Length: 99999999999999999999\r\n", "{}"), REFUSED),
        http("a length of 2^64 - 1", post("Content-Length: 18446744073709551615\r\n", "{}"), REFUSED),
        http("a space before the colon", post("Content-Length : 2\r\n", "{}"), REFUSED),
        http("a folded header", post("X-A: b\r\n  c\r\nContent-Length: 2\r\n", "{}"), REFUSED),
        http("a chunk of no size", post("Transfer-Encoding: chunked\r\n", "zz\r\n\r\n"), REFUSED),
        http("a chunk of 2^64 bytes", post("Transfer-Encoding: chunked\r\n", "ffffffffffffffff1\r\n"), REFUSED),
        http("endless chunk extensions", post("Transfer-Encoding: chunked\r\n", &format!("1;{}\r\nx\r\n", "a".repeat(100_000))), REFUSED),
        http("a header of 1 MiB", get("/api/v1/health", &format!("X-A: {}\r\n", "x".repeat(1 << 20))), REFUSED),
        http("10,000 headers", get("/api/v1/health", &"A: b\r\n".repeat(10_000)), REFUSED),
        http("a path of 1 MiB", get(&format!("/api/v1/{}", "a".repeat(1 << 20)), ""), REFUSED),
        http("TRACE", "TRACE /api/v1/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", REFUSED),
        http("CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", REFUSED),
        http("a URI of another server", get("http://evil.example/api/v1/sandboxes", "X-API-Key: {key}\r\n"), &[200, 400, 401, 403, 404]),
        http("a path that climbs", get("/api/v1/../../etc/passwd", "X-API-Key: {key}\r\n"), REFUSED),
        http("an encoded path that climbs", get("/api/v1/sandboxes/%2e%2e%2f%2e%2e/exec", "X-API-Key: {key}\r\n"), REFUSED),
        http("a query of 15,000 names", get(&format!("/api/v1/sandboxes/{{id}}/files?{}", query(15_000)), "X-API-Key: {key}\r\n"), REFUSED),
        http("a query of broken encodings", get("/api/v1/sandboxes/{id}/files?path=%zz&%=%&=%ff", "X-API-Key: {key}\r\n"), &[400]),
        http("a request id with lines in it", get("/api/v1/health", "X-Request-ID: a%0d%0aSet-Cookie: x\r\n"), &[200, 400]),
        http("a request id of 8 KiB", get("/api/v1/health", &format!("X-Request-ID: {}\r\n", "a".repeat(8192))), &[200, 400, 431]),
        http("a request that expects to go on", post("Expect: 100-continue\r\nContent-Length: 99999999\r\n", ""), &[0, 100, 400, 401, 408, 413, 417]),
        http("brackets 100,000 deep", body(&"[".repeat(100_000)), &[400]),
        http("objects 1,000 deep", body(&format!("{}1{}", "{\"a\":".repeat(1000), "}".repeat(1000))), &[400]),
        http("a name twice", body("{\"image\":\"base\",\"image\":\"other\"}"), &[400]),
        http("numbers out of range", body("{\"memory_mb\":1e400}"), &[400]),
        http("a number of 100,000 digits", body(&format!("{{\"memory_mb\":{}}}", "9".repeat(100_000))), &[400]),
        http("a number below zero", body("{\"vcpus\":-1}"), &[400]),
        http("a duration of 100 digits", body(&format!("{{\"ttl\":\"{}h\"}}", "9".repeat(100))), &[400]),
        http("a duration of 100,000 parts", body(&format!("{{\"ttl\":\"{}\"}}", "1ns".repeat(100_000))), &[201, 400]),
        http("an image that climbs", body("{\"image\":\"../../etc/passwd\"}"), &[400, 404]),
        http("an image of control characters", body("{\"image\":\"a\\u001b[2J\\n\"}"), &[400]),
        http("half a surrogate", body("{\"image\":\"\\ud800\"}"), &[400]),
        steps("48 requests in one write", pipelined),
        steps("queries of 13,000 names, twelve at once", long_queries),
        steps("a stored page read back", stored_page),
        steps("50 connections that say nothing", silent),
    ]
}

fn get(path: &str, headers: &str) -> String {
    let host = if headers.contains("Host:") { "Host: localhost\r\n" } else { "Host: {host}\r\n" };
    format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n")
}

fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /api/v1/sandboxes HTTP/1.1\r\nHost: {{host}}\r\nX-API-Key: {{key}}\r\n{headers}Connection: \
         close\r\n\r\n{body}"
    )
}

/// A creation of a sandbox with this body.
fn body(json: &str) -> String {
    post(&format!("Content-Length: {}\r\n", json.len()), json)
}

/// This many parameters, as short as they can be.
fn query(names: usize) -> String {
    (0..names).map(|number| format!("{number:x}&")).collect()
}

async fn pipelined(scene: Arc<Scene>) -> Verdict {
    let one = format!("GET /api/v1/live HTTP/1.1\r\nHost: {}\r\n\r\n", scene.address);
    let text = scene.raw(one.repeat(48).as_bytes()).await;
    let answers = text.matches("HTTP/1.1 200").count();
    check!(answers == 48, "{answers} answers");
    Ok("48 answers".to_owned())
}

async fn long_queries(scene: Arc<Scene>) -> Verdict {
    let request = get(&format!("/api/v1/sandboxes/{{id}}/files?{}", query(13_000)), "X-API-Key: {key}\r\n");
    let request = scene.fill_in(&request);
    let all = (0..12).map(|_| scene.raw(request.as_bytes()));
    for text in futures_util::future::join_all(all).await {
        check!(text.starts_with("HTTP/1.1 4"), "{text:.200}");
    }
    Ok("refused".to_owned())
}

/// A page that a guest stored must not become one of the server's own in a browser.
async fn stored_page(scene: Arc<Scene>) -> Verdict {
    let path = format!("{}/files", scene.named);
    for (name, content) in [("/x.html", "<script>alert(1)</script>"), ("/x.svg", "<svg onload='alert(1)'/>")] {
        let write = serde_json::json!({"path": name, "content": content}).to_string();
        check!(scene.a.post(&path, write).await.status == 200, "not written");
        let request = scene.a.request(reqwest::Method::GET, &format!("{path}?path={name}"));
        let response = request.send().await.map_err(|error| error.to_string())?;
        let header = |name: &str| {
            let value = response.headers().get(name);
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        check!(header("content-type") == "application/octet-stream", "{}", header("content-type"));
        check!(header("x-content-type-options") == "nosniff", "sniffed");
        check!(header("content-security-policy").contains("sandbox"), "{}", header("content-security-policy"));
    }
    Ok("bytes".to_owned())
}

async fn silent(scene: Arc<Scene>) -> Verdict {
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(scene.connect().await);
    }
    let health = scene.nobody.get("/health").await;
    check!(health.status == 200, "{health:?}");
    check!(health.elapsed.as_secs() < 3, "{:?}", health.elapsed);
    drop(held);
    Ok("not noticed".to_owned())
}
