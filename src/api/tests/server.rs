//! How the server stops.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{TestServer, eventually};
use crate::config::{Config, Limits};
use crate::duration::GoDuration;

async fn with_grace(grace: Duration) -> TestServer {
    let limits = Limits {
        shutdown_grace: GoDuration(grace),
        ..Limits::default()
    };
    TestServer::with(Config {
        limits,
        ..Config::default()
    })
    .await
}

#[tokio::test]
async fn a_stopping_server_lets_commands_finish() {
    let mut server = with_grace(Duration::from_secs(5)).await;
    let exec = format!("{}/exec", server.sandbox().await);
    let stop = server.stop.take().unwrap();
    let running = server.provider.running.clone();
    let (answered, ()) = tokio::join!(server.post(&exec, r#"{"command":"sleep","timeout":"200ms"}"#), async {
        eventually(|| running.load(Ordering::SeqCst) == 1).await;
        stop.send(()).unwrap();
    });
    answered.assert_error(408, "timeout");
    server.ended.await.unwrap();
}

#[tokio::test]
async fn commands_that_outlast_the_grace_are_killed_and_answered() {
    let mut server = with_grace(Duration::from_millis(100)).await;
    let exec = format!("{}/exec", server.sandbox().await);
    let stop = server.stop.take().unwrap();
    let running = server.provider.running.clone();
    let started = Instant::now();
    let (answered, ()) = tokio::join!(server.post(&exec, r#"{"command":"sleep"}"#), async {
        eventually(|| running.load(Ordering::SeqCst) == 1).await;
        stop.send(()).unwrap();
    });
    let body = answered.json();
    assert_eq!(body["exit_code"], 137);
    assert!(body["stderr"].as_str().unwrap().contains("shutting down"), "{body}");
    server.ended.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
}
