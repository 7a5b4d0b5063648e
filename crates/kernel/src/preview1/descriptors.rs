//! Descriptors: closing, renumbering, positions, attributes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::{Caller, Linker};

use super::MODULE;
use crate::descriptor::{Kind, OpenFile, RegularFile, lock};
use crate::errno::Errno;
use crate::fuel::settled;
use crate::memory::GuestMemory;
use crate::process::{Process, answer, with_memory};
use crate::slice::Slices;
use crate::stat::{FileStat, Filetype};
use wisp_vfs::TimeChange;

/// Preview1's `fdflags`.
pub mod fdflags {
    /// Writes go to the end.
    pub const APPEND: u32 = 1;
    /// Calls do not wait.
    pub const NONBLOCK: u32 = 4;
    /// Every flag there is: those above and the three kinds of `sync`, which files in memory always are.
    pub const ALL: u32 = 0x1f;
}

/// Preview1's `rights`.
pub mod rights {
    /// `fd_read`.
    pub const READ: u64 = 1 << 1;
    /// `fd_seek`.
    pub const SEEK: u64 = 1 << 2;
    /// `fd_tell`.
    pub const TELL: u64 = 1 << 5;
    /// `fd_write`.
    pub const WRITE: u64 = 1 << 6;
    /// Every right there is.
    pub const ALL: u64 = (1 << 30) - 1;
}

const WHENCE_SET: u32 = 0;
const WHENCE_CURRENT: u32 = 1;
const WHENCE_END: u32 = 2;

/// Defines the functions of this file.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "fd_close", |mut caller: Caller<'_, Process>, fd: u32| {
        answer(caller.data_mut().descriptors.close(fd).map(|_| ()))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_renumber",
        |mut caller: Caller<'_, Process>, from: u32, to: u32| answer(renumber(caller.data_mut(), from, to)),
    )?;
    for name in ["fd_sync", "fd_datasync"] {
        linker.func_wrap(MODULE, name, |caller: Caller<'_, Process>, fd: u32| {
            // Files are in memory: there is nothing to wait for.
            answer(caller.data().descriptors.get(fd).map(|_| ()))
        })?;
    }
    linker.func_wrap(
        MODULE,
        "fd_advise",
        |caller: Caller<'_, Process>, fd: u32, _offset: u64, _len: u64, advice: u32| {
            let known = if advice <= 5 { Ok(()) } else { Err(Errno::Inval) };
            answer(
                caller
                    .data()
                    .descriptors
                    .get(fd)
                    .and_then(|file| file.seekable().map(|_| ()))
                    .and(known),
            )
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_allocate",
        |mut caller: Caller<'_, Process>, (fd, offset, len): (u32, u64, u64)| {
            Box::new(async move { settled!(caller, answer(allocate(caller.data(), fd, offset, len).await)) })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_get",
        |mut caller: Caller<'_, Process>, fd: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let fdstat = fdstat(process.descriptors.get(fd)?)?;
                memory.write(out, &fdstat)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        |caller: Caller<'_, Process>, fd: u32, flags: u32| {
            answer(caller.data().descriptors.get(fd).and_then(|file| {
                if flags & !fdflags::ALL != 0 {
                    return Err(Errno::Inval);
                }
                file.nonblocking
                    .store(flags & fdflags::NONBLOCK != 0, Ordering::Relaxed);
                if let Kind::File(regular) = &file.kind {
                    regular.append.store(flags & fdflags::APPEND != 0, Ordering::Relaxed);
                }
                Ok(())
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_rights",
        |caller: Caller<'_, Process>, fd: u32, _base: u64, _inheriting: u64| {
            // Rights are the standard's abandoned idea of capabilities; the sandbox is the boundary here.
            answer(caller.data().descriptors.get(fd).map(|_| ()))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_get",
        |mut caller: Caller<'_, Process>, fd: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let filestat = process.stat_descriptor(fd)?.to_filestat();
                memory.write(out, &filestat)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_set_size",
        |caller: Caller<'_, Process>, fd: u32, size: u64| {
            answer(writable(caller.data(), fd, |file| Ok(file.handle.set_len(size)?)))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_set_times",
        |caller: Caller<'_, Process>, fd: u32, atime: u64, mtime: u64, flags: u32| {
            answer(set_times(caller.data(), fd, atime, mtime, flags))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |mut caller: Caller<'_, Process>, fd: u32, offset: i64, whence: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let position = seek(process.descriptors.get(fd)?, offset, whence)?;
                memory.write_u64(out, position)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_tell",
        |mut caller: Caller<'_, Process>, fd: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let position = seek(process.descriptors.get(fd)?, 0, WHENCE_CURRENT)?;
                memory.write_u64(out, position)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_get",
        |mut caller: Caller<'_, Process>, fd: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                prestat(memory, process, fd, out)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_dir_name",
        |mut caller: Caller<'_, Process>, fd: u32, address: u32, len: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let name = process.preopen(fd).ok_or(Errno::Badf)?.as_bytes();
                if (len as usize) < name.len() {
                    return Err(Errno::Nametoolong);
                }
                memory.write(address, name)
            }))
        },
    )?;
    Ok(())
}

/// Makes room in slices: a file of many pieces takes a while. Killed in between, it gives back what it took.
async fn allocate(process: &Process, fd: u32, offset: u64, len: u64) -> Result<(), Errno> {
    let mut room = None;
    writable(process, fd, |file| {
        room = Some(file.handle.allocate_slices(offset, len)?);
        Ok(())
    })?;
    let mut slices = Slices::start();
    while let Some(room) = &mut room
        && !room.step()?
    {
        slices.pause().await;
    }
    Ok(())
}

fn renumber(process: &mut Process, from: u32, to: u32) -> Result<(), Errno> {
    process.descriptors.get(to)?;
    let file = Arc::clone(process.descriptors.get(from)?);
    if from != to {
        process.descriptors.set(to, file)?;
        process.descriptors.close(from)?;
    }
    Ok(())
}

fn writable(process: &Process, fd: u32, change: impl FnOnce(&RegularFile) -> Result<(), Errno>) -> Result<(), Errno> {
    match &process.descriptors.get(fd)?.kind {
        Kind::File(file) if file.writable => change(file),
        Kind::Directory(_) => Err(Errno::Isdir),
        _ => Err(Errno::Inval),
    }
}

/// The standard's `fdstat`: type, flags, rights.
fn fdstat(file: &OpenFile) -> Result<[u8; 24], Errno> {
    let filetype = FileStat::of(file)?.filetype();
    let mut flags = if file.is_nonblocking() { fdflags::NONBLOCK } else { 0 };
    let mut granted = rights::ALL;
    match &file.kind {
        Kind::File(regular) => {
            if regular.append.load(Ordering::Relaxed) {
                flags |= fdflags::APPEND;
            }
            if !regular.readable {
                granted &= !rights::READ;
            }
            if !regular.writable {
                granted &= !rights::WRITE;
            }
        }
        Kind::PipeReader(_) | Kind::Input(_) => granted &= !(rights::WRITE | rights::SEEK | rights::TELL),
        Kind::PipeWriter(_) | Kind::Output(..) => granted &= !(rights::READ | rights::SEEK | rights::TELL),
        // A character device that cannot seek is a terminal to a preview1 libc; these are none.
        Kind::Device(_) | Kind::Control(_) | Kind::Directory(_) => {}
        Kind::ProcFile(_) | Kind::ProcDirectory(_) => granted &= !rights::WRITE,
    }
    debug_assert!(filetype != Filetype::SymbolicLink, "a link cannot be opened");
    let mut bytes = [0; 24];
    bytes[0] = filetype as u8;
    bytes[2..4].copy_from_slice(&(flags as u16).to_le_bytes());
    bytes[8..16].copy_from_slice(&granted.to_le_bytes());
    bytes[16..24].copy_from_slice(&rights::ALL.to_le_bytes());
    Ok(bytes)
}

/// The changes that preview1's `fstflags` ask for: access time, modification time.
pub fn time_changes(atime: u64, mtime: u64, flags: u32) -> Result<(TimeChange, TimeChange), Errno> {
    if flags & !0xf != 0 {
        return Err(Errno::Inval);
    }
    let change = |set: bool, now: bool, time| match (set, now) {
        (true, true) => Err(Errno::Inval),
        (true, false) => Ok(TimeChange::At(time)),
        (false, true) => Ok(TimeChange::Now),
        (false, false) => Ok(TimeChange::Keep),
    };
    Ok((
        change(flags & 1 != 0, flags & 2 != 0, atime)?,
        change(flags & 4 != 0, flags & 8 != 0, mtime)?,
    ))
}

fn set_times(process: &Process, fd: u32, atime: u64, mtime: u64, flags: u32) -> Result<(), Errno> {
    let (atime, mtime) = time_changes(atime, mtime, flags)?;
    let handle = process.descriptors.get(fd)?.handle().ok_or(Errno::Inval)?;
    Ok(process.kernel.fs().set_times(handle.ino(), atime, mtime)?)
}

fn seek(file: &OpenFile, offset: i64, whence: u32) -> Result<u64, Errno> {
    let moved = |current: u64, end: u64| {
        let start = match whence {
            WHENCE_SET => 0,
            WHENCE_CURRENT => current,
            WHENCE_END => end,
            _ => return Err(Errno::Inval),
        };
        let target = i128::from(start) + i128::from(offset);
        u64::try_from(target)
            .ok()
            .filter(|target| i64::try_from(*target).is_ok())
            .ok_or(Errno::Inval)
    };
    match &file.kind {
        // Devices have no position.
        Kind::Device(_) | Kind::Control(_) => Ok(0),
        Kind::ProcFile(file) => {
            let mut position = lock(&file.offset);
            *position = moved(*position, file.contents.len() as u64)?;
            Ok(*position)
        }
        _ => {
            let file = file.seekable()?;
            let mut position = lock(&file.offset);
            *position = moved(*position, file.handle.stat()?.size)?;
            Ok(*position)
        }
    }
}

fn prestat(memory: &mut GuestMemory<'_>, process: &Process, fd: u32, out: u32) -> Result<(), Errno> {
    let name = process.preopen(fd).ok_or(Errno::Badf)?;
    memory.write_u32(out, 0)?;
    let address = out.checked_add(4).ok_or(Errno::Fault)?;
    memory.write_u32(address, u32::try_from(name.len()).map_err(|_| Errno::Overflow)?)
}
