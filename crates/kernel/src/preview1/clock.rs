//! Clocks.

use wasmtime::{Caller, Linker};

use super::MODULE;
use crate::errno::Errno;
use crate::process::{Process, answer, with_memory};

/// Wall-clock time.
pub const REALTIME: u32 = 0;
/// Time since the machine started.
pub const MONOTONIC: u32 = 1;
const PROCESS_CPU: u32 = 2;
const THREAD_CPU: u32 = 3;
/// A nanosecond for the clocks that follow the host's.
const FINE_RESOLUTION: u64 = 1;
/// CPU time is counted when a process stops executing, at the latest once a tick.
const CPU_RESOLUTION: u64 = 1_000_000;

/// Defines the functions of this file.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "clock_res_get",
        |mut caller: Caller<'_, Process>, clock: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, _| {
                let resolution = match clock {
                    REALTIME | MONOTONIC => FINE_RESOLUTION,
                    PROCESS_CPU | THREAD_CPU => CPU_RESOLUTION,
                    _ => return Err(Errno::Inval),
                };
                memory.write_u64(out, resolution)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |mut caller: Caller<'_, Process>, clock: u32, _precision: u64, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                memory.write_u64(out, now(process, clock)?)
            }))
        },
    )?;
    Ok(())
}

/// What a clock shows, nanoseconds.
pub fn now(process: &Process, clock: u32) -> Result<u64, Errno> {
    match clock {
        REALTIME => Ok(process.kernel.outside.realtime()),
        MONOTONIC => Ok(process.kernel.outside.monotonic(process.kernel.started)),
        PROCESS_CPU | THREAD_CPU => Ok(process.kernel.outside.cpu(&process.control.cpu_ns)),
        _ => Err(Errno::Inval),
    }
}
