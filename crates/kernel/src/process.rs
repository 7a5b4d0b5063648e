//! A process: one store and instance, and all that its host functions may reach.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use rustix::mm::{Advice, madvise};
use wasmtime::{AsContextMut as _, Caller, Engine, Func, Instance, Memory, Store, Trap, UpdateDeadline};

use super::descriptor::{DescriptorTable, OpenFile};
use super::errno::Errno;
use super::foreign::{ForeignProcess, ForeignProgram};
use super::fuel;
use super::limiter::MemoryLimiter;
use super::memory::GuestMemory;
use super::pool::Slot;
use super::program::{Code, Launch, Program};
use super::runtime::LARGE_MEMORY;
use super::signal;
use super::spawn::Start;
use super::table::{Control, ExitStatus, Pid};
use super::{Kernel, stat::FileStat};

/// Bytes of a large memory that are given back at once.
const PIECE_OF_MEMORY: usize = 4 << 20;

/// First descriptor of the preopened directories: a preview1 libc looks for them from here on.
pub const FIRST_PREOPEN: u32 = 3;

/// A list of byte strings as one block, each ended by NUL: arguments or environment.
#[derive(Debug, Clone, Default)]
pub struct Block {
    bytes: Arc<[u8]>,
    count: u32,
}

impl Block {
    /// Joins strings, none of which may contain NUL.
    pub fn new<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut bytes = Vec::new();
        let mut count = 0;
        for string in strings {
            bytes.extend_from_slice(string);
            bytes.push(0);
            count += 1;
        }
        Self {
            bytes: bytes.into(),
            count,
        }
    }

    /// All strings with their NULs.
    pub fn bytes(&self) -> Arc<[u8]> {
        Arc::clone(&self.bytes)
    }

    /// How many strings there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The strings without their NULs.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .split_inclusive(|byte| *byte == 0)
            .map(|string| &string[..string.len() - 1])
    }
}

/// What a process runs, as `/proc` shows it.
#[derive(Debug, Default)]
pub struct ImageInfo {
    /// Its arguments as the starter gave them.
    pub argv: Block,
    /// Its environment at the start.
    pub environment: Block,
    /// The program file.
    pub executable: Vec<u8>,
    /// The directory it was started in.
    pub cwd: Vec<u8>,
}

impl ImageInfo {
    /// Bytes of all it holds, and of `arguments` as the program gets them.
    pub fn bytes_with(&self, arguments: &Block) -> u64 {
        let blocks = self.argv.bytes.len() + self.environment.bytes.len() + arguments.bytes.len();
        (blocks + self.executable.len() + self.cwd.len()) as u64
    }

    /// Last component of the program file (`/proc/<pid>/comm`).
    pub fn command_name(&self) -> &[u8] {
        let start = self
            .executable
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        &self.executable[start..]
    }
}

/// The state of one process: the data of its store.
pub struct Process {
    /// The machine it runs on.
    pub kernel: Arc<Kernel>,
    /// What others know of it.
    pub control: Arc<Control>,
    /// What it runs.
    pub program: Arc<Program>,
    /// Arguments as preview1 gives them.
    pub arguments: Block,
    /// Its open files.
    pub descriptors: DescriptorTable,
    /// Descriptors from 3 on that the parent passed: the parent's number and the number here.
    pub inherited: Vec<(u32, u32)>,
    /// Permission bits new files do not get.
    pub umask: u32,
    /// Its linear memory, once instantiated.
    pub memory: Option<Memory>,
    /// Charges its memory to the sandbox.
    pub limiter: MemoryLimiter,
    /// Its slot of the pool; without one its memory is its own.
    pub slot: Option<Slot>,
    /// Units of fuel that its store had when they were last looked at, if they are counted.
    pub fuel_seen: u64,
    /// What replaces it, set by `exec` before it ends itself.
    pub replacement: Option<Box<Start>>,
}

/// Why a host function ended the process.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It exited.
    #[error("exited with {0}")]
    Exit(u8),
    /// A signal it sent itself, or a broken pipe.
    #[error("ended by signal {0}")]
    Signal(u8),
    /// `exec`: [`Process::replacement`] says by what.
    #[error("replaced by another program")]
    Replaced,
}

/// A program that is no module has no instance.
#[derive(Debug, thiserror::Error)]
#[error("this program is no module")]
struct NoModule;

/// A program that was loaded without the code that counts fuel.
#[derive(Debug, thiserror::Error)]
#[error("there is no code of this program that counts fuel")]
struct NoFuelCode;

/// Where a new instance is entered.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// As its program says.
    Launch,
    /// After a fork, with the fork's argument.
    Fork(u32),
}

impl Process {
    /// The parent's number.
    pub fn parent(&self) -> Pid {
        self.control.parent.load(Ordering::SeqCst)
    }

    /// Sends a signal on its behalf.
    pub fn kill(&self, target: i32, signal: u32) -> Result<(), Errno> {
        self.kernel.table.kill(&self.control, target, signal)
    }

    /// The answer of a call that may have sent this process a signal: it does not return from one that ends it.
    pub fn after_signal(&self, result: Result<(), Errno>) -> wasmtime::Result<i32> {
        match self.control.signals.fatal_now() {
            Some(signal) => Err(Ended::Signal(signal).into()),
            None => Ok(answer(result)),
        }
    }

    /// Attributes of an open file.
    pub fn stat_descriptor(&self, fd: u32) -> Result<FileStat, Errno> {
        FileStat::of(self.descriptors.get(fd)?)
    }

    /// Says on its standard error what it is killed for.
    pub(super) fn say_killed(&self, reason: &str) {
        // It may have made another file its standard error.
        self.control.speak_to(self.descriptors.get(2).ok());
        self.control.say_killed(reason);
    }

    /// The directory a preopened descriptor stands for.
    pub fn preopen(&self, fd: u32) -> Option<&str> {
        let index = fd.checked_sub(FIRST_PREOPEN)?;
        self.descriptors.get(fd).ok()?;
        self.program.spec.preopens.get(index as usize).map(String::as_str)
    }

    /// First descriptor number that is not a preopened directory's.
    pub fn first_free_descriptor(&self) -> u32 {
        FIRST_PREOPEN + u32::try_from(self.program.spec.preopens.len()).unwrap_or(u32::MAX - FIRST_PREOPEN)
    }

    /// The descriptor that the number `name` means in `/dev/fd`: what the parent passed under it comes first.
    pub fn descriptor_named(&self, name: u32) -> Option<u32> {
        let moved = self
            .inherited
            .iter()
            .find(|(theirs, _)| *theirs == name)
            .map(|(_, own)| *own);
        let fd = moved.unwrap_or(name);
        self.descriptors.get(fd).ok().map(|_| fd)
    }

    /// The numbers in `/dev/fd`.
    pub fn descriptor_names(&self) -> impl Iterator<Item = u32> {
        let preopens = FIRST_PREOPEN..self.first_free_descriptor();
        self.descriptors
            .iter()
            .map(|(fd, _)| fd)
            .filter(move |fd| !preopens.contains(fd))
    }

    /// Opens a file under the lowest free descriptor.
    pub fn add_descriptor(&mut self, file: Arc<OpenFile>) -> Result<u32, Errno> {
        let first = self.first_free_descriptor();
        self.descriptors.add(file, first)
    }
}

/// Runs a host function's body with the caller's memory and process.
pub fn with_memory<T>(
    caller: &mut Caller<'_, Process>,
    body: impl FnOnce(&mut GuestMemory<'_>, &mut Process) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let memory = caller.data().memory.ok_or(Errno::Fault)?;
    let (bytes, process) = memory.data_and_store_mut(caller);
    body(&mut GuestMemory::new(bytes), process)
}

/// The number a host function answers with.
pub fn answer(result: Result<(), Errno>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(errno) => errno.into(),
    }
}

/// A process that is about to run.
pub enum Task {
    /// Of a module.
    Module(Box<ProcessStore>),
    /// Of a program that runs itself.
    Foreign(Arc<dyn ForeignProgram>, Box<Process>),
}

impl Task {
    /// The process with all that its program needs to run.
    pub fn new(process: Process) -> Self {
        match &process.program.code {
            Code::Module(_) => Self::Module(Box::new(new_store(process))),
            Code::Foreign(program) => Self::Foreign(Arc::clone(program), Box::new(process)),
        }
    }
}

/// The store of a process. What fuel it has used is charged at the latest when it is dropped.
pub struct ProcessStore(Store<Process>);

impl Deref for ProcessStore {
    type Target = Store<Process>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for ProcessStore {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for ProcessStore {
    fn drop(&mut self) {
        fuel::charge(&mut self.0.as_context_mut());
        self.drop_pages();
    }
}

impl ProcessStore {
    /// Gives the pages of a large memory back piece by piece. Unmapping them all at once keeps every other thread from
    /// faulting pages in meanwhile: tens of milliseconds for some hundred MiB.
    fn drop_pages(&self) {
        let Some(memory) = self.0.data().memory else { return };
        let (start, len) = (memory.data_ptr(&self.0), memory.data_size(&self.0));
        // A slot keeps the pages of a small one for the next process.
        if (len as u64) < LARGE_MEMORY {
            return;
        }
        for offset in (0..len).step_by(PIECE_OF_MEMORY) {
            let piece = PIECE_OF_MEMORY.min(len - offset);
            // SAFETY: these bytes are the memory of this store, whose code does not run any more and never will. Nobody
            // reads them before they are unmapped or, in a slot, made new.
            #[expect(unsafe_code, reason = "there is no safe call that drops pages and keeps the mapping")]
            let _ = unsafe { madvise(start.add(offset).cast(), piece, Advice::LinuxDontNeed) };
        }
    }
}

/// A store for `process`, interrupted at every tick so that others get their turn.
pub fn new_store(mut process: Process) -> ProcessStore {
    let kernel = Arc::clone(&process.kernel);
    if process.control.exec_fuel.is_some()
        && let Some(engine) = kernel.runtime.fuel_engine()
    {
        return new_fuel_store(engine, process);
    }
    let mut engine = kernel.runtime.engine();
    let has_slot = process.program.module().is_some_and(|module| module.pooled.is_some());
    if has_slot && let Some((slot, of_pool)) = kernel.runtime.claim_slot() {
        process.slot = Some(slot);
        engine = of_pool;
    }
    let mut store = limited_store(engine, process);
    store.epoch_deadline_async_yield_and_update(1);
    ProcessStore(store)
}

/// A store for a process whose fuel is counted.
fn new_fuel_store(engine: &Engine, process: Process) -> ProcessStore {
    let mut store = limited_store(engine, process);
    store.epoch_deadline_callback(|mut store| {
        // What it is given cannot change here: see `fuel`.
        fuel::charge(&mut store);
        Ok(UpdateDeadline::Yield(1))
    });
    // Neither fails on an engine that counts fuel.
    let _ = store.fuel_async_yield_interval(Some(fuel::YIELD_INTERVAL));
    fuel::settle(&mut store);
    ProcessStore(store)
}

fn limited_store(engine: &Engine, process: Process) -> Store<Process> {
    let mut store = Store::new(engine, process);
    store.limiter(|process| &mut process.limiter);
    store.set_epoch_deadline(1);
    store
}

/// Makes the instance of a process.
pub async fn instantiate(store: &mut Store<Process>) -> wasmtime::Result<Instance> {
    let program = Arc::clone(&store.data().program);
    let process = store.data();
    let module = program.module().ok_or(NoModule)?;
    let instance = match (&process.control.exec_fuel, &process.slot) {
        (Some(_), _) => module.fuel.as_ref().ok_or(NoFuelCode)?,
        (None, Some(_)) => module.pooled.as_ref().unwrap_or(&module.instance),
        (None, None) => &module.instance,
    };
    let instance = instance.instantiate_async(&mut *store).await?;
    let memory = instance.get_memory(&mut *store, "memory");
    store.data_mut().memory = memory;
    Ok(instance)
}

/// Runs a process, and whatever it replaces itself by, to its end on the calling task.
pub async fn run(mut task: Task, mut instance: Option<Instance>, mut entry: Entry) -> ExitStatus {
    loop {
        let mut store = match task {
            Task::Module(store) => *store,
            Task::Foreign(program, process) => return program.run(ForeignProcess::new(*process)).await,
        };
        let result = enter(&mut store, instance.take(), entry).await;
        let status = match result {
            Ok(()) => ExitStatus::Exited(0),
            Err(error) => match error.downcast_ref::<Ended>() {
                Some(Ended::Exit(code)) => ExitStatus::Exited(*code),
                Some(Ended::Signal(signal)) => ExitStatus::Killed(*signal),
                Some(Ended::Replaced) => {
                    let Some(start) = store.data_mut().replacement.take() else {
                        return ExitStatus::Killed(signal::KILL as u8);
                    };
                    let (kernel, control) = (Arc::clone(&store.data().kernel), Arc::clone(&store.data().control));
                    reclaim(store).await;
                    control.signals.forget_caught();
                    let process = start.into_process(kernel, control);
                    if process.program.spec.ignores_sigpipe {
                        process.control.signals.ignore(signal::PIPE);
                    }
                    task = Task::new(process);
                    entry = Entry::Launch;
                    continue;
                }
                None => report_trap(store.data(), &error),
            },
        };
        reclaim(store).await;
        return status;
    }
}

/// Drops the store of a process.
async fn reclaim(store: ProcessStore) {
    let (kernel, control) = (Arc::clone(&store.data().kernel), Arc::clone(&store.data().control));
    let memory = control.memory_bytes.load(Ordering::Relaxed);
    kernel.runtime.reclaim(memory, store).await;
}

pub(super) async fn enter(
    store: &mut Store<Process>,
    instance: Option<Instance>,
    entry: Entry,
) -> wasmtime::Result<()> {
    let instance = match instance {
        Some(instance) => instance,
        None => instantiate(store).await?,
    };
    let control = Arc::clone(&store.data().control);
    note_stack(store, control).await?;
    // Others may have used some since the store was made.
    fuel::settle(&mut *store);
    match entry {
        Entry::Fork(argument) => {
            let function = instance.get_typed_func::<u32, ()>(&mut *store, "wisp_fork_entry")?;
            function.call_async(&mut *store, argument).await
        }
        Entry::Launch => match store.data().program.spec.launch.clone() {
            Launch::Command { .. } => {
                let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
                start.call_async(&mut *store, ()).await
            }
            Launch::Resume { export, parameters } => {
                let function = instance
                    .get_func(&mut *store, &export)
                    .ok_or_else(|| wasmtime::Error::msg(format!("no export {export}")))?;
                let parameters: Vec<_> = parameters.into_iter().map(wasmtime::Val::I32).collect();
                let mut results = vec![wasmtime::Val::I32(0); function.ty(&*store).results().len()];
                function.call_async(&mut *store, &parameters, &mut results).await
            }
        },
    }
}

/// Says on the process's standard error what it died of, and how that counts.
pub(super) fn report_trap(process: &Process, error: &wasmtime::Error) -> ExitStatus {
    // The answer of its exec says so: it is the exec that has none left.
    if let Some(Trap::OutOfFuel) = error.downcast_ref::<Trap>() {
        return ExitStatus::Killed(signal::KILL as u8);
    }
    let limit = process.kernel.budget.limits().memory_bytes >> 20;
    let out_of_memory = process.limiter.refused();
    let (reason, status) = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => ("stack overflow".to_owned(), signal::KILL),
        _ if out_of_memory => (format!("memory limit of {limit} MiB reached"), signal::KILL),
        Some(Trap::MemoryOutOfBounds | Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature) => {
            ("memory access out of bounds".to_owned(), signal::SEGV)
        }
        // A Rust or C program that aborts: it has printed why itself.
        Some(Trap::UnreachableCodeReached) => ("aborted".to_owned(), signal::ABORT),
        Some(trap) => (trap.to_string(), signal::ABORT),
        None => {
            tracing::warn!(%error, "a process could not be run");
            ("could not be started".to_owned(), signal::KILL)
        }
    };
    process.say_killed(&reason);
    ExitStatus::Killed(status as u8)
}

impl Control {
    /// Makes `file` the one that its last words go to.
    pub fn speak_to(&self, file: Option<&Arc<OpenFile>>) {
        let file = file.map(Arc::downgrade).unwrap_or_default();
        *self.stderr.lock() = file;
    }

    /// Says what it is killed for.
    pub fn say_killed(&self, reason: &str) {
        let file = self.stderr.lock().upgrade();
        if let Some(file) = file {
            let image = self.image();
            let name = String::from_utf8_lossy(image.command_name());
            let line = format!("{name}: killed: {reason}\n");
            // Its last words; if nobody takes them, so be it.
            let _ = file.write_all(line.as_bytes()).now_or_never();
        }
    }
}

/// Notes where the native stack of a process starts. All calls of a store use the same one.
pub(super) async fn note_stack<T: Send>(store: &mut Store<T>, control: Arc<Control>) -> wasmtime::Result<()> {
    let note = Func::wrap(&mut *store, move || {
        let here = 0u8;
        let top = std::hint::black_box(&raw const here).addr();
        control.stack_top.store(top, Ordering::Relaxed);
    });
    note.typed::<(), ()>(&mut *store)?.call_async(&mut *store, ()).await
}
