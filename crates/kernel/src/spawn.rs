//! Starting processes: from a request to a resolved program, and from that to a running task.

use parking_lot::Mutex;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot};
use wasmtime::Instance;
use wisp_abi::{MAX_ARGUMENT_BYTES, SpawnRequest};

use super::Kernel;
use super::budget::{Charge, ProcessSlot};
use super::cpu_time::CpuTime;
use super::descriptor::{DescriptorTable, OpenFile};
use super::errno::Errno;
use super::fuel::Fuel;
use super::limiter::MemoryLimiter;
use super::lookup;
use super::process::{self, Block, Entry, FIRST_PREOPEN, ImageInfo, Process, ProcessStore, Task};
use super::program::{FILE_PREFIX, Launch, Program};
use super::scheduler::Gated;
use super::signal::{self, Signals};
use super::slice::Slices;
use super::table::{Control, ExitStatus, INIT, Pid};
use super::timer::Timer;
use wisp_vfs::{MAX_NAME, MAX_PATH, OpenOptions, PathError, ROOT};

/// Bytes of `PATH` that are searched; a longer one is refused.
const MAX_SEARCH_PATH: usize = 64 << 10;
/// Entries of `PATH` that are searched; one with more is refused.
const MAX_SEARCH_ENTRIES: usize = 1024;
/// Host memory of a process beyond its linear memory: store, fiber stack in use, tables. Charged at the start.
pub(super) const PROCESS_BYTES: u64 = 256 << 10;
/// Host memory of a string of a request beyond its bytes.
const STRING_BYTES: u64 = 56;
/// Interpreters of interpreters of scripts, as on Linux.
const MAX_INTERPRETERS: usize = 4;
/// Bytes of a script read to find its interpreter, as on Linux.
const SCRIPT_HEAD: usize = 256;

/// A guest's paths are the file system's.
const _: () = assert!(wisp_abi::MAX_PATH == MAX_PATH);

/// Host memory that resolving a request takes: the request, and the arguments that are made of it.
pub(super) fn held_bytes(request: &SpawnRequest) -> u64 {
    let strings = request.argv.iter().chain(&request.environment);
    let bytes: u64 = strings.map(|string| string.len() as u64 + STRING_BYTES).sum();
    2 * bytes + (request.path.len() + request.cwd.len() + 8 * request.descriptors.len()) as u64
}

/// A resolved program with all its process needs, ready to become a process.
pub struct Start {
    program: Arc<Program>,
    image: Arc<ImageInfo>,
    arguments: Block,
    descriptors: DescriptorTable,
    inherited: Vec<(u32, u32)>,
    umask: u32,
    charge: Charge,
}

impl Start {
    /// What the process will run.
    pub(super) fn image(&self) -> Arc<ImageInfo> {
        Arc::clone(&self.image)
    }

    /// Whether a write to a pipe that nobody reads is an error for its program, and does not end it.
    pub(super) fn ignores_sigpipe(&self) -> bool {
        self.program.spec.ignores_sigpipe
    }

    /// The process of a new store.
    pub fn into_process(self, kernel: Arc<Kernel>, control: Arc<Control>) -> Process {
        *control.image.lock() = self.image;
        control.speak_to(self.descriptors.get(2).ok());
        let limiter = MemoryLimiter::new(self.charge, Arc::clone(&control));
        Process {
            kernel,
            control,
            program: self.program,
            arguments: self.arguments,
            descriptors: self.descriptors,
            inherited: self.inherited,
            umask: self.umask,
            memory: None,
            limiter,
            slot: None,
            fuel_seen: 0,
            replacement: None,
        }
    }
}

/// Who starts a process, and what it passes on.
pub struct Parentage {
    /// The parent.
    pub parent: Pid,
    /// The group to join; `None` to lead a new one.
    pub group: Option<Pid>,
    /// The exec it belongs to.
    pub exec: u64,
    /// Processor time of that exec.
    pub exec_cpu_time: Arc<CpuTime>,
    /// Fuel of that exec, if it is counted.
    pub exec_fuel: Option<Arc<Fuel>>,
    /// Signals that stay ignored, bit n for signal n.
    pub ignored: u32,
    /// Told the status at the end, when no process waits for it.
    pub on_exit: Option<oneshot::Sender<ExitStatus>>,
}

impl Parentage {
    /// A child of `parent`.
    pub fn child_of(parent: &Control, new_group: bool) -> Self {
        Self {
            parent: parent.pid,
            group: (!new_group).then(|| parent.group.load(Ordering::SeqCst)),
            exec: parent.exec,
            exec_cpu_time: Arc::clone(&parent.exec_cpu_time),
            exec_fuel: parent.exec_fuel.clone(),
            ignored: parent.signals.ignored(),
            on_exit: None,
        }
    }

    /// A process nobody on the machine started.
    pub fn of_exec(
        exec: u64,
        exec_cpu_time: Arc<CpuTime>,
        exec_fuel: Option<Arc<Fuel>>,
        on_exit: oneshot::Sender<ExitStatus>,
    ) -> Self {
        Self {
            parent: INIT,
            group: None,
            exec,
            exec_cpu_time,
            exec_fuel,
            ignored: 0,
            on_exit: Some(on_exit),
        }
    }
}

impl Kernel {
    /// Finds the program for a request, following `#!`. Takes long if the caller wants it to, and lets others run.
    pub(super) async fn resolve(&self, request: &SpawnRequest) -> Result<Resolved, Errno> {
        let charge = self.budget.charge(held_bytes(request)).map_err(|_| Errno::Nomem)?;
        let (program, executable, argv) = self.find_program(request).await?;
        Ok(Resolved {
            program,
            executable,
            argv,
            _charge: charge,
        })
    }

    /// Makes a resolved request ready to start: opens the preopened directories, places the descriptors. `charge` is
    /// that of a process, and grows by what it holds.
    pub(super) fn prepare(
        &self,
        request: SpawnRequest,
        resolved: Resolved,
        own: impl Fn(u32) -> Result<Arc<OpenFile>, Errno>,
        umask: u32,
        mut charge: Charge,
    ) -> Result<Start, Errno> {
        let Resolved {
            program,
            executable,
            argv,
            _charge: resolving,
        } = resolved;
        let mut environment: Vec<&[u8]> = Vec::with_capacity(request.environment.len() + 1);
        environment.extend(
            request
                .environment
                .iter()
                .map(Vec::as_slice)
                .filter(|entry| !entry.starts_with(b"PWD=")),
        );
        let pwd = [b"PWD=", request.cwd.as_slice()].concat();
        environment.push(&pwd);
        let image = ImageInfo {
            argv: Block::new(argv.iter().map(Vec::as_slice)),
            environment: Block::new(environment),
            executable,
            cwd: request.cwd,
        };
        let arguments = match &program.spec.launch {
            Launch::Command { arguments } if !arguments.is_empty() => {
                let own = arguments.iter().map(String::as_bytes);
                Block::new(own.chain(argv.iter().skip(1).map(Vec::as_slice)))
            }
            _ => image.argv.clone(),
        };
        drop(resolving);
        charge.grow(image.bytes_with(&arguments)).map_err(|_| Errno::Nomem)?;
        let mut descriptors = DescriptorTable::new(self.budget.limits().descriptors);
        for (fd, directory) in (FIRST_PREOPEN..).zip(&program.spec.preopens) {
            let options = OpenOptions {
                directory: true,
                ..OpenOptions::default()
            };
            // A guest may have removed the directory; the root in its place keeps the numbers of the others.
            let handle = self
                .fs
                .open(ROOT, directory.as_bytes(), &options)
                .or_else(|_: PathError| self.fs.open(ROOT, b"/", &options))
                .map_err(|_| Errno::Noent)?;
            descriptors.set(fd, OpenFile::directory(handle))?;
        }
        let first_free = FIRST_PREOPEN + u32::try_from(program.spec.preopens.len()).map_err(|_| Errno::Mfile)?;
        let mut inherited = Vec::new();
        for (theirs, ours) in request.descriptors {
            let file = own(ours)?;
            if theirs < FIRST_PREOPEN {
                descriptors.set(theirs, file)?;
            } else {
                let fits = theirs >= first_free && descriptors.get(theirs).is_err();
                let placed = if fits {
                    descriptors.set(theirs, Arc::clone(&file)).ok().map(|()| theirs)
                } else {
                    None
                };
                let placed = match placed {
                    Some(fd) => fd,
                    None => descriptors.add(file, first_free)?,
                };
                inherited.push((theirs, placed));
            }
        }
        Ok(Start {
            program,
            image: Arc::new(image),
            arguments,
            descriptors,
            inherited,
            umask,
            charge,
        })
    }

    /// Starts a prepared program as a process.
    pub(super) fn launch(self: &Arc<Self>, start: Start, parentage: Parentage) -> Result<Pid, Errno> {
        let ignored = if start.ignores_sigpipe() { 1 << signal::PIPE } else { 0 };
        let slot = self.budget.process_slot().map_err(|_| Errno::Again)?;
        let (control, on_exit) = self.new_control(parentage, ignored, Arc::clone(&start.image));
        let task = Task::new(start.into_process(Arc::clone(self), Arc::clone(&control)));
        self.table.insert(Arc::clone(&control), slot, on_exit)?;
        Ok(self.start_task(control, process::run(task, None, Entry::Launch)))
    }

    /// Makes the store and the instance of a copy of a process, which still lacks its memory.
    pub(super) async fn fork(
        self: &Arc<Self>,
        parent: ForkParent,
    ) -> Result<(ProcessStore, Instance, Starting), Errno> {
        let slot = self.budget.process_slot().map_err(|_| Errno::Again)?;
        let image = parent.control.image();
        let held = image.bytes_with(&parent.arguments);
        let charge = self.budget.charge(PROCESS_BYTES + held).map_err(|_| Errno::Nomem)?;
        let (control, on_exit) = self.new_control(Parentage::child_of(&parent.control, false), 0, image);
        control.speak_to(parent.descriptors.get(2).ok());
        let child = Process {
            kernel: Arc::clone(self),
            control: Arc::clone(&control),
            program: parent.program,
            arguments: parent.arguments,
            descriptors: parent.descriptors,
            inherited: parent.inherited,
            umask: parent.umask,
            memory: None,
            limiter: MemoryLimiter::new(charge, Arc::clone(&control)),
            slot: None,
            fuel_seen: 0,
            replacement: None,
        };
        let mut store = process::new_store(child);
        let instance = process::instantiate(&mut store).await.map_err(|_| Errno::Nomem)?;
        let starting = Starting { control, slot, on_exit };
        Ok((store, instance, starting))
    }

    /// Starts the copy of a process.
    pub(super) fn start_forked(
        self: &Arc<Self>,
        starting: Starting,
        store: ProcessStore,
        instance: Instance,
        argument: u32,
    ) -> Result<Pid, Errno> {
        let Starting { control, slot, on_exit } = starting;
        self.table.insert(Arc::clone(&control), slot, on_exit)?;
        let task = Task::Module(Box::new(store));
        Ok(self.start_task(control, process::run(task, Some(instance), Entry::Fork(argument))))
    }

    pub(super) fn new_control(
        &self,
        parentage: Parentage,
        ignored: u32,
        image: Arc<ImageInfo>,
    ) -> (Arc<Control>, Option<oneshot::Sender<ExitStatus>>) {
        let pid = self.table.allocate_pid();
        let control = Control {
            pid,
            exec: parentage.exec,
            exec_cpu_time: parentage.exec_cpu_time,
            exec_fuel: parentage.exec_fuel,
            parent: AtomicU32::new(parentage.parent),
            group: AtomicU32::new(parentage.group.unwrap_or(pid)),
            signals: Arc::new(Signals::ignoring(parentage.ignored | ignored)),
            timer: Timer::default(),
            child_exited: Notify::new(),
            image: Mutex::new(image),
            cpu_ns: AtomicU64::new(0),
            turn_since: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            stack_top: AtomicUsize::new(0),
            out_of_stack: AtomicBool::new(false),
            stderr: Mutex::default(),
            started: Instant::now(),
        };
        (Arc::new(control), parentage.on_exit)
    }

    /// Runs a process of the table to its end.
    pub(super) fn start_task(
        self: &Arc<Self>,
        control: Arc<Control>,
        process: impl Future<Output = ExitStatus> + Send + 'static,
    ) -> Pid {
        let pid = control.pid;
        let kernel = Arc::clone(self);
        let gated = Gated::new(self, process, Arc::clone(&control));
        self.runtime.spawn(async move {
            // A panic in a host function must not take more with it than the process that caused it.
            let outcome = AssertUnwindSafe(async {
                let mut gated = gated;
                let status = tokio::select! {
                    biased;
                    signal = control.signals.fatal() => {
                        // Before the process, and with it its descriptors, are gone.
                        if control.out_of_stack.load(Ordering::Relaxed) {
                            let limit = kernel.budget.limits().memory_bytes >> 20;
                            control.say_killed(&format!("memory limit of {limit} MiB reached"));
                        }
                        ExitStatus::Killed(signal as u8)
                    }
                    status = &mut gated => status,
                };
                let memory = control.memory_bytes.load(Ordering::Relaxed);
                kernel.runtime.reclaim(memory, gated).await;
                status
            })
            .catch_unwind()
            .await;
            let status = outcome.unwrap_or_else(|_| {
                tracing::error!(pid, "a host function panicked; the process was ended");
                ExitStatus::Killed(signal::KILL as u8)
            });
            kernel.table.exit(pid, status);
        });
        pid
    }

    /// The program for a request, its file, and the arguments it gets once interpreters are resolved.
    async fn find_program(&self, request: &SpawnRequest) -> Result<(Arc<Program>, Vec<u8>, Vec<Vec<u8>>), Errno> {
        let total: usize = request.argv.iter().chain(&request.environment).map(Vec::len).sum();
        if total > MAX_ARGUMENT_BYTES {
            return Err(Errno::TooBig);
        }
        let mut argv = request.argv.clone();
        let mut path = match request.path.as_slice() {
            b"" => self.search_path(request).await?,
            path => lookup::join(&request.cwd, path),
        };
        // A script is told its name as its user spelled it. Requests have absolute paths only; the spelling is in argv.
        let mut name = match argv.first() {
            Some(spelled) if spelled.contains(&b'/') && lookup::join(&request.cwd, spelled) == path => spelled.clone(),
            _ => path.clone(),
        };
        for _ in 0..=MAX_INTERPRETERS {
            let head = self.executable_head(&path)?;
            if let Some(program) = self.programs.named_by(&head) {
                return Ok((Arc::clone(program), path, argv));
            }
            let (interpreter, argument) = parse_interpreter(&head).ok_or(Errno::Noexec)?;
            let mut resolved = vec![interpreter.to_vec()];
            resolved.extend(argument.map(<[u8]>::to_vec));
            resolved.push(name);
            resolved.extend(argv.into_iter().skip(1));
            argv = resolved;
            path = lookup::join(&request.cwd, interpreter);
            name = interpreter.to_vec();
        }
        Err(Errno::Loop)
    }

    /// First bytes of a file that may be executed.
    pub(super) fn executable_head(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let handle = self
            .fs
            .open(ROOT, path, &OpenOptions::default())
            .map_err(|error| match error {
                PathError::Fs(error) => error.into(),
                PathError::Mounted { .. } => Errno::Acces,
            })?;
        let stat = handle.stat()?;
        if stat.kind != wisp_vfs::FileKind::Regular || stat.mode & 0o111 == 0 {
            return Err(Errno::Acces);
        }
        let mut head = vec![0; SCRIPT_HEAD];
        let count = handle.read_at(0, &mut head)?;
        head.truncate(count);
        Ok(head)
    }

    /// Looks argv 0 up in `PATH` of the given environment.
    async fn search_path(&self, request: &SpawnRequest) -> Result<Vec<u8>, Errno> {
        let name = request.argv.first().ok_or(Errno::Inval)?;
        if name.contains(&b'/') {
            return Ok(lookup::join(&request.cwd, name));
        }
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Errno::Noent);
        }
        let path = request.variable(b"PATH").unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
        if path.len() > MAX_SEARCH_PATH {
            return Err(Errno::TooBig);
        }
        let mut slices = Slices::start();
        let mut failure = Errno::Noent;
        for (count, directory) in path.split(|byte| *byte == b':').enumerate() {
            if count >= MAX_SEARCH_ENTRIES {
                return Err(Errno::TooBig);
            }
            slices.pause().await;
            let Some(candidate) = candidate(&request.cwd, directory, name) else {
                continue;
            };
            match self.executable_head(&candidate) {
                Ok(_) => return Ok(candidate),
                Err(Errno::Acces) => failure = Errno::Acces,
                Err(_) => {}
            }
        }
        Err(failure)
    }
}

/// A program, its file, and the arguments it gets.
pub(super) struct Resolved {
    program: Arc<Program>,
    executable: Vec<u8>,
    argv: Vec<Vec<u8>>,
    /// For the request and these arguments.
    _charge: Charge,
}

/// Where a program would be that is found in this entry of `PATH`; `None` if no path can be that long.
fn candidate(cwd: &[u8], directory: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let start: &[&[u8]] = match directory {
        // An empty entry is the working directory (POSIX, 8.3).
        b"" => &[cwd],
        [b'/', ..] => &[directory],
        _ => &[cwd, directory],
    };
    let len: usize = start.iter().map(|part| part.len() + 1).sum();
    if len + name.len() > MAX_PATH {
        return None;
    }
    Some([start, &[name]].concat().join(&b'/'))
}

/// A process that is not in the table yet.
pub struct Starting {
    control: Arc<Control>,
    slot: ProcessSlot,
    on_exit: Option<oneshot::Sender<ExitStatus>>,
}

/// What a forked child takes over from its parent.
pub struct ForkParent {
    /// The parent.
    pub control: Arc<Control>,
    /// What it runs.
    pub program: Arc<Program>,
    /// Arguments, the program's name first.
    pub arguments: Block,
    /// The descriptors the child keeps.
    pub descriptors: DescriptorTable,
    /// The numbers of those it was passed.
    pub inherited: Vec<(u32, u32)>,
    /// Permission bits that its new files do not get.
    pub umask: u32,
}

/// The interpreter and its one optional argument in the first line of a script.
fn parse_interpreter(head: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    debug_assert!(!FILE_PREFIX.starts_with(b"#!"), "a program file is not a script");
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = line.trim_ascii();
    let (interpreter, argument) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
        Some(end) => (&line[..end], Some(line[end..].trim_ascii())),
        None => (line, None),
    };
    (!interpreter.is_empty() && !interpreter.contains(&0)).then_some((interpreter, argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_line_has_one_optional_argument() {
        assert_eq!(
            parse_interpreter(b"#!/bin/sh\necho"),
            Some((b"/bin/sh".as_slice(), None))
        );
        assert_eq!(
            parse_interpreter(b"#! /usr/bin/env  python3 -u \n"),
            Some((b"/usr/bin/env".as_slice(), Some(b"python3 -u".as_slice())))
        );
        assert_eq!(parse_interpreter(b"#!\n"), None);
        assert_eq!(parse_interpreter(b"echo"), None);
    }

    #[test]
    fn candidates_are_built_from_the_working_directory_and_never_too_long() {
        assert_eq!(candidate(b"/w", b"", b"x").unwrap(), b"/w/x");
        assert_eq!(candidate(b"/w", b"bin", b"x").unwrap(), b"/w/bin/x");
        assert_eq!(candidate(b"/w", b"/bin", b"x").unwrap(), b"/bin/x");
        let long = vec![b'a'; MAX_PATH - 2];
        assert_eq!(candidate(&long, b"", b"x").unwrap().len(), MAX_PATH);
        assert_eq!(candidate(&long, b"", b"xy"), None);
        assert_eq!(candidate(&long, b"b", b"x"), None);
        assert_eq!(candidate(b"/w", &long, b"x"), None);
    }
}
