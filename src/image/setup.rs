//! Running a program once, at installation, in a machine of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::compile;
use super::digest::Digest;
use super::error::ImageError;
use super::layer;
use super::private_dir::PrivateDir;
use crate::kernel::{
    ExecRequest, ExitStatus, Kernel, Launch, Limits, OutputSink, Program, ProgramSpec, Programs, Runtime, Stream,
    file_contents,
};
use crate::vfs::{Fs, Limits as FileLimits, ROOT, Tree};

/// Longest a setup may take.
const TIMEOUT: Duration = Duration::from_secs(600);
/// What a setup may use: its program comes from the recipe, so this only keeps mistakes small.
const MACHINE: Limits = Limits {
    memory_bytes: 2 << 30,
    processes: 8,
    descriptors: 1024,
    vcpus: 1,
};
/// What it may write.
const FILES: FileLimits = FileLimits {
    max_bytes: 2 << 30,
    max_inodes: 1 << 20,
};
/// Bytes of its output that an error shows.
const SHOWN_BYTES: usize = 4096;

/// A setup that is ready to run.
pub(super) struct Setup<'a> {
    /// The image, for messages.
    pub(super) image: &'a str,
    /// The compiled module to run.
    pub(super) module: Digest,
    /// Its program file, which is made for it, and its arguments.
    pub(super) arguments: Vec<String>,
    /// The files of its machine.
    pub(super) tree: Tree,
    /// The directory it fills.
    pub(super) output: &'a str,
}

/// The last bytes a setup wrote.
#[derive(Default)]
struct LastWords(Mutex<Vec<u8>>);

#[async_trait::async_trait]
impl OutputSink for LastWords {
    async fn write(&self, _: Stream, bytes: Bytes) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&bytes);
        let excess = words.len().saturating_sub(SHOWN_BYTES);
        words.drain(..excess);
    }
}

impl Setup<'_> {
    /// Runs the program and packs what it left in its output directory.
    pub(super) fn run(self, store: &PrivateDir, runtime: &Arc<Runtime>) -> Result<Vec<u8>, ImageError> {
        let failed = |reason: String| ImageError::Build {
            image: self.image.to_owned(),
            reason,
        };
        let module = compile::load_compiled(store, runtime.engine(), self.module)?;
        let module = module.ok_or_else(|| ImageError::Damaged(compile::wasm_name(self.module)))?;
        let digest = self.module.to_string();
        let contents = file_contents(&digest);
        let spec = ProgramSpec {
            digest,
            preopens: vec!["/".to_owned()],
            launch: Launch::Command { arguments: Vec::new() },
            ignores_sigpipe: false,
        };
        let program = Program::new(runtime, spec, &module).map_err(|error| failed(format!("{error:#}")))?;
        let mut programs = Programs::default();
        programs.insert(program);

        let fs = Fs::from_tree(&self.tree, FILES);
        let len = contents.len();
        let argv: Vec<Vec<u8>> = self.arguments.into_iter().map(String::into_bytes).collect();
        let program_file = argv.first().map_or(&b""[..], Vec::as_slice);
        let prepared = layer::make_room(&fs, program_file)
            .and_then(|()| fs.import_file(ROOT, program_file, 0o755, Arc::new(contents), 0..len))
            .and_then(|_| fs.create_dir_all(ROOT, self.output.as_bytes(), 0o755));
        prepared.map_err(|error| failed(error.to_string()))?;

        let kernel = Kernel::new(runtime, fs.clone(), Arc::new(programs), MACHINE, "setup")
            .map_err(|error| failed(error.to_string()))?;
        let said = Arc::new(LastWords::default());
        let request = ExecRequest {
            path: Vec::new(),
            argv,
            environment: Vec::new(),
            cwd: b"/".to_vec(),
            stdin: Bytes::new(),
            output: said.clone(),
        };
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let waiting = waiting.map_err(ImageError::io("the setup's runtime"))?;
        let exec = kernel.exec(request).map_err(|error| failed(error.to_string()))?;
        let outcome = waiting.block_on(exec.wait(TIMEOUT));
        if outcome.status != ExitStatus::Exited(0) {
            let said = said.0.lock().unwrap_or_else(PoisonError::into_inner);
            let said = String::from_utf8_lossy(&said);
            return Err(failed(format!("its setup ended with {:?}: {said}", outcome.status)));
        }
        layer::pack_tree(&fs, self.output)
    }
}
