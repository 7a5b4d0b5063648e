//! Starting processes: from a request to a resolved program, and from that to a running task.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot};
use wasmtime::{Instance, Store};

use super::Kernel;
use super::budget::Charge;
use super::descriptor::{DescriptorTable, OpenFile};
use super::errno::Errno;
use super::limiter::MemoryLimiter;
use super::place;
use super::process::{self, Block, Entry, FIRST_PREOPEN, ImageInfo, Process};
use super::program::{FILE_PREFIX, Launch, Program};
use super::signal::{self, Signals};
use super::table::{Control, ExitStatus, INIT, Pid};
use super::timer::Timer;
use crate::vfs::{OpenOptions, PathError, ROOT};

/// Bytes of arguments and environment together, as on Linux.
const MAX_ARGUMENT_BYTES: usize = 2 << 20;
/// Strings in arguments and environment together.
const MAX_STRINGS: u32 = 1 << 16;
/// Host memory of a process beyond its linear memory: store, fiber stack in use, tables. Charged at the start.
const PROCESS_BYTES: u64 = 256 << 10;
/// Interpreters of interpreters of scripts, as on Linux.
const MAX_INTERPRETERS: usize = 4;
/// Bytes of a script read to find its interpreter, as on Linux.
const SCRIPT_HEAD: usize = 256;
/// Spawn request flag: the child leads a process group of its own.
const NEW_GROUP: u32 = 1;

/// What to start, as a guest or the API asks for it.
#[derive(Debug, Default)]
pub struct SpawnRequest {
    /// Program file; empty to search `PATH`.
    pub path: Vec<u8>,
    /// Directory to start in, absolute.
    pub cwd: Vec<u8>,
    /// Arguments, the program's name first.
    pub argv: Vec<Vec<u8>>,
    /// `KEY=value`.
    pub environment: Vec<Vec<u8>>,
    /// Child's number, own descriptor.
    pub descriptors: Vec<(u32, u32)>,
    /// The child leads a process group of its own.
    pub new_group: bool,
}

impl SpawnRequest {
    /// Reads the wire form of `docs/abi.md`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > MAX_ARGUMENT_BYTES {
            return Err(Errno::TooBig);
        }
        let mut reader = RequestReader {
            rest: bytes,
            strings: 0,
        };
        let path = reader.string()?;
        let cwd = reader.string()?;
        let argv = reader.strings()?;
        let environment = reader.strings()?;
        let pairs = reader.count()?;
        let descriptors = (0..pairs)
            .map(|_| Ok((reader.number()?, reader.number()?)))
            .collect::<Result<_, Errno>>()?;
        let flags = reader.number()?;
        if argv.is_empty() || !cwd.starts_with(b"/") || flags & !NEW_GROUP != 0 {
            return Err(Errno::Inval);
        }
        Ok(Self {
            path,
            cwd,
            argv,
            environment,
            descriptors,
            new_group: flags & NEW_GROUP != 0,
        })
    }

    /// The value of an environment variable.
    fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.environment
            .iter()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }
}

struct RequestReader<'a> {
    rest: &'a [u8],
    strings: u32,
}

impl RequestReader<'_> {
    fn number(&mut self) -> Result<u32, Errno> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(Errno::Inval)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*head))
    }

    fn count(&mut self) -> Result<u32, Errno> {
        let count = self.number()?;
        self.strings = self.strings.saturating_add(count);
        if self.strings > MAX_STRINGS {
            Err(Errno::TooBig)
        } else {
            Ok(count)
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, Errno> {
        let len = self.number()? as usize;
        let (string, rest) = self.rest.split_at_checked(len).ok_or(Errno::Inval)?;
        self.rest = rest;
        if string.contains(&0) {
            Err(Errno::Inval)
        } else {
            Ok(string.to_vec())
        }
    }

    fn strings(&mut self) -> Result<Vec<Vec<u8>>, Errno> {
        let count = self.count()?;
        (0..count).map(|_| self.string()).collect()
    }
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

    /// The process of a new store.
    pub fn into_process(self, kernel: Arc<Kernel>, control: Arc<Control>) -> Process {
        *control.image.lock().unwrap_or_else(PoisonError::into_inner) = self.image;
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
            ignored: parent.signals.ignored(),
            on_exit: None,
        }
    }

    /// A process nobody on the machine started.
    pub fn of_exec(exec: u64, on_exit: oneshot::Sender<ExitStatus>) -> Self {
        Self {
            parent: INIT,
            group: None,
            exec,
            ignored: 0,
            on_exit: Some(on_exit),
        }
    }
}

impl Kernel {
    /// Resolves a request: finds the program, follows `#!`, opens the preopened directories, places the descriptors.
    pub(super) fn prepare(
        &self,
        request: SpawnRequest,
        own: impl Fn(u32) -> Result<Arc<OpenFile>, Errno>,
        umask: u32,
    ) -> Result<Start, Errno> {
        let (program, executable, argv) = self.resolve(&request)?;
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
        let held = image.bytes_with(&arguments);
        let charge = self.budget.charge(PROCESS_BYTES + held).map_err(|_| Errno::Nomem)?;
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
        let ignored = if start.program.spec.ignores_sigpipe {
            1 << signal::PIPE
        } else {
            0
        };
        let slot = self.budget.process_slot().map_err(|_| Errno::Again)?;
        let (control, on_exit) = self.new_control(parentage, ignored, Arc::clone(&start.image));
        let store = process::new_store(start.into_process(Arc::clone(self), Arc::clone(&control)));
        self.table.insert(Arc::clone(&control), slot, on_exit)?;
        Ok(self.start_task(control, store, None, Entry::Launch))
    }

    /// Copies a process: `fill` gets the child's store and instance before it runs.
    pub(super) async fn fork(
        self: &Arc<Self>,
        parent: ForkParent,
        argument: u32,
        fill: impl FnOnce(&mut Store<Process>, &Instance) -> Result<(), Errno>,
    ) -> Result<Pid, Errno> {
        let slot = self.budget.process_slot().map_err(|_| Errno::Again)?;
        let image = parent.control.image();
        let held = image.bytes_with(&parent.arguments);
        let charge = self.budget.charge(PROCESS_BYTES + held).map_err(|_| Errno::Nomem)?;
        let (control, on_exit) = self.new_control(Parentage::child_of(&parent.control, false), 0, image);
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
            replacement: None,
        };
        let mut store = process::new_store(child);
        let instance = process::instantiate(&mut store).await.map_err(|_| Errno::Nomem)?;
        fill(&mut store, &instance)?;
        self.table.insert(Arc::clone(&control), slot, on_exit)?;
        Ok(self.start_task(control, store, Some(instance), Entry::Fork(argument)))
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
            parent: AtomicU32::new(parentage.parent),
            group: AtomicU32::new(parentage.group.unwrap_or(pid)),
            signals: Arc::new(Signals::ignoring(parentage.ignored | ignored)),
            timer: Timer::default(),
            child_exited: Notify::new(),
            image: Mutex::new(image),
            cpu_ns: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            started: Instant::now(),
        };
        (Arc::new(control), parentage.on_exit)
    }

    fn start_task(
        self: &Arc<Self>,
        control: Arc<Control>,
        store: Store<Process>,
        instance: Option<Instance>,
        entry: Entry,
    ) -> Pid {
        let pid = control.pid;
        let kernel = Arc::clone(self);
        let gated = self
            .gate
            .run(process::run(store, instance, entry), Arc::clone(&control));
        self.runtime.spawn(async move {
            // A panic in a host function must not take more with it than the process that caused it.
            let outcome = AssertUnwindSafe(async {
                tokio::select! {
                    biased;
                    signal = control.signals.fatal() => ExitStatus::Killed(signal as u8),
                    status = gated => status,
                }
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

    /// Finds the program for a request, and the arguments it gets once interpreters are resolved.
    pub(super) fn resolve(&self, request: &SpawnRequest) -> Result<Resolved, Errno> {
        let mut argv = request.argv.clone();
        let total: usize = argv.iter().chain(&request.environment).map(Vec::len).sum();
        if total > MAX_ARGUMENT_BYTES {
            return Err(Errno::TooBig);
        }
        let mut path = match request.path.as_slice() {
            b"" => self.search_path(request)?,
            path => place::join(&request.cwd, path),
        };
        // A script is told its name as its user spelled it. Requests have absolute paths only; the spelling is in argv.
        let mut name = match argv.first() {
            Some(spelled) if spelled.contains(&b'/') && place::join(&request.cwd, spelled) == path => spelled.clone(),
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
            path = place::join(&request.cwd, interpreter);
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
        if stat.kind != crate::vfs::FileKind::Regular || stat.mode & 0o111 == 0 {
            return Err(Errno::Acces);
        }
        let mut head = vec![0; SCRIPT_HEAD];
        let count = handle.read_at(0, &mut head)?;
        head.truncate(count);
        Ok(head)
    }

    /// Looks argv 0 up in `PATH` of the given environment.
    fn search_path(&self, request: &SpawnRequest) -> Result<Vec<u8>, Errno> {
        let name = request.argv.first().ok_or(Errno::Inval)?;
        if name.contains(&b'/') {
            return Ok(place::join(&request.cwd, name));
        }
        if name.is_empty() {
            return Err(Errno::Noent);
        }
        let path = request.variable(b"PATH").unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
        let mut failure = Errno::Noent;
        for directory in path.split(|byte| *byte == b':') {
            // An empty entry is the working directory (POSIX, 8.3).
            let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            let candidate = place::join(&request.cwd, &[directory, separator, name].concat());
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
type Resolved = (Arc<Program>, Vec<u8>, Vec<Vec<u8>>);

/// What a forked child takes over from its parent.
pub struct ForkParent {
    /// The parent.
    pub control: Arc<Control>,
    /// What it runs.
    pub program: Arc<Program>,
    /// Its arguments.
    pub arguments: Block,
    /// The descriptors the child keeps.
    pub descriptors: DescriptorTable,
    /// The numbers of those it was passed.
    pub inherited: Vec<(u32, u32)>,
    /// Its umask.
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
    fn a_request_with_lengths_that_lie_is_refused() {
        assert_eq!(SpawnRequest::parse(&[]).unwrap_err(), Errno::Inval);
        assert_eq!(SpawnRequest::parse(&[255; 64]).unwrap_err(), Errno::Inval);
        let mut bytes = Vec::new();
        for string in ["/bin/sh", "/"] {
            bytes.extend((string.len() as u32).to_le_bytes());
            bytes.extend(string.as_bytes());
        }
        bytes.extend(u32::MAX.to_le_bytes());
        assert_eq!(SpawnRequest::parse(&bytes).unwrap_err(), Errno::TooBig);
    }
}
