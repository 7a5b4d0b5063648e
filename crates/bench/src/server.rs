//! The server that is measured: this program as `wisp serve`, a process of its own.

use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::competitors::docker;
use super::error::BenchError;

/// What the server's log says before its URL.
const ANNOUNCEMENT: &str = "serves ";
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of the log that are told when it does not start.
const LOG_LINES: usize = 20;
/// Variables that say where images are. Others of ours would configure the measured server differently from what the
/// report says.
const KEPT_VARIABLES: [&str; 3] = ["WISP_CACHE_DIR", "WISP_IMAGES_DIR", "WISP_BUILD_DIR"];

/// A running server; stopped when dropped, with what it kept.
pub struct Server {
    /// Base URL of its API.
    url: String,
    http: Client,
    /// A client with the key of each tenant.
    tenants: Vec<Client>,
    process: Child,
    /// From its start until it listened.
    pub ready: Duration,
    data: DataDirectory,
}

/// A directory for one server's data; removed when dropped.
struct DataDirectory(PathBuf);

impl DataDirectory {
    fn new() -> Result<Self, BenchError> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wisp-bench-{}-{number}", std::process::id()));
        // Fails when somebody else made it: what is in it would be taken for ours.
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(BenchError::io(path.display().to_string()))?;
        Ok(Self(path))
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // In the temporary directory; the system sees to what is left.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Server {
    /// Starts a server that loads these images, and waits until it listens.
    pub async fn start(images: &[&str], max_sandboxes: usize) -> Result<Self, BenchError> {
        Self::start_with(images, max_sandboxes, "tenant", 0).await
    }

    /// The same with this isolation, and keys for so many tenants; without keys there is one tenant.
    pub async fn start_with(
        images: &[&str],
        max_sandboxes: usize,
        isolation: &str,
        tenants: usize,
    ) -> Result<Self, BenchError> {
        let data = DataDirectory::new()?;
        let keys: String = (0..tenants).map(key_of_tenant).collect();
        std::fs::write(data.0.join("wisp.toml"), keys).map_err(BenchError::io("wisp.toml"))?;
        let program = std::env::current_exe().map_err(BenchError::io("this program"))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let ours = name.to_string_lossy().starts_with("WISP_");
            if ours && !KEPT_VARIABLES.iter().any(|kept| name == *kept) {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            // Where no wisp.toml of anybody else's is read.
            .current_dir(&data.0)
            .env_remove("RUST_LOG")
            .env("WISP_DATA_DIR", &data.0)
            .env("WISP_IMAGES", images.join(","))
            .env("WISP_ISOLATION", isolation)
            .env("WISP_LIMITS_MAX_SANDBOXES", max_sandboxes.to_string())
            // One tenant may have all of them.
            .env("WISP_LIMITS_TENANT_SHARE_PERCENT", "100")
            // Idle sandboxes are many, and use little of what they ask for.
            .env("WISP_LIMITS_MAX_TOTAL_MEMORY_MB", "0")
            .env("WISP_LIMITS_MAX_TOTAL_DISK_MB", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C reaches this program, which then ends the server.
            .process_group(0)
            .kill_on_drop(true);
        let started = Instant::now();
        let mut process = command.spawn().map_err(BenchError::io("wisp serve"))?;
        let stderr: Option<ChildStderr> = process.stderr.take();
        let stderr = stderr.ok_or_else(|| BenchError::Unexpected("wisp serve has no standard error".to_owned()))?;
        let mut log = BufReader::new(stderr).lines();
        let url = tokio::time::timeout(PATIENCE, announced_url(&mut log))
            .await
            .map_err(|_| BenchError::Unexpected("wisp serve does not start".to_owned()))??;
        let ready = started.elapsed();
        // A full pipe would stop the server.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        wisp::registry::set_up_tls();
        Ok(Self {
            url,
            http: Client::new(),
            tenants: (0..tenants).map(client_of).collect::<Result<_, _>>()?,
            process,
            ready,
            data,
        })
    }

    /// Memory that belongs to the server and its workers alone, bytes.
    pub fn private_dirty(&self) -> Result<u64, BenchError> {
        let pid = self.process.id().unwrap_or_default();
        let own = super::machine::private_dirty(pid).map_err(BenchError::io("the server's memory"))?;
        // A worker may end meanwhile.
        let workers = super::machine::children(pid)
            .into_iter()
            .filter_map(|pid| super::machine::private_dirty(pid).ok());
        Ok(own + workers.sum::<u64>())
    }

    /// Creates a sandbox of one of the tenants that [`Server::start_with`] made keys for.
    pub async fn create_for(&self, tenant: usize, image: &str) -> Result<Sandbox, BenchError> {
        Self::create_with(&self.tenants[tenant], &self.url, "wasm", image).await
    }

    /// Creates a sandbox.
    pub async fn create(&self, provider: &str, image: &str) -> Result<Sandbox, BenchError> {
        Self::create_with(&self.http, &self.url, provider, image).await
    }

    async fn create_with(http: &Client, url: &str, provider: &str, image: &str) -> Result<Sandbox, BenchError> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let body = json!({"provider": provider, "image": image, "vcpus": processors.min(16), "ttl": "1h"});
        let request = http.request(Method::POST, format!("{url}/sandboxes")).json(&body);
        let (status, answer) = answer(request).await?;
        let id = answer["id"].as_str().filter(|_| status == 201);
        let id = id.ok_or_else(|| refused("creating a sandbox", status, &answer))?;
        Ok(Sandbox {
            http: http.clone(),
            url: format!("{url}/sandboxes/{id}"),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Containers outlive their server; it is not started again, so nobody else removes them.
        if let Ok(id) = std::fs::read_to_string(self.data.0.join("server-id")) {
            docker::remove_labelled(&format!("wisp.server={}", id.trim()));
        }
    }
}

/// The key of a tenant of a server that is measured.
fn key_of(tenant: usize) -> String {
    format!("wisp-bench-tenant-{tenant}")
}

fn client_of(tenant: usize) -> Result<Client, BenchError> {
    let key = HeaderValue::from_str(&key_of(tenant)).map_err(|error| BenchError::Unexpected(error.to_string()))?;
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), key)]);
    wisp::registry::set_up_tls();
    Ok(Client::builder().default_headers(headers).build()?)
}

/// What the configuration says of that key.
fn key_of_tenant(tenant: usize) -> String {
    let digest = Sha256::digest(key_of(tenant));
    let hex = hex::encode(digest);
    format!("[[auth.keys]]\nname = \"t{tenant}\"\ntenant = \"t{tenant}\"\nsha256 = \"{hex}\"\n")
}

async fn announced_url<R: AsyncRead + Unpin>(log: &mut Lines<BufReader<R>>) -> Result<String, BenchError> {
    let mut last = VecDeque::new();
    while let Some(line) = log.next_line().await.map_err(BenchError::io("the server's log"))? {
        if let Some((_, url)) = line.split_once(ANNOUNCEMENT) {
            return Ok(url.split_whitespace().next().unwrap_or_default().to_owned());
        }
        last.push_back(line);
        if last.len() > LOG_LINES {
            last.pop_front();
        }
    }
    let lines: Vec<String> = last.into();
    Err(BenchError::Unexpected(format!(
        "wisp serve does not start: {}",
        lines.join("; ")
    )))
}

/// A sandbox of a server, reached over a connection that is kept.
#[derive(Clone)]
pub struct Sandbox {
    http: Client,
    url: String,
}

/// A command's answer.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
    /// From the request to the last byte of the answer.
    pub elapsed: Duration,
}

impl Sandbox {
    /// Runs a command; `request` is the body.
    pub async fn exec(&self, request: &Value) -> Result<Answer, BenchError> {
        let started = Instant::now();
        let request = self.exec_request().json(request);
        let (status, body) = answer(request).await?;
        Ok(Answer {
            status,
            body,
            elapsed: started.elapsed(),
        })
    }

    /// Runs a command that must succeed, and returns what it wrote.
    pub async fn output(&self, request: &Value) -> Result<(String, Duration), BenchError> {
        let answer = self.exec(request).await?;
        match answer.body["stdout"].as_str() {
            Some(stdout) if answer.status == 200 && answer.body["exit_code"] == 0 => {
                Ok((stdout.to_owned(), answer.elapsed))
            }
            _ => Err(refused("a command", answer.status, &answer.body)),
        }
    }

    /// Starts a command whose output comes line by line; it runs until the response is dropped.
    pub async fn stream(&self, mut request: Value) -> Result<reqwest::Response, BenchError> {
        request["stream"] = json!(true);
        Ok(self.exec_request().json(&request).send().await?)
    }

    /// Destroys it.
    pub async fn destroy(&self) -> Result<(), BenchError> {
        let (status, body) = answer(self.http.delete(&self.url)).await?;
        if status == 200 {
            Ok(())
        } else {
            Err(refused("destroying a sandbox", status, &body))
        }
    }

    fn exec_request(&self) -> RequestBuilder {
        self.http.post(format!("{}/exec", self.url))
    }
}

async fn answer(request: RequestBuilder) -> Result<(u16, Value), BenchError> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok((status, response.json().await?))
}

fn refused(what: &str, status: u16, body: &Value) -> BenchError {
    let reason = body["message"]
        .as_str()
        .or(body["stderr"].as_str())
        .unwrap_or("no reason given");
    BenchError::Unexpected(format!("{what}: HTTP {status}: {reason}"))
}
