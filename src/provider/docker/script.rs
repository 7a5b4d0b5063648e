//! Small shell scripts of ours that run in a container for the files calls. What they are about is passed as arguments,
//! never as part of the script.

use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::StreamExt as _;

use super::engine::Engine;
use super::launch::{self, Launch, Program};
use crate::provider::ProviderError;

/// How long a script may take: a large tree is removed in that time.
const SCRIPT_TIME: Duration = Duration::from_secs(300);
/// Bytes of standard error that are looked at.
const MAX_ERROR: usize = 4096;

/// What a script left.
pub struct Finished {
    /// Exit status of the script.
    pub status: i32,
    /// What it wrote to standard output.
    pub output: Vec<u8>,
    /// The beginning of what it wrote to standard error.
    pub error: String,
}

/// Runs a script to its end.
///
/// # Errors
/// [`ProviderError::LimitReached`] when it writes more than `max_output` bytes or takes too long.
pub async fn run(
    engine: &Arc<Engine>,
    container: &str,
    script: &str,
    arguments: &[&str],
    max_output: usize,
) -> Result<Finished, ProviderError> {
    let launch = start(engine, container, script, arguments, false).await?;
    finish(launch, max_output).await
}

/// Starts a script.
///
/// # Errors
/// See [`launch::launch`].
pub async fn start(
    engine: &Arc<Engine>,
    container: &str,
    script: &str,
    arguments: &[&str],
    stdin: bool,
) -> Result<Launch, ProviderError> {
    let argv = ["/bin/sh", "-c", script, "sh"]
        .into_iter()
        .chain(arguments.iter().copied());
    let program = Program {
        argv: argv.map(str::to_owned).collect(),
        // Messages are read by `super::errno`.
        env: vec!["LC_ALL=C".to_owned(), "TZ=UTC0".to_owned()],
        workdir: Some("/".to_owned()),
        stdin,
    };
    launch::launch(engine, container, program).await
}

/// Waits for a script's end, and kills it when there is none.
///
/// # Errors
/// See [`run`].
pub async fn finish(mut launch: Launch, max_output: usize) -> Result<Finished, ProviderError> {
    let finished = tokio::time::timeout(SCRIPT_TIME, collect(&mut launch, max_output)).await;
    finished.unwrap_or_else(|_| {
        Err(ProviderError::LimitReached(
            "the sandbox did not finish a files call in time".to_owned(),
        ))
    })
}

async fn collect(launch: &mut Launch, max_output: usize) -> Result<Finished, ProviderError> {
    let mut output = Vec::new();
    let mut error = Vec::new();
    while let Some(piece) = launch.output.next().await {
        match piece {
            Ok(LogOutput::StdOut { message }) => {
                output.extend_from_slice(&message);
                if output.len() > max_output {
                    return Err(ProviderError::LimitReached(
                        "there is more in that directory than one answer holds".to_owned(),
                    ));
                }
            }
            Ok(other) => {
                let room = MAX_ERROR.saturating_sub(error.len());
                let message = other.into_bytes();
                error.extend_from_slice(&message[..message.len().min(room)]);
            }
            // The engine has gone, or will tell why when it is asked for the status.
            Err(_) => break,
        }
    }
    Ok(Finished {
        status: launch.ended().await?,
        output,
        error: String::from_utf8_lossy(&error).into_owned(),
    })
}
