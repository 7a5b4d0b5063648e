//! WASI preview1 (`wasi_snapshot_preview1`), all of it.
//!
//! One file per group of functions; each function has the name, parameters and errors of the standard's
//! `wasi_snapshot_preview1.witx`. A call that makes no sense gets the right errno, never a trap.

mod clock;
pub(crate) mod descriptors;
mod environment;
mod io;
pub(crate) mod paths;
mod poll;
pub(crate) mod readdir;

use wasmtime::{Caller, Linker};

use super::errno::Errno;
use super::fuel::settled;
use super::process::{Ended, Process};
use super::signal::Disposition;

/// The import module's name.
const MODULE: &str = "wasi_snapshot_preview1";

/// Defines every function.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    environment::add_to_linker(linker)?;
    clock::add_to_linker(linker)?;
    descriptors::add_to_linker(linker)?;
    io::add_to_linker(linker)?;
    readdir::add_to_linker(linker)?;
    paths::add_to_linker(linker)?;
    poll::add_to_linker(linker)?;
    linker.func_wrap(MODULE, "proc_exit", |code: u32| -> wasmtime::Result<()> {
        // A status is eight bits, as POSIX has it.
        Err(Ended::Exit((code & 0xff) as u8).into())
    })?;
    linker.func_wrap(MODULE, "proc_raise", |caller: Caller<'_, Process>, signal: u32| {
        let process = caller.data();
        match i32::try_from(process.control.pid) {
            Ok(own) => process.after_signal(process.kill(own, signal)),
            Err(_) => Ok(Errno::Inval.into()),
        }
    })?;
    linker.func_wrap_async(MODULE, "sched_yield", |mut caller: Caller<'_, Process>, (): ()| {
        Box::new(async move {
            settled!(caller, tokio::task::yield_now().await);
            0i32
        })
    })?;
    linker.func_wrap(
        MODULE,
        "sock_accept",
        |caller: Caller<'_, Process>, fd: u32, _flags: u32, _out: u32| not_a_socket(&caller, fd),
    )?;
    linker.func_wrap(
        MODULE,
        "sock_recv",
        |caller: Caller<'_, Process>, fd: u32, _: u32, _: u32, _: u32, _: u32, _: u32| not_a_socket(&caller, fd),
    )?;
    linker.func_wrap(
        MODULE,
        "sock_send",
        |caller: Caller<'_, Process>, fd: u32, _: u32, _: u32, _: u32, _: u32| not_a_socket(&caller, fd),
    )?;
    linker.func_wrap(
        MODULE,
        "sock_shutdown",
        |caller: Caller<'_, Process>, fd: u32, _: u32| not_a_socket(&caller, fd),
    )?;
    Ok(())
}

/// There are no sockets: an open descriptor is something else.
fn not_a_socket(caller: &Caller<'_, Process>, fd: u32) -> i32 {
    let errno = caller.data().descriptors.get(fd).err().unwrap_or(Errno::Notsock);
    errno.into()
}

/// Why a call that can end its process did not succeed.
pub enum Failure {
    /// The guest is told.
    Errno(Errno),
    /// The process ends.
    Ended(Ended),
}

impl<E: Into<Errno>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Errno(error.into())
    }
}

/// The answer of a call that can end its process.
fn finish(result: Result<(), Failure>) -> wasmtime::Result<i32> {
    match result {
        Ok(()) => Ok(0),
        Err(Failure::Errno(errno)) => Ok(errno.into()),
        Err(Failure::Ended(ended)) => Err(ended.into()),
    }
}

/// What a write to a pipe without reader does to `process`.
fn broken_pipe(process: &Process) -> Failure {
    match process.control.signals.disposition(super::signal::PIPE) {
        Disposition::Default => Failure::Ended(Ended::Signal(super::signal::PIPE as u8)),
        Disposition::Ignore => Failure::Errno(Errno::Pipe),
        Disposition::Catch => {
            process.control.signals.deliver(super::signal::PIPE);
            Failure::Errno(Errno::Pipe)
        }
    }
}
