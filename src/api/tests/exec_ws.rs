//! Commands over a WebSocket.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{TestServer, eventually};
use crate::config::{ApiKeyConfig, AuthConfig, Config, Limits};
use crate::scope::Scope;

/// The client's end.
struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn connect(server: &TestServer, sandbox: &str) -> Self {
        Self::try_connect(server, sandbox, &[]).await.expect("a WebSocket")
    }

    async fn try_connect(server: &TestServer, sandbox: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let url = format!("{}/api/v1{sandbox}/exec/ws", server.base.replace("http:", "ws:"));
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        connect_async(request).await.map(|(socket, _)| Self(socket))
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message, which must be one.
    async fn next(&mut self) -> Value {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("no message: {other:?}"),
        }
    }

    /// The code of the close, which must come next.
    async fn closed(&mut self) -> CloseCode {
        match self.0.next().await {
            Some(Ok(Message::Close(Some(frame)))) => frame.code,
            other => panic!("no close: {other:?}"),
        }
    }

    /// All messages up to the close, and its code.
    async fn rest(&mut self) -> (Vec<Value>, CloseCode) {
        let mut messages = Vec::new();
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => messages.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => return (messages, frame.code),
                Some(Ok(_)) => {}
                other => panic!("{other:?} after {messages:?}"),
            }
        }
    }

    #[track_caller]
    fn assert_error(message: &Value, code: &str) {
        assert_eq!(
            (&message["type"], &message["code"]),
            (&json!("error"), &json!(code)),
            "{message}"
        );
        assert!(!message["message"].as_str().unwrap().is_empty(), "{message}");
        assert!(message["request_id"].as_str().unwrap().starts_with("req_"), "{message}");
    }
}

async fn none_runs(server: &TestServer) {
    eventually(|| server.provider.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn output_comes_as_it_is_written_and_the_end_last() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    let mut socket = Socket::connect(&server, &sandbox).await;
    socket.send(json!({"command": "bytes"})).await;
    let (messages, code) = socket.rest().await;
    assert_eq!(
        messages,
        [
            json!({"stream":"stdout","data":"€\u{fffd}"}),
            json!({"type":"done","exit_code":3,"duration":"1.9ms","timed_out":false}),
        ]
    );
    assert_eq!(code, CloseCode::Normal);
    // The rules of the request are those of POST /exec.
    let mut socket = Socket::connect(&server, &sandbox).await;
    socket
        .send(json!({"command": "argv", "mode": "argv", "args": ["a b", "$HOME"], "stream": true}))
        .await;
    assert_eq!(socket.next().await["data"], "a b\n$HOME\n");
    none_runs(&server).await;
}

#[tokio::test]
async fn input_reaches_the_command_while_it_runs() {
    let server = TestServer::start().await;
    let mut socket = Socket::connect(&server, &server.sandbox().await).await;
    socket.send(json!({"command": "cat"})).await;
    for (input, output) in [
        (json!({"stdin": "one\n"}), "one\n"),
        (json!({"stdin_base64": "dHdv"}), "two"),
    ] {
        socket.send(input).await;
        // The answer comes before the next input is sent.
        assert_eq!(socket.next().await, json!({"stream": "stdout", "data": output}));
    }
    socket.send(json!({"stdin": "three", "eof": true})).await;
    assert_eq!(socket.next().await["data"], "three");
    assert_eq!(socket.next().await["exit_code"], 0);
    assert_eq!(socket.closed().await, CloseCode::Normal);
}

#[tokio::test]
async fn input_in_the_request_is_all_there_is() {
    let server = TestServer::start().await;
    let mut socket = Socket::connect(&server, &server.sandbox().await).await;
    socket.send(json!({"command": "cat", "stdin": "given"})).await;
    let (messages, _) = socket.rest().await;
    assert_eq!(messages[0]["data"], "given");
    assert_eq!(messages[1]["exit_code"], 0);
}

#[tokio::test]
async fn a_signal_reaches_the_command_even_when_it_reads_no_input() {
    let server = TestServer::start().await;
    let mut socket = Socket::connect(&server, &server.sandbox().await).await;
    socket.send(json!({"command": "deaf"})).await;
    assert_eq!(socket.next().await["data"], "started\n");
    for _ in 0..10 {
        socket.send(json!({"stdin": "x".repeat(90_000)})).await;
    }
    socket.send(json!({"signal": "TERM"})).await;
    let (messages, code) = socket.rest().await;
    assert_eq!(
        (&messages[0]["type"], &messages[0]["exit_code"]),
        (&json!("done"), &json!(143))
    );
    assert_eq!(code, CloseCode::Normal);
}

#[tokio::test]
async fn a_timeout_ends_the_command_and_is_told() {
    let server = TestServer::start().await;
    let mut socket = Socket::connect(&server, &server.sandbox().await).await;
    socket.send(json!({"command": "sleep", "timeout": "30ms"})).await;
    let (messages, code) = socket.rest().await;
    let last = messages.last().unwrap();
    assert_eq!((&last["exit_code"], &last["timed_out"]), (&json!(124), &json!(true)));
    assert_eq!(code, CloseCode::Normal);
}

#[tokio::test]
async fn a_client_that_goes_kills_its_command() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    for close in [true, false] {
        let mut socket = Socket::connect(&server, &sandbox).await;
        socket.send(json!({"command": "sleep"})).await;
        socket.next().await;
        if close {
            socket.0.close(None).await.unwrap();
        }
        drop(socket);
        none_runs(&server).await;
    }
}

#[tokio::test]
async fn a_command_that_is_wrong_is_refused_in_a_message() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    for (first, code) in [
        ("{", "bad_request"),
        ("[]", "bad_request"),
        (r#"{"command":""}"#, "bad_request"),
        (r#"{"stdin":"x"}"#, "bad_request"),
        (r#"{"command":"echo","workdir":"tmp"}"#, "bad_request"),
        (r#"{"command":"echo","timeout":"-1s"}"#, "bad_request"),
    ] {
        let mut socket = Socket::connect(&server, &sandbox).await;
        socket.0.send(Message::text(first)).await.unwrap();
        Socket::assert_error(&socket.next().await, code);
        assert_eq!(socket.closed().await, CloseCode::Policy, "{first}");
    }
    let mut socket = Socket::connect(&server, &sandbox).await;
    socket.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    Socket::assert_error(&socket.next().await, "bad_request");
    assert_eq!(socket.closed().await, CloseCode::Unsupported);
}

#[tokio::test]
async fn a_later_message_that_is_wrong_kills_the_command() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    for later in [
        "nonsense",
        "{}",
        r#"{"stdin":1}"#,
        r#"{"stdin":"a","stdin_base64":"YQ=="}"#,
        r#"{"stdin_base64":"?"}"#,
        r#"{"signal":"SEGV"}"#,
        r#"{"input":"a"}"#,
        r#"{"command":"echo"}"#,
    ] {
        let mut socket = Socket::connect(&server, &sandbox).await;
        socket.send(json!({"command": "sleep"})).await;
        socket.next().await;
        socket.0.send(Message::text(later)).await.unwrap();
        Socket::assert_error(&socket.next().await, "bad_request");
        assert_eq!(socket.closed().await, CloseCode::Policy, "{later}");
        none_runs(&server).await;
    }
    let mut socket = Socket::connect(&server, &sandbox).await;
    socket.send(json!({"command": "sleep"})).await;
    socket.next().await;
    socket.send(json!({"eof": true})).await;
    socket.send(json!({"stdin": "more"})).await;
    Socket::assert_error(&socket.next().await, "bad_request");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let server = TestServer::with_limits(Limits {
        max_json_bytes: 1000,
        ..Limits::default()
    })
    .await;
    let sandbox = server.sandbox().await;
    let mut socket = Socket::connect(&server, &sandbox).await;
    socket.send(json!({"command": "cat"})).await;
    socket.send(json!({"stdin": "x".repeat(900)})).await;
    socket.next().await;
    socket.send(json!({"stdin": "x".repeat(1100)})).await;
    Socket::assert_error(&socket.next().await, "payload_too_large");
    assert_eq!(socket.closed().await, CloseCode::Size);
    none_runs(&server).await;
}

#[tokio::test]
async fn bad_handshakes_and_unknown_sandboxes_are_refused_as_on_any_route() {
    let server = TestServer::start().await;
    let sandbox = server.sandbox().await;
    let plain = server
        .request("GET", &format!("{sandbox}/exec/ws"))
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 426);
    assert_eq!(plain.headers()["upgrade"], "websocket");
    server
        .get(&format!("{sandbox}/exec/ws"))
        .await
        .assert_error(426, "bad_request");
    let nowhere = "/sandboxes/sb_aaaaaaaaaaaaaaaa";
    server
        .get(&format!("{nowhere}/exec/ws"))
        .await
        .assert_error(404, "not_found");
    match Socket::try_connect(&server, nowhere, &[]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 404),
        other => panic!("{:?}", other.err()),
    }
    match Socket::try_connect(&server, &sandbox, &[("origin", "http://evil.example")]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn a_handshake_needs_a_key_with_the_scope() {
    let key = |text: &str, scopes| ApiKeyConfig {
        name: text.to_owned(),
        sha256: hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text)),
        scopes,
        tenant: "default".to_owned(),
        user: None,
    };
    let keys = vec![key("reader", vec![Scope::Read]), key("runner", vec![Scope::Api])];
    let server = TestServer::with(Config {
        auth: AuthConfig {
            keys,
            ..AuthConfig::default()
        },
        ..Config::default()
    })
    .await;
    let created = super::answer(
        server
            .request("POST", "/sandboxes")
            .header("x-api-key", "runner")
            .body("{}"),
    )
    .await;
    let sandbox = format!("/sandboxes/{}", created.json()["id"].as_str().unwrap());
    for (headers, status) in [(&[][..], 401), (&[("x-api-key", "reader")][..], 403)] {
        match Socket::try_connect(&server, &sandbox, headers).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status),
            other => panic!("{:?}", other.err()),
        }
    }
    let mut socket = Socket::try_connect(&server, &sandbox, &[("x-api-key", "runner")])
        .await
        .unwrap();
    socket.send(json!({"command": "echo hi"})).await;
    assert_eq!(socket.next().await["data"], "hi\n");
}

#[tokio::test]
async fn a_stopping_server_lets_a_conversation_end() {
    let mut server = TestServer::with_limits(Limits {
        shutdown_grace: crate::duration::GoDuration(Duration::from_millis(200)),
        ..Limits::default()
    })
    .await;
    let mut socket = Socket::connect(&server, &server.sandbox().await).await;
    socket.send(json!({"command": "sleep"})).await;
    socket.next().await;
    server.stop.take().unwrap().send(()).unwrap();
    let (messages, code) = socket.rest().await;
    assert_eq!(messages[0]["exit_code"], 137);
    assert!(
        messages[0]["error"].as_str().unwrap().contains("shutting down"),
        "{messages:?}"
    );
    assert_eq!(code, CloseCode::Normal);
    server.ended.await.unwrap();
}
