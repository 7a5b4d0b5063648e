//! Requests that no well-meaning client sends. Each is refused in words, and the server goes on.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::answer;
use crate::setting::Setting;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn broken_json_is_a_bad_request() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let paths = [
        "/sandboxes".to_owned(),
        format!("{}/exec", sandbox.path),
        format!("{}/files", sandbox.path),
    ];
    let thousand = "{".repeat(1000);
    let closed = format!("{}{}", "{\"a\":".repeat(1000), "}".repeat(1000));
    let bodies: [&[u8]; 9] = [
        b"",
        b"{",
        b"{\"image\":",
        b"nonsense",
        b"[1,2",
        b"{\"command\":\"\xff\xfe\"}",
        b"\0\0\0",
        thousand.as_bytes(),
        closed.as_bytes(),
    ];
    for path in &paths {
        for body in bodies {
            let answer = setting.api.post(path, body.to_vec()).await;
            answer.assert_error(400, "bad_request");
            setting.api.assert_alive().await;
        }
    }
}

#[tokio::test]
async fn wrong_values_of_a_new_sandbox_are_bad_requests() {
    let setting = Setting::shared().await;
    for body in [
        json!({"memory_mb": -1}),
        json!({"memory_mb": 0}),
        json!({"memory_mb": 1_u64 << 60}),
        json!({"memory_mb": 1.5}),
        json!({"memory_mb": "512"}),
        json!({"vcpus": -1}),
        json!({"vcpus": 100_000}),
        json!({"disk_mb": -5}),
        json!({"ttl": "banana"}),
        json!({"ttl": "-5m"}),
        json!({"ttl": ""}),
        json!({"ttl": "99999999999999999999h"}),
        json!({"ttl": 600}),
        json!({"network": "banana"}),
        json!({"metadata": {"a": 1}}),
        json!({"metadata": "banana"}),
        json!({"env": {"A=B": "x"}}),
        json!({"image": 312}),
        json!([]),
        json!("banana"),
        json!(null),
    ] {
        let answer = setting.api.post("/sandboxes", body.to_string()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        answer.assert_error(400, "bad_request");
        setting.api.assert_alive().await;
    }
    for body in [
        json!({"image": "banana:9"}),
        json!({"image": "../../etc"}),
        json!({"provider": "banana"}),
    ] {
        setting
            .api
            .post("/sandboxes", body.to_string())
            .await
            .assert_error(404, "not_found");
    }
}

#[tokio::test]
async fn wrong_values_of_a_command_are_bad_requests() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    for body in [
        json!({}),
        json!({"command": 1}),
        json!({"command": "true", "mode": "banana"}),
        json!({"command": "true", "timeout": "banana"}),
        json!({"command": "true", "timeout": "-1s"}),
        json!({"command": "true", "args": "banana"}),
        json!({"command": "true", "env": {"": "x"}}),
        json!({"command": "true", "env": {"A": "x\0y"}}),
        json!({"command": "true\0"}),
        json!({"command": "true", "args": ["\0"], "mode": "argv"}),
        json!({"command": "true", "workdir": "/../etc"}),
        json!({"command": "true", "workdir": "relative"}),
        json!({"command": "true", "workdir": "/tmp\0"}),
        json!({"command": "true", "workdir": "/there/is/no/such/directory"}),
    ] {
        let answer = sandbox.exec(body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        setting.api.assert_alive().await;
    }
    assert_eq!(sandbox.output("echo still here").await, "still here\n");
}

#[tokio::test]
async fn paths_that_leave_the_sandbox_are_bad_requests() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let long = format!("/{}", "a".repeat(5000));
    let deep = "/a".repeat(3000);
    for path in [
        "/../etc/passwd",
        "/tmp/../../etc/passwd",
        "..",
        "tmp/x",
        "",
        "/tmp/\0",
        "/tmp/a\0b",
        &long,
        &deep,
    ] {
        let files = format!("{}/files", sandbox.path);
        let write = json!({"path": path, "content": "x"}).to_string();
        setting.api.post(&files, write).await.assert_error(400, "bad_request");
        let chmod = json!({"path": path, "mode": "644"}).to_string();
        setting
            .api
            .post(&format!("{files}/chmod"), chmod)
            .await
            .assert_error(400, "bad_request");
        for (from, to) in [(path, "/tmp/x"), ("/etc/passwd", path)] {
            let rename = json!({"old_path": from, "new_path": to}).to_string();
            setting
                .api
                .post(&format!("{files}/move"), rename)
                .await
                .assert_error(400, "bad_request");
        }
        for (method, route, parameter) in [
            (Method::GET, "", "path"),
            (Method::PUT, "", "path"),
            (Method::DELETE, "", "path"),
            (Method::GET, "/list", "path"),
            (Method::GET, "/stat", "path"),
            (Method::GET, "/glob", "pattern"),
        ] {
            let mut url = reqwest::Url::parse("http://unused").expect("a URL");
            url.query_pairs_mut().append_pair(parameter, path);
            let target = format!("{files}{route}?{}", url.query().expect("a query"));
            let refused = answer(setting.api.request(method.clone(), &target)).await;
            assert_eq!(refused.status, 400, "{method} {route} {path:?}: {refused:?}");
        }
        setting.api.assert_alive().await;
    }
    assert!(sandbox.output("head -1 /etc/passwd").await.starts_with("root:"));
}

#[tokio::test]
async fn hostile_patterns_do_no_harm() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    for (pattern, statuses) in [
        ("/[".to_owned(), 400..=400),
        ("/{a".to_owned(), 400..=400),
        (format!("/{}{}", "{a,".repeat(1000), "}".repeat(1000)), 400..=400),
        (format!("/{}{}", "{".repeat(2000), "}".repeat(2000)), 200..=400),
        (format!("/{}", "*a".repeat(1000)), 200..=200),
        (format!("/{}", "**/".repeat(1000)), 200..=200),
        (format!("/{}", "{a,b}".repeat(500)), 200..=400),
    ] {
        let mut url = reqwest::Url::parse("http://unused").expect("a URL");
        url.query_pairs_mut().append_pair("pattern", &pattern);
        let target = format!("{}/files/glob?{}", sandbox.path, url.query().expect("a query"));
        let answer = setting.api.get(&target).await;
        assert!(statuses.contains(&answer.status), "{pattern:.20}: {answer:?}");
        assert!(answer.elapsed.as_secs() < 5, "{pattern:.20}: {answer:?}");
        setting.api.assert_alive().await;
    }
}

#[tokio::test]
async fn a_body_of_100_mib_is_too_large() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    let body = bytes::Bytes::from(vec![b'{'; 100 * MIB]);
    for path in [
        "/sandboxes".to_owned(),
        format!("{}/exec", sandbox.path),
        format!("{}/files", sandbox.path),
    ] {
        let refused = setting.api.post(&path, body.clone()).await;
        refused.assert_error(413, "payload_too_large");
        setting.api.assert_alive().await;
    }
}

#[tokio::test]
async fn a_thousand_nested_brackets_end_the_shell_and_not_the_server() {
    let setting = Setting::shared().await;
    let sandbox = setting.sandbox().await;
    for open in [
        "{ ",
        "( ",
        "$( ",
        "((",
        "[[ ( ",
        "if ",
        "while ",
        "${a:-",
        "`",
        "\"$(",
        "<( ",
        "case x in x) ",
    ] {
        let answer = sandbox
            .exec(json!({"command": open.repeat(1000), "timeout": "2s"}))
            .await;
        // The shell's parser may go back so often that it never ends.
        assert!(matches!(answer.status, 200 | 408), "{open:?}: {answer:?}");
        // An even number of backquotes is empty commands, and closed.
        assert!(open == "`" || answer.ran().exit_code != 0, "{open:?}: {answer:?}");
        setting.api.assert_alive().await;
    }
    for (open, close) in [("{ ", "; }"), ("( ", " )"), ("$( ", " )"), ("if :; then ", "; fi")] {
        let command = format!("{}:{}", open.repeat(1000), close.repeat(1000));
        let answer = sandbox.exec(json!({"command": command, "timeout": "2s"})).await;
        assert!(matches!(answer.status, 200 | 408), "{open:?}: {answer:?}");
        setting.api.assert_alive().await;
    }
    assert_eq!(sandbox.output("echo still here").await, "still here\n");
}

#[tokio::test]
async fn a_sandbox_that_is_not_there_is_not_found() {
    let setting = Setting::shared().await;
    let gone = setting.sandbox().await;
    assert_eq!(setting.api.delete(&gone.path).await.status, 200);
    for path in [
        gone.path.as_str(),
        "/sandboxes/sb_a1b2c3d4",
        "/sandboxes/banana",
        "/sandboxes/sb_..%2F..",
    ] {
        let api = &setting.api;
        let answers = [
            api.get(path).await,
            api.post(&format!("{path}/exec"), r#"{"command":"true"}"#).await,
            api.post(&format!("{path}/extend"), r#"{"ttl":"1h"}"#).await,
            api.post(&format!("{path}/files"), r#"{"path":"/a","content":""}"#)
                .await,
            api.get(&format!("{path}/files?path=/etc/passwd")).await,
            api.get(&format!("{path}/files/list")).await,
        ];
        for answer in answers {
            answer.assert_error(404, "not_found");
            let message = answer.text("message");
            assert!(
                message.starts_with("sandbox ") && message.ends_with(" not found"),
                "{message}"
            );
        }
        assert_eq!(api.delete(path).await.json(), json!({"status": "destroyed"}));
    }
}

#[tokio::test]
async fn connections_that_say_nothing_or_nonsense_do_not_stop_the_server() {
    let setting = Setting::shared().await;
    let url = reqwest::Url::parse(setting.server.url()).expect("a URL");
    let address = (url.host_str().expect("a host").to_owned(), url.port().expect("a port"));
    let connect = async || TcpStream::connect(address.clone()).await.expect("a connection");
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect().await);
    }
    setting.api.assert_alive().await;
    let long_header = format!(
        "GET /api/v1/health HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(MIB)
    );
    let many_headers = format!(
        "GET /api/v1/health HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "A: b\r\n".repeat(10_000)
    );
    for nonsense in [
        b"\0\xff\x16\x03\x01nonsense\r\n\r\n".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/v1/sandboxes HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/sandboxes HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /api/v1/sandboxes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        long_header.as_bytes(),
        many_headers.as_bytes(),
    ] {
        let mut connection = connect().await;
        // The server may refuse before it has read all, and close.
        let _ = connection.write_all(nonsense).await;
        let mut answer = Vec::new();
        let reading = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end(&mut answer)).await;
        assert!(reading.is_ok(), "the connection stays open");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        setting.api.assert_alive().await;
    }
    drop(silent);
}
