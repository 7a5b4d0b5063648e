//! Running a program of this machine and waiting for it.

use std::process::Stdio;
use std::time::Instant;

use tokio::process::Command;

use super::Ran;
use crate::error::BenchError;

/// How much of what a failed program says is told.
const STDERR_CHARACTERS: usize = 300;

/// Runs a program that must succeed.
pub async fn run(command: &mut Command) -> Result<Ran, BenchError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let started = Instant::now();
    let output = command.output().await;
    let elapsed = started.elapsed();
    let what = || command.as_std().get_program().to_string_lossy().into_owned();
    let output = output.map_err(BenchError::io(what()))?;
    if !output.status.success() {
        let stderr: Vec<char> = String::from_utf8_lossy(&output.stderr).trim().chars().collect();
        let end = stderr.len().saturating_sub(STDERR_CHARACTERS);
        return Err(BenchError::Failed {
            what: what(),
            status: output.status,
            stderr: stderr[end..].iter().collect(),
        });
    }
    Ok(Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        elapsed,
    })
}
