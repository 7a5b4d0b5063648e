//! Reading and writing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{Failure, MODULE, broken_pipe, finish};
use crate::console::MAX_PIECE;
use crate::descriptor::{Kind, OpenFile, lock};
use crate::errno::Errno;
use crate::fuel::settled;
use crate::memory::{GuestMemory, IoVec};
use crate::pipe::{ATOMIC_WRITE, PipeWriter, WouldBlock};
use crate::process::{Ended, Process, answer, with_memory};

/// Most bytes one call moves. More is a short read or write, which every caller must expect anyway; it bounds how long a
/// call can hold the file system's lock and how late a kill is seen.
const MAX_TRANSFER: usize = 1 << 20;
/// Most bytes moved while the file system is locked. Others may want it, and the API among them.
const MAX_LOCKED: usize = 128 << 10;

/// Defines the functions of this file.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        |mut caller: Caller<'_, Process>, (fd, vectors, count, out): (u32, u32, u32, u32)| {
            Box::new(async move { settled!(caller, answer(fd_read(&mut caller, fd, vectors, count, out).await)) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, Process>, (fd, vectors, count, out): (u32, u32, u32, u32)| {
            Box::new(async move { settled!(caller, finish(fd_write(&mut caller, fd, vectors, count, out).await)) })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_pread",
        |mut caller: Caller<'_, Process>, fd: u32, vectors: u32, count: u32, offset: u64, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let file = Arc::clone(process.descriptors.get(fd)?);
                let total = match &file.kind {
                    Kind::ProcFile(contents) => gather(memory, vectors, count, |buffer, done| {
                        Ok(Ok(contents.read_at(offset.saturating_add(done), buffer)))
                    })?,
                    _ => {
                        let regular = file.seekable()?;
                        if !regular.readable {
                            return Err(Errno::Badf);
                        }
                        gather(memory, vectors, count, |buffer, done| {
                            let at = offset.checked_add(done).ok_or(Errno::Inval)?;
                            Ok(Ok(regular.handle.read_at(at, buffer)?))
                        })?
                    }
                };
                memory.write_u32(out, total.unwrap_or(0))
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_pwrite",
        |mut caller: Caller<'_, Process>, fd: u32, vectors: u32, count: u32, offset: u64, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let file = Arc::clone(process.descriptors.get(fd)?);
                let regular = file.seekable()?;
                if !regular.writable {
                    return Err(Errno::Badf);
                }
                let total = scatter(memory, vectors, count, |bytes, done| {
                    let at = offset.checked_add(done).ok_or(Errno::Fbig)?;
                    Ok(regular.handle.write_at(at, bytes)?)
                })?;
                memory.write_u32(out, total)
            }))
        },
    )?;
    Ok(())
}

async fn fd_read(caller: &mut Caller<'_, Process>, fd: u32, vectors: u32, count: u32, out: u32) -> Result<(), Errno> {
    let file = Arc::clone(caller.data().descriptors.get(fd)?);
    if try_read(caller, &file, vectors, count, out)? {
        return Ok(());
    }
    let (Kind::PipeReader(reader), false) = (&file.kind, file.is_nonblocking()) else {
        return Err(Errno::Again);
    };
    let control = Arc::clone(&caller.data().control);
    loop {
        let changed = reader.pipe().changed().notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if try_read(caller, &file, vectors, count, out)? {
            return Ok(());
        }
        tokio::select! {
            () = changed => {}
            () = control.signals.interrupted() => return Err(Errno::Intr),
        }
    }
}

/// Reads without waiting; `false` when that is not possible.
fn try_read(
    caller: &mut Caller<'_, Process>,
    file: &OpenFile,
    vectors: u32,
    count: u32,
    out: u32,
) -> Result<bool, Errno> {
    with_memory(caller, |memory, _| {
        match gather(memory, vectors, count, |buffer, _| file.try_read(buffer))? {
            Ok(total) => memory.write_u32(out, total).map(|()| true),
            Err(WouldBlock) => Ok(false),
        }
    })
}

async fn fd_write(
    caller: &mut Caller<'_, Process>,
    fd: u32,
    vectors: u32,
    count: u32,
    out: u32,
) -> Result<(), Failure> {
    let file = Arc::clone(caller.data().descriptors.get(fd)?);
    let total = match &file.kind {
        Kind::File(regular) => with_memory(caller, |memory, _| {
            if !regular.writable {
                return Err(Errno::Badf);
            }
            let mut offset = lock(&regular.offset);
            scatter(memory, vectors, count, |bytes, _| {
                if regular.append.load(Ordering::Relaxed) {
                    let (written, end) = regular.handle.append(bytes)?;
                    *offset = end;
                    return Ok(written);
                }
                let written = regular.handle.write_at(*offset, bytes)?;
                *offset = offset.saturating_add(written as u64);
                Ok(written)
            })
        })?,
        Kind::PipeWriter(writer) => write_pipe(caller, &file, writer, vectors, count).await?,
        Kind::Output(console, stream) => {
            let bytes = with_memory(caller, |memory, _| collect(memory, vectors, count, MAX_PIECE))?;
            let total = bytes.len() as u32;
            if total > 0 {
                console.write(*stream, Bytes::from(bytes)).await;
            }
            total
        }
        Kind::Device(device) => {
            let bytes = with_memory(caller, |memory, _| collect(memory, vectors, count, MAX_TRANSFER))?;
            device.write(bytes.len())? as u32
        }
        Kind::Control(control) => {
            let total = with_memory(caller, |memory, process| {
                let bytes = collect(memory, vectors, count, MAX_TRANSFER)?;
                Ok(control.request(process, &bytes)? as u32)
            })?;
            // The request may have been to end this very process.
            match caller.data().control.signals.fatal_now() {
                Some(signal) => return Err(Failure::Ended(Ended::Signal(signal))),
                None => total,
            }
        }
        Kind::Directory(_) | Kind::ProcDirectory(_) => return Err(Errno::Isdir.into()),
        Kind::ProcFile(_) | Kind::PipeReader(_) | Kind::Input(_) => return Err(Errno::Badf.into()),
    };
    Ok(with_memory(caller, |memory, _| memory.write_u32(out, total))?)
}

/// Writes to a pipe: all of it, waiting for room as often as needed, unless the descriptor is non-blocking.
async fn write_pipe(
    caller: &mut Caller<'_, Process>,
    file: &OpenFile,
    writer: &PipeWriter,
    vectors: u32,
    count: u32,
) -> Result<u32, Failure> {
    let outgoing = with_memory(caller, |memory, _| Outgoing::new(memory, vectors, count))?;
    let control = Arc::clone(&caller.data().control);
    let mut written = 0;
    while written < outgoing.len {
        let changed = writer.pipe().changed().notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let tried = with_memory(caller, |memory, _| {
            let part = outgoing.part(memory, written)?;
            Ok(writer.try_write(part))
        })?;
        match tried {
            Err(_) => return Err(broken_pipe(caller.data())),
            Ok(Ok(count)) => written += count,
            Ok(Err(WouldBlock)) if file.is_nonblocking() => break,
            Ok(Err(WouldBlock)) => tokio::select! {
                () = changed => {}
                () = control.signals.interrupted() => {
                    return if written > 0 { Ok(written as u32) } else { Err(Errno::Intr.into()) };
                }
            },
        }
    }
    if written == 0 && outgoing.len > 0 {
        Err(Errno::Again.into())
    } else {
        Ok(written as u32)
    }
}

/// What a write to a pipe still has to write. It stays in the guest's memory while the write waits, unless it is little,
/// which must not be split.
struct Outgoing {
    vectors: Vec<IoVec>,
    /// All of it, if it is little.
    little: Option<Vec<u8>>,
    /// Bytes in all.
    len: usize,
}

impl Outgoing {
    /// Checks that all of it is there.
    fn new(memory: &GuestMemory<'_>, vectors: u32, count: u32) -> Result<Self, Errno> {
        let mut rest = MAX_TRANSFER;
        let mut parts = Vec::new();
        for IoVec { address, len } in memory.iovecs(vectors, count)? {
            let len = len.min(rest as u32);
            memory.slice(address, len)?;
            rest -= len as usize;
            if len > 0 {
                parts.push(IoVec { address, len });
            }
        }
        let len = MAX_TRANSFER - rest;
        let little = (len <= ATOMIC_WRITE)
            .then(|| collect(memory, vectors, count, len))
            .transpose()?;
        Ok(Self {
            vectors: parts,
            little,
            len,
        })
    }

    /// What follows the first `written` bytes, up to the end of a buffer of the guest.
    fn part<'a>(&'a self, memory: &'a GuestMemory<'_>, mut written: usize) -> Result<&'a [u8], Errno> {
        if let Some(bytes) = &self.little {
            return Ok(&bytes[written..]);
        }
        for IoVec { address, len } in &self.vectors {
            let len = *len as usize;
            if written < len {
                return memory.slice(address + written as u32, (len - written) as u32);
            }
            written -= len;
        }
        Ok(&[])
    }
}

/// Fills guest buffers in order from `read(buffer, bytes so far)` until one stays short. Only the first may block.
fn gather(
    memory: &mut GuestMemory<'_>,
    vectors: u32,
    count: u32,
    mut read: impl FnMut(&mut [u8], u64) -> Result<Result<usize, WouldBlock>, Errno>,
) -> Result<Result<u32, WouldBlock>, Errno> {
    let mut total = 0usize;
    let mut first = true;
    for vector in memory.iovecs(vectors, count)? {
        let len = (vector.len as usize).min(MAX_TRANSFER - total);
        let buffer = memory.slice_mut(vector.address, len as u32)?;
        let mut filled = 0;
        for part in buffer.chunks_mut(MAX_LOCKED) {
            match read(part, total as u64) {
                Ok(Ok(got)) => {
                    total += got;
                    filled += got;
                    if got < part.len() {
                        break;
                    }
                }
                Ok(Err(WouldBlock)) if first => return Ok(Err(WouldBlock)),
                Err(errno) if first => return Err(errno),
                Ok(Err(WouldBlock)) | Err(_) => break,
            }
            first = false;
        }
        first = false;
        if filled < vector.len as usize {
            break;
        }
    }
    if first {
        // No buffer at all: still an error on a descriptor that cannot be read.
        let _ = read(&mut [], 0)?;
    }
    Ok(Ok(total as u32))
}

/// Passes guest buffers in order to `write(bytes, bytes so far)` until one is not taken whole.
fn scatter(
    memory: &GuestMemory<'_>,
    vectors: u32,
    count: u32,
    mut write: impl FnMut(&[u8], u64) -> Result<usize, Errno>,
) -> Result<u32, Errno> {
    let mut total = 0usize;
    for IoVec { address, len } in memory.iovecs(vectors, count)? {
        let whole = (len as usize).min(MAX_TRANSFER - total);
        let mut taken = 0;
        for part in memory.slice(address, whole as u32)?.chunks(MAX_LOCKED) {
            match write(part, total as u64) {
                Ok(written) => {
                    total += written;
                    taken += written;
                    if written < part.len() {
                        break;
                    }
                }
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        if taken < len as usize {
            break;
        }
    }
    Ok(total as u32)
}

/// Copies guest buffers into one, up to `limit` bytes.
fn collect(memory: &GuestMemory<'_>, vectors: u32, count: u32, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    for IoVec { address, len } in memory.iovecs(vectors, count)? {
        let part = (len as usize).min(limit - bytes.len());
        bytes.extend_from_slice(memory.slice(address, part as u32)?);
        if part < len as usize {
            break;
        }
    }
    Ok(bytes)
}
