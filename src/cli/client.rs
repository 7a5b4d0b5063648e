//! The subcommands that talk to a server.

mod copy;
mod interactive;
mod pack;
mod unpack;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub use copy::copy;

use super::{CreateArgs, ExecArgs, KillArgs, ListArgs, ServerArgs, terminal};
use crate::provider::archive::ArchiveError;

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server cannot be reached, or the connection broke.
    #[error("cannot talk to the server: {}", terminal::printable(&innermost(.0)))]
    Transport(#[from] reqwest::Error),
    /// The WebSocket cannot be opened, or broke.
    #[error("cannot talk to the server: {}", terminal::printable(&.0.to_string()))]
    WebSocket(Box<tungstenite::Error>),
    /// The server refused.
    #[error(
        "{} (HTTP {status}, request {})",
        terminal::printable(message),
        terminal::printable_line(request_id)
    )]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words.
        message: String,
        /// For the server's log.
        request_id: String,
    },
    /// The server ended the conversation.
    #[error(
        "{} (request {})",
        terminal::printable(message),
        terminal::printable_line(request_id)
    )]
    Ended {
        /// The server's words.
        message: String,
        /// For the server's log.
        request_id: String,
    },
    /// The server's answer makes no sense.
    #[error("the server's answer is not understood: {}", terminal::printable(.0))]
    Answer(String),
    /// What was asked for cannot be done.
    #[error("{0}")]
    Usage(String),
    /// Standard input or output failed.
    #[error("{0}")]
    Terminal(#[from] std::io::Error),
    /// A file of this machine cannot be read or written.
    #[error("{path}: {source}", path = printable(path))]
    Local {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// An archive cannot be unpacked.
    #[error("{}", terminal::printable(&.0.to_string()))]
    Archive(#[from] ArchiveError),
}

/// A path for the terminal. Names in a sandbox are whatever its programs chose, also what a terminal would obey.
fn printable(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

impl From<tungstenite::Error> for ClientError {
    fn from(error: tungstenite::Error) -> Self {
        let tungstenite::Error::Http(response) = error else {
            return Self::WebSocket(Box::new(error));
        };
        let text = response.body().as_deref().unwrap_or_default();
        refused(response.status().as_u16(), &String::from_utf8_lossy(text))
    }
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
    fuel: Option<u64>,
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

/// A line of an exec's stream, or a message of its WebSocket.
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
        fuel_used: Option<u64>,
    },
    Refused(Refusal),
}

fn as_map(pairs: &[(String, String)]) -> BTreeMap<&str, &str> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

impl<'a> Client<'a> {
    fn new(server: &'a ServerArgs) -> Result<Self, ClientError> {
        crate::registry::set_up_tls();
        // No overall timeout: a command may run for as long as the server lets it.
        Ok(Self {
            http: reqwest::Client::builder()
                // Another server must not get the key.
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            server,
        })
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Result<RequestBuilder, ClientError> {
        let mut request = self.http.request(method, self.url(path, query)?);
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        Ok(request)
    }

    /// Opens a WebSocket.
    async fn websocket(&self, path: &str) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, ClientError> {
        let url = self.url(path, &[])?;
        let mut request = url.as_str().replacen("http", "ws", 1).into_client_request()?;
        for (name, value) in self.headers() {
            let bad = |_| ClientError::Usage(format!("{name} has characters that no header may have"));
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).map_err(bad)?);
        }
        Ok(connect_async(request).await?.0)
    }

    /// The URL of a path below `/api/v1`.
    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url, ClientError> {
        let base = &self.server.server;
        let url = format!("{}/api/v1{path}", base.trim_end_matches('/'));
        let mut url = Url::parse(&url).map_err(|error| ClientError::Usage(format!("server \"{base}\": {error}")))?;
        if url.scheme() != "http" {
            return Err(ClientError::Usage(format!(
                "server \"{base}\": wisp speaks http:// only; reach a server behind TLS through a tunnel"
            )));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// The headers that say who is asking: key and user.
    fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let key = self.server.api_key.as_deref().map(|key| ("x-api-key", key));
        let user = self.server.user_id.as_deref().map(|user| ("x-user-id", user));
        key.into_iter().chain(user)
    }
}

/// Sends a request; an answer that is no success becomes an error.
async fn send(request: RequestBuilder) -> Result<Response, ClientError> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    Err(refused(status.as_u16(), &response.text().await?))
}

/// The error in an answer.
fn refused(status: u16, text: &str) -> ClientError {
    let refusal = serde_json::from_str(text).unwrap_or(Refusal {
        message: text.to_owned(),
        request_id: String::new(),
    });
    ClientError::Refused {
        status,
        message: refusal.message,
        request_id: refusal.request_id,
    }
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
        Err(ClientError::Usage(format!("\"{id}\" is not the id of a sandbox")))
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
        .request(Method::POST, "/sandboxes", &[])?
        .json(&body);
    let sandbox: SandboxRow = send(request).await?.json().await?;
    writeln!(std::io::stdout(), "{}", terminal::printable_line(&sandbox.id))?;
    Ok(ExitCode::SUCCESS)
}

/// `wisp list`: a table, or the server's JSON.
///
/// # Errors
/// What the server reports.
pub async fn list(args: &ListArgs) -> Result<ExitCode, ClientError> {
    let response = send(Client::new(&args.server)?.request(Method::GET, "/sandboxes", &[])?).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", terminal::printable_json(&response.text().await?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<SandboxRow> = response.json().await?;
    writeln!(
        out,
        "{:<36}{:<10}{:<20}{:<10}{:>7}  EXPIRES",
        "ID", "STATE", "IMAGE", "PROVIDER", "MEMORY"
    )?;
    for row in rows {
        let memory_mb = row.memory_mb;
        let [id, state, image, provider, expires_at] =
            [row.id, row.state, row.image, row.provider, row.expires_at].map(|text| terminal::printable_line(&text));
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
        let path = format!("/sandboxes/{}", component(id)?);
        send(client.request(Method::DELETE, &path, &[])?).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `wisp exec`: output as it comes, and the command's own exit status.
///
/// # Errors
/// What the server reports; a stream that breaks off before the command's end.
pub async fn exec(args: &ExecArgs) -> Result<ExitCode, ClientError> {
    let (mode, command, rest) = match (&args.program.script, args.program.argv.split_first()) {
        (Some(script), _) => ("shell", script, &[][..]),
        (None, Some((program, rest))) => ("argv", program, rest),
        (None, None) => return Err(ClientError::Usage("no command given".to_owned())),
    };
    let body = ExecBody {
        command,
        args: rest,
        mode,
        stream: true,
        env: as_map(&args.env),
        workdir: args.workdir.as_deref(),
        timeout: args.timeout.map(|timeout| timeout.to_string()),
        fuel: args.fuel,
    };
    let client = Client::new(&args.server)?;
    let path = format!("/sandboxes/{}/exec", component(&args.id)?);
    if args.interactive {
        interactive::exec(&client, &format!("{path}/ws"), &body).await
    } else {
        streamed(client.request(Method::POST, &path, &[])?.json(&body)).await
    }
}

/// Shows the lines of a streamed exec, up to the command's end.
async fn streamed(request: RequestBuilder) -> Result<ExitCode, ClientError> {
    let mut chunks = send(request).await?.bytes_stream();
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
            fuel_used,
        } => {
            if timed_out {
                writeln!(std::io::stderr(), "wisp: the command timed out")?;
            }
            if let Some(error) = error {
                writeln!(std::io::stderr(), "wisp: {}", terminal::printable(&error))?;
            }
            if let Some(units) = fuel_used {
                writeln!(std::io::stderr(), "wisp: {units} units of fuel used")?;
            }
            // A status a process cannot have is a failure all the same.
            Ok(Some(ExitCode::from(u8::try_from(exit_code).unwrap_or(1))))
        }
        ExecLine::Refused(Refusal { message, request_id }) => Err(ClientError::Ended { message, request_id }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_server_do_not_command_the_terminal() {
        let hostile = "no\u{1b}[2J\u{9b}31m\r";
        let errors = [
            refused(
                400,
                &serde_json::json!({"message": hostile, "request_id": hostile}).to_string(),
            ),
            refused(500, hostile),
            ClientError::Answer(hostile.to_owned()),
            ClientError::Ended {
                message: hostile.to_owned(),
                request_id: hostile.to_owned(),
            },
        ];
        for error in errors {
            let shown = error.to_string();
            assert!(
                shown.contains("no") && !shown.chars().any(char::is_control),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn a_name_from_a_sandbox_does_not_command_the_terminal() {
        let shown = ClientError::Local {
            path: PathBuf::from("dir/\u{1b}[2Jé \n"),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let shown = shown.to_string();
        assert!(shown.starts_with(r"dir/\u{1b}[2Jé \n: "), "{shown}");
    }
}
