//! What a sandbox runs on. One trait, two implementations: [`wasm`] (our kernel on wasmtime) and `docker` (a Docker
//! Engine).
//!
//! Every value that crosses the trait is owned, so that a provider can later live in another process.

pub mod archive;
#[cfg(feature = "docker")]
pub mod docker;
#[cfg(feature = "server")]
mod docker_config;
#[cfg(feature = "server")]
#[cfg(test)]
pub mod fake;
mod page;
mod path;
mod path_pattern;
pub mod wasm;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[cfg(feature = "server")]
pub use docker_config::{DockerConfig, PullPolicy};
pub use page::{DirPage, MAX_PAGE, Page};
pub use path::GuestPath;

/// What a sandbox is made of, after defaults and server limits were applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Image name as the user wrote it, such as `python:3.12`.
    pub image: String,
    /// Memory of all processes together, MiB.
    pub memory_mb: u64,
    /// How many processes may run at the same instant.
    pub vcpus: u32,
    /// Bytes of files the sandbox may hold beyond its image, MiB.
    pub disk_mb: u64,
    /// Processor time of all its processes, from when it is made or brought back; `None` for no limit.
    #[serde(default)]
    pub cpu_time: Option<Duration>,
    /// Environment of every exec, below the exec's own.
    pub env: BTreeMap<String, String>,
    /// What it may reach over the network.
    #[serde(default)]
    pub network: Network,
}

/// What a sandbox may reach over the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing.
    #[default]
    None,
    /// Named hosts.
    Allowlist,
    /// The internet.
    Public,
}

/// A command to run in a sandbox.
#[derive(Debug)]
pub struct ExecSpec {
    /// What to run.
    pub command: Command,
    /// Environment on top of the image's and the sandbox's.
    pub env: BTreeMap<String, String>,
    /// Absolute directory to start in; the image's own when `None`.
    pub workdir: Option<String>,
    /// Wall-clock limit, counted from the moment the command starts.
    pub timeout: Duration,
    /// Processor time of everything it starts, what stays in the background included; `None` for no limit.
    pub cpu_time: Option<Duration>,
    /// Units of fuel of everything it starts, what stays in the background included; `None` to count none.
    pub fuel: Option<u64>,
    /// What it reads on descriptor 0.
    pub stdin: Stdin,
}

/// Standard input of a command.
#[derive(Debug)]
pub enum Stdin {
    /// All of it at once; may be empty.
    Bytes(Bytes),
    /// Piece by piece, as it comes; it ends when the sender is dropped.
    Stream(mpsc::Receiver<Bytes>),
}

impl Default for Stdin {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

/// A signal a client may send to a command that runs: its name, with or without `SIG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Terminal closed, 1.
    #[serde(alias = "SIGHUP")]
    Hup,
    /// Ctrl-C, 2.
    #[serde(alias = "SIGINT")]
    Int,
    /// Ends it at once, 9.
    #[serde(alias = "SIGKILL")]
    Kill,
    /// Application-defined, 10.
    #[serde(alias = "SIGUSR1")]
    Usr1,
    /// Application-defined, 12.
    #[serde(alias = "SIGUSR2")]
    Usr2,
    /// Asks it to end, 15.
    #[serde(alias = "SIGTERM")]
    Term,
}

impl Signal {
    /// Its number on Linux.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Kill => 9,
            Self::Usr1 => 10,
            Self::Usr2 => 12,
            Self::Term => 15,
        }
    }
}

/// The two ways to name a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A script for `sh -c`.
    Shell(String),
    /// A program and its arguments, no shell; never empty.
    Argv(Vec<String>),
}

/// Which output stream a chunk belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// What a running command reports, in order; [`ExecEvent::Exit`] or [`ExecEvent::Failed`] comes once and last.
#[derive(Debug, Clone)]
pub enum ExecEvent {
    /// Bytes the command wrote.
    Output(OutputStream, Bytes),
    /// The command ended.
    Exit(ExecOutcome),
    /// It ended, but what it did cannot be vouched for: its files are not kept.
    Failed(ProviderError),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutcome {
    /// As a shell's `$?`: 126 and 127 as in `sh`, 128 + signal when killed, 124 when it timed out.
    pub exit_code: i32,
    /// The timeout ended it.
    pub timed_out: bool,
    /// Wall-clock time from start to end.
    pub duration: Duration,
    /// Processor time of everything it started, until its end; `None` when it is not measured.
    pub cpu_time: Option<Duration>,
    /// Units of fuel that everything it started used, until its end; `None` when they are not counted.
    pub fuel_used: Option<u64>,
    /// The limit that ended it, if one did.
    pub limit: Option<LimitHit>,
}

/// A limit that ends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitHit {
    /// Its own [`ExecSpec::cpu_time`].
    ExecCpuTime,
    /// Its sandbox's [`SandboxSpec::cpu_time`].
    SandboxCpuTime,
    /// Its own [`ExecSpec::fuel`].
    ExecFuel,
}

/// A running command. Dropping it kills the command and everything it started in the foreground.
pub struct Execution {
    /// Output and, last, the outcome. They are bounded: a reader that stops reading stops the command.
    pub events: ExecEvents,
    /// Sends it signals.
    pub control: std::sync::Arc<dyn ExecControl>,
    /// Held for its `Drop`, which cancels the command.
    pub cancel: Box<dyn Send + Sync>,
}

/// What a command reports, as it comes.
pub struct ExecEvents(BoxStream<'static, ExecEvent>);

impl ExecEvents {
    /// The next event; `None` when there will be no more.
    pub async fn recv(&mut self) -> Option<ExecEvent> {
        self.0.next().await
    }
}

impl From<mpsc::Receiver<ExecEvent>> for ExecEvents {
    fn from(events: mpsc::Receiver<ExecEvent>) -> Self {
        Self(ReceiverStream::new(events).boxed())
    }
}

impl From<BoxStream<'static, ExecEvent>> for ExecEvents {
    fn from(events: BoxStream<'static, ExecEvent>) -> Self {
        Self(events)
    }
}

/// A handle on a command that runs.
#[async_trait]
pub trait ExecControl: Send + Sync {
    /// Sends a signal to the command and what it started in the foreground. Not an error when it has ended.
    async fn signal(&self, signal: Signal) -> Result<(), ProviderError>;
}

/// The control of a command that has ended already, or that takes no signals.
#[derive(Debug, Clone, Copy)]
pub struct NoControl;

#[async_trait]
impl ExecControl for NoControl {
    async fn signal(&self, _signal: Signal) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// File contents in pieces of bounded size.
pub type ByteStream = BoxStream<'static, Result<Bytes, ProviderError>>;

/// One file, as `GET /files/stat` and `/files/list` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Last component of `path`; `/` for the root.
    pub name: String,
    /// Absolute path. Names that are not UTF-8 are shown with U+FFFD.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Whether it is a directory (a symbolic link is followed, as `stat` does).
    pub is_dir: bool,
    /// Nanoseconds since 1970, UTC.
    pub mtime_ns: u64,
    /// Permission bits, `0o7777`.
    pub mode: u32,
}

/// What a sandbox uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SandboxUsage {
    /// Bytes of memory charged to the sandbox.
    pub mem_bytes: u64,
    /// Bytes of files beyond the image.
    pub disk_bytes: u64,
    /// Live processes.
    pub processes: u32,
    /// Processor time used since the sandbox began, of all its processes together; `None` when it is not measured.
    pub cpu_time: Option<Duration>,
}

/// What a provider can do beyond what the trait demands, and how it differs from the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Short names, such as `exec`, `files`, `network_public`.
    pub names: Vec<&'static str>,
    /// One sentence for each known difference from the other providers.
    pub differences: Vec<&'static str>,
}

/// One step of a pull, for a progress display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// What is being done, in a few words.
    pub status: String,
    /// Which part, such as a layer's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Bytes done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// Why a provider could not do what it was asked.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
pub enum ProviderError {
    /// The provider knows no such image. Carries the images it can run.
    #[error(
        "image {image} not found; available images: {}; `wisp images pull` or POST /api/v1/images/pull (scope admin) gets \
         more", available.join(", ")
    )]
    ImageNotFound {
        /// What was asked for.
        image: String,
        /// Names that would have worked.
        available: Vec<String>,
    },
    /// The sandbox is not (or no longer) there.
    #[error("sandbox not found")]
    SandboxNotFound,
    /// No file at this path.
    #[error("{0}: no such file or directory")]
    FileNotFound(String),
    /// The path cannot be used for this: a directory where a file is needed, a directory that is not empty, …
    #[error("{path}: {reason}")]
    BadPath {
        /// The path as given.
        path: String,
        /// What is wrong with it, in the words of `strerror`.
        reason: String,
    },
    /// The request makes no sense: an empty command, a NUL byte, …
    #[error("{0}")]
    Invalid(String),
    /// A limit of the sandbox was hit: disk full, too many processes.
    #[error("{0}")]
    LimitReached(String),
    /// The machine the provider runs on has no room left to keep what was written.
    #[error("{0}")]
    StorageFull(String),
    /// Something else uses what is to be changed; the message names it.
    #[error("{0}")]
    InUse(String),
    /// This provider or image cannot do that; the message says what can.
    #[error("{0}")]
    Unsupported(String),
    /// The provider cannot be reached, or is shutting down.
    #[error("{0}")]
    Unavailable(String),
    /// The process that ran the sandbox is gone. The sandbox is not: it comes back with the next request.
    #[error("the process that ran this sandbox was lost; what was acknowledged is kept, and the next request finds it")]
    WorkerLost,
    /// The runtime failed. The message is for the log, not for the client.
    #[error("{0}")]
    Internal(String),
}

/// A way to run sandboxes. Paths are absolute, free of `..` and NUL: the API checked them.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Name in the API: `wasm`, `docker`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether sandboxes can be created now; the error says what is missing.
    async fn health(&self) -> Result<(), ProviderError>;

    /// Makes a sandbox of a tenant under this id. On error nothing is left behind.
    async fn create(&self, tenant: &str, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError>;

    /// Removes a sandbox and all it runs and holds. Not an error when it is gone already.
    async fn destroy(&self, id: &str) -> Result<(), ProviderError>;

    /// Brings back a sandbox that an earlier process of the server made under this id, with its files as of the last
    /// files call that was answered or the last exec that ended.
    ///
    /// [`ProviderError::SandboxNotFound`] when nothing is left of it; any other error when it cannot be brought back.
    async fn recover(&self, tenant: &str, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError>;

    /// Removes everything this provider holds for sandboxes that are not in `known`: left over by an earlier process.
    /// Returns how many there were.
    async fn remove_orphans(&self, known: &BTreeSet<String>) -> Result<usize, ProviderError>;

    /// Removes what an earlier process had asked for and what has come into being only since
    /// [`remove_orphans`](Self::remove_orphans): an engine that outlives the server finishes what it was told. Leaves
    /// alone what this process has made. Returns how many there were.
    async fn remove_late_orphans(&self, _known: &BTreeSet<String>) -> Result<usize, ProviderError> {
        Ok(0)
    }

    /// Starts a command. A program that does not exist is no error here: it ends with 127.
    async fn exec(&self, id: &str, exec: ExecSpec) -> Result<Execution, ProviderError>;

    /// Contents of a regular file.
    async fn read_file(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError>;

    /// Creates or replaces a file, with its parents; `mode` is kept when `None`, 0644 for a new file. Bytes written.
    async fn write_file(&self, id: &str, path: &str, mode: Option<u32>, body: ByteStream)
    -> Result<u64, ProviderError>;

    /// A page of the entries of a directory, in name order. Each page is of the directory as it is then.
    async fn list_dir(&self, id: &str, path: &str, page: Page) -> Result<DirPage, ProviderError>;

    /// One file or directory.
    async fn stat(&self, id: &str, path: &str) -> Result<FileInfo, ProviderError>;

    /// Removes a file, an empty directory, or with `recursive` a whole tree.
    async fn delete(&self, id: &str, path: &str, recursive: bool) -> Result<(), ProviderError>;

    /// Renames, as `rename(2)`.
    async fn rename(&self, id: &str, from: &str, to: &str) -> Result<(), ProviderError>;

    /// Sets permission bits.
    async fn chmod(&self, id: &str, path: &str, mode: u32) -> Result<(), ProviderError>;

    /// Paths that match an absolute pattern with `*`, `?`, `[…]`, `{a,b}` and `**`, in order.
    async fn glob(&self, id: &str, pattern: &str) -> Result<Vec<String>, ProviderError>;

    /// What the sandbox uses now.
    async fn usage(&self, id: &str) -> Result<SandboxUsage, ProviderError>;

    /// A tar of the tree below a directory, with names relative to it, or of one file under its own name.
    async fn read_archive(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError>;

    /// Unpacks a tar into a directory, which is made if there is none. Nothing lands outside that directory.
    /// What came before an error stays.
    async fn write_archive(&self, id: &str, path: &str, tar: ByteStream) -> Result<(), ProviderError>;

    /// Fetches and prepares an image, telling progress. An image that is there already is done at once. Errors that need
    /// no work, above all [`ProviderError::ImageNotFound`], come before any progress.
    async fn pull_image(&self, image: &str, progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError>;

    /// Removes an image that no sandbox uses, so that it is no longer in the image catalog.
    ///
    /// [`ProviderError::InUse`] when another image builds on it.
    async fn remove_image(&self, _image: &str) -> Result<(), ProviderError> {
        let message = format!(
            "provider {} removes no images; use the tools of its engine",
            self.name()
        );
        Err(ProviderError::Unsupported(message))
    }
}
