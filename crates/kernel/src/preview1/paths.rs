//! Paths: opening, making, linking, renaming, removing.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use super::MODULE;
use super::descriptors::{fdflags, rights, time_changes};
use crate::control_file::ControlFile;
use crate::descriptor::{Kind, OpenFile, ProcFile};
use crate::device::Device;
use crate::errno::Errno;
use crate::fuel::settled;
use crate::lookup::{Base, Place};
use crate::pipe::{Pipe, PipeReader, PipeWriter};
use crate::process::{Process, answer, with_memory};
use crate::procfs::Node;
use wisp_vfs::{FileKind, Handle, Ino, OpenOptions, PathError};

const SYMLINK_FOLLOW: u32 = 1;

/// Whether `lookupflags` ask to follow a symbolic link at the end of the path.
fn follows(lookup: u32) -> Result<bool, Errno> {
    match lookup {
        0 => Ok(false),
        SYMLINK_FOLLOW => Ok(true),
        _ => Err(Errno::Inval),
    }
}

/// Preview1's `oflags`.
mod oflags {
    pub const CREATE: u32 = 1;
    pub const DIRECTORY: u32 = 2;
    pub const EXCLUSIVE: u32 = 4;
    pub const TRUNCATE: u32 = 8;
    /// Every flag there is.
    pub const ALL: u32 = CREATE | DIRECTORY | EXCLUSIVE | TRUNCATE;
}

/// Defines the functions of this file.
pub fn add_to_linker(linker: &mut Linker<Process>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "path_open",
        |mut caller: Caller<'_, Process>,
         (dir, lookup, path, len, open, base, _inheriting, flags, out): (
            u32,
            u32,
            u32,
            u32,
            u32,
            u64,
            u64,
            u32,
            u32,
        )| {
            Box::new(async move {
                let request = OpenRequest {
                    lookup,
                    open,
                    rights: base,
                    flags,
                };
                settled!(
                    caller,
                    answer(path_open(&mut caller, request, dir, path, len, out).await)
                )
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_create_directory",
        |mut caller: Caller<'_, Process>, dir: u32, path: u32, len: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let path = memory.path(path, len)?;
                let (base, path) = base(process, dir)?.join(path);
                process.kernel.fs().mkdir(base, &path, 0o777 & !process.umask)?;
                Ok(())
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_filestat_get",
        |mut caller: Caller<'_, Process>, dir: u32, lookup: u32, path: u32, len: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let base = base(process, dir)?;
                let stat = process.stat_at(&base, memory.path(path, len)?, follows(lookup)?)?;
                memory.write(out, &stat.to_filestat())
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_filestat_set_times",
        |mut caller: Caller<'_, Process>,
         dir: u32,
         lookup: u32,
         path: u32,
         len: u32,
         atime: u64,
         mtime: u64,
         flags: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let (atime, mtime) = time_changes(atime, mtime, flags)?;
                let path = memory.path(path, len)?;
                match process.locate(&base(process, dir)?, path, follows(lookup)?)? {
                    Place::Inode(ino) => Ok(process.kernel.fs().set_times(ino, atime, mtime)?),
                    Place::Proc(_) => Err(Errno::Perm),
                }
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_link",
        |mut caller: Caller<'_, Process>,
         old_dir: u32,
         lookup: u32,
         old: u32,
         old_len: u32,
         new_dir: u32,
         new: u32,
         new_len: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let (old, new) = (memory.path(old, old_len)?, memory.path(new, new_len)?);
                let (old_base, old) = base(process, old_dir)?.join(old);
                let (new_base, new) = base(process, new_dir)?.join(new);
                let follow = follows(lookup)?;
                Ok(process.kernel.fs().link(old_base, &old, follow, new_base, &new)?)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_readlink",
        |mut caller: Caller<'_, Process>, dir: u32, path: u32, len: u32, buffer: u32, capacity: u32, out: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let target = read_link(process, &base(process, dir)?, memory.path(path, len)?)?;
                let count = target.len().min(capacity as usize);
                memory.write(buffer, &target[..count])?;
                memory.write_u32(out, count as u32)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_symlink",
        |mut caller: Caller<'_, Process>, target: u32, target_len: u32, dir: u32, path: u32, len: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let (target, path) = (memory.path(target, target_len)?, memory.path(path, len)?);
                let (base, path) = base(process, dir)?.join(path);
                process.kernel.fs().symlink(target, base, &path)?;
                Ok(())
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_rename",
        |mut caller: Caller<'_, Process>,
         old_dir: u32,
         old: u32,
         old_len: u32,
         new_dir: u32,
         new: u32,
         new_len: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let (old, new) = (memory.path(old, old_len)?, memory.path(new, new_len)?);
                let (old_base, old) = base(process, old_dir)?.join(old);
                let (new_base, new) = base(process, new_dir)?.join(new);
                Ok(process.kernel.fs().rename(old_base, &old, new_base, &new)?)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_unlink_file",
        |mut caller: Caller<'_, Process>, dir: u32, path: u32, len: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let (base, path) = base(process, dir)?.join(memory.path(path, len)?);
                Ok(process.kernel.fs().unlink(base, &path)?)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "path_remove_directory",
        |mut caller: Caller<'_, Process>, dir: u32, path: u32, len: u32| {
            answer(with_memory(&mut caller, |memory, process| {
                let (base, path) = base(process, dir)?.join(memory.path(path, len)?);
                Ok(process.kernel.fs().rmdir(base, &path)?)
            }))
        },
    )?;
    Ok(())
}

fn base(process: &Process, dir: u32) -> Result<Base, Errno> {
    Base::of(process.descriptors.get(dir)?)
}

/// Where a symbolic link leads.
pub fn read_link(process: &Process, base: &Base, path: &[u8]) -> Result<Vec<u8>, Errno> {
    match process.locate(base, path, false)? {
        Place::Inode(_) => {
            let (dir, path) = base.join(path);
            Ok(process.kernel.fs().read_link(dir, &path)?)
        }
        Place::Proc(Node::Link(target)) => Ok(target),
        Place::Proc(Node::Descriptor(fd)) => descriptor_target(process, fd),
        Place::Proc(_) => Err(Errno::Inval),
    }
}

/// What `/proc/self/fd/N` points to.
fn descriptor_target(process: &Process, fd: u32) -> Result<Vec<u8>, Errno> {
    let file = process.descriptors.get(fd)?;
    match &file.kind {
        Kind::Directory(directory) => Ok(process.kernel.fs().path_of(directory.handle.ino())?),
        Kind::PipeReader(_) | Kind::PipeWriter(_) | Kind::Output(..) | Kind::Input(_) => {
            Ok(format!("pipe:[{fd}]").into_bytes())
        }
        _ => Ok(format!("/dev/fd/{fd}").into_bytes()),
    }
}

/// The parameters of `path_open` but for the directory and the path.
pub struct OpenRequest {
    /// `lookupflags`.
    pub lookup: u32,
    /// `oflags`.
    pub open: u32,
    /// `rights`.
    pub rights: u64,
    /// `fdflags`.
    pub flags: u32,
}

impl OpenRequest {
    fn wants(&self, flag: u32) -> bool {
        self.open & flag != 0
    }

    fn readable(&self) -> bool {
        self.rights & rights::READ != 0
    }

    fn writable(&self) -> bool {
        self.rights & rights::WRITE != 0
    }
}

/// What opening a path leads to.
enum Opened {
    File(Arc<OpenFile>),
    /// A named pipe: opening it waits for the other end.
    Fifo(Ino),
}

async fn path_open(
    caller: &mut Caller<'_, Process>,
    request: OpenRequest,
    dir: u32,
    path: u32,
    len: u32,
    out: u32,
) -> Result<(), Errno> {
    let opened = with_memory(caller, |memory, process| {
        // Checked before anything is opened: the guest must learn the descriptor of what is.
        memory.slice(out, 4)?;
        process.descriptors.lowest_free(process.first_free_descriptor())?;
        let base = base(process, dir)?;
        open(process, &base, &request, memory.path(path, len)?)
    })?;
    let file = finish_open(caller.data(), &request, opened).await?;
    with_memory(caller, |memory, process| {
        let fd = process.add_descriptor(file)?;
        memory.write_u32(out, fd)
    })
}

/// Opens what `path` names, as `path_open` does; it gets no descriptor.
pub async fn open_at(
    process: &Process,
    base: &Base,
    request: OpenRequest,
    path: &[u8],
) -> Result<Arc<OpenFile>, Errno> {
    let opened = open(process, base, &request, path)?;
    finish_open(process, &request, opened).await
}

async fn finish_open(process: &Process, request: &OpenRequest, opened: Opened) -> Result<Arc<OpenFile>, Errno> {
    let file = match opened {
        Opened::File(file) => file,
        Opened::Fifo(ino) => open_fifo(process, ino, request).await?,
    };
    if request.flags & fdflags::NONBLOCK != 0 {
        file.nonblocking.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    Ok(file)
}

fn open(process: &Process, base: &Base, request: &OpenRequest, path: &[u8]) -> Result<Opened, Errno> {
    if request.open & !oflags::ALL != 0 || request.flags & !fdflags::ALL != 0 {
        return Err(Errno::Inval);
    }
    let follow = follows(request.lookup)?;
    let options = OpenOptions {
        create: request.wants(oflags::CREATE),
        exclusive: request.wants(oflags::EXCLUSIVE),
        truncate: request.wants(oflags::TRUNCATE),
        directory: request.wants(oflags::DIRECTORY),
        no_follow: !follow,
        mode: 0o666 & !process.umask,
    };
    let (dir, joined) = base.join(path);
    match process.kernel.fs().open(dir, &joined, &options) {
        Ok(handle) => opened(request, handle),
        Err(PathError::Fs(error)) => Err(error.into()),
        Err(PathError::Mounted { .. }) => match process.locate(base, path, follow)? {
            // A link of /proc led back into the file system.
            Place::Inode(ino) => {
                let handle = process.kernel.fs().open_ino(ino)?;
                opened(request, handle)
            }
            Place::Proc(node) => open_node(process, request, node).map(Opened::File),
        },
    }
}

fn opened(request: &OpenRequest, handle: Handle) -> Result<Opened, Errno> {
    let stat = handle.stat()?;
    match stat.kind {
        FileKind::Regular => {
            let append = request.flags & fdflags::APPEND != 0;
            // A libc that asks for neither wants at least attributes; reading does no harm.
            let readable = request.readable() || !request.writable();
            Ok(Opened::File(OpenFile::regular(
                handle,
                readable,
                request.writable(),
                append,
            )))
        }
        FileKind::Directory => {
            // Libcs that open a directory to search it ask for all rights, reading included: only a pure write is refused.
            let for_writing = request.writable() && !request.readable() && !request.wants(oflags::DIRECTORY);
            if for_writing || request.wants(oflags::TRUNCATE) {
                return Err(Errno::Isdir);
            }
            Ok(Opened::File(OpenFile::directory(handle)))
        }
        FileKind::CharDevice => {
            let device = Device::from_number(stat.rdev).ok_or(Errno::Nxio)?;
            let kind = match device {
                Device::Control => Kind::Control(ControlFile::default()),
                Device::Tty => return Err(Errno::Nxio),
                device => Kind::Device(device),
            };
            Ok(Opened::File(OpenFile::new(kind)))
        }
        FileKind::Fifo => Ok(Opened::Fifo(handle.ino())),
        FileKind::Symlink => Err(Errno::Loop),
    }
}

fn open_node(process: &Process, request: &OpenRequest, node: Node) -> Result<Arc<OpenFile>, Errno> {
    match node {
        Node::Directory(directory) if request.wants(oflags::CREATE) && request.wants(oflags::EXCLUSIVE) => {
            drop(directory);
            Err(Errno::Exist)
        }
        Node::Directory(directory) => Ok(OpenFile::new(Kind::ProcDirectory(directory))),
        _ if request.wants(oflags::DIRECTORY) => Err(Errno::Notdir),
        Node::File(_) if request.writable() && !request.readable() => Err(Errno::Acces),
        Node::File(contents) => {
            let charge = process.kernel.budget.charge(contents.len() as u64);
            let file = ProcFile::new(contents, charge.map_err(|_| Errno::Nomem)?);
            Ok(OpenFile::new(Kind::ProcFile(file)))
        }
        Node::Link(_) => Err(Errno::Loop),
        Node::Descriptor(fd) => Ok(Arc::clone(process.descriptors.get(fd)?)),
    }
}

/// Opens an end of a named pipe, and waits until somebody has the other.
async fn open_fifo(process: &Process, ino: Ino, request: &OpenRequest) -> Result<Arc<OpenFile>, Errno> {
    let kernel = &process.kernel;
    let pipe = {
        let mut fifos = kernel.fifos.lock();
        fifos.retain(|_, pipe| pipe.strong_count() > 0);
        match fifos.get(&ino).and_then(std::sync::Weak::upgrade) {
            Some(pipe) => pipe,
            None => {
                let pipe = Pipe::detached(&kernel.budget).map_err(|_| Errno::Nomem)?;
                fifos.insert(ino, Arc::downgrade(&pipe));
                pipe
            }
        }
    };
    let before = pipe.opened();
    let file = if request.writable() {
        OpenFile::new(Kind::PipeWriter(PipeWriter::new(&pipe)))
    } else {
        OpenFile::new(Kind::PipeReader(PipeReader::new(&pipe)))
    };
    // Opened for both, it waits for nobody.
    if request.readable() == request.writable() || request.flags & fdflags::NONBLOCK != 0 {
        return Ok(file);
    }
    loop {
        let changed = pipe.changed().notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        // The other end is there, or was there meanwhile.
        let ((reader, writer), now) = (pipe.ends(), pipe.opened());
        let met = if request.writable() {
            reader || now.0 > before.0
        } else {
            writer || now.1 > before.1
        };
        if met {
            return Ok(file);
        }
        tokio::select! {
            () = changed => {}
            () = process.control.signals.interrupted() => return Err(Errno::Intr),
        }
    }
}
