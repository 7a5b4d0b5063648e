//! The `wisp` program, run to its end.

use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// `wisp` with these arguments, a standard input of its own, and nothing of the environment that would name a server.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wisp"));
    command
        .args(arguments)
        .env_remove("WISP_API_KEY")
        .env("RUST_LOG", "off")
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs `wisp` with these arguments and this standard input.
pub async fn wisp(arguments: &[&str], stdin: impl AsRef<[u8]>) -> Output {
    finish(&mut command(arguments), stdin).await
}

/// Runs a command to its end with this standard input.
pub async fn finish(command: &mut Command, stdin: impl AsRef<[u8]>) -> Output {
    let mut child = command.spawn().expect("the wisp program starts");
    let mut input = child.stdin.take().expect("a pipe");
    let stdin = stdin.as_ref().to_owned();
    // Beside the reading of its output, or both would wait.
    let feeding = tokio::spawn(async move {
        // It may end without reading it.
        let _ = input.write_all(&stdin).await;
    });
    let output = child.wait_with_output().await.expect("it ends");
    feeding.abort();
    output
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless a command ended with this status and printed exactly this.
#[track_caller]
pub fn assert_ended(output: &Output, exit_code: i32, expected: &str) {
    assert_eq!(
        (output.status.code(), stdout(output).as_str()),
        (Some(exit_code), expected),
        "{}",
        stderr(output)
    );
}
