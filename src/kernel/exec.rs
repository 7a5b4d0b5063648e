//! An exec: a command the API starts on a machine, with its console, its deadline and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use std::sync::Mutex;
use tokio::sync::{Notify, oneshot};

use super::console::{Console, OutputSink, Stream};
use super::descriptor::{Kind, OpenFile};
use super::errno::Errno;
use super::input::Input;
use super::spawn::{Parentage, SpawnRequest, Start};
use super::table::{ExitStatus, Pid};
use super::{Kernel, place};
use crate::vfs::{FileKind, PathError, ROOT};

/// How long the answer to an exec whose command has ended waits for output of what it left in the background.
const BACKGROUND_GRACE: Duration = Duration::from_millis(100);
/// How long the answer to a killed exec waits for its processes to be gone. They end at their next tick.
const KILL_GRACE: Duration = Duration::from_millis(30);
/// Permission bits new files of an exec do not get.
const UMASK: u32 = 0o022;

/// A command to run.
pub struct ExecRequest {
    /// The program file; empty to look argv 0 up in `PATH`.
    pub path: Vec<u8>,
    /// Arguments, the program's name first.
    pub argv: Vec<Vec<u8>>,
    /// `KEY=value`.
    pub environment: Vec<Vec<u8>>,
    /// Directory to start in, absolute.
    pub cwd: Vec<u8>,
    /// Standard input.
    pub stdin: Input,
    /// Takes what it writes.
    pub output: Arc<dyn OutputSink>,
}

/// Why a command could not be started at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The directory to start in is not there.
    #[error("{0}: no such directory")]
    NoSuchDirectory(String),
    /// The program cannot be run, as a shell would say it: 127 not found, 126 not executable.
    #[error("{message}")]
    NotRunnable {
        /// 126 or 127.
        exit_code: u8,
        /// One line.
        message: String,
    },
    /// The sandbox has as many processes, or as much memory in use, as it may.
    #[error("{0}")]
    LimitReached(&'static str),
}

/// How an exec ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How its command ended.
    pub status: ExitStatus,
    /// Whether the deadline ended it.
    pub timed_out: bool,
    /// Wall-clock time.
    pub duration: Duration,
}

/// A running exec. Dropping it before its command has ended kills everything it started.
pub struct Exec {
    kernel: Arc<Kernel>,
    id: u64,
    /// The process group its command leads.
    group: Pid,
    started: Instant,
    console: std::sync::Weak<Console>,
    console_closed: Arc<Notify>,
    exit: oneshot::Receiver<ExitStatus>,
    ended: bool,
}

/// Sends signals to a running exec. Once that has ended they reach nobody.
#[derive(Clone)]
pub struct ExecSignals {
    kernel: Arc<Kernel>,
    exec: u64,
    group: Pid,
}

impl ExecSignals {
    /// Sends a signal, by its number, to the command and all processes of its group.
    pub fn send(&self, signal: u32) {
        self.kernel.table.signal_exec(self.exec, self.group, signal);
    }
}

impl Kernel {
    /// Starts a command.
    pub fn exec(self: &Arc<Self>, request: ExecRequest) -> Result<Exec, ExecError> {
        let started = Instant::now();
        let directory = self
            .fs
            .stat_at(ROOT, &request.cwd, true)
            .ok()
            .filter(|stat| stat.kind == FileKind::Directory);
        if directory.is_none() && !self.is_served_directory(&request.cwd) {
            return Err(ExecError::NoSuchDirectory(
                String::from_utf8_lossy(&request.cwd).into_owned(),
            ));
        }
        let (console, console_closed) = Console::new(Arc::clone(&request.output));
        let name = request.argv.first().cloned().unwrap_or_default();
        let start = self.prepare_exec(request, &console)?;
        let (on_exit, exit) = oneshot::channel();
        let id = self.next_exec.fetch_add(1, Ordering::Relaxed);
        let group = self
            .launch(start, Parentage::of_exec(id, on_exit))
            .map_err(|errno| exec_error(&name, errno))?;
        let console = Arc::downgrade(&console);
        Ok(Exec {
            kernel: Arc::clone(self),
            id,
            group,
            started,
            console,
            console_closed,
            exit,
            ended: false,
        })
    }

    /// Whether a command that is looked up in `PATH` would start a program, rather than fail.
    pub fn can_start(&self, argv: &[Vec<u8>], environment: &[Vec<u8>], cwd: &[u8]) -> bool {
        let request = SpawnRequest {
            cwd: place::join(b"/", cwd),
            argv: argv.to_vec(),
            environment: environment.to_vec(),
            ..SpawnRequest::default()
        };
        self.resolve(&request).is_ok()
    }

    /// Whether a file, links followed, is the program with this digest.
    pub fn is_program(&self, path: &[u8], digest: &str) -> bool {
        let head = self.executable_head(path);
        head.is_ok_and(|head| {
            self.programs
                .named_by(&head)
                .is_some_and(|program| program.spec.digest == digest)
        })
    }

    /// Resolves a command whose descriptors 0 to 2 lead to its input and its console.
    pub(super) fn prepare_exec(&self, request: ExecRequest, console: &Arc<Console>) -> Result<Start, ExecError> {
        let name = request.argv.first().cloned().unwrap_or_default();
        let streams = [
            OpenFile::new(match request.stdin {
                Input::Bytes(bytes) => Kind::Input(Mutex::new(bytes)),
                Input::Pipe(reader) => Kind::PipeReader(reader.0),
            }),
            OpenFile::new(Kind::Output(Arc::clone(console), Stream::Stdout)),
            OpenFile::new(Kind::Output(Arc::clone(console), Stream::Stderr)),
        ];
        let spawn = SpawnRequest {
            path: request.path,
            cwd: place::join(b"/", &request.cwd),
            argv: request.argv,
            environment: request.environment,
            descriptors: vec![(0, 0), (1, 1), (2, 2)],
            new_group: true,
        };
        let own = |fd: u32| streams.get(fd as usize).cloned().ok_or(Errno::Badf);
        self.prepare(spawn, own, UMASK)
            .map_err(|errno| exec_error(&name, errno))
    }

    /// Whether a path is a directory the kernel makes up.
    fn is_served_directory(&self, path: &[u8]) -> bool {
        matches!(self.fs.lookup(ROOT, path, true), Err(PathError::Mounted { rest, .. }) if rest.is_empty())
    }
}

impl Exec {
    /// A handle to send it signals with.
    pub fn signals(&self) -> ExecSignals {
        ExecSignals {
            kernel: Arc::clone(&self.kernel),
            exec: self.id,
            group: self.group,
        }
    }

    /// Waits for the command to end, or for `timeout` after its start; then everything it started is killed.
    pub async fn wait(mut self, timeout: Duration) -> Outcome {
        let left = timeout.saturating_sub(self.started.elapsed());
        let result = tokio::time::timeout(left, &mut self.exit).await;
        self.ended = true;
        let (status, timed_out) = match result {
            // The sender is dropped unused only if the guest threads are gone.
            Ok(status) => (status.unwrap_or(ExitStatus::Killed(9)), false),
            Err(_) => {
                self.kernel.table.kill_exec(self.id);
                let _ = tokio::time::timeout(KILL_GRACE, self.kernel.table.exec_ended(self.id)).await;
                (ExitStatus::Killed(9), true)
            }
        };
        // Whoever still holds the console may have something to say, but cannot keep the answer for long.
        if self.console.strong_count() > 0 {
            let grace = if timed_out { Duration::ZERO } else { BACKGROUND_GRACE };
            let _ = tokio::time::timeout(grace, self.console_closed.notified()).await;
        }
        if let Some(console) = self.console.upgrade() {
            console.detach();
        }
        Outcome {
            status,
            timed_out,
            duration: self.started.elapsed(),
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if !self.ended {
            self.kernel.table.kill_exec(self.id);
            if let Some(console) = self.console.upgrade() {
                console.detach();
            }
        }
    }
}

pub(super) fn exec_error(name: &[u8], errno: Errno) -> ExecError {
    let name = String::from_utf8_lossy(name);
    let not_runnable = |exit_code, reason: &str| ExecError::NotRunnable {
        exit_code,
        message: format!("{name}: {reason}"),
    };
    match errno {
        Errno::Noent | Errno::Notdir => not_runnable(127, "command not found"),
        Errno::Again => ExecError::LimitReached("the sandbox has as many processes as it may"),
        Errno::Nomem => ExecError::LimitReached("the sandbox has used all of its memory"),
        Errno::TooBig => not_runnable(126, "argument list too long"),
        Errno::Noexec => not_runnable(126, "exec format error"),
        Errno::Loop => not_runnable(126, "too many levels of interpreters or symbolic links"),
        _ => not_runnable(126, "permission denied"),
    }
}
