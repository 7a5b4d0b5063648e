//! A tool for an agent: one sandbox that lives as long as the conversation, and takes calls as lines of JSON.
//!
//! `echo '{"command": "echo hi > /work/a; ls /work"}' | cargo run --example agent_tool`

use std::io::{BufRead, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wisp::blocking::{Engine, Sandbox};

/// What the model asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// A script for the shell.
    pub command: String,
    /// Seconds it may take.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

/// What the model reads.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// As `$?`.
    pub exit_code: i32,
    /// Output of both streams, no more than a model can read.
    pub output: String,
    /// Whether there was more of it.
    pub truncated: bool,
}

fn default_timeout() -> u64 {
    30
}

/// Answers calls until there are no more. Files and directories stay from one call to the next.
pub fn serve(calls: impl BufRead, mut answers: impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new()?;
    let sandbox = engine.sandbox("python:3.13").memory_mb(256).disk_mb(64).create()?;
    sandbox.shell("mkdir -p /work").output()?;
    for line in calls.lines() {
        let answer = match serde_json::from_str(&line?) {
            Ok(call) => answer(&sandbox, call)?,
            Err(error) => Answer {
                exit_code: 2,
                output: format!("the call cannot be read: {error}"),
                truncated: false,
            },
        };
        serde_json::to_writer(&mut answers, &answer)?;
        writeln!(answers)?;
    }
    Ok(())
}

fn answer(sandbox: &Sandbox, call: Call) -> Result<Answer, wisp::Error> {
    let command = sandbox.shell(call.command).current_dir("/work");
    let timeout = Duration::from_secs(call.timeout.clamp(1, 300));
    let output = command.timeout(timeout).max_output(10_000).output()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Answer {
        exit_code: output.exit.code,
        output: text,
        truncated: output.truncated,
    })
}

#[allow(dead_code, reason = "the tests call `serve`")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    serve(std::io::stdin().lock(), std::io::stdout().lock())
}
