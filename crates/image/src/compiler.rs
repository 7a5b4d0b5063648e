//! Compiling what users bring: in a process of its own, within limits.
//!
//! The limits are what the process is for. It is no wall against a defect of the compiler: what it writes is run later,
//! as is what a compiler in this process writes (`docs/decisions/0070`).

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::record::ModuleKind;

/// Most bytes of what the process says that are read.
const MAX_REPORT_BYTES: u64 = 16 << 10;

/// What compiling one file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory, MiB.
    pub memory_mb: u64,
    /// From its start to its end.
    pub timeout: Duration,
}

impl Default for CompileLimits {
    /// 2 GiB, two minutes.
    fn default() -> Self {
        Self {
            memory_mb: 2048,
            timeout: Duration::from_mins(2),
        }
    }
}

/// Where a module comes from, which says what it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleOrigin {
    /// A user brought it: it starts by `_start`, and imports nothing that is not there.
    User,
    /// It is a program of an artifact, which says how it starts. Imports that are not there end it when they are called.
    Image,
}

/// What became of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It is a program, and compiled.
    Accepted {
        /// Its form.
        kind: ModuleKind,
        /// Linear memory it starts with, bytes.
        memory_bytes: u64,
    },
    /// It is malformed, or not a program for a sandbox.
    Refused {
        /// Why.
        reason: String,
    },
    /// It is good WebAssembly of a kind that a sandbox does not run.
    Unsupported {
        /// Which, and what to do instead.
        reason: String,
    },
    /// The limits do not suffice.
    TooExpensive,
}

/// Runs `wisp compile-module`.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// None where no program may be started.
    program: Option<PathBuf>,
    limits: CompileLimits,
}

impl Compiler {
    /// A compiler that is this very program.
    #[must_use]
    pub fn new(limits: CompileLimits) -> Self {
        // The program as it was started, even if its file has been replaced since: code for another version is no use.
        let started = PathBuf::from("/proc/self/exe");
        let program = if started.exists() {
            started
        } else {
            std::env::current_exe().unwrap_or_else(|_| PathBuf::from("wisp"))
        };
        Self {
            // A build without the compiler has no such command.
            program: cfg!(feature = "compiler").then_some(program),
            limits,
        }
    }

    /// No compiler: for a program that embeds sandboxes. Started again, it would not compile but do whatever it does.
    #[must_use]
    pub fn none() -> Self {
        Self {
            program: None,
            limits: CompileLimits::default(),
        }
    }

    /// Checks and compiles the WebAssembly in `input`, which is read from its start; with `counts_fuel` for the engine
    /// that counts fuel. The result goes to `output`: see `compile_child`.
    pub(super) fn compile(
        &self,
        input: &File,
        output: &File,
        counts_fuel: bool,
        origin: ModuleOrigin,
    ) -> Result<Verdict, ImageError> {
        let program = self.program.as_ref().ok_or(ImageError::NoCompiler)?;
        let failed = || ImageError::io(program);
        let mut input = input.try_clone().map_err(failed())?;
        input.rewind().map_err(failed())?;
        let cpu_seconds = self.limits.timeout.as_secs().max(1) * processors();
        let mut child = Command::new(program)
            .arg0("wisp")
            .arg("compile-module")
            .args(["--memory-mb", &self.limits.memory_mb.to_string()])
            .args(["--cpu-seconds", &cpu_seconds.to_string()])
            .args(counts_fuel.then_some("--fuel"))
            .args((origin == ModuleOrigin::Image).then_some("--of-image"))
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(input)
            .stdout(output.try_clone().map_err(failed())?)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed())?;
        let report = self.await_report(&mut child);
        // It has said all it had to say, or is late.
        let killed = child.kill();
        let status = child.wait().map_err(failed())?;
        let report = match report {
            Ok(report) => report,
            Err(Late) => {
                tracing::warn!(?killed, "compiling took longer than it may");
                return Ok(Verdict::TooExpensive);
            }
        };
        match serde_json::from_slice(&report) {
            Ok(verdict) => Ok(verdict),
            Err(_) => {
                let said = String::from_utf8_lossy(&report);
                tracing::warn!(%status, said = %said.trim(), "compiling ended without a result");
                Ok(Verdict::TooExpensive)
            }
        }
    }

    /// What it says until it closes standard error, which is when it ends.
    fn await_report(&self, child: &mut Child) -> Result<Vec<u8>, Late> {
        let (sender, receiver) = mpsc::channel();
        let stderr = child.stderr.take();
        std::thread::spawn(move || {
            let mut report = Vec::new();
            if let Some(mut stderr) = stderr {
                // What cannot be read is missing from the report, which is then none.
                let _ = (&mut stderr).take(MAX_REPORT_BYTES).read_to_end(&mut report);
                // It must not wait for someone to read the rest.
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            // Nobody listens any more if it is late.
            let _ = sender.send(report);
        });
        match receiver.recv_timeout(self.limits.timeout) {
            Ok(report) => Ok(report),
            Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
            Err(RecvTimeoutError::Timeout) => Err(Late),
        }
    }

    /// What compiling may cost.
    pub(super) fn limits(&self) -> CompileLimits {
        self.limits
    }
}

/// The process has used up its time.
struct Late;

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_embeds_sandboxes_is_not_started_to_compile() {
        let file = tempfile::tempfile().unwrap();
        let compiled = Compiler::none().compile(&file, &file, false, ModuleOrigin::User);
        assert!(matches!(compiled, Err(ImageError::NoCompiler)), "{compiled:?}");
    }
}
