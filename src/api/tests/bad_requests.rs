//! Whatever a client sends, it gets a clear 4xx.

use std::io::{Read as _, Write as _};

use super::TestServer;

#[tokio::test]
async fn malformed_json_is_a_bad_request() {
    let server = TestServer::start().await;
    let bombs = [1_000, 1_000_000].map(|levels| "[".repeat(levels));
    let nested_field = format!("{{\"unknown\":{}1{}}}", "[".repeat(1_000), "]".repeat(1_000));
    let nested_objects = "{\"a\":".repeat(1_000_000);
    let mut bodies: Vec<&[u8]> = vec![
        b"",
        b"{",
        b"nonsense",
        b"{\"image\":}",
        b"{} {}",
        b"\xff\xfe",
        b"{\"image\":\"\xff\"}",
        b"[]",
        b"null",
    ];
    bodies.extend(bombs.iter().map(String::as_bytes));
    bodies.push(nested_field.as_bytes());
    bodies.push(nested_objects.as_bytes());
    for body in bodies {
        let answer = server.post("/sandboxes", body.to_vec()).await;
        answer.assert_error(400, "bad_request");
    }
    assert_eq!(server.provider.count(), 0);
}

#[tokio::test]
async fn wrong_values_of_create_are_bad_requests() {
    let server = TestServer::start().await;
    for body in [
        r#"{"image":5}"#,
        r#"{"image":""}"#,
        r#"{"image":"a\u0000b"}"#,
        r#"{"image":"python:3.12","image":"python:3.12"}"#,
        r#"{"memory_mb":-1}"#,
        r#"{"memory_mb":0}"#,
        r#"{"memory_mb":1.5}"#,
        r#"{"memory_mb":"512"}"#,
        r#"{"memory_mb":1000000000}"#,
        r#"{"memory_mb":99999999999999999999999999}"#,
        r#"{"memory_mb":1e400}"#,
        r#"{"vcpus":-1}"#,
        r#"{"vcpus":4294967296}"#,
        r#"{"disk_mb":-5}"#,
        r#"{"ttl":"banana"}"#,
        r#"{"ttl":"-5m"}"#,
        r#"{"ttl":"0s"}"#,
        r#"{"ttl":""}"#,
        r#"{"ttl":600}"#,
        r#"{"ttl":"25h"}"#,
        r#"{"ttl":"99999999999999999999h"}"#,
        r#"{"metadata":[]}"#,
        r#"{"metadata":{"a":1}}"#,
        r#"{"env":{"":"x"}}"#,
        r#"{"env":{"A=B":"x"}}"#,
        r#"{"env":{"A":"\u0000"}}"#,
        r#"{"owner_id":"a b"}"#,
        r#"{"network":"wifi"}"#,
    ] {
        let answer = server.post("/sandboxes", body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        answer.assert_error(400, "bad_request");
    }
    let field = server.post("/sandboxes", r#"{"memory_mb":-1}"#).await.json();
    assert!(field["message"].as_str().unwrap().contains("memory_mb"), "{field}");
}

#[tokio::test]
async fn wrong_values_of_exec_are_bad_requests() {
    let server = TestServer::start().await;
    let path = format!("{}/exec", server.sandbox().await);
    for body in [
        "{}",
        r#"{"command":""}"#,
        r#"{"command":"  "}"#,
        r#"{"command":"a\u0000b"}"#,
        r#"{"command":["echo"]}"#,
        r#"{"command":"echo","mode":"powershell"}"#,
        r#"{"command":"","mode":"argv"}"#,
        r#"{"command":"echo","mode":"argv","args":["\u0000"]}"#,
        r#"{"command":"echo","args":"hi"}"#,
        r#"{"command":"echo","args":[1]}"#,
        r#"{"command":"echo","timeout":"banana"}"#,
        r#"{"command":"echo","timeout":"-1s"}"#,
        r#"{"command":"echo","timeout":"0s"}"#,
        r#"{"command":"echo","timeout":"1000h"}"#,
        r#"{"command":"echo","workdir":"relative"}"#,
        r#"{"command":"echo","workdir":"/a/../b"}"#,
        r#"{"command":"echo","env":{"A=":"x"}}"#,
        r#"{"command":"echo","stream":"yes"}"#,
        r#"{"command":"echo","stdin":5}"#,
    ] {
        let answer = server.post(&path, body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        answer.assert_error(400, "bad_request");
    }
}

#[tokio::test]
async fn wrong_paths_and_modes_are_bad_requests() {
    let server = TestServer::start().await;
    let files = format!("{}/files", server.sandbox().await);
    let long = format!("/{}", "a".repeat(4096));
    for path in ["", "relative", "%2F..", "/a/../b", "/a%00b", "/%ff", "/%", &long] {
        for (method, route) in [
            ("GET", ""),
            ("GET", "/stat"),
            ("GET", "/list"),
            ("DELETE", ""),
            ("PUT", ""),
        ] {
            let answer = super::answer(server.request(method, &format!("{files}{route}?path={path}"))).await;
            assert_eq!(answer.status, 400, "{method} {route} {path}: {answer:?}");
            answer.assert_error(400, "bad_request");
        }
    }
    for query in [
        "",
        "?pattern=*.py",
        "?pattern=/../*",
        "?pattern=/[",
        "?pattern=/a&pattern=/b",
    ] {
        server
            .get(&format!("{files}/glob{query}"))
            .await
            .assert_error(400, "bad_request");
    }
    server.get(&files).await.assert_error(400, "bad_request");
    server
        .delete(&format!("{files}?path=/a&recursive=maybe"))
        .await
        .assert_error(400, "bad_request");
    for body in [
        r#"{"path":"/a"}"#,
        r#"{"content":"x"}"#,
        r#"{"path":"/a/..","content":"x"}"#,
        r#"{"path":"/a","content":"x","content_base64":"eA=="}"#,
        r#"{"path":"/a","content_base64":"!"}"#,
        r#"{"path":"/a","content":"x","mode":"rw"}"#,
        r#"{"path":"/a","content":"x","mode":"99999"}"#,
        r#"{"path":"/a","content":"x","mode":644}"#,
    ] {
        let answer = server.post(&files, body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    server
        .post(&format!("{files}/move"), r#"{"old_path":"/a","new_path":"../b"}"#)
        .await
        .assert_error(400, "bad_request");
    server
        .post(&format!("{files}/chmod"), r#"{"path":"/a","mode":"u+x"}"#)
        .await
        .assert_error(400, "bad_request");
}

#[tokio::test]
async fn a_body_of_100_mib_is_too_large() {
    let server = TestServer::start().await;
    let body = vec![b'['; 100 << 20];
    server
        .post("/sandboxes", body.clone())
        .await
        .assert_error(413, "payload_too_large");
    let chunks = body
        .chunks(1 << 20)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect::<Vec<_>>();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    server
        .post("/sandboxes", stream)
        .await
        .assert_error(413, "payload_too_large");
}

#[tokio::test]
async fn unknown_things_are_not_found() {
    let server = TestServer::start().await;
    for path in [
        "/sandboxes/sb_a1b2c3d4",
        "/sandboxes/banana",
        "/sandboxes/sb_a1b2c3d4/files?path=/a",
        "/providers/x",
        "/images/x",
        "/nothing",
        "/sandboxes/",
    ] {
        server.get(path).await.assert_error(404, "not_found");
    }
    let seed = server.get("/sandboxes/sb_a1b2c3d4").await.json();
    assert_eq!(seed["message"], "sandbox sb_a1b2c3d4 not found");
    server
        .post("/sandboxes/sb-a1b2c3d4/exec", r#"{"command":"echo"}"#)
        .await
        .assert_error(404, "not_found");
    server
        .post("/sandboxes", r#"{"image":"nothing"}"#)
        .await
        .assert_error(404, "not_found");
    server
        .post("/sandboxes", r#"{"provider":"nothing"}"#)
        .await
        .assert_error(404, "not_found");
    server
        .post("/sandboxes", r#"{"template":"nothing"}"#)
        .await
        .assert_error(404, "not_found");
    server.get("/sandboxes/%ff").await.assert_error(400, "bad_request");
}

#[tokio::test]
async fn a_wrong_method_is_refused_in_json() {
    let server = TestServer::start().await;
    for (method, path) in [
        ("PUT", "/sandboxes"),
        ("POST", "/health"),
        ("BREW", "/sandboxes"),
        ("PATCH", "/providers"),
    ] {
        super::answer(server.request(method, path))
            .await
            .assert_error(405, "method_not_allowed");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_unsupported() {
    let server = TestServer::start().await;
    server
        .post("/sandboxes", r#"{"network":"public"}"#)
        .await
        .assert_error(422, "unsupported");
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let server = TestServer::start().await;
    let request = server
        .request("POST", "/sandboxes")
        .header("Content-Type", "text/plain")
        .body("{}");
    assert_eq!(super::answer(request).await.status, 201);
}

#[tokio::test]
async fn a_failing_runtime_tells_no_internals() {
    let server = TestServer::start().await;
    let broken = server.post("/sandboxes", r#"{"image":"broken"}"#).await;
    broken.assert_error(500, "provider_error");
    assert!(!broken.text.contains("secret"), "{broken:?}");
    let sandboxes = server.get("/sandboxes").await;
    assert_eq!(sandboxes.text, "[]");
}

#[tokio::test]
async fn a_panic_is_answered_and_survived() {
    let server = TestServer::start().await;
    let panicked = server.post("/sandboxes", r#"{"image":"panic"}"#).await;
    panicked.assert_error(500, "provider_error");
    assert!(!panicked.text.contains("fake"), "{panicked:?}");
    let path = format!("{}/exec", server.sandbox().await);
    server
        .post(&path, r#"{"command":"panic"}"#)
        .await
        .assert_error(500, "internal_error");
    assert_eq!(server.post(&path, r#"{"command":"echo hi"}"#).await.status, 200);
    assert_eq!(server.get("/sandboxes").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_clients_request_id_is_kept_when_it_is_fit_for_logs() {
    let server = TestServer::start().await;
    let named = |id: &str| server.request("GET", "/sandboxes/x").header("X-Request-ID", id);
    let kept = super::answer(named("my-id-1")).await;
    kept.assert_error(404, "not_found");
    assert_eq!(kept.request_id, "my-id-1");
    let replaced = super::answer(named(&"x".repeat(200))).await;
    assert!(replaced.request_id.starts_with("req_"), "{replaced:?}");
}

#[tokio::test]
async fn bytes_that_are_no_http_do_not_stop_the_server() {
    let server = TestServer::start().await;
    let address = server.base.strip_prefix("http://").unwrap().to_owned();
    let garbage = tokio::task::spawn_blocking(move || {
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        connection.write_all(b"\x00\xff garbage \r\n\r\n").unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        answer
    });
    assert!(garbage.await.unwrap().starts_with(b"HTTP/1.1 400"));
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn header_that_tells_who_asks_is_given_once() {
    let server = TestServer::start().await;
    let address = server.address().to_owned();
    let send = |headers: &'static str| {
        let address = address.clone();
        tokio::task::spawn_blocking(move || {
            let mut connection = std::net::TcpStream::connect(&address).unwrap();
            let request = format!("GET /api/v1/health HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
            connection.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).unwrap();
            answer
        })
    };
    for headers in [
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n",
    ] {
        let answer = send(headers).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(
            answer.contains("\"code\":\"bad_request\"") && answer.contains("given twice"),
            "{answer}"
        );
    }
    let answer = send("Host: localhost\r\nOrigin: http://localhost\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn query_string_of_many_parameters_is_a_bad_request() {
    let server = TestServer::start().await;
    let files = format!("{}/files", server.sandbox().await);
    let many: String = (0..6000).map(|n| format!("p{n}&")).collect();
    server
        .get(&format!("{files}?path=/a&{many}"))
        .await
        .assert_error(400, "bad_request");
}
