//! Commands.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{TestServer, eventually};
use crate::config::Limits;
use crate::duration::GoDuration;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_command_answers_with_output_status_and_duration() {
    let server = TestServer::start().await;
    let exec = format!("{}/exec", server.sandbox().await);
    let hello = server.post(&exec, r#"{"command":"echo hello"}"#).await;
    assert_eq!(hello.status, 200);
    assert_eq!(
        hello.json(),
        json!({"exit_code":0,"stdout":"hello\n","stderr":"","duration":"1.9ms"})
    );
    let missing = server.post(&exec, r#"{"command":"nothing"}"#).await.json();
    assert_eq!(
        (&missing["exit_code"], &missing["stderr"]),
        (&json!(127), &json!("sh: nothing: not found\n"))
    );
    let cat = server.post(&exec, r#"{"command":"cat","stdin":"in"}"#).await.json();
    assert_eq!(cat["stdout"], "in");
    let env = server.post(&exec, r#"{"command":"env","env":{"A":"1"}}"#).await.json();
    assert_eq!(env["stdout"], "A=1\n");
}

#[tokio::test]
async fn argv_mode_passes_arguments_literally() {
    let server = TestServer::start().await;
    let exec = format!("{}/exec", server.sandbox().await);
    let body = r#"{"command":"argv","mode":"argv","args":["a b","$HOME",""]}"#;
    assert_eq!(server.post(&exec, body).await.json()["stdout"], "a b\n$HOME\n\n");
}

#[tokio::test]
async fn a_command_past_its_timeout_is_a_408_with_its_output() {
    let server = TestServer::start().await;
    let exec = format!("{}/exec", server.sandbox().await);
    let late = server.post(&exec, r#"{"command":"sleep","timeout":"50ms"}"#).await;
    late.assert_error(408, "timeout");
    let body = late.json();
    assert_eq!(body["exit_code"], 124);
    assert_eq!(body["stdout"], "started\n");
    assert_eq!(body["stderr"], "");
    assert!(GoDuration::parse(body["duration"].as_str().unwrap()).unwrap().0 >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_stream_ends_with_what_really_happened() {
    let server = TestServer::start().await;
    let exec = format!("{}/exec", server.sandbox().await);
    let response = server
        .request("POST", &exec)
        .body(r#"{"command":"bytes","stream":true}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    assert_eq!(
        lines(&response.text().await.unwrap()),
        [
            json!({"stream":"stdout","data":"€\u{fffd}"}),
            json!({"type":"exit","exit_code":3,"duration":"1.9ms","timed_out":false}),
        ]
    );
    let late = server
        .post(&exec, r#"{"command":"sleep","stream":true,"timeout":"30ms"}"#)
        .await;
    let last = lines(&late.text).pop().unwrap();
    assert_eq!((&last["exit_code"], &last["timed_out"]), (&json!(124), &json!(true)));
    let lost = server.post(&exec, r#"{"command":"vanish","stream":true}"#).await;
    let last = lines(&lost.text).pop().unwrap();
    assert_eq!((&last["type"], &last["exit_code"]), (&json!("exit"), &json!(137)));
    assert!(last["error"].is_string());
    server
        .post(&exec, r#"{"command":"vanish"}"#)
        .await
        .assert_error(500, "provider_error");
}

#[tokio::test]
async fn output_beyond_the_cap_is_cut_and_said_so() {
    let server = TestServer::with_limits(Limits {
        max_output_bytes: 100_000,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    for _ in 0..3 {
        let flood = server.post(&exec, r#"{"command":"flood 1000000"}"#).await.json();
        assert_eq!(flood["stdout"].as_str().unwrap().len(), 100_000);
        assert_eq!(flood["truncated"], true);
        assert_eq!(flood["exit_code"], 0);
    }
    let streamed = server.post(&exec, r#"{"command":"flood 1000000","stream":true}"#).await;
    let bytes: usize = lines(&streamed.text)
        .iter()
        .filter_map(|line| line["data"].as_str())
        .map(str::len)
        .sum();
    assert!(bytes >= 1_000_000);
}

#[tokio::test]
async fn all_commands_of_a_sandbox_share_one_output_budget() {
    let server = TestServer::with_limits(Limits {
        max_buffered_output_bytes: 70_000,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    for _ in 0..3 {
        let flood = server.post(&exec, r#"{"command":"flood 1000000"}"#).await.json();
        assert_eq!(
            flood["stdout"].as_str().unwrap().len(),
            70_000,
            "the budget is given back after each command"
        );
    }
}

#[tokio::test]
async fn a_client_that_goes_cancels_its_command() {
    let server = TestServer::start().await;
    let exec = format!("{}/exec", server.sandbox().await);
    for body in [r#"{"command":"sleep"}"#, r#"{"command":"sleep","stream":true}"#] {
        let sent = server.request("POST", &exec).body(body).send();
        let reading = async {
            let mut chunks = sent.await.unwrap().bytes_stream();
            while chunks.next().await.is_some() {}
        };
        let running = server.provider.running.clone();
        tokio::select! {
            () = reading => panic!("a sleeping command ended"),
            () = eventually(|| running.load(Ordering::SeqCst) == 1) => {}
        }
        eventually(|| running.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn destroying_a_sandbox_kills_its_commands() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    let exec = format!("{sandbox}/exec");
    let plain = server.post(&exec, r#"{"command":"sleep"}"#);
    let streamed = server.post(&exec, r#"{"command":"sleep","stream":true}"#);
    let destroying = async {
        eventually(|| server.provider.running.load(Ordering::SeqCst) == 2).await;
        server.delete(&sandbox).await
    };
    let (plain, streamed, destroyed) = tokio::join!(plain, streamed, destroying);
    assert_eq!(destroyed.status, 200);
    let plain = plain.json();
    assert_eq!(
        (&plain["exit_code"], &plain["stdout"]),
        (&json!(137), &json!("started\n"))
    );
    assert!(plain["stderr"].as_str().unwrap().contains("destroyed"), "{plain}");
    assert_eq!(lines(&streamed.text).pop().unwrap()["exit_code"], 137);
    eventually(|| server.provider.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn concurrent_commands_of_a_sandbox_are_limited() {
    let server = TestServer::with_limits(Limits {
        max_execs_per_sandbox: 1,
        ..Limits::default()
    })
    .await;
    let exec = format!("{}/exec", server.sandbox().await);
    let first = server.post(&exec, r#"{"command":"sleep","timeout":"300ms"}"#);
    let second = async {
        eventually(|| server.provider.running.load(Ordering::SeqCst) == 1).await;
        server.post(&exec, r#"{"command":"echo"}"#).await
    };
    let (first, second) = tokio::join!(first, second);
    first.assert_error(408, "timeout");
    second.assert_error(429, "resource_limit");
    assert_eq!(server.post(&exec, r#"{"command":"echo"}"#).await.status, 200);
}
