//! Descriptors: a process's table of small numbers, and the open files they name.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::budget::Charge;
use super::console::{Console, Stream};
use super::control_file::ControlFile;
use super::device::Device;
use super::errno::Errno;
use super::pipe::{PipeReader, PipeWriter, WouldBlock};
use super::procfs;
use wisp_vfs::{DirSnapshot, Handle};

/// An open file description: what POSIX shares between duplicated descriptors and across `fork` and `spawn`.
pub struct OpenFile {
    /// File, directory, pipe, console or device.
    pub kind: Kind,
    /// Reads and writes fail with `again` instead of waiting.
    pub nonblocking: AtomicBool,
}

/// The kinds of open files.
pub enum Kind {
    /// A regular file.
    File(RegularFile),
    /// A directory of the file system.
    Directory(Directory),
    /// The read end of a pipe.
    PipeReader(PipeReader),
    /// The write end of a pipe.
    PipeWriter(PipeWriter),
    /// An output stream of an exec.
    Output(Arc<Console>, Stream),
    /// The standard input of an exec: what is left of it.
    Input(Mutex<InputBytes>),
    /// A device of `/dev`.
    Device(Device),
    /// A file of `/proc`: its contents as of the moment it was opened.
    ProcFile(ProcFile),
    /// A directory of `/proc` or `/dev/fd`.
    ProcDirectory(procfs::Directory),
    /// `/dev/wisp`.
    Control(ControlFile),
}

/// What is left of a standard input that was there from the start.
pub struct InputBytes {
    rest: Bytes,
    /// For all of it: the memory is given back at once, when the last byte was read.
    charge: Option<Charge>,
}

impl InputBytes {
    /// All of it; `charge` pays for it.
    pub fn new(rest: Bytes, charge: Charge) -> Self {
        Self {
            rest,
            charge: Some(charge),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        if self.rest.is_empty() {
            self.rest = Bytes::new();
            self.charge = None;
        }
        count
    }
}

/// An open regular file.
pub struct RegularFile {
    /// The inode.
    pub handle: Handle,
    /// Where the next read or write starts.
    pub offset: Mutex<u64>,
    /// Whether writes go to the end.
    pub append: AtomicBool,
    /// Opened for reading.
    pub readable: bool,
    /// Opened for writing.
    pub writable: bool,
}

/// An open directory.
pub struct Directory {
    /// The inode.
    pub handle: Handle,
    /// The listing that is being read; taken when reading starts, so that changes meanwhile do not disturb it.
    pub listing: Mutex<Option<Listing>>,
}

/// A directory listing in progress.
pub struct Listing {
    /// The entries as of the start.
    pub entries: DirSnapshot,
    /// The cookie that comes next, and the name after which it stands.
    pub resume: Option<(u64, Vec<u8>)>,
    /// For the entries.
    _charge: Charge,
}

/// An open file of `/proc`.
pub struct ProcFile {
    /// All of its contents.
    pub contents: Arc<[u8]>,
    /// For the contents, which can outlive the process they tell of.
    _charge: Charge,
    /// Where the next read starts.
    pub offset: Mutex<u64>,
}

impl OpenFile {
    /// Wraps a kind.
    pub fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            kind,
            nonblocking: AtomicBool::new(false),
        })
    }

    /// A regular file, positioned at its start.
    pub fn regular(handle: Handle, readable: bool, writable: bool, append: bool) -> Arc<Self> {
        let offset = Mutex::new(0);
        Self::new(Kind::File(RegularFile {
            handle,
            offset,
            append: AtomicBool::new(append),
            readable,
            writable,
        }))
    }

    /// A directory.
    pub fn directory(handle: Handle) -> Arc<Self> {
        Self::new(Kind::Directory(Directory {
            handle,
            listing: Mutex::new(None),
        }))
    }

    /// The inode of a regular file or directory.
    pub fn handle(&self) -> Option<&Handle> {
        match &self.kind {
            Kind::File(file) => Some(&file.handle),
            Kind::Directory(directory) => Some(&directory.handle),
            _ => None,
        }
    }

    /// The regular file, or the error a position-based call gives for anything else.
    pub fn seekable(&self) -> Result<&RegularFile, Errno> {
        match &self.kind {
            Kind::File(file) => Ok(file),
            Kind::Directory(_) | Kind::ProcDirectory(_) => Err(Errno::Isdir),
            _ => Err(Errno::Spipe),
        }
    }

    /// Reads what can be read without waiting; 0 is the end.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<Result<usize, WouldBlock>, Errno> {
        match &self.kind {
            Kind::File(file) => {
                if !file.readable {
                    return Err(Errno::Badf);
                }
                let mut offset = lock(&file.offset);
                let count = file.handle.read_at(*offset, buffer)?;
                *offset = offset.saturating_add(count as u64);
                Ok(Ok(count))
            }
            Kind::PipeReader(reader) => Ok(reader.try_read(buffer)),
            Kind::Input(input) => Ok(Ok(lock(input).read(buffer))),
            Kind::Device(device) => device.read(buffer).map(Ok),
            Kind::ProcFile(file) => {
                let mut offset = lock(&file.offset);
                let count = file.read_at(*offset, buffer);
                *offset += count as u64;
                Ok(Ok(count))
            }
            Kind::Control(control) => Ok(Ok(control.read(buffer))),
            Kind::Directory(_) | Kind::ProcDirectory(_) => Err(Errno::Isdir),
            Kind::PipeWriter(_) | Kind::Output(..) => Err(Errno::Badf),
        }
    }

    /// Whether a read would not wait now, and how many bytes it could get.
    pub fn readable(&self) -> Option<u64> {
        match &self.kind {
            Kind::PipeReader(reader) => reader.readable().map(|count| count as u64),
            // As on Linux: what there is to learn is that nobody reads any more.
            Kind::PipeWriter(writer) => (!writer.pipe().ends().0).then_some(0),
            Kind::File(file) => {
                let size = file.handle.stat().map_or(0, |stat| stat.size);
                Some(size.saturating_sub(*lock(&file.offset)))
            }
            Kind::Input(input) => Some(lock(input).rest.len() as u64),
            _ => Some(1),
        }
    }

    /// Whether a write would not wait now, and how many bytes it could take.
    pub fn writable(&self) -> Option<u64> {
        match &self.kind {
            Kind::PipeWriter(writer) => writer.writable().map(|room| room as u64),
            _ => Some(4096),
        }
    }

    /// Writes bytes of the kernel's own. What a pipe has no room for is lost.
    pub async fn write_all(&self, bytes: &[u8]) -> Result<(), Errno> {
        match &self.kind {
            Kind::Output(console, stream) => console.write(*stream, Bytes::copy_from_slice(bytes)).await,
            Kind::PipeWriter(writer) => {
                let _ = writer.try_write(bytes)?;
            }
            Kind::File(regular) if regular.writable => {
                let mut offset = lock(&regular.offset);
                *offset = if regular.append.load(Ordering::Relaxed) {
                    regular.handle.append(bytes)?.1
                } else {
                    *offset + regular.handle.write_at(*offset, bytes)? as u64
                };
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether calls must not wait.
    pub fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }
}

impl Listing {
    /// A listing at its start; `charge` pays for the entries.
    pub fn new(entries: DirSnapshot, charge: Charge) -> Self {
        Self {
            entries,
            resume: None,
            _charge: charge,
        }
    }
}

impl ProcFile {
    /// A file positioned at its start; `charge` pays for the contents.
    pub fn new(contents: Arc<[u8]>, charge: Charge) -> Self {
        Self {
            contents,
            offset: Mutex::new(0),
            _charge: charge,
        }
    }

    /// Copies from `offset` on.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.contents.get(offset..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        count
    }
}

/// Locks shared state of an open file. Holders do not panic between related updates, so a poisoned lock is still good.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// A process's descriptors.
#[derive(Clone)]
pub struct DescriptorTable {
    files: Vec<Option<Arc<OpenFile>>>,
    /// One more than the largest number allowed.
    limit: usize,
}

impl DescriptorTable {
    /// No descriptors; numbers stay below `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            files: Vec::new(),
            limit,
        }
    }

    /// The open file `fd` names.
    pub fn get(&self, fd: u32) -> Result<&Arc<OpenFile>, Errno> {
        self.files.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    /// Gives `file` the lowest free number that is at least `min`.
    pub fn add(&mut self, file: Arc<OpenFile>, min: u32) -> Result<u32, Errno> {
        let number = self.lowest_free(min)?;
        self.set(number, file)?;
        Ok(number)
    }

    /// The lowest free number that is at least `min`.
    pub fn lowest_free(&self, min: u32) -> Result<u32, Errno> {
        let free = (min as usize..self.limit)
            .find(|fd| self.files.get(*fd).is_none_or(Option::is_none))
            .ok_or(Errno::Mfile)?;
        u32::try_from(free).map_err(|_| Errno::Mfile)
    }

    /// Makes `fd` name `file`, closing what it named before.
    pub fn set(&mut self, fd: u32, file: Arc<OpenFile>) -> Result<(), Errno> {
        let index = fd as usize;
        if index >= self.limit {
            return Err(Errno::Mfile);
        }
        if self.files.len() <= index {
            self.files.resize(index + 1, None);
        }
        self.files[index] = Some(file);
        Ok(())
    }

    /// Closes `fd`.
    pub fn close(&mut self, fd: u32) -> Result<Arc<OpenFile>, Errno> {
        self.files
            .get_mut(fd as usize)
            .and_then(Option::take)
            .ok_or(Errno::Badf)
    }

    /// The open descriptors in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Arc<OpenFile>)> {
        (0u32..)
            .zip(&self.files)
            .filter_map(|(fd, file)| Some((fd, file.as_ref()?)))
    }

    /// Closes every descriptor for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        for (fd, file) in (0u32..).zip(&mut self.files) {
            if !keep(fd) {
                *file = None;
            }
        }
    }
}
