//! File modes, owners and what preview1's filestat leaves out.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use crate::{absolute, bytes, check, imports};

/// Everything `stat(2)` tells about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of hard links.
    pub nlink: u64,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access, ns since 1970.
    pub atime: u64,
    /// Last change of content, ns since 1970.
    pub mtime: u64,
    /// Last change of the inode, ns since 1970.
    pub ctime: u64,
    /// File type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device file.
    pub rdev: u32,
}

impl Stat {
    /// `S_IFMT`: the bits of `mode` that tell the file type.
    pub const TYPE_MASK: u32 = 0o170_000;
    /// `S_IFIFO`.
    pub const FIFO: u32 = 0o010_000;
    /// `S_IFCHR`.
    pub const CHARACTER_DEVICE: u32 = 0o020_000;
    /// `S_IFDIR`.
    pub const DIRECTORY: u32 = 0o040_000;
    /// `S_IFBLK`.
    pub const BLOCK_DEVICE: u32 = 0o060_000;
    /// `S_IFREG`.
    pub const REGULAR: u32 = 0o100_000;
    /// `S_IFLNK`.
    pub const SYMLINK: u32 = 0o120_000;
    /// `S_IFSOCK`.
    pub const SOCKET: u32 = 0o140_000;

    /// The file type: one of [`Self::FIFO`] and its neighbours.
    pub fn file_type(&self) -> u32 {
        self.mode & Self::TYPE_MASK
    }

    /// The permission bits, 0o7777.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// Reads the layout of `docs/abi.md`.
    fn decode(raw: &[u8; 96]) -> Self {
        let long = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&raw[index * 8..index * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let short = |index: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&raw[64 + index * 4..64 + index * 4 + 4]);
            u32::from_le_bytes(word)
        };
        Self {
            dev: long(0),
            ino: long(1),
            nlink: long(2),
            size: long(3),
            blocks: long(4),
            atime: long(5),
            mtime: long(6),
            ctime: long(7),
            mode: short(0),
            uid: short(1),
            gid: short(2),
            rdev: short(3),
        }
    }
}

/// Status of the file at `path`; of the link itself when it is a symbolic link and `follow` is false.
#[allow(unsafe_code)]
pub fn stat(path: &Path, follow: bool) -> io::Result<Stat> {
    let path = absolute(path)?;
    let path = bytes(&path);
    let mut raw = [0; 96];
    // SAFETY: path and result outlive the call; the result has the size of the ABI.
    check(unsafe { imports::stat(path.as_ptr(), path.len(), u32::from(follow), &raw mut raw) })?;
    Ok(Stat::decode(&raw))
}

/// Status of an open file.
#[allow(unsafe_code)]
pub fn fstat(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    let mut raw = [0; 96];
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
    const UNCHANGED: u32 = u32::MAX;
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
    const ASK: u32 = u32::MAX;
    let mut old = 0;
    // SAFETY: `old` outlives the call.
    check(unsafe { imports::umask(new.map_or(ASK, |mask| mask & 0o777), &raw mut old) })?;
    Ok(old)
}
