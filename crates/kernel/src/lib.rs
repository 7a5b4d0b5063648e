//! A small POSIX-like kernel whose processes are WebAssembly instances.
//!
//! One [`Kernel`] is the machine of one sandbox: its file system, process table and limits. All kernels share one
//! [`Runtime`]: the engine, the host functions and the threads guests run on. Guests call the kernel through WASI
//! preview1 (`preview1`) and the `wisp` module (`wisp`, `docs/abi.md`).
//!
//! The guest is hostile: every pointer, length, path and count it passes is checked, and every host byte it causes is
//! charged to the sandbox's [`Budget`] or to its file system's quota.

mod allocator;
mod budget;
mod clock_entropy;
mod console;
mod control_file;
mod cpu_time;
mod descriptor;
mod device;
mod errno;
mod exec;
mod foreign;
mod fuel;
#[cfg(test)]
mod fuzz_tests;
mod input;
mod limiter;
mod lookup;
mod memory;
mod module_check;
mod pipe;
mod pool;
mod preview1;
mod process;
mod procfs;
mod program;
mod runtime;
mod scheduler;
mod signal;
mod slice;
mod snapshot;
mod spawn;
mod stack;
mod stat;
mod table;
mod ticker;
mod timer;
mod wisp;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub use allocator::{bound_free_memory, give_memory_back};
pub use budget::{Budget, Limits};
pub use console::{MAX_PIECE, MAX_WAITING, OutputSink, Stream};
pub use errno::Errno;
pub use exec::{Exec, ExecError, ExecRequest, ExecSignals, LimitHit, Outcome, SimpleCommand};
pub use foreign::{DirectoryList, File, ForeignProcess, ForeignProgram, Opening, StoreKeeper, Writer};
pub use input::{Input, InputClosed, InputReader, InputWriter};
pub use limiter::{MAX_TABLE_ELEMENTS, MAX_TABLES};
pub use module_check::{Needs, Unfit, check_image_module, check_module};
pub use program::{CompiledModule, FILE_PREFIX, Launch, Program, ProgramSpec, Programs, file_contents};
pub use runtime::{
    Engines, Runtime, RuntimeError, code_key, config as engine_config, guest_threads, new_engine, new_fuel_engine,
};
pub use snapshot::Snapshot;
pub use stat::FileStat;
pub use table::ExitStatus;

use self::clock_entropy::Outside;
use wisp_vfs::{self as vfs, Fs, Ino, PathError};

/// What `uname -r` shows.
const KERNEL_RELEASE: &str = concat!("6.0.0-wisp-", env!("CARGO_PKG_VERSION"));

/// The machine of one sandbox.
pub struct Kernel {
    runtime: Arc<Runtime>,
    fs: Fs,
    programs: Arc<Programs>,
    budget: Arc<Budget>,
    table: table::ProcessTable,
    gate: scheduler::CpuGate,
    /// Of all processes since the machine was made.
    cpu_time: cpu_time::CpuTime,
    hostname: String,
    started: Instant,
    outside: Outside,
    next_exec: AtomicU64,
    /// The queues of named pipes that are open.
    fifos: Mutex<HashMap<Ino, Weak<pipe::Pipe>>>,
}

impl Kernel {
    /// A machine with these files and programs; nothing runs yet.
    ///
    /// # Errors
    /// When `/proc` or `/dev/fd` cannot be mounted because the image has files there.
    pub fn new(
        runtime: &Arc<Runtime>,
        fs: Fs,
        programs: Arc<Programs>,
        limits: Limits,
        hostname: &str,
    ) -> Result<Arc<Self>, PathError> {
        Self::with_outside(runtime, fs, programs, limits, hostname, Outside::Host)
    }

    /// As [`Kernel::new`], but the time and random bytes its programs get are the same in each run. For what is made of a
    /// run; nothing secret may be.
    ///
    /// # Errors
    /// As [`Kernel::new`].
    pub fn repeatable(
        runtime: &Arc<Runtime>,
        fs: Fs,
        programs: Arc<Programs>,
        limits: Limits,
        hostname: &str,
    ) -> Result<Arc<Self>, PathError> {
        Self::with_outside(runtime, fs, programs, limits, hostname, Outside::repeatable())
    }

    fn with_outside(
        runtime: &Arc<Runtime>,
        fs: Fs,
        programs: Arc<Programs>,
        limits: Limits,
        hostname: &str,
        outside: Outside,
    ) -> Result<Arc<Self>, PathError> {
        procfs::mount(&fs)?;
        Ok(Arc::new(Self {
            runtime: Arc::clone(runtime),
            fs,
            programs,
            budget: Budget::new(limits),
            table: table::ProcessTable::default(),
            gate: scheduler::CpuGate::new(limits.vcpus),
            cpu_time: cpu_time::CpuTime::new(limits.cpu_time),
            hostname: hostname.to_owned(),
            started: Instant::now(),
            outside,
            next_exec: AtomicU64::new(1),
            fifos: Mutex::default(),
        }))
    }

    /// The machine's file tree.
    pub fn fs(&self) -> &Fs {
        &self.fs
    }

    /// What the machine may use, and what it uses now.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Time its processes have spent executing, nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_time.used_ns()
    }

    /// Whether a process that was killed does not end: a host call it is in has executed for longer than `limit` since.
    pub fn has_unstoppable(&self, limit: Duration) -> bool {
        self.table.has_unstoppable(limit)
    }

    /// Counts processor time that was used before this machine was made: by the same sandbox in an earlier process.
    pub fn count_earlier_cpu_time(&self, used: Duration) {
        self.cpu_time.add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Ends every process.
    pub fn shut_down(&self) {
        self.table.kill_all();
    }
}

/// Puts what every image needs into a file system: `/dev`, `/proc`, `/tmp`.
pub fn install_system_directories(fs: &Fs) -> Result<(), PathError> {
    device::install(fs)?;
    for (path, mode) in [(b"/proc".as_slice(), 0o555), (b"/dev/fd", 0o555), (b"/tmp", 0o1777)] {
        fs.create_dir_all(vfs::ROOT, path, mode)?;
    }
    Ok(())
}

/// Where the fuzz targets find their corpora and leave what they find.
#[cfg(test)]
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
