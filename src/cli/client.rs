//! The subcommands that talk to a server.

use std::collections::BTreeMap;
use std::io::{Read as _, Write};
use std::process::ExitCode;

use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response};
use serde::{Deserialize, Serialize};

use super::{CreateArgs, ExecArgs, KillArgs, ListArgs, ServerArgs};

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server cannot be reached, or the connection broke.
    #[error("cannot talk to the server: {}", innermost(.0))]
    Transport(#[from] reqwest::Error),
    /// The server refused.
    #[error("{message} (HTTP {status}, request {request_id})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words.
        message: String,
        /// For the server's log.
        request_id: String,
    },
    /// The server's answer makes no sense.
    #[error("the server's answer is not understood: {0}")]
    Answer(String),
    /// Standard input or output failed.
    #[error("{0}")]
    Terminal(#[from] std::io::Error),
}

/// reqwest's own message only repeats the URL; the reason is at the end of the chain.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A server and the headers it wants.
struct Client<'a> {
    http: reqwest::Client,
    server: &'a ServerArgs,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
    #[serde(default)]
    request_id: String,
}

#[derive(Serialize)]
struct CreateBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vcpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    env: BTreeMap<&'a str, &'a str>,
    metadata: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct ExecBody<'a> {
    command: &'a str,
    args: &'a [String],
    mode: &'static str,
    stream: bool,
    env: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workdir: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: Option<String>,
}

#[derive(Deserialize)]
struct SandboxRow {
    id: String,
    state: String,
    image: String,
    provider: String,
    memory_mb: u64,
    expires_at: String,
}

/// A line of an exec's stream.
#[derive(Deserialize)]
#[serde(untagged)]
enum ExecLine {
    Output {
        stream: String,
        data: String,
    },
    Exit {
        exit_code: i32,
        timed_out: bool,
        error: Option<String>,
    },
}

fn as_map(pairs: &[(String, String)]) -> BTreeMap<&str, &str> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

impl<'a> Client<'a> {
    fn new(server: &'a ServerArgs) -> Result<Self, ClientError> {
        // No overall timeout: a command may run for as long as the server lets it.
        Ok(Self {
            http: reqwest::Client::builder().build()?,
            server,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let base = self.server.server.trim_end_matches('/');
        let mut request = self.http.request(method, format!("{base}/api/v1{path}"));
        if let Some(key) = &self.server.api_key {
            request = request.header("X-API-Key", key);
        }
        if let Some(user) = &self.server.user_id {
            request = request.header("X-User-ID", user);
        }
        request
    }
}

/// Sends a request; an answer that is no success becomes an error.
async fn send(request: RequestBuilder) -> Result<Response, ClientError> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await?;
    let refusal = serde_json::from_str(&text).unwrap_or(Refusal {
        message: text,
        request_id: String::new(),
    });
    Err(ClientError::Refused {
        status: status.as_u16(),
        message: refusal.message,
        request_id: refusal.request_id,
    })
}

/// A path component from a text the user typed.
fn component(id: &str) -> Result<&str, ClientError> {
    let plain = !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if plain {
        Ok(id)
    } else {
        Err(ClientError::Answer(format!("\"{id}\" is not the id of a sandbox")))
    }
}

/// `wisp create`: prints the id.
///
/// # Errors
/// What the server reports.
pub async fn create(args: &CreateArgs) -> Result<ExitCode, ClientError> {
    let body = CreateBody {
        image: args.image.as_deref(),
        provider: args.provider.as_deref(),
        memory_mb: args.memory_mb,
        vcpus: args.vcpus,
        disk_mb: args.disk_mb,
        ttl: args.ttl.map(|ttl| ttl.to_string()),
        env: as_map(&args.env),
        metadata: as_map(&args.metadata),
    };
    let request = Client::new(&args.server)?
        .request(Method::POST, "/sandboxes")
        .json(&body);
    let sandbox: SandboxRow = send(request).await?.json().await?;
    writeln!(std::io::stdout(), "{}", sandbox.id)?;
    Ok(ExitCode::SUCCESS)
}

/// `wisp list`: a table, or the server's JSON.
///
/// # Errors
/// What the server reports.
pub async fn list(args: &ListArgs) -> Result<ExitCode, ClientError> {
    let response = send(Client::new(&args.server)?.request(Method::GET, "/sandboxes")).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", response.text().await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<SandboxRow> = response.json().await?;
    writeln!(
        out,
        "{:<36}{:<10}{:<20}{:<10}{:>7}  EXPIRES",
        "ID", "STATE", "IMAGE", "PROVIDER", "MEMORY"
    )?;
    for row in rows {
        let SandboxRow {
            id,
            state,
            image,
            provider,
            memory_mb,
            expires_at,
        } = row;
        writeln!(
            out,
            "{id:<36}{state:<10}{image:<20}{provider:<10}{memory_mb:>6}M  {expires_at}"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `wisp kill`
///
/// # Errors
/// What the server reports.
pub async fn kill(args: &KillArgs) -> Result<ExitCode, ClientError> {
    let client = Client::new(&args.server)?;
    for id in &args.ids {
        send(client.request(Method::DELETE, &format!("/sandboxes/{}", component(id)?))).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `wisp exec`: output as it comes, and the command's own exit status.
///
/// # Errors
/// What the server reports; a stream that breaks off before the command's end.
pub async fn exec(args: &ExecArgs) -> Result<ExitCode, ClientError> {
    let stdin = if args.interactive {
        Some(read_stdin().await?)
    } else {
        None
    };
    let (mode, command, rest) = match (&args.program.script, args.program.argv.split_first()) {
        (Some(script), _) => ("shell", script, &[][..]),
        (None, Some((program, rest))) => ("argv", program, rest),
        (None, None) => return Err(ClientError::Answer("no command given".to_owned())),
    };
    let body = ExecBody {
        command,
        args: rest,
        mode,
        stream: true,
        env: as_map(&args.env),
        workdir: args.workdir.as_deref(),
        timeout: args.timeout.map(|timeout| timeout.to_string()),
        stdin,
    };
    let path = format!("/sandboxes/{}/exec", component(&args.id)?);
    let response = send(Client::new(&args.server)?.request(Method::POST, &path).json(&body)).await?;
    let mut chunks = response.bytes_stream();
    let mut pending = Vec::new();
    while let Some(chunk) = chunks.next().await {
        pending.extend_from_slice(&chunk?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Some(status) = show(&line)? {
                return Ok(status);
            }
        }
    }
    Err(ClientError::Answer(
        "the stream ended before the command's exit status".to_owned(),
    ))
}

/// All of standard input, read where it does not hold up the connection.
async fn read_stdin() -> Result<String, ClientError> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    });
    let text = reading.await.map_err(|error| ClientError::Answer(error.to_string()))?;
    Ok(text?)
}

/// Shows a line of an exec's stream; the exit status when it is the last one.
fn show(line: &[u8]) -> Result<Option<ExitCode>, ClientError> {
    let line: ExecLine = serde_json::from_slice(line).map_err(|error| ClientError::Answer(error.to_string()))?;
    match line {
        ExecLine::Output { stream, data } => {
            let mut out: Box<dyn Write> = if stream == "stderr" {
                Box::new(std::io::stderr())
            } else {
                Box::new(std::io::stdout())
            };
            out.write_all(data.as_bytes())?;
            out.flush()?;
            Ok(None)
        }
        ExecLine::Exit {
            exit_code,
            timed_out,
            error,
        } => {
            if timed_out {
                writeln!(std::io::stderr(), "wisp: the command timed out")?;
            }
            if let Some(error) = error {
                writeln!(std::io::stderr(), "wisp: {error}")?;
            }
            // A status a process cannot have is a failure all the same.
            Ok(Some(ExitCode::from(u8::try_from(exit_code).unwrap_or(1))))
        }
    }
}
