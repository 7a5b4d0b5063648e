//! Server-sent events.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::Value;

use super::TestServer;
use crate::config::Limits;

/// A connection to `GET /events`.
pub(super) struct Listener {
    chunks: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    pending: String,
}

impl Listener {
    async fn open(server: &TestServer, headers: &[(&str, &str)]) -> Self {
        let request = headers
            .iter()
            .fold(server.request("GET", "/events"), |request, (name, value)| {
                request.header(*name, *value)
            });
        Self::of(request.send().await.unwrap())
    }

    pub(super) fn of(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            chunks: response.bytes_stream().boxed(),
            pending: String::new(),
        }
    }

    /// The next event; `None` when the connection ended.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((message, rest)) = self.pending.split_once("\n\n") {
                let data = message.lines().find_map(|line| line.strip_prefix("data: "));
                let event = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
                let id = message.lines().find_map(|line| line.strip_prefix("id: "));
                if let Some(event) = &event {
                    assert_eq!(event["id"].as_str(), id);
                }
                self.pending = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            } else {
                let chunk = self.chunks.next().await?.ok()?;
                self.pending.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        }
    }

    async fn types(&mut self, count: usize) -> Vec<String> {
        let mut types = Vec::new();
        for _ in 0..count {
            types.push(self.next().await.unwrap()["type"].as_str().unwrap().to_owned());
        }
        types
    }
}

#[tokio::test]
async fn events_tell_the_life_of_a_sandbox() {
    let server = TestServer::start().await;
    let mut listener = Listener::open(&server, &[]).await;
    let sandbox = server.sandbox_with(r#"{"owner_id":"alice"}"#).await;
    let exec = format!("{sandbox}/exec");
    server.post(&exec, r#"{"command":"exit 3"}"#).await;
    server.post(&exec, r#"{"command":"sleep","timeout":"10ms"}"#).await;
    server.post(&exec, r#"{"command":"vanish"}"#).await;
    server.delete(&sandbox).await;

    let created = listener.next().await.unwrap();
    assert_eq!(created["type"], "sandbox.created");
    assert_eq!(
        format!("/sandboxes/{}", created["sandbox_id"].as_str().unwrap()),
        sandbox
    );
    assert_eq!(created["owner_id"], "alice");
    assert_eq!(created["data"]["image"], "alpine:latest");
    assert!(created["timestamp"].as_str().unwrap().ends_with('Z'));
    let ended = listener.next().await.unwrap();
    assert_eq!(ended["type"], "exec.completed");
    assert_eq!(ended["data"]["exit_code"], 3);
    assert_eq!(
        listener.types(3).await,
        ["exec.timeout", "exec.failed", "sandbox.destroyed"]
    );
}

#[tokio::test]
async fn expiry_is_an_event() {
    let server = TestServer::start().await;
    let mut listener = Listener::open(&server, &[]).await;
    server.sandbox_with(r#"{"ttl":"10ms"}"#).await;
    assert_eq!(listener.types(2).await, ["sandbox.created", "sandbox.expired"]);
}

#[tokio::test]
async fn a_user_hears_only_of_its_own_sandboxes() {
    let server = TestServer::start().await;
    let mut alice = Listener::open(&server, &[("X-User-ID", "alice")]).await;
    server.sandbox_with(r#"{"owner_id":"bob"}"#).await;
    server.sandbox().await;
    server.sandbox_with(r#"{"owner_id":"alice"}"#).await;
    assert_eq!(alice.next().await.unwrap()["owner_id"], "alice");
}

#[tokio::test]
async fn a_reconnecting_client_gets_missed_events() {
    let server = TestServer::start().await;
    let mut listener = Listener::open(&server, &[]).await;
    server.sandbox().await;
    let first = listener.next().await.unwrap();
    drop(listener);
    let sandbox = server.sandbox().await;
    server.delete(&sandbox).await;
    let id = first["id"].as_str().unwrap();
    let mut again = Listener::open(&server, &[("Last-Event-ID", id)]).await;
    assert_eq!(again.types(2).await, ["sandbox.created", "sandbox.destroyed"]);
    // What is no id of ours is ignored.
    Listener::open(&server, &[("Last-Event-ID", "evt-banana")]).await;
}

#[tokio::test]
async fn connections_are_bounded_and_their_end_makes_room() {
    let server = TestServer::with_limits(Limits {
        max_event_streams: 1,
        ..Limits::default()
    })
    .await;
    let listener = Listener::open(&server, &[]).await;
    server.get("/events").await.assert_error(429, "resource_limit");
    drop(listener);
    let deadline = Instant::now() + Duration::from_secs(2);
    while server.request("GET", "/events").send().await.unwrap().status() != 200 {
        assert!(Instant::now() < deadline, "the place was not given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stopping_server_ends_the_connections_at_once() {
    let mut server = TestServer::start().await;
    let mut listener = Listener::open(&server, &[]).await;
    let started = Instant::now();
    server.stop.take().unwrap().send(()).unwrap();
    assert_eq!(listener.next().await, None);
    server.ended.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "waited for the grace");
}
