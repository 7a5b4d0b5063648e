//! An exec: a command the API starts on a machine, with its console, its deadline and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use wisp_abi::SpawnRequest;

use super::budget::Charge;
use super::console::{Console, MAX_WAITING, OutputSink, Stream};
use super::cpu_time::CpuTime;
use super::descriptor::{InputBytes, Kind, OpenFile};
use super::errno::Errno;
use super::fuel::Fuel;
use super::input::Input;
use super::process::{self, Entry, ImageInfo, Task};
use super::spawn::{PROCESS_BYTES, Parentage, Start};
use super::table::{ExitStatus, Pid};
use super::{Kernel, lookup, signal};
use wisp_vfs::{FileKind, PathError, ROOT};

/// How long the answer to an exec whose command has ended waits for output of what it left in the background.
const BACKGROUND_GRACE: Duration = Duration::from_millis(100);
/// How long the answer to a killed exec waits for its processes to be gone. They end at their next tick.
const KILL_GRACE: Duration = Duration::from_millis(15);
/// How an exec ends whose limit is used up.
const KILLED: ExitStatus = ExitStatus::Killed(signal::KILL as u8);
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
    /// Processor time that it and everything it starts may use; `None` for any amount.
    pub cpu_time: Option<Duration>,
    /// Units of fuel that it and everything it starts may use; `None` to count none. Needs a runtime that counts fuel.
    pub fuel: Option<u64>,
    /// Started in place of the program if that is a shell, which would start it.
    pub simple_command: Option<SimpleCommand>,
}

/// What a script consists of that is one simple command: a shell would replace itself by a program.
#[derive(Debug, Clone)]
pub struct SimpleCommand {
    /// Digest of the shell that understands the script so.
    pub shell: String,
    /// Arguments, the program's name first; it is looked up in `PATH`.
    pub argv: Vec<Vec<u8>>,
    /// What the shell adds to the environment.
    pub variable: Vec<u8>,
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
    /// The runtime does not count fuel.
    #[error("fuel is not counted here")]
    FuelNotCounted,
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
    /// Processor time of all it started, until now.
    pub cpu_time: Duration,
    /// Units of fuel that all it started had used when its command ended, if they are counted; at most what it was given.
    pub fuel_used: Option<u64>,
    /// Which limit ended it.
    pub limit: Option<LimitHit>,
}

/// A limit that ends commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitHit {
    /// [`ExecRequest::cpu_time`].
    ExecCpuTime,
    /// [`Limits::cpu_time`](super::Limits::cpu_time).
    SandboxCpuTime,
    /// [`ExecRequest::fuel`].
    ExecFuel,
}

/// A running exec. Dropping it before its command has ended kills everything it started.
pub struct Exec {
    kernel: Arc<Kernel>,
    id: u64,
    /// The process group its command leads.
    group: Pid,
    started: Instant,
    cpu_time: Arc<CpuTime>,
    fuel: Option<Arc<Fuel>>,
    console: std::sync::Weak<Console>,
    console_closed: Arc<Notify>,
    start: oneshot::Receiver<Result<(), ExecError>>,
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
    /// Starts a command. Its program is found by the new process itself: [`Exec::started`] tells whether there is one.
    ///
    /// # Errors
    /// [`ExecError::LimitReached`], [`ExecError::FuelNotCounted`]
    pub fn exec(self: &Arc<Self>, mut request: ExecRequest) -> Result<Exec, ExecError> {
        let started = Instant::now();
        let name = request.argv.first().cloned().unwrap_or_default();
        let failed = |errno| exec_error(&name, errno);
        if self.cpu_time.is_used_up() {
            return Err(ExecError::LimitReached("the sandbox has used up its cpu_time"));
        }
        if request.fuel.is_some() && !self.runtime.counts_fuel() {
            return Err(ExecError::FuelNotCounted);
        }
        let slot = self.budget.process_slot().map_err(|_| failed(Errno::Again))?;
        let charge = self.budget.charge(PROCESS_BYTES).map_err(|_| failed(Errno::Nomem))?;
        let held = self.budget.charge(request.held_bytes());
        let held = held.map_err(|_| failed(Errno::Nomem))?;
        let stdin = self
            .standard_input(std::mem::take(&mut request.stdin))
            .map_err(failed)?;
        let output = self
            .budget
            .charge(MAX_WAITING as u64)
            .map_err(|_| failed(Errno::Nomem))?;
        let (console, console_closed) = Console::new(Arc::clone(&request.output), output);
        let (on_exit, exit) = oneshot::channel();
        let (on_start, start) = oneshot::channel();
        let id = self.next_exec.fetch_add(1, Ordering::Relaxed);
        let cpu_time = Arc::new(CpuTime::new(request.cpu_time));
        let fuel = request.fuel.map(|limit| Arc::new(Fuel::new(limit)));
        let parentage = Parentage::of_exec(id, Arc::clone(&cpu_time), fuel.clone(), on_exit);
        let (control, on_exit) = self.new_control(parentage, 0, Arc::new(ImageInfo::default()));
        self.table.insert(Arc::clone(&control), slot, on_exit).map_err(failed)?;
        let weak_console = Arc::downgrade(&console);
        let (kernel, of_process) = (Arc::clone(self), Arc::clone(&control));
        let group = self.start_task(control, async move {
            let prepared = kernel.prepare_command(request, stdin, console, charge).await;
            drop(held);
            match prepared {
                Ok(start) => {
                    if start.ignores_sigpipe() {
                        of_process.signals.ignore(signal::PIPE);
                    }
                    let task = Task::new(start.into_process(kernel, of_process));
                    // Nobody may wait for it any more.
                    let _ = on_start.send(Ok(()));
                    process::run(task, None, Entry::Launch).await
                }
                Err(error) => {
                    let status = error.status();
                    let _ = on_start.send(Err(error));
                    status
                }
            }
        });
        Ok(Exec {
            kernel: Arc::clone(self),
            id,
            group,
            started,
            cpu_time,
            fuel,
            console: weak_console,
            console_closed,
            start,
            exit,
            ended: false,
        })
    }

    /// Finds out what a command is to run: its simple command, or what it says.
    async fn prepare_command(
        &self,
        mut request: ExecRequest,
        stdin: Arc<OpenFile>,
        console: Arc<Console>,
        charge: Charge,
    ) -> Result<Start, ExecError> {
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
        let simple = request.simple_command.take();
        if let Some(simple) = simple.filter(|simple| self.is_program(&request.path, &simple.shell)) {
            let mut environment = request.environment.clone();
            environment.push(simple.variable);
            let spawn = SpawnRequest {
                cwd: lookup::join(b"/", &request.cwd),
                argv: simple.argv,
                environment,
                ..SpawnRequest::default()
            };
            // The shell says why a command cannot be run, and runs scripts that name no interpreter.
            if let Ok(resolved) = self.resolve(&spawn).await {
                let streams = streams(stdin, &console);
                let own = |fd: u32| streams.get(fd as usize).cloned().ok_or(Errno::Badf);
                let spawn = SpawnRequest {
                    descriptors: STREAMS.to_vec(),
                    ..spawn
                };
                let name = spawn.argv.first().cloned().unwrap_or_default();
                return self
                    .prepare(spawn, resolved, own, UMASK, charge)
                    .map_err(|errno| exec_error(&name, errno));
            }
        }
        self.prepare_exec(request, stdin, &console, charge).await
    }

    /// Whether a file, links followed, is the program with this digest.
    fn is_program(&self, path: &[u8], digest: &str) -> bool {
        let head = self.executable_head(path);
        head.is_ok_and(|head| {
            self.programs
                .named_by(&head)
                .is_some_and(|program| program.spec.digest == digest)
        })
    }

    /// Resolves a command whose descriptors 0 to 2 lead to its input and its console.
    pub(super) async fn prepare_exec(
        &self,
        request: ExecRequest,
        stdin: Arc<OpenFile>,
        console: &Arc<Console>,
        charge: Charge,
    ) -> Result<Start, ExecError> {
        let name = request.argv.first().cloned().unwrap_or_default();
        let streams = streams(stdin, console);
        let spawn = SpawnRequest {
            path: request.path,
            cwd: lookup::join(b"/", &request.cwd),
            argv: request.argv,
            environment: request.environment,
            descriptors: STREAMS.to_vec(),
            flags: SpawnRequest::NEW_GROUP,
        };
        let own = |fd: u32| streams.get(fd as usize).cloned().ok_or(Errno::Badf);
        let prepared = match self.resolve(&spawn).await {
            Ok(resolved) => self.prepare(spawn, resolved, own, UMASK, charge),
            Err(errno) => Err(errno),
        };
        prepared.map_err(|errno| exec_error(&name, errno))
    }

    /// The standard input of a command, charged to the machine.
    pub(super) fn standard_input(&self, input: Input) -> Result<Arc<OpenFile>, Errno> {
        Ok(OpenFile::new(match input {
            Input::Bytes(bytes) => {
                let charge = self.budget.charge(bytes.len() as u64).map_err(|_| Errno::Nomem)?;
                Kind::Input(Mutex::new(InputBytes::new(bytes, charge)))
            }
            Input::Pipe(reader) => Kind::PipeReader(reader.0),
        }))
    }

    /// Whether a path is a directory the kernel makes up.
    fn is_served_directory(&self, path: &[u8]) -> bool {
        matches!(self.fs.lookup(ROOT, path, true), Err(PathError::Mounted { rest, .. }) if rest.is_empty())
    }
}

/// Descriptors 0 to 2 of a command, and what they are called among its [`streams`].
const STREAMS: [(u32, u32); 3] = [(0, 0), (1, 1), (2, 2)];

/// What the descriptors 0 to 2 of a command lead to.
fn streams(stdin: Arc<OpenFile>, console: &Arc<Console>) -> [Arc<OpenFile>; 3] {
    [
        stdin,
        OpenFile::new(Kind::Output(Arc::clone(console), Stream::Stdout)),
        OpenFile::new(Kind::Output(Arc::clone(console), Stream::Stderr)),
    ]
}

impl ExecRequest {
    /// Host memory that it takes until its program has started.
    fn held_bytes(&self) -> u64 {
        let strings = self.argv.iter().chain(&self.environment);
        let bytes: u64 = strings.map(|string| string.len() as u64).sum();
        bytes + self.cwd.len() as u64
    }
}

impl ExecError {
    /// How a process ends that could not start its program.
    fn status(&self) -> ExitStatus {
        match self {
            Self::NotRunnable { exit_code, .. } => ExitStatus::Exited(*exit_code),
            Self::NoSuchDirectory(_) | Self::FuelNotCounted | Self::LimitReached(_) => ExitStatus::Exited(126),
        }
    }
}

impl Exec {
    /// Waits until its program is found, or for `timeout` after its start.
    ///
    /// # Errors
    /// When there is nothing to run, which is the end of it. A command that was killed, or is late, is none: [`Exec::wait`]
    /// tells of that.
    pub async fn started(&mut self, timeout: Duration) -> Result<(), ExecError> {
        let left = timeout.saturating_sub(self.started.elapsed());
        match tokio::time::timeout(left, &mut self.start).await {
            Ok(Ok(Err(error))) => {
                self.ended = true;
                Err(error)
            }
            Ok(Ok(Ok(())) | Err(_)) | Err(_) => Ok(()),
        }
    }

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
            Ok(status) => (status.unwrap_or(KILLED), false),
            Err(_) => {
                self.kernel.table.kill_exec(self.id);
                let _ = tokio::time::timeout(KILL_GRACE, self.kernel.table.exec_ended(self.id)).await;
                (KILLED, true)
            }
        };
        // Now, so that what it has left in the background does not change the answer.
        let (fuel_used, out_of_fuel) = self.fuel.as_ref().map(|fuel| fuel.used()).unzip();
        let out_of_fuel = out_of_fuel.unwrap_or(false);
        // It may have ended by itself between using it up and the next place where its code looks.
        let status = if out_of_fuel { KILLED } else { status };
        // Whoever still holds the console may have something to say, but cannot keep the answer for long.
        if self.console.strong_count() > 0 {
            let grace = if timed_out { Duration::ZERO } else { BACKGROUND_GRACE };
            let _ = tokio::time::timeout(grace, self.console_closed.notified()).await;
        }
        if let Some(console) = self.console.upgrade() {
            console.detach();
        }
        let limit = if status != KILLED || timed_out {
            None
        } else if out_of_fuel {
            Some(LimitHit::ExecFuel)
        } else if self.cpu_time.is_used_up() {
            Some(LimitHit::ExecCpuTime)
        } else if self.kernel.cpu_time.is_used_up() {
            Some(LimitHit::SandboxCpuTime)
        } else {
            None
        };
        Outcome {
            status,
            timed_out,
            duration: self.started.elapsed(),
            cpu_time: Duration::from_nanos(self.cpu_time.used_ns()),
            fuel_used,
            limit,
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
