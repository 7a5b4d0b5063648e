//! What becomes of the processes of a command that is no longer wanted.

use std::time::Duration;

use serde_json::json;

use crate::server_support::{engine, server::Server};
use crate::{container, create, processes};

/// A command with a child in its own session whose parent has ended.
const DETACHING: &str = "(setsid sleep 7777 >/dev/null 2>&1 &); sleep 8888";

fn left(container: &str) -> Vec<String> {
    let mut left = processes(container);
    left.retain(|process| process.contains("sleep 7777") || process.contains("sleep 8888"));
    left
}

#[tokio::test]
async fn a_timeout_ends_all_that_the_command_started() {
    if !engine::available() {
        return;
    }
    let server = Server::start("127.0.0.1:0", &[]);
    let sandbox = create(&server, json!({})).await;
    let ran = sandbox.exec(json!({"command": DETACHING, "timeout": "1s"})).await;
    assert_eq!(ran.json()["exit_code"], 124, "{ran:?}");
    assert_eq!(left(&container(&sandbox)), Vec::<String>::new());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_all_that_the_command_started() {
    if !engine::available() {
        return;
    }
    let server = Server::start("127.0.0.1:0", &[]);
    let sandbox = create(&server, json!({})).await;
    let exec = sandbox.exec(json!({"command": DETACHING, "timeout": "60s"}));
    let mut exec = Box::pin(exec);
    let name = container(&sandbox);
    // Until the command runs.
    while left(&name).len() < 2 {
        let waited = tokio::time::timeout(Duration::from_millis(50), &mut exec).await;
        assert!(waited.is_err(), "the command has ended: {waited:?}");
    }
    drop(exec);
    for _ in 0..200 {
        if left(&name).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still there: {:?}", left(&name));
}
