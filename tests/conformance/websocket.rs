//! Commands over a WebSocket: input while they run, and signals.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::api::Sandbox;
use crate::target::Target;

crate::cases![
    input_is_read_while_the_command_runs,
    a_signal_reaches_the_command,
    a_closed_connection_ends_the_command,
    a_command_that_needs_no_input_ends_by_itself,
];

/// A command over a WebSocket.
struct Session(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Session {
    async fn start(sandbox: &Sandbox, request: Value) -> Self {
        let url = sandbox
            .api
            .url(&format!("{}/exec/ws", sandbox.path))
            .replace("http://", "ws://");
        let (socket, _) = connect_async(url).await.expect("a WebSocket");
        let mut session = Self(socket);
        session.send(request).await;
        session
    }

    async fn send(&mut self, message: Value) {
        self.0
            .send(Message::text(message.to_string()))
            .await
            .expect("it is sent");
    }

    /// The next message; `None` when the server closed the connection.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await?.expect("the connection holds") {
                Message::Text(text) => return Some(serde_json::from_str(&text).expect("a message is JSON")),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// What the command writes to standard output until this much has come.
    async fn output(&mut self, length: usize) -> String {
        let mut text = String::new();
        while text.len() < length {
            let message = self.next().await.expect("more output");
            assert_eq!(message["stream"], json!("stdout"), "{message}");
            text.push_str(message["data"].as_str().expect("text"));
        }
        text
    }
}

async fn input_is_read_while_the_command_runs(target: &Target) {
    let sandbox = target.sandbox().await;
    // `cat` copies bytes; what the shell's `read` makes of letters beyond ASCII is another matter.
    let command = "while read -r line; do echo \"got $line\"; [ \"$line\" != one ] || break; done; cat; echo end";
    let mut session = Session::start(&sandbox, json!({"command": command, "timeout": "30s"})).await;
    for (input, expected) in [("one\n", "got one\n"), ("zwölf\n", "zwölf\n")] {
        session.send(json!({"stdin": input})).await;
        assert_eq!(session.output(expected.len()).await, expected);
    }
    session.send(json!({"eof": true})).await;
    assert_eq!(session.output(4).await, "end\n");
    let last = session.next().await.expect("a last message");
    assert_eq!(
        (&last["type"], &last["exit_code"]),
        (&json!("done"), &json!(0)),
        "{last}"
    );
    assert_eq!(session.next().await, None);
}

async fn a_signal_reaches_the_command(target: &Target) {
    let sandbox = target.sandbox().await;
    for (signal, status) in [("KILL", 137), ("TERM", 143)] {
        let command = json!({"command": "echo ready; sleep 60", "timeout": "30s"});
        let mut session = Session::start(&sandbox, command).await;
        assert_eq!(session.output(6).await, "ready\n");
        session.send(json!({"signal": signal})).await;
        let last = session.next().await.expect("a last message");
        assert_eq!(
            (&last["type"], &last["exit_code"]),
            (&json!("done"), &json!(status)),
            "{last}"
        );
        sandbox.assert_ends("sleep").await;
    }
}

async fn a_closed_connection_ends_the_command(target: &Target) {
    let sandbox = target.sandbox().await;
    let mut session = Session::start(
        &sandbox,
        json!({"command": "echo ready; sleep 60 | cat", "timeout": "50s"}),
    )
    .await;
    assert_eq!(session.output(6).await, "ready\n");
    drop(session);
    sandbox.assert_ends("sleep").await;
}

async fn a_command_that_needs_no_input_ends_by_itself(target: &Target) {
    let sandbox = target.sandbox().await;
    let mut session = Session::start(&sandbox, json!({"command": "echo", "args": ["a b"], "mode": "argv"})).await;
    assert_eq!(session.output(4).await, "a b\n");
    assert_eq!(session.next().await.expect("a last message")["exit_code"], json!(0));
}
