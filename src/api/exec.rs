//! Runs commands: one JSON answer at the end, or a line of JSON per chunk of output.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use super::exec_answer::ExecAnswer;
use super::extract::{AsCaller, Id, Json, check_path};
use super::router::AppState;
use super::schemas::FilePath;
use super::transcript::{End, Output, Report, Transcript};
use crate::duration::GoDuration;
use crate::provider::{Command, Stdin};
use crate::sandbox::{ExecRequest, Permit, RunningExec};

/// A command to run.
#[derive(Deserialize, ToSchema)]
#[schema(as = ExecRequest, example = json!({"command": "echo hello; uname -a", "timeout": "10s"}))]
pub struct ExecBody {
    /// A script for the sandbox's shell; in the mode `argv`, a program.
    command: String,
    /// Arguments: of the program, or appended to the script, each as one word.
    args: Option<Vec<String>>,
    /// Whether `command` is a script (`shell`, the default) or a program (`argv`).
    mode: Option<Mode>,
    /// Environment variables, on top of the sandbox's own.
    env: Option<BTreeMap<String, String>>,
    /// The directory to start in; the image's own when absent.
    #[schema(value_type = Option<FilePath>)]
    workdir: Option<String>,
    /// How long it may take; the server's default when absent.
    timeout: Option<GoDuration>,
    /// Processor time that it and everything it starts may use, what stays in the background included; when it is used
    /// up they are killed. No limit when absent.
    #[schema(value_type = Option<GoDuration>)]
    cpu_time: Option<GoDuration>,
    /// Units of fuel that it and everything it starts may use, what stays in the background included: about one for each
    /// WebAssembly instruction. When they are used up, all are killed (137). A program that depends on no clock and no
    /// random numbers uses the same each time, on any machine. 1 to 2^53; fuel is not counted when absent. Needs a server
    /// whose configuration says `fuel = true`.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64)]
    fuel: Option<u64>,
    /// Answer line by line, as the output comes.
    stream: Option<bool>,
    /// What it reads on standard input.
    pub(super) stdin: Option<String>,
}

/// How `command` is meant.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[schema(as = ExecMode)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// A script for `sh -c`, to which `args` are appended quoted.
    #[default]
    Shell,
    /// A program; `args` are its arguments.
    Argv,
}

/// A line of a stream: a piece of output, or the end, which comes once and last.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ExecLine)]
enum Line {
    /// A piece of output.
    Output(Output),
    /// The end.
    Exit(ExitLine),
}

/// How a streamed command ended.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecExit)]
struct ExitLine {
    /// `exit`.
    r#type: &'static str,
    #[serde(flatten)]
    end: End,
}

/// Runs a command.
///
/// A command that ends, however it does, is a 200. With `stream` the answer comes as lines of JSON while the command
/// runs, and a client that goes away cancels it.
#[utoipa::path(
    post,
    path = "/sandboxes/{id}/exec",
    request_body = ExecBody,
    responses(
        (status = 200, description = "The command ended.", content(
            (ExecAnswer = "application/json"),
            (Line = "application/x-ndjson"),
        )),
        (status = 408, description = "The command passed its timeout and was killed; the body also has what an \
            answer has, with what it wrote until then.", body = ErrorBody),
        (status = 409, description = "The sandbox is not running.", body = ErrorBody),
        (status = 422, description = "The provider cannot do this.", body = ErrorBody),
    )
)]
pub async fn exec(
    State(state): State<AppState>,
    AsCaller(caller): AsCaller,
    Id(id): Id,
    Json(body, held): Json<ExecBody>,
) -> Result<Response, ApiError> {
    let stream = body.stream.unwrap_or(false);
    let running = state.sandboxes.exec(&caller, &id, into_request(body, held)?).await?;
    if stream {
        return Ok(streamed(running));
    }
    let collected = running.collect().await?;
    let timed_out = collected.exit.outcome.timed_out;
    let answer = ExecAnswer::from(collected);
    if timed_out {
        let message = format!("command timed out after {}", answer.duration);
        return Err(ApiError::exec_timeout(message, answer));
    }
    Ok(answer.into_response())
}

/// The request in the words of the sandbox layer, with what its memory is charged to.
pub(super) fn into_request(body: ExecBody, held: Option<Permit>) -> Result<ExecRequest, ApiError> {
    if let Some(workdir) = &body.workdir {
        check_path("workdir", workdir)?;
    }
    let args = body.args.unwrap_or_default();
    let command = match body.mode.unwrap_or_default() {
        Mode::Shell => Command::Shell(with_quoted(body.command, &args)),
        Mode::Argv => Command::Argv(std::iter::once(body.command).chain(args).collect()),
    };
    Ok(ExecRequest {
        command,
        env: body.env.unwrap_or_default(),
        workdir: body.workdir,
        timeout: body.timeout.map(|timeout| timeout.0),
        cpu_time: body.cpu_time.map(|cpu_time| cpu_time.0),
        fuel: body.fuel,
        stdin: Stdin::Bytes(body.stdin.map(Bytes::from).unwrap_or_default()),
        held,
    })
}

/// Appends arguments to a script so that the shell reads each as one word, whatever is in it.
fn with_quoted(mut script: String, args: &[String]) -> String {
    for arg in args {
        script.push_str(" '");
        script.push_str(&arg.replace('\'', r"'\''"));
        script.push('\'');
    }
    script
}

/// The answer that tells a command's output as it comes. When the client goes, the body is dropped, and the command
/// with it.
fn streamed(running: RunningExec) -> Response {
    let lines = futures_util::stream::unfold(Transcript::new(running), |mut transcript| async {
        let report = transcript.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line(report)), transcript))
    });
    let content_type = HeaderValue::from_static("application/x-ndjson");
    // Proxies that gather an answer before they pass it on would defeat the purpose.
    let unbuffered = [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    (
        [(header::CONTENT_TYPE, content_type)],
        unbuffered,
        Body::from_stream(lines),
    )
        .into_response()
}

/// A report as a line of JSON.
fn line(report: Report) -> Bytes {
    let line = match report {
        Report::Output(output) => Line::Output(output),
        Report::End(end) => Line::Exit(ExitLine { r#type: "exit", end }),
    };
    // Writing these structures to memory cannot fail.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_for_the_shell() {
        let args = [
            "a b".to_owned(),
            "it's".to_owned(),
            String::new(),
            "$HOME;`x`\n".to_owned(),
        ];
        assert_eq!(
            with_quoted("echo".to_owned(), &args),
            "echo 'a b' 'it'\\''s' '' '$HOME;`x`\n'"
        );
    }
}
