//! File modes, owners and what preview1's filestat leaves out.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use wisp_abi::UNCHANGED;

pub use wisp_abi::Stat;

use crate::{absolute, bytes, check, imports};

/// Status of the file at `path`; of the link itself when it is a symbolic link and `follow` is false.
#[allow(unsafe_code)]
pub fn stat(path: &Path, follow: bool) -> io::Result<Stat> {
    let path = absolute(path)?;
    let path = bytes(&path);
    let mut raw = [0; Stat::SIZE];
    // SAFETY: path and result outlive the call; the result has the size of the ABI.
    check(unsafe { imports::stat(path.as_ptr(), path.len(), u32::from(follow), &raw mut raw) })?;
    Ok(Stat::decode(&raw))
}

/// Status of an open file.
#[allow(unsafe_code)]
pub fn fstat(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    let mut raw = [0; Stat::SIZE];
    // SAFETY: the result outlives the call and has the size of the ABI.
    check(unsafe { imports::fstat(fd.as_raw_fd() as u32, &raw mut raw) })?;
    Ok(Stat::decode(&raw))
}

/// Sets the permission bits (0o7777) of the file at `path`.
#[allow(unsafe_code)]
pub fn chmod(path: &Path, follow: bool, mode: u32) -> io::Result<()> {
    let path = absolute(path)?;
    let path = bytes(&path);
    // SAFETY: the path outlives the call.
    check(unsafe { imports::chmod(path.as_ptr(), path.len(), u32::from(follow), mode) })
}

/// Sets the permission bits (0o7777) of an open file.
#[allow(unsafe_code)]
pub fn fchmod(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // SAFETY: takes numbers only, which the kernel checks.
    check(unsafe { imports::fchmod(fd.as_raw_fd() as u32, mode) })
}

/// A change of owner and group; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The new owner.
    pub uid: Option<u32>,
    /// The new group.
    pub gid: Option<u32>,
}

/// Sets owner and group of the file at `path`.
#[allow(unsafe_code)]
pub fn chown(path: &Path, follow: bool, owner: Owner) -> io::Result<()> {
    let path = absolute(path)?;
    let path = bytes(&path);
    let (uid, gid) = (owner.uid.unwrap_or(UNCHANGED), owner.gid.unwrap_or(UNCHANGED));
    // SAFETY: the path outlives the call.
    check(unsafe { imports::chown(path.as_ptr(), path.len(), u32::from(follow), uid, gid) })
}

/// Size of the one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes used.
    pub bytes_used: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes used.
    pub inodes_used: u64,
}

/// Size of the file system.
#[allow(unsafe_code)]
pub fn statfs() -> io::Result<FileSystem> {
    let mut raw = [0; 4];
    // SAFETY: the result outlives the call.
    check(unsafe { imports::statfs(&raw mut raw) })?;
    let [bytes, bytes_used, inodes, inodes_used] = raw;
    Ok(FileSystem {
        bytes,
        bytes_used,
        inodes,
        inodes_used,
    })
}

/// Makes a named pipe.
#[allow(unsafe_code)]
pub fn mkfifo(path: &Path, mode: u32) -> io::Result<()> {
    let path = absolute(path)?;
    let path = bytes(&path);
    // SAFETY: the path outlives the call.
    check(unsafe { imports::mkfifo(path.as_ptr(), path.len(), mode) })
}

/// The file mode creation mask; sets it when `new` is given. Returns the one before.
#[allow(unsafe_code)]
pub fn umask(new: Option<u32>) -> io::Result<u32> {
    let mut old = 0;
    // SAFETY: `old` outlives the call.
    check(unsafe { imports::umask(new.map_or(UNCHANGED, |mask| mask & 0o777), &raw mut old) })?;
    Ok(old)
}
