//! A machine of its own for a program that is run once, at installation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::error::BuildError;
use wisp_image::Digest;
use wisp_image::Installation;
use wisp_kernel::{
    ExecError, ExecRequest, ExitStatus, Input, Kernel, Launch, Limits, OutputSink, Program, ProgramSpec, Programs,
    Runtime, Snapshot, Stream, file_contents,
};
use wisp_vfs::{Fs, Limits as FileLimits, ROOT, Tree};

/// Longest such a program may take.
const TIMEOUT: Duration = Duration::from_mins(10);
/// What it may use. It comes from the recipe, so this only keeps mistakes small.
const LIMITS: Limits = Limits {
    memory_bytes: 2 << 30,
    processes: 8,
    descriptors: 1024,
    vcpus: 1,
    cpu_time: None,
};
/// What it may write.
const FILES: FileLimits = FileLimits {
    max_bytes: 2 << 30,
    max_inodes: 1 << 20,
};
/// Bytes of its output that are kept, the last of each stream.
const KEPT_BYTES: usize = 4096;

/// What to run, and where.
pub(crate) struct Task<'a> {
    /// The image, for messages.
    pub(crate) image: &'a str,
    /// The compiled module.
    pub(crate) module: Digest,
    /// Its program file, which is made for it, and its arguments.
    pub(crate) arguments: Vec<String>,
    /// `KEY=value`.
    pub(crate) environment: Vec<String>,
    /// The directories it finds preopened.
    pub(crate) preopens: Vec<String>,
    /// How it starts.
    pub(crate) launch: Launch,
    /// The files of the machine.
    pub(crate) tree: Tree,
}

/// A machine with one program.
pub(crate) struct Machine {
    image: String,
    fs: Fs,
    kernel: Arc<Kernel>,
    request: ExecRequest,
    output: Arc<Output>,
    waiting: tokio::runtime::Runtime,
}

/// The last bytes the program wrote to standard output and error.
#[derive(Default)]
struct Output(Mutex<[Vec<u8>; 2]>);

#[async_trait::async_trait]
impl OutputSink for Output {
    async fn write(&self, stream: Stream, bytes: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut kept[usize::from(matches!(stream, Stream::Stderr))];
        kept.extend_from_slice(&bytes);
        let excess = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..excess);
    }
}

impl Output {
    fn take(&self) -> [String; 2] {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *kept).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Machine {
    /// Sets the machine up. Nothing runs yet.
    pub(crate) fn new(task: Task<'_>, store: &Installation<'_>, runtime: &Arc<Runtime>) -> Result<Self, BuildError> {
        let failed = |reason: String| BuildError::Build {
            image: task.image.to_owned(),
            reason,
        };
        let module = store.load_module(&runtime.engines().without_fuel(), task.module)?;
        let digest = task.module.to_string();
        let contents = file_contents(&digest);
        let spec = ProgramSpec {
            digest,
            preopens: task.preopens,
            launch: task.launch,
            ignores_sigpipe: false,
        };
        let program = Program::new(runtime, spec, &module).map_err(|error| failed(format!("{error:#}")))?;
        let mut programs = Programs::default();
        programs.insert(program);

        let fs = Fs::from_tree(&task.tree, FILES);
        let len = contents.len();
        let argv: Vec<Vec<u8>> = task.arguments.into_iter().map(String::into_bytes).collect();
        let program_file = argv.first().map_or(&b""[..], Vec::as_slice);
        wisp_image::make_room(&fs, program_file)
            .and_then(|()| fs.import_file(ROOT, program_file, 0o755, Arc::new(contents), 0..len))
            .map_err(|error| failed(error.to_string()))?;
        // What is installed depends on the recipe alone.
        fs.set_clock(wisp_image::file_time);
        let kernel = Kernel::repeatable(runtime, fs.clone(), Arc::new(programs), LIMITS, "setup")
            .map_err(|error| failed(error.to_string()))?;
        let output = Arc::new(Output::default());
        let request = ExecRequest {
            path: Vec::new(),
            argv,
            environment: task.environment.into_iter().map(String::into_bytes).collect(),
            cwd: b"/".to_vec(),
            stdin: Input::default(),
            output: output.clone(),
            cpu_time: None,
            fuel: None,
            simple_command: None,
        };
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let waiting = waiting.map_err(BuildError::io("the setup's runtime"))?;
        Ok(Self {
            image: task.image.to_owned(),
            fs,
            kernel,
            request,
            output,
            waiting,
        })
    }

    /// Its files.
    pub(crate) fn fs(&self) -> &Fs {
        &self.fs
    }

    /// Runs the program, which must succeed.
    pub(crate) fn run(self) -> Result<(), BuildError> {
        let outcome = self.waiting.block_on(async {
            let mut exec = self.kernel.exec(self.request)?;
            exec.started(TIMEOUT).await?;
            Ok(exec.wait(TIMEOUT).await)
        });
        let outcome = outcome.map_err(|error: ExecError| failed(&self.image, error.to_string()))?;
        check(&self.image, outcome.status, &self.output.take())
    }

    /// Runs the program, which must succeed, and returns its state at the end and what it wrote to standard output.
    pub(crate) fn run_to_snapshot(self, globals: &[String]) -> Result<(Snapshot, String), BuildError> {
        let snapshot = self.waiting.block_on(async {
            tokio::time::timeout(TIMEOUT, self.kernel.run_to_snapshot(self.request, globals)).await
        });
        let snapshot = snapshot.map_err(|_| failed(&self.image, "its preparation takes too long".to_owned()))?;
        let snapshot = snapshot.map_err(|error| failed(&self.image, error.to_string()))?;
        let written = self.output.take();
        check(&self.image, snapshot.status, &written)?;
        let [stdout, _] = written;
        Ok((snapshot, stdout))
    }
}

fn check(image: &str, status: ExitStatus, [stdout, stderr]: &[String; 2]) -> Result<(), BuildError> {
    if status == ExitStatus::Exited(0) {
        return Ok(());
    }
    Err(failed(
        image,
        format!("its preparation ended with {status:?}: {stdout}{stderr}"),
    ))
}

fn failed(image: &str, reason: String) -> BuildError {
    BuildError::Build {
        image: image.to_owned(),
        reason,
    }
}
