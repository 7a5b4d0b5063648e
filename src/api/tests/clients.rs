//! Clients that call too often or too slowly, and web pages.

use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{TestServer, answer};
use crate::config::{Config, CorsConfig, Limits, RateLimitConfig};
use crate::duration::GoDuration;

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_client_over_its_rate_gets_a_retry_after() {
    let server = TestServer::with(Config {
        rate_limit: RateLimitConfig {
            requests_per_second: 1,
            burst: 2,
            ..RateLimitConfig::default()
        },
        ..Config::default()
    })
    .await;
    let mut remaining = Vec::new();
    for _ in 0..2 {
        let answer = server.request("GET", "/sandboxes").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(text(answer.headers(), "x-ratelimit-limit").unwrap(), "2");
        assert!(text(answer.headers(), "x-ratelimit-reset").is_some());
        remaining.push(text(answer.headers(), "x-ratelimit-remaining").unwrap());
    }
    assert_eq!(remaining, ["1", "0"]);
    let refused = server.request("GET", "/sandboxes").send().await.unwrap();
    assert_eq!(text(refused.headers(), "retry-after").unwrap(), "1");
    assert_eq!(text(refused.headers(), "x-ratelimit-remaining").unwrap(), "0");
    answer(server.request("GET", "/sandboxes"))
        .await
        .assert_error(429, "resource_limit");
    for path in ["/health", "/live", "/ready"] {
        assert_eq!(server.get(path).await.status, 200, "{path} is not limited");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_key_for_known_pages_only() {
    let server = TestServer::with(Config {
        cors: CorsConfig {
            origins: vec!["https://app.example".to_owned()],
        },
        auth: crate::config::AuthConfig {
            required: true,
            ..Default::default()
        },
        ..Config::default()
    })
    .await;
    let preflight = |origin: &str| {
        server
            .request("OPTIONS", "/sandboxes")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "x-api-key,content-type")
            .send()
    };
    let answer = preflight("https://app.example").await.unwrap();
    assert_eq!(answer.status(), 200);
    let headers = answer.headers();
    assert_eq!(
        text(headers, "access-control-allow-origin").unwrap(),
        "https://app.example"
    );
    let allowed = text(headers, "access-control-allow-headers").unwrap();
    for name in [
        "x-api-key",
        "x-user-id",
        "content-type",
        "authorization",
        "x-request-id",
    ] {
        assert!(allowed.contains(name), "{allowed}");
    }
    assert!(
        text(headers, "access-control-allow-methods")
            .unwrap()
            .contains("DELETE")
    );
    let answer = preflight("https://evil.example").await.unwrap();
    assert_eq!(text(answer.headers(), "access-control-allow-origin"), None);

    // An error is readable for the page, too.
    let request = server
        .request("GET", "/sandboxes")
        .header("Origin", "https://app.example");
    let refused = request.send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(
        text(refused.headers(), "access-control-allow-origin").unwrap(),
        "https://app.example"
    );
    assert!(
        text(refused.headers(), "access-control-expose-headers")
            .unwrap()
            .contains("x-request-id")
    );
}

#[tokio::test]
async fn a_page_of_the_configuration_may_use_a_server_without_keys() {
    let server = TestServer::with(Config {
        cors: CorsConfig {
            origins: vec!["https://app.example".to_owned()],
        },
        ..Config::default()
    })
    .await;
    let from = |origin: &str| answer(server.request("POST", "/sandboxes").header("Origin", origin).body("{}"));
    assert_eq!(from("https://app.example").await.status, 201);
    from("https://evil.example").await.assert_error(403, "forbidden");
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_is_not_answered_to() {
    let server = TestServer::start().await;
    let named = |host: &str| answer(server.request("GET", "/sandboxes").header("Host", host));
    named("evil.example:7423").await.assert_error(403, "forbidden");
    for host in ["localhost:7423", "127.0.0.1", "[::1]:7423"] {
        assert_eq!(named(host).await.status, 200, "{host}");
    }
}

async fn impatient(body: Duration, header: Duration, max_connections: usize) -> (TestServer, String) {
    let server = TestServer::with_limits(Limits {
        body_timeout: GoDuration(body),
        header_timeout: GoDuration(header),
        max_connections,
        ..Limits::default()
    })
    .await;
    let address = server.base.trim_start_matches("http://").to_owned();
    (server, address)
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_on() {
    let (_server, address) = impatient(SHORT, LONG, 10).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!("POST /api/v1/sandboxes HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":"timeout""#), "{answer}");
}

#[tokio::test]
async fn a_head_that_does_not_come_closes_the_connection() {
    let (_server, address) = impatient(LONG, SHORT, 10).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"GET /api/v1/health HTTP/1.1\r\nHo").await.unwrap();
    let mut answer = Vec::new();
    // The end of the connection is what this waits for; how it ends does not matter.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}
