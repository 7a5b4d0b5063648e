//! The import module `wisp`: processes, pipes, signals and permissions (`docs/abi.md`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wasmtime::{Caller, Extern, Instance, Linker, Store, Val};
use wisp_abi::{MODULE, NO_HANG, SpawnRequest, UNCHANGED, UNCHANGED_TIMER};

use super::descriptor::{Kind, OpenFile};
use super::errno::Errno;
use super::fuel::settled;
use super::memory::GuestMemory;
use super::pipe::Pipe;
use super::process::{Ended, Process, answer, with_memory};
use super::slice::Slices;
use super::spawn::{ForkParent, PROCESS_BYTES, Parentage, Start};
use super::table::{Pid, WaitFor, WaitResult};
use super::timer::Schedule;
use wisp_vfs::{NodeKind, ROOT};

/// How long `statfs` frees what was removed before it tells what is used.
const STATFS_PATIENCE: Duration = Duration::from_millis(2);
/// Granularity of copying memory in a fork. Pages that equal the child's own are left alone, so that they stay shared
/// with the program's image.
const PAGE: usize = 4096;
/// Bytes that a fork copies at a time.
const COPY_STEP: usize = 64 << 10;

/// Defines every function.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    add_processes(linker)?;
    add_signals(linker)?;
    add_descriptors(linker)?;
    add_files(linker)
}

fn add_processes(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "getpid", |mut caller: Caller<'_, Process>, out: u32| {
        answer(with_memory(&mut caller, |memory, process| {
            let group = process.control.group.load(Ordering::SeqCst);
            write_words(memory, out, &[process.control.pid, process.parent(), group])
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "setpgid",
        |caller: Caller<'_, Process>, pid: u32, group: u32| answer(set_group(caller.data(), pid, group)),
    )?;
    linker.func_wrap_async(
        MODULE,
        "spawn",
        |mut caller: Caller<'_, Process>, (request, len, out): (u32, u32, u32)| {
            Box::new(async move { settled!(caller, answer(spawn(&mut caller, request, len, out).await)) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "exec",
        |mut caller: Caller<'_, Process>, (request, len): (u32, u32)| {
            Box::new(async move {
                match settled!(caller, prepare(&mut caller, request, len).await) {
                    Ok((start, _)) => {
                        caller.data_mut().replacement = Some(Box::new(start));
                        Err(wasmtime::Error::from(Ended::Replaced))
                    }
                    Err(errno) => Ok(i32::from(errno)),
                }
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fork",
        |mut caller: Caller<'_, Process>, (argument, keep, count, out): (u32, u32, u32, u32)| {
            Box::new(async move { settled!(caller, answer(fork(&mut caller, argument, keep, count, out).await)) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "wait",
        |mut caller: Caller<'_, Process>, (pid, flags, out): (i32, u32, u32)| {
            Box::new(async move { settled!(caller, answer(wait(&mut caller, pid, flags, out).await)) })
        },
    )?;
    Ok(())
}

fn set_group(process: &Process, pid: Pid, group: Pid) -> Result<(), Errno> {
    let own = &process.control;
    let target = match pid {
        0 => Arc::clone(own),
        pid => process.kernel.table.get(pid).ok_or(Errno::Srch)?,
    };
    if target.pid != own.pid && target.parent.load(Ordering::SeqCst) != own.pid {
        return Err(Errno::Srch);
    }
    let group = if group == 0 { target.pid } else { group };
    let exists = group == target.pid
        || process
            .kernel
            .table
            .live()
            .iter()
            .any(|other| other.exec == own.exec && other.group.load(Ordering::SeqCst) == group);
    if !exists {
        return Err(Errno::Perm);
    }
    target.group.store(group, Ordering::SeqCst);
    Ok(())
}

/// Reads a request and makes it ready to start, and tells whether it wants a process group of its own.
async fn prepare(caller: &mut Caller<'_, Process>, request: u32, len: u32) -> Result<(Start, bool), Errno> {
    let request = with_memory(caller, |memory, _| {
        Ok(SpawnRequest::parse(memory.slice(request, len)?)?)
    })?;
    let new_group = request.new_group();
    let kernel = Arc::clone(&caller.data().kernel);
    let resolved = kernel.resolve(&request).await?;
    let charge = kernel.budget.charge(PROCESS_BYTES).map_err(|_| Errno::Nomem)?;
    let process = caller.data();
    let own = |fd| process.descriptors.get(fd).cloned();
    let start = kernel.prepare(request, resolved, own, process.umask, charge)?;
    Ok((start, new_group))
}

async fn spawn(caller: &mut Caller<'_, Process>, request: u32, len: u32, out: u32) -> Result<(), Errno> {
    let (start, new_group) = prepare(caller, request, len).await?;
    with_memory(caller, |memory, process| {
        // Written before the child exists: a bad address must not leave one behind unseen.
        memory.write_u32(out, 0)?;
        let parentage = Parentage::child_of(&process.control, new_group);
        let pid = process.kernel.launch(start, parentage)?;
        memory.write_u32(out, pid)
    })
}

async fn wait(caller: &mut Caller<'_, Process>, pid: i32, flags: u32, out: u32) -> Result<(), Errno> {
    let which = match pid {
        -1 => WaitFor::Any,
        pid => WaitFor::Child(u32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(Errno::Inval)?),
    };
    // The address is good before a status is taken that could then not be told.
    with_memory(caller, |memory, _| write_words(memory, out, &[0, 0]))?;
    let control = Arc::clone(&caller.data().control);
    loop {
        let exited = control.child_exited.notified();
        tokio::pin!(exited);
        exited.as_mut().enable();
        match caller.data().kernel.table.reap(control.pid, which)? {
            WaitResult::Ended(pid, status) => {
                return with_memory(caller, |memory, _| write_words(memory, out, &[pid, status.encoded()]));
            }
            WaitResult::StillRunning if flags & NO_HANG != 0 => return Ok(()),
            WaitResult::StillRunning => {}
        }
        tokio::select! {
            biased;
            () = exited => {}
            () = control.signals.interrupted() => return Err(Errno::Intr),
        }
    }
}

async fn fork(caller: &mut Caller<'_, Process>, argument: u32, keep: u32, count: u32, out: u32) -> Result<(), Errno> {
    if !caller.data().program.module().is_some_and(|module| module.can_fork) {
        return Err(Errno::Nosys);
    }
    let parent = with_memory(caller, |memory, process| {
        memory.write_u32(out, 0)?;
        let bytes = memory.slice(keep, count.checked_mul(4).ok_or(Errno::Inval)?)?;
        let mut keep: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        keep.sort_unstable();
        let first_free = process.first_free_descriptor();
        let kept = |fd: u32| fd < first_free || keep.binary_search(&fd).is_ok();
        let mut descriptors = process.descriptors.clone();
        descriptors.retain(kept);
        Ok(ForkParent {
            control: Arc::clone(&process.control),
            program: Arc::clone(&process.program),
            arguments: process.arguments.clone(),
            descriptors,
            inherited: process.inherited.iter().copied().filter(|(_, fd)| kept(*fd)).collect(),
            umask: process.umask,
        })
    })?;
    let stack_pointer = caller
        .get_export("__stack_pointer")
        .and_then(Extern::into_global)
        .ok_or(Errno::Nosys)?;
    let stack_pointer = stack_pointer.get(&mut *caller);
    let memory = caller.data().memory.ok_or(Errno::Fault)?;
    let kernel = Arc::clone(&caller.data().kernel);
    let (mut store, child, starting) = kernel.fork(parent).await?;
    copy_state(memory.data(&*caller), stack_pointer, &mut store, &child).await?;
    let pid = kernel.start_forked(starting, store, child, argument)?;
    with_memory(caller, |memory, _| memory.write_u32(out, pid))
}

/// Gives a forked child its parent's memory and stack pointer, and lets others run meanwhile.
async fn copy_state(
    source: &[u8],
    stack_pointer: Val,
    store: &mut Store<Process>,
    child: &Instance,
) -> Result<(), Errno> {
    let memory = store.data().memory.ok_or(Errno::Nosys)?;
    let missing = source.len().saturating_sub(memory.data_size(&*store));
    let pages = (missing as u64).div_ceil(memory.page_size(&*store));
    memory.grow(&mut *store, pages).map_err(|_| Errno::Nomem)?;
    let mut slices = Slices::start();
    for (step, source) in source.chunks(COPY_STEP).enumerate() {
        let target = memory.data_mut(&mut *store);
        let target = target.get_mut(step * COPY_STEP..).ok_or(Errno::Nomem)?;
        for (target, page) in target.chunks_mut(PAGE).zip(source.chunks(PAGE)) {
            let target = &mut target[..page.len()];
            if target != page {
                target.copy_from_slice(page);
            }
        }
        slices.pause().await;
    }
    let global = child.get_global(&mut *store, "__stack_pointer").ok_or(Errno::Nosys)?;
    global.set(&mut *store, stack_pointer).map_err(|_| Errno::Nosys)
}

fn add_signals(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "kill",
        |caller: Caller<'_, Process>, target: i32, signal: u32| {
            let process = caller.data();
            process.after_signal(process.kill(target, signal))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "sigaction",
        |caller: Caller<'_, Process>, signal: u32, disposition: u32| {
            answer(caller.data().control.signals.set_disposition(signal, disposition))
        },
    )?;
    linker.func_wrap(MODULE, "sigpending", |mut caller: Caller<'_, Process>, out: u32| {
        answer(with_memory(&mut caller, |memory, process| {
            memory.write_u32(out, 0)?;
            memory.write_u32(out, process.control.signals.take_pending())
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "setitimer",
        |mut caller: Caller<'_, Process>, value: u64, interval: u64, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let control = &process.control;
                let before = control.timer.schedule();
                let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                write_numbers(
                    memory,
                    out,
                    &[microseconds(before.value), microseconds(before.interval)],
                )?;
                if value != UNCHANGED_TIMER {
                    let schedule = Schedule {
                        value: Duration::from_micros(value),
                        interval: Duration::from_micros(interval),
                    };
                    control.timer.set(schedule, &control.signals);
                }
                Ok(())
            }))
        },
    )?;
    Ok(())
}

fn add_descriptors(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "pipe", |mut caller: Caller<'_, Process>, out: u32| {
        answer(with_memory(&mut caller, |memory, process| {
            write_words(memory, out, &[0, 0])?;
            let (reader, writer) = Pipe::create(&process.kernel.budget).map_err(|_| Errno::Nomem)?;
            let reader = process.add_descriptor(OpenFile::new(Kind::PipeReader(reader)))?;
            let writer = match process.add_descriptor(OpenFile::new(Kind::PipeWriter(writer))) {
                Ok(writer) => writer,
                Err(errno) => {
                    process.descriptors.close(reader)?;
                    return Err(errno);
                }
            };
            write_words(memory, out, &[reader, writer])
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "dup",
        |mut caller: Caller<'_, Process>, fd: u32, min: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                memory.write_u32(out, 0)?;
                let file = Arc::clone(process.descriptors.get(fd)?);
                let number = process.descriptors.add(file, min)?;
                memory.write_u32(out, number)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "dup2", |mut caller: Caller<'_, Process>, from: u32, to: u32| {
        let process = caller.data_mut();
        answer(
            process
                .descriptors
                .get(from)
                .cloned()
                .and_then(|file| process.descriptors.set(to, file)),
        )
    })?;
    linker.func_wrap(
        MODULE,
        "inherited",
        |mut caller: Caller<'_, Process>, out: u32, capacity: u32, count: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let mut address = out;
                for (theirs, own) in process.inherited.iter().take(capacity as usize) {
                    write_words(memory, address, &[*theirs, *own])?;
                    address = address.checked_add(8).ok_or(Errno::Fault)?;
                }
                memory.write_u32(count, process.inherited.len() as u32)
            }))
        },
    )?;
    Ok(())
}

fn add_files(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "umask",
        |mut caller: Caller<'_, Process>, mask: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                memory.write_u32(out, process.umask)?;
                if mask != UNCHANGED {
                    process.umask = mask & 0o777;
                }
                Ok(())
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "chmod",
        |mut caller: Caller<'_, Process>, path: u32, len: u32, follow: u32, mode: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                process.chmod_path(absolute(memory, path, len)?, follow != 0, mode)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "fchmod", |caller: Caller<'_, Process>, fd: u32, mode: u32| {
        let process = caller.data();
        let file = process.descriptors.get(fd);
        answer(file.and_then(|file| {
            let ino = file.handle().ok_or(Errno::Inval)?.ino();
            Ok(process.kernel.fs.chmod(ino, mode & 0o7777)?)
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "chown",
        |mut caller: Caller<'_, Process>, path: u32, len: u32, follow: u32, uid: u32, gid: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let ino = process.inode_of(absolute(memory, path, len)?, follow != 0)?;
                let changed = |id: u32| (id != UNCHANGED).then_some(id);
                Ok(process.kernel.fs.chown(ino, changed(uid), changed(gid))?)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "stat",
        |mut caller: Caller<'_, Process>, path: u32, len: u32, follow: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let stat = process.stat_path(absolute(memory, path, len)?, follow != 0)?;
                memory.write(out, &stat.to_wisp())
            }))
        },
    )?;
    linker.func_wrap(MODULE, "fstat", |mut caller: Caller<'_, Process>, fd: u32, out: u32| {
        answer(with_memory(&mut caller, |memory, process| {
            let stat = process.stat_descriptor(fd)?;
            memory.write(out, &stat.to_wisp())
        }))
    })?;
    linker.func_wrap(MODULE, "statfs", |mut caller: Caller<'_, Process>, out: u32| {
        answer(with_memory(&mut caller, |memory, process| {
            let usage = process.kernel.fs.settled_usage(STATFS_PATIENCE);
            let numbers = [usage.max_bytes, usage.bytes, usage.max_inodes, usage.inodes];
            write_numbers(memory, out, &numbers)
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "mkfifo",
        |mut caller: Caller<'_, Process>, path: u32, len: u32, mode: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let path = absolute(memory, path, len)?;
                process
                    .kernel
                    .fs
                    .mknod(ROOT, path, NodeKind::Fifo, mode & 0o777 & !process.umask)?;
                Ok(())
            }))
        },
    )?;
    Ok(())
}

/// An absolute path: the kernel does not know a guest's working directory.
fn absolute<'a>(memory: &'a GuestMemory<'_>, address: u32, len: u32) -> Result<&'a [u8], Errno> {
    let path = memory.path(address, len)?;
    if path.starts_with(b"/") {
        Ok(path)
    } else {
        Err(Errno::Inval)
    }
}

fn write_numbers(memory: &mut GuestMemory<'_>, address: u32, numbers: &[u64]) -> Result<(), Errno> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    memory.write(address, &bytes)
}

fn write_words(memory: &mut GuestMemory<'_>, address: u32, words: &[u32]) -> Result<(), Errno> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(address, &bytes)
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{EntityType, ImportSection, Module, TypeSection, ValType};
    use wisp_abi::{FUNCTIONS, Kind, MODULE};

    use super::super::runtime::{new_engine, new_linker};

    #[test]
    fn every_function_of_the_abi_is_linked_with_its_type() {
        let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
        for (index, function) in FUNCTIONS.iter().enumerate() {
            let parameters = function.parameters.iter().map(|(_, kind)| match kind {
                Kind::U64 => ValType::I64,
                _ => ValType::I32,
            });
            types.ty().function(parameters, [ValType::I32]);
            imports.import(MODULE, function.name, EntityType::Function(index as u32));
        }
        let mut module = Module::new();
        module.section(&types).section(&imports);
        let engine = new_engine().unwrap();
        let module = wasmtime::Module::new(&engine, module.finish()).unwrap();
        assert_eq!(module.imports().count(), 22);
        if let Err(error) = new_linker(&engine).unwrap().instantiate_pre(&module) {
            panic!("{error:#}");
        }
    }
}
