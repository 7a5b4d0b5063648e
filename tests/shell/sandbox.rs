//! Runs cases in the sandbox: each on a fresh machine of image `base`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use wisp::image::{ImageStore, Loader, LogProgress};
use wisp::kernel::{self, ExecRequest, Input, Kernel, OutputSink, Programs, Runtime, Stream};
use wisp::vfs::{self, Fs, ROOT, Tree};
use wisp_image_build::{Builder, default_folder};

use super::case_file::Outcome;

/// Home directory of a case.
pub const HOME: &str = "/root";
/// Where a case starts: an empty directory.
pub const DIRECTORY: &str = "/root/case";
/// The rest of a case's environment.
pub const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
];
/// Longest a case may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of output kept of a case.
const MAX_OUTPUT: usize = 1 << 20;
/// What a case may store.
const FILES: vfs::Limits = vfs::Limits {
    max_bytes: 256 << 20,
    max_inodes: 65_536,
};

/// Makes machines.
pub struct Sandboxes {
    runtime: Arc<Runtime>,
    tree: Tree,
    programs: Arc<Programs>,
}

/// What came of a case.
pub struct Run {
    /// What is compared.
    pub outcome: Outcome,
    /// Standard error, to explain a difference.
    pub stderr: String,
    /// Whether it took too long.
    pub timed_out: bool,
}

impl Sandboxes {
    /// Loads the image `base`, and installs it first if it is missing or its recipe has changed.
    pub fn of_base_image() -> Result<Self> {
        let threads = std::thread::available_parallelism()?.get();
        let runtime = Runtime::new(threads).map_err(Error::msg)?;
        let store = Arc::new(ImageStore::open_default()?);
        Builder::new(&store, default_folder(), Arc::clone(&runtime)).install("base", &LogProgress)?;
        let image = Loader::new(store, runtime.engines()).load("base")?;
        let mut programs = Programs::default();
        for program in image.programs {
            programs.insert(program.link(&runtime).map_err(Error::msg)?);
        }
        Ok(Self {
            runtime,
            tree: image.tree,
            programs: Arc::new(programs),
        })
    }

    /// Runs `bash -c SCRIPT` on a new machine.
    pub async fn run(&self, script: &str) -> Result<Run> {
        let fs = Fs::from_tree(&self.tree, FILES);
        fs.create_dir_all(ROOT, DIRECTORY.as_bytes(), 0o755)?;
        let limits = kernel::Limits::default();
        let kernel = Kernel::new(&self.runtime, fs, Arc::clone(&self.programs), limits, "sandbox")?;
        let output = Arc::new(Output::default());
        let variables = ENVIRONMENT.into_iter().chain([("HOME", HOME)]);
        let mut exec = kernel.exec(ExecRequest {
            path: b"/bin/bash".to_vec(),
            argv: ["bash", "-c", script]
                .map(|argument| argument.as_bytes().to_vec())
                .to_vec(),
            environment: variables
                .map(|(name, value)| format!("{name}={value}").into_bytes())
                .collect(),
            cwd: DIRECTORY.as_bytes().to_vec(),
            stdin: Input::default(),
            output: Arc::clone(&output) as Arc<dyn OutputSink>,
            cpu_time: None,
            fuel: None,
            simple_command: None,
        })?;
        exec.started(TIMEOUT).await?;
        let end = exec.wait(TIMEOUT).await;
        kernel.shut_down();
        let outcome = Outcome {
            stdout: text(&output.stdout),
            status: end.status.shell_code(),
        };
        Ok(Run {
            outcome,
            stderr: text(&output.stderr),
            timed_out: end.timed_out,
        })
    }
}

/// Keeps what a case writes.
#[derive(Default)]
struct Output {
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

#[async_trait]
impl OutputSink for Output {
    async fn write(&self, stream: Stream, bytes: Bytes) {
        let kept = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_OUTPUT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    }
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}
