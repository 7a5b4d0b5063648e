//! Commands whose output is told as it comes: `"stream": true`, a line of JSON for each piece.

use serde_json::{Value, json};

use crate::api::Sandbox;
use crate::target::Target;

crate::cases![
    output_comes_while_the_command_runs,
    the_last_line_tells_the_end,
    a_timeout_is_told_in_the_last_line,
    a_long_stream_arrives_whole,
    a_client_that_goes_away_ends_its_command,
];

/// The lines of a stream.
pub struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

/// Starts a command; `request` is the body of the request without `stream`.
pub async fn start(sandbox: &Sandbox, mut request: Value) -> Lines {
    request["stream"] = json!(true);
    let response = sandbox
        .api
        .request(reqwest::Method::POST, &format!("{}/exec", sandbox.path))
        .body(request.to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status().as_u16(), 200);
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    assert_eq!(kind, "application/x-ndjson");
    Lines {
        response,
        buffer: Vec::new(),
    }
}

impl Lines {
    /// The next line, or `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a line is JSON"));
            }
            match self.response.chunk().await.expect("the stream goes on") {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => {
                    assert!(self.buffer.is_empty(), "half a line");
                    return None;
                }
            }
        }
    }

    /// All that one output stream wrote, and the last line.
    async fn rest(mut self, stream: &str) -> (String, Value) {
        let mut text = String::new();
        let mut last = Value::Null;
        while let Some(line) = self.next().await {
            if line["stream"] == json!(stream) {
                text.push_str(line["data"].as_str().expect("text"));
            }
            last = line;
        }
        (text, last)
    }
}

async fn output_comes_while_the_command_runs(target: &Target) {
    let sandbox = target.sandbox().await;
    let command = "echo first; while ! [ -e /tmp/go ]; do sleep 0.05; done; echo second >&2";
    let mut lines = start(&sandbox, json!({"command": command, "timeout": "30s"})).await;
    assert_eq!(lines.next().await, Some(json!({"stream": "stdout", "data": "first\n"})));
    // The command cannot end before this.
    sandbox.write("/tmp/go", "").await;
    assert_eq!(
        lines.next().await,
        Some(json!({"stream": "stderr", "data": "second\n"}))
    );
    let last = lines.next().await.expect("a last line");
    assert_eq!(
        (&last["type"], &last["exit_code"]),
        (&json!("exit"), &json!(0)),
        "{last}"
    );
    assert_eq!(lines.next().await, None);
}

async fn the_last_line_tells_the_end(target: &Target) {
    let sandbox = target.sandbox().await;
    let (text, last) = start(&sandbox, json!({"command": "printf 'no newline'; exit 3"}))
        .await
        .rest("stdout")
        .await;
    assert_eq!(text, "no newline");
    assert_eq!(
        (&last["type"], &last["exit_code"], &last["timed_out"]),
        (&json!("exit"), &json!(3), &json!(false)),
        "{last}"
    );
    assert!(
        last["duration"].as_str().is_some_and(|text| text.ends_with('s')),
        "{last}"
    );
    let (_, last) = start(&sandbox, json!({"command": "no-such", "mode": "argv"}))
        .await
        .rest("stdout")
        .await;
    assert_eq!(last["exit_code"], json!(127));
}

async fn a_timeout_is_told_in_the_last_line(target: &Target) {
    let sandbox = target.sandbox().await;
    let (text, last) = start(
        &sandbox,
        json!({"command": "echo early; sleep 60", "timeout": "1500ms"}),
    )
    .await
    .rest("stdout")
    .await;
    assert_eq!(text, "early\n");
    assert_eq!(
        (&last["exit_code"], &last["timed_out"]),
        (&json!(124), &json!(true)),
        "{last}"
    );
}

async fn a_long_stream_arrives_whole(target: &Target) {
    let sandbox = target.sandbox().await;
    let (text, last) = start(&sandbox, json!({"command": "yes 'grüße' | head -n 1000000"}))
        .await
        .rest("stdout")
        .await;
    assert_eq!(last["exit_code"], json!(0), "{last}");
    assert!(text == "grüße\n".repeat(1_000_000), "{} bytes", text.len());
}

async fn a_client_that_goes_away_ends_its_command(target: &Target) {
    let sandbox = target.sandbox().await;
    let mut lines = start(
        &sandbox,
        json!({"command": "echo started; sleep 71 | cat", "timeout": "50s"}),
    )
    .await;
    assert!(lines.next().await.is_some());
    drop(lines);
    sandbox.assert_ends("sleep").await;
}
