//! Machines to run guest programs on, in process.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use wasmtime::Module;
use wisp::kernel::{
    CompiledModule, Exec, ExecError, ExecRequest, Input, Kernel, Launch, Limits, Outcome, OutputSink, Program,
    ProgramSpec, Programs, Runtime, Stream, file_contents, install_system_directories,
};
use wisp::vfs::{self, Fs, OpenOptions, ROOT, Tree};

/// What the files of a machine may hold, unless a test says otherwise.
pub const DISK: vfs::Limits = vfs::Limits {
    max_bytes: 64 << 20,
    max_inodes: 4096,
};

/// An image with one program, `/usr/bin/NAME`.
pub struct Image {
    runtime: Arc<Runtime>,
    programs: Arc<Programs>,
    tree: Tree,
    program: String,
}

impl Image {
    /// Compiles the program of a `.wasm` file.
    pub fn of(runtime: &Arc<Runtime>, wasm: &Path) -> anyhow::Result<Self> {
        let bytes = wisp::image::bound_bulk_memory(&std::fs::read(wasm)?)?;
        let name = wasm.file_stem().unwrap_or_default().to_string_lossy();
        // To the kernel a digest is a name, and this is the image's only program.
        let digest = "a".repeat(64);
        let module = CompiledModule::load(&runtime.engines(), |engine| Module::new(engine, &bytes));
        let module = module.map_err(|error| not_loaded(&error))?;
        let spec = ProgramSpec {
            digest: digest.clone(),
            preopens: vec!["/".to_owned()],
            launch: Launch::Command { arguments: Vec::new() },
            ignores_sigpipe: false,
        };
        let mut programs = Programs::default();
        programs.insert(Program::new(runtime, spec, &module).map_err(|error| not_loaded(&error))?);
        let fs = Fs::new(DISK);
        install_system_directories(&fs)?;
        fs.create_dir_all(ROOT, b"/usr/bin", 0o755)?;
        let program = format!("/usr/bin/{name}");
        let options = OpenOptions {
            create: true,
            mode: 0o755,
            ..OpenOptions::default()
        };
        fs.open(ROOT, program.as_bytes(), &options)?
            .write_at(0, &file_contents(&digest))?;
        Ok(Self {
            runtime: Arc::clone(runtime),
            programs: Arc::new(programs),
            tree: fs.freeze(),
            program,
        })
    }

    /// A fresh machine.
    pub fn machine(&self, limits: Limits, disk: vfs::Limits) -> anyhow::Result<Machine> {
        let fs = Fs::from_tree(&self.tree, disk);
        let kernel = Kernel::new(&self.runtime, fs, Arc::clone(&self.programs), limits, "machine")?;
        Ok(Machine {
            kernel,
            program: self.program.clone(),
        })
    }
}

/// wasmtime's error type is its own.
fn not_loaded(error: &wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("loading a guest program: {error:#}")
}

/// A machine that runs the program of its image.
pub struct Machine {
    /// Its kernel.
    pub kernel: Arc<Kernel>,
    program: String,
}

/// What a run of the program may use.
#[derive(Default)]
struct Bounds {
    cpu_time: Option<Duration>,
    fuel: Option<u64>,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Machine {
    /// Starts the program in `/tmp` with these arguments.
    pub fn start(&self, arguments: &[&str], output: Arc<dyn OutputSink>) -> Result<Exec, ExecError> {
        self.start_within(arguments, output, Bounds::default())
    }

    fn start_within(&self, arguments: &[&str], output: Arc<dyn OutputSink>, bounds: Bounds) -> Result<Exec, ExecError> {
        let argv = std::iter::once(self.program.as_str()).chain(arguments.iter().copied());
        self.kernel.exec(ExecRequest {
            path: self.program.clone().into_bytes(),
            argv: argv.map(|argument| argument.as_bytes().to_vec()).collect(),
            environment: vec![b"PATH=/usr/bin".to_vec()],
            cwd: b"/tmp".to_vec(),
            stdin: Input::Bytes(Bytes::from_static(b"standard input")),
            output,
            cpu_time: bounds.cpu_time,
            fuel: bounds.fuel,
            simple_command: None,
        })
    }

    /// Runs the program to its end, or for `timeout`.
    pub async fn run(&self, arguments: &[&str], timeout: Duration) -> Result<Ran, ExecError> {
        self.run_limited(arguments, timeout, Bounds::default()).await
    }

    /// As [`Machine::run`], with a limit of processor time.
    pub async fn run_within(
        &self,
        arguments: &[&str],
        timeout: Duration,
        cpu_time: Duration,
    ) -> Result<Ran, ExecError> {
        let bounds = Bounds {
            cpu_time: Some(cpu_time),
            ..Bounds::default()
        };
        self.run_limited(arguments, timeout, bounds).await
    }

    /// As [`Machine::run`], with a budget of fuel.
    pub async fn run_with_fuel(&self, arguments: &[&str], timeout: Duration, fuel: u64) -> Result<Ran, ExecError> {
        let bounds = Bounds {
            fuel: Some(fuel),
            ..Bounds::default()
        };
        self.run_limited(arguments, timeout, bounds).await
    }

    async fn run_limited(&self, arguments: &[&str], timeout: Duration, bounds: Bounds) -> Result<Ran, ExecError> {
        let output = Arc::new(Capture::default());
        let mut exec = self.start_within(arguments, Arc::clone(&output) as _, bounds)?;
        exec.started(timeout).await?;
        let outcome = exec.wait(timeout).await;
        Ok(Ran {
            outcome,
            stdout: output.text(Stream::Stdout),
            stderr: output.text(Stream::Stderr),
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kernel.shut_down();
    }
}

/// Keeps the output of a program.
#[derive(Default)]
pub struct Capture {
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

impl Capture {
    /// What came so far.
    pub fn text(&self, stream: Stream) -> String {
        String::from_utf8_lossy(&self.bytes(stream).lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn bytes(&self, stream: Stream) -> &Mutex<Vec<u8>> {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }
}

#[async_trait::async_trait]
impl OutputSink for Capture {
    async fn write(&self, stream: Stream, bytes: Bytes) {
        self.bytes(stream)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&bytes);
    }
}
