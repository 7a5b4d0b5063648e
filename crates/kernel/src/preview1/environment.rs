//! Arguments, environment and random bytes.

use wasmtime::{Caller, Linker};

use super::MODULE;
use crate::errno::Errno;
use crate::fuel::settled;
use crate::memory::GuestMemory;
use crate::process::{Block, Process, answer, with_memory};

/// Random bytes produced between two chances for others to run.
const RANDOM_STEP: u32 = 256 << 10;

/// Defines the functions of this file.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "args_sizes_get",
        |mut caller: Caller<'_, Process>, count: u32, size: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                sizes(memory, &process.arguments, count, size)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "args_get",
        |mut caller: Caller<'_, Process>, table: u32, bytes: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                strings(memory, &process.arguments, table, bytes)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_sizes_get",
        |mut caller: Caller<'_, Process>, count: u32, size: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                sizes(memory, &process.control.image().environment, count, size)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_get",
        |mut caller: Caller<'_, Process>, table: u32, bytes: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                strings(memory, &process.control.image().environment, table, bytes)
            }))
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "random_get",
        |mut caller: Caller<'_, Process>, (address, len): (u32, u32)| {
            Box::new(async move { settled!(caller, answer(random(&mut caller, address, len).await)) })
        },
    )?;
    Ok(())
}

fn sizes(memory: &mut GuestMemory<'_>, block: &Block, count: u32, size: u32) -> Result<(), Errno> {
    memory.write_u32(count, block.count())?;
    memory.write_u32(size, u32::try_from(block.bytes().len()).map_err(|_| Errno::Overflow)?)
}

fn strings(memory: &mut GuestMemory<'_>, block: &Block, table: u32, bytes: u32) -> Result<(), Errno> {
    memory.write(bytes, &block.bytes())?;
    let (mut slot, mut start) = (table, bytes);
    for string in block.iter() {
        memory.write_u32(slot, start)?;
        slot = slot.checked_add(4).ok_or(Errno::Fault)?;
        start += u32::try_from(string.len()).map_err(|_| Errno::Overflow)? + 1;
    }
    Ok(())
}

async fn random(caller: &mut Caller<'_, Process>, address: u32, len: u32) -> Result<(), Errno> {
    // The whole range must be there before anything is written.
    with_memory(caller, |memory, _| memory.slice(address, len).map(|_| ()))?;
    let mut done = 0;
    while done < len {
        let step = (len - done).min(RANDOM_STEP);
        with_memory(caller, |memory, process| {
            let bytes = memory.slice_mut(address + done, step)?;
            process.kernel.outside.fill(bytes).map_err(|_| Errno::Io)
        })?;
        done += step;
        if done < len {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
