//! Programs that are no modules of this kernel: what they see of it.
//!
//! A [`ForeignProgram`] runs itself, on an engine of its own. The process it runs is one like any other: it is in the
//! process table, takes turns with the others, and has their limits. It sees the files by the same code as a module.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use futures_util::future::BoxFuture;
use wasmtime::{Engine, ResourceLimiter, Store};
use wisp_vfs::{DirSnapshot, FileKind, Handle, TimeChange};

use super::Kernel;
use super::budget::Charge;
use super::console::MAX_PIECE;
use super::descriptor::{Kind, OpenFile, RegularFile, lock};
use super::errno::Errno;
use super::pipe::WouldBlock;
use super::place::{Base, Place};
use super::preview1::descriptors::rights;
use super::preview1::paths::{self, OpenRequest};
use super::preview1::readdir::ENTRY_BYTES;
use super::process::{self, Process};
use super::procfs;
use super::signal;
use super::stat::{FileStat, type_bits};
use super::table::{Control, ExitStatus};

/// A program that is no module of this kernel.
#[async_trait]
pub trait ForeignProgram: Send + Sync {
    /// The engine it runs on. Its code must yield at each tick of the engine's epoch.
    fn engine(&self) -> &Engine;

    /// Runs a process to its end. It is polled on the guest threads, and dropped when the process is killed: it must not
    /// execute for longer than a tick without a break.
    async fn run(&self, process: ForeignProcess) -> ExitStatus;
}

/// A process of a foreign program: what it may reach.
pub struct ForeignProcess(Process);

/// An open file.
#[derive(Clone)]
pub struct File(Arc<OpenFile>);

/// How a file is to be opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening {
    /// Follow a symbolic link at the end of the path.
    pub follow: bool,
    /// Preview1's `oflags`, which WASI 0.2 has kept.
    pub flags: u32,
    /// To read from it.
    pub read: bool,
    /// To write to it.
    pub write: bool,
}

/// What is left of a directory to list.
pub struct DirectoryList(Entries);

enum Entries {
    Of {
        snapshot: DirSnapshot,
        last: Option<Vec<u8>>,
        _charge: Charge,
    },
    Served {
        entries: std::vec::IntoIter<(Vec<u8>, bool)>,
        _charge: Charge,
    },
}

impl ForeignProcess {
    pub(super) fn new(process: Process) -> Self {
        Self(process)
    }

    /// Its arguments, the program's name first.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        self.0.arguments.iter()
    }

    /// Its environment, `KEY=value`.
    pub fn environment(&self) -> impl Iterator<Item = Vec<u8>> {
        let image = self.0.control.image();
        let all: Vec<Vec<u8>> = image.environment.iter().map(<[u8]>::to_vec).collect();
        all.into_iter()
    }

    /// The directory it was started in.
    pub fn working_directory(&self) -> Vec<u8> {
        self.0.control.image().cwd.clone()
    }

    /// The directories it starts with, and what they are called.
    pub fn directories(&self) -> impl Iterator<Item = (File, &str)> {
        let names = self.0.program.spec.preopens.iter().map(String::as_str);
        (process::FIRST_PREOPEN..)
            .zip(names)
            .filter_map(|(fd, name)| Some((self.file(fd)?, name)))
    }

    /// What a descriptor names.
    pub fn file(&self, fd: u32) -> Option<File> {
        self.0.descriptors.get(fd).ok().cloned().map(File)
    }

    /// How many files it may have open.
    pub fn max_files(&self) -> usize {
        self.0.kernel.budget.limits().descriptors
    }

    /// Whether the exec it belongs to counts fuel.
    pub fn counts_fuel(&self) -> bool {
        self.0.control.exec_fuel.is_some()
    }

    /// Lets its store have this many instances and tables.
    pub fn allow(&mut self, instances: usize, tables: usize) {
        self.0.limiter.allow(instances, tables);
    }

    /// Charges host memory to it.
    ///
    /// # Errors
    /// [`Errno::Nomem`]
    pub fn charge(&mut self, bytes: u64) -> Result<(), Errno> {
        self.0.limiter.charge(bytes).map_err(|_| Errno::Nomem)
    }

    /// Charges its store's memory to the sandbox.
    pub fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.0.limiter
    }

    /// What lives as long as its store, and longer.
    pub fn keeper(&self) -> StoreKeeper {
        StoreKeeper {
            kernel: Arc::clone(&self.0.kernel),
            control: Arc::clone(&self.0.control),
        }
    }

    /// Says on its standard error what it trapped for, and how that counts.
    pub fn report_trap(&self, error: &wasmtime::Error) -> ExitStatus {
        process::report_trap(&self.0, error)
    }

    /// How it ends, if a signal has ended it.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.0.control.signals.fatal_now().map(ExitStatus::Killed)
    }

    /// Whether memory was refused to it, which explains a trap that follows.
    pub fn was_refused_memory(&self) -> bool {
        self.0.limiter.refused()
    }

    /// Says on its standard error that the sandbox has no memory for it, and how that counts.
    pub fn out_of_memory(&self) -> ExitStatus {
        let limit = self.0.kernel.budget.limits().memory_bytes >> 20;
        self.0.say_killed(&format!("memory limit of {limit} MiB reached"));
        ExitStatus::Killed(signal::KILL as u8)
    }

    /// Says on its standard error why it does not run.
    pub fn say_killed(&self, reason: &str) {
        self.0.say_killed(reason);
    }

    /// Says on its standard error what it is killed for.
    pub fn abort(&self, reason: &str) -> ExitStatus {
        self.0.say_killed(reason);
        ExitStatus::Killed(signal::ABORT as u8)
    }

    /// Attributes of what `path` names in a directory.
    ///
    /// # Errors
    /// As `path_filestat_get`.
    pub fn stat_at(&self, directory: &File, path: &[u8], follow: bool) -> Result<FileStat, Errno> {
        self.0.stat_at(&Base::of(&directory.0)?, path, follow)
    }

    /// Opens what `path` names. Opening a named pipe waits for the other end.
    ///
    /// # Errors
    /// As `path_open`.
    pub async fn open_at(&self, directory: &File, path: &[u8], opening: Opening) -> Result<File, Errno> {
        let rights = [(opening.read, rights::READ), (opening.write, rights::WRITE)];
        let request = OpenRequest {
            lookup: opening.follow.into(),
            open: opening.flags,
            rights: rights
                .iter()
                .filter(|(wanted, _)| *wanted)
                .map(|(_, right)| right)
                .sum(),
            flags: 0,
        };
        let opened = paths::open_at(&self.0, &Base::of(&directory.0)?, request, path).await?;
        Ok(File(opened))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As `path_create_directory`.
    pub fn make_directory(&self, directory: &File, path: &[u8]) -> Result<(), Errno> {
        let base = Base::of(&directory.0)?;
        let (dir, path) = base.join(path);
        self.0.kernel.fs.mkdir(dir, &path, 0o777 & !self.0.umask)?;
        Ok(())
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// As `path_readlink`.
    pub fn read_link(&self, directory: &File, path: &[u8]) -> Result<Vec<u8>, Errno> {
        paths::read_link(&self.0, &Base::of(&directory.0)?, path)
    }

    /// Makes a symbolic link to `target`.
    ///
    /// # Errors
    /// As `path_symlink`.
    pub fn make_symlink(&self, target: &[u8], directory: &File, path: &[u8]) -> Result<(), Errno> {
        let base = Base::of(&directory.0)?;
        let (dir, path) = base.join(path);
        self.0.kernel.fs.symlink(target, dir, &path)?;
        Ok(())
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// As `path_link`.
    pub fn link(&self, old: (&File, &[u8]), follow: bool, new: (&File, &[u8])) -> Result<(), Errno> {
        let (old_base, new_base) = (Base::of(&old.0.0)?, Base::of(&new.0.0)?);
        let ((old_dir, old), (new_dir, new)) = (old_base.join(old.1), new_base.join(new.1));
        Ok(self.0.kernel.fs.link(old_dir, &old, follow, new_dir, &new)?)
    }

    /// Moves a file.
    ///
    /// # Errors
    /// As `path_rename`.
    pub fn rename(&self, old: (&File, &[u8]), new: (&File, &[u8])) -> Result<(), Errno> {
        let (old_base, new_base) = (Base::of(&old.0.0)?, Base::of(&new.0.0)?);
        let ((old_dir, old), (new_dir, new)) = (old_base.join(old.1), new_base.join(new.1));
        Ok(self.0.kernel.fs.rename(old_dir, &old, new_dir, &new)?)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As `path_unlink_file`.
    pub fn unlink(&self, directory: &File, path: &[u8]) -> Result<(), Errno> {
        let base = Base::of(&directory.0)?;
        let (dir, path) = base.join(path);
        Ok(self.0.kernel.fs.unlink(dir, &path)?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As `path_remove_directory`.
    pub fn remove_directory(&self, directory: &File, path: &[u8]) -> Result<(), Errno> {
        let base = Base::of(&directory.0)?;
        let (dir, path) = base.join(path);
        Ok(self.0.kernel.fs.rmdir(dir, &path)?)
    }

    /// Sets the times of what `path` names.
    ///
    /// # Errors
    /// As `path_filestat_set_times`.
    pub fn set_times_at(
        &self,
        directory: &File,
        path: &[u8],
        follow: bool,
        (accessed, modified): (TimeChange, TimeChange),
    ) -> Result<(), Errno> {
        match self.0.locate(&Base::of(&directory.0)?, path, follow)? {
            Place::Inode(ino) => Ok(self.0.kernel.fs.set_times(ino, accessed, modified)?),
            Place::Proc(_) => Err(Errno::Perm),
        }
    }

    /// Sets the times of an open file.
    ///
    /// # Errors
    /// As `fd_filestat_set_times`.
    pub fn set_times(&self, file: &File, (accessed, modified): (TimeChange, TimeChange)) -> Result<(), Errno> {
        let handle = file.0.handle().ok_or(Errno::Inval)?;
        Ok(self.0.kernel.fs.set_times(handle.ino(), accessed, modified)?)
    }

    /// Begins to list a directory.
    ///
    /// # Errors
    /// As `fd_readdir`.
    pub fn list(&self, directory: &File) -> Result<DirectoryList, Errno> {
        let charge = |entries: usize| {
            let held = (entries as u64).saturating_mul(ENTRY_BYTES);
            self.0.kernel.budget.charge(held).map_err(|_| Errno::Nomem)
        };
        match &directory.0.kind {
            Kind::Directory(directory) => {
                let snapshot = directory.handle.read_dir()?;
                let charge = charge(snapshot.len())?;
                Ok(DirectoryList(Entries::Of {
                    snapshot,
                    last: None,
                    _charge: charge,
                }))
            }
            Kind::ProcDirectory(directory) => {
                let entries = procfs::entries(&self.0, directory);
                Ok(DirectoryList(Entries::Served {
                    _charge: charge(entries.len())?,
                    entries: entries.into_iter(),
                }))
            }
            _ => Err(Errno::Notdir),
        }
    }

    /// Writes to where an open file stands. `held_bytes` are charged for what may be on its way there.
    ///
    /// # Errors
    /// [`Errno::Nomem`]
    pub fn writer(&self, file: File, held_bytes: u64) -> Result<Writer, Errno> {
        Ok(Writer {
            file,
            control: Arc::clone(&self.0.control),
            _charge: self.0.kernel.budget.charge(held_bytes).map_err(|_| Errno::Nomem)?,
        })
    }
}

/// Writes to where an open file stands, on behalf of a process.
pub struct Writer {
    file: File,
    control: Arc<Control>,
    _charge: Charge,
}

impl Writer {
    /// Whether a signal has ended the process, such as that of a pipe that nobody reads.
    pub fn is_ended(&self) -> bool {
        self.control.signals.fatal_now().is_some()
    }

    /// Writes all of `bytes`, waiting as often as needed. A pipe that nobody reads ends the process, unless it ignores that.
    pub fn write(&self, bytes: Bytes) -> BoxFuture<'static, Result<(), Errno>> {
        let (file, control) = (self.file.clone(), Arc::clone(&self.control));
        Box::pin(async move {
            let written = write_all(&file.0, bytes).await;
            if written == Err(Errno::Pipe) {
                control.signals.deliver(signal::PIPE);
            }
            written
        })
    }
}

/// Keeps account of the store of a process.
pub struct StoreKeeper {
    kernel: Arc<Kernel>,
    control: Arc<Control>,
}

impl StoreKeeper {
    /// Notes where the native stack of the store starts, so that what is used of it is charged. To be called before the
    /// store runs anything else.
    ///
    /// # Errors
    /// When the store cannot run anything.
    pub async fn note_stack<T: Send>(&self, store: &mut Store<T>) -> wasmtime::Result<()> {
        process::note_stack(store, Arc::clone(&self.control)).await
    }

    /// Drops the store. Giving much memory back takes long, and is not done on a guest thread then.
    pub async fn reclaim(self, store: impl Send + 'static) {
        let memory = self.control.memory_bytes.load(Ordering::Relaxed);
        self.kernel.runtime.reclaim(memory, store).await;
    }
}

impl File {
    /// A regular file opened for reading, or a directory.
    fn handle(&self) -> Option<&Handle> {
        self.0.handle()
    }

    fn regular(&self) -> Result<&RegularFile, Errno> {
        match &self.0.kind {
            Kind::Directory(_) | Kind::ProcDirectory(_) => Err(Errno::Isdir),
            _ => self.0.seekable(),
        }
    }

    /// Its attributes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stat(&self) -> Result<FileStat, Errno> {
        FileStat::of(&self.0)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.0.kind, Kind::Directory(_) | Kind::ProcDirectory(_))
    }

    /// Whether it may be read, and whether it may be written to.
    pub fn access(&self) -> (bool, bool) {
        match &self.0.kind {
            Kind::File(file) => (file.readable, file.writable),
            Kind::PipeWriter(_) | Kind::Output(..) => (false, true),
            Kind::Device(_) | Kind::Control(_) => (true, true),
            _ => (true, false),
        }
    }

    /// Whether both name the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.handle(), other.handle()) {
            (Some(own), Some(theirs)) => own.ino() == theirs.ino(),
            _ => Arc::ptr_eq(&self.0, &other.0),
        }
    }

    /// Reads from where the file stands; 0 bytes are its end, and `None` means that nothing is there yet.
    ///
    /// # Errors
    /// As `fd_read`.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        Ok(self.0.try_read(buffer)?.ok())
    }

    /// Completes when a read would not wait.
    pub async fn readable(&self) {
        let Kind::PipeReader(reader) = &self.0.kind else { return };
        loop {
            let changed = reader.pipe().changed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if reader.readable().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Whether reads and writes can name a position.
    pub fn is_seekable(&self) -> bool {
        matches!(self.0.kind, Kind::File(_) | Kind::ProcFile(_))
    }

    /// Reads from `offset` on; 0 bytes are the end.
    ///
    /// # Errors
    /// As `fd_pread`.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        if let Kind::ProcFile(contents) = &self.0.kind {
            return Ok(contents.read_at(offset, buffer));
        }
        let file = self.regular()?;
        if !file.readable {
            return Err(Errno::Badf);
        }
        Ok(file.handle.read_at(offset, buffer)?)
    }

    /// Writes at `offset`, or at the end without one. Returns how many bytes there was room for, and where they end.
    ///
    /// # Errors
    /// As `fd_pwrite`.
    pub fn write_at(&self, offset: Option<u64>, bytes: &[u8]) -> Result<(usize, u64), Errno> {
        let file = self.regular()?;
        if !file.writable {
            return Err(Errno::Badf);
        }
        match offset {
            None => Ok(file.handle.append(bytes)?),
            Some(offset) => {
                let written = file.handle.write_at(offset, bytes)?;
                Ok((written, offset.saturating_add(written as u64)))
            }
        }
    }

    /// Sets its length.
    ///
    /// # Errors
    /// As `fd_filestat_set_size`.
    pub fn set_len(&self, len: u64) -> Result<(), Errno> {
        let file = self.regular()?;
        if !file.writable {
            return Err(Errno::Badf);
        }
        Ok(file.handle.set_len(len)?)
    }
}

impl DirectoryList {
    /// The next entry: its type as in `st_mode`, and its name. `.` and `..` are left out.
    pub fn next_entry(&mut self) -> Option<(u32, Vec<u8>)> {
        match &mut self.0 {
            Entries::Of { snapshot, last, .. } => {
                let entry = match last {
                    Some(last) => snapshot.after(last).next(),
                    None => snapshot.iter().next(),
                }?;
                *last = Some(entry.name.to_vec());
                Some((type_bits(entry.kind), entry.name.to_vec()))
            }
            Entries::Served { entries, .. } => {
                let (name, is_directory) = entries.next()?;
                let kind = if is_directory {
                    FileKind::Directory
                } else {
                    FileKind::Regular
                };
                Some((type_bits(kind), name))
            }
        }
    }
}

/// Writes all of `bytes` where the file stands.
async fn write_all(file: &OpenFile, mut bytes: Bytes) -> Result<(), Errno> {
    match &file.kind {
        Kind::File(regular) if regular.writable => {
            let mut offset = lock(&regular.offset);
            while !bytes.is_empty() {
                let written = if regular.append.load(Ordering::Relaxed) {
                    let (written, end) = regular.handle.append(&bytes)?;
                    *offset = end;
                    written
                } else {
                    let written = regular.handle.write_at(*offset, &bytes)?;
                    *offset = offset.saturating_add(written as u64);
                    written
                };
                if written == 0 {
                    return Err(Errno::Nospc);
                }
                bytes.advance(written);
            }
            Ok(())
        }
        Kind::Output(console, stream) => {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(MAX_PIECE));
                console.write(*stream, piece).await;
            }
            Ok(())
        }
        Kind::PipeWriter(writer) => {
            while !bytes.is_empty() {
                let changed = writer.pipe().changed().notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                match writer.try_write(&bytes)? {
                    Ok(written) => bytes.advance(written),
                    Err(WouldBlock) => changed.await,
                }
            }
            Ok(())
        }
        Kind::Device(device) => device.write(bytes.len()).map(|_| ()),
        Kind::Directory(_) | Kind::ProcDirectory(_) => Err(Errno::Isdir),
        Kind::File(_) | Kind::ProcFile(_) | Kind::PipeReader(_) | Kind::Input(_) | Kind::Control(_) => Err(Errno::Badf),
    }
}
