//! What `stat` tells of an open file, in both forms guests ask for: preview1's filestat and the `wisp` module's.

use wisp_abi::Stat;

use super::descriptor::{Kind, OpenFile};
use super::device::Device;
use super::errno::Errno;
use wisp_vfs::{self as vfs, FileKind};

/// The device number files report; there is one file system.
const FILE_SYSTEM_DEVICE: u64 = 1;

/// Preview1's file types, with the standard's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Filetype {
    /// Pipes and consoles: the standard has no word for them.
    Unknown = 0,
    /// Character device.
    CharacterDevice = 2,
    /// Directory.
    Directory = 3,
    /// Regular file.
    RegularFile = 4,
    /// Symbolic link.
    SymbolicLink = 7,
}

/// The attributes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileStat {
    /// Serial number.
    pub ino: u64,
    /// Links.
    pub nlink: u64,
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes really stored.
    pub blocks: u64,
    /// Last access, ns since 1970.
    pub atime: u64,
    /// Last change of contents, ns since 1970.
    pub mtime: u64,
    /// Last change of attributes, ns since 1970.
    pub ctime: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Device number of a device.
    pub rdev: u32,
}

impl FileStat {
    /// A file of `/proc`, or a pipe: no inode of its own, this type and mode.
    pub fn synthetic(mode: u32, size: u64) -> Self {
        Self {
            ino: 1,
            nlink: 1,
            size,
            mode,
            ..Self::default()
        }
    }

    /// A directory of `/proc`.
    pub fn synthetic_directory() -> Self {
        Self {
            nlink: 2,
            ..Self::synthetic(Stat::DIRECTORY | 0o555, 0)
        }
    }

    /// A file of `/proc`. Linux reports no size either.
    pub fn synthetic_file() -> Self {
        Self::synthetic(Stat::REGULAR | 0o444, 0)
    }

    /// A symbolic link of `/proc`.
    pub fn synthetic_link() -> Self {
        Self::synthetic(Stat::SYMLINK | 0o777, 0)
    }

    /// Of an open file.
    pub fn of(file: &OpenFile) -> Result<Self, Errno> {
        Ok(match &file.kind {
            Kind::File(file) => file.handle.stat()?.into(),
            Kind::Directory(directory) => directory.handle.stat()?.into(),
            Kind::PipeReader(_) | Kind::PipeWriter(_) | Kind::Output(..) | Kind::Input(_) => {
                Self::synthetic(Stat::FIFO | 0o600, 0)
            }
            Kind::Device(Device::Null) => Self {
                rdev: 1 << 8 | 3,
                ..Self::synthetic(Stat::CHARACTER_DEVICE | 0o666, 0)
            },
            Kind::Device(_) | Kind::Control(_) => Self::synthetic(Stat::CHARACTER_DEVICE | 0o666, 0),
            Kind::ProcFile(_) => Self::synthetic_file(),
            Kind::ProcDirectory(_) => Self::synthetic_directory(),
        })
    }

    /// The type in preview1's terms.
    pub fn filetype(&self) -> Filetype {
        match self.mode & Stat::TYPE_MASK {
            Stat::CHARACTER_DEVICE => Filetype::CharacterDevice,
            Stat::DIRECTORY => Filetype::Directory,
            Stat::REGULAR => Filetype::RegularFile,
            Stat::SYMLINK => Filetype::SymbolicLink,
            _ => Filetype::Unknown,
        }
    }

    /// Preview1's `filestat`: 64 bytes, layout of the standard's `typenames.witx`.
    pub fn to_filestat(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0..8].copy_from_slice(&FILE_SYSTEM_DEVICE.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ino.to_le_bytes());
        bytes[16] = self.filetype() as u8;
        bytes[24..32].copy_from_slice(&self.nlink.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.size.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.atime.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.mtime.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.ctime.to_le_bytes());
        bytes
    }

    /// The `wisp` module's `Stat`.
    pub fn to_wisp(self) -> [u8; Stat::SIZE] {
        let stat = Stat {
            dev: FILE_SYSTEM_DEVICE,
            ino: self.ino,
            nlink: self.nlink,
            size: self.size,
            blocks: self.blocks,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
        };
        stat.encode()
    }
}

impl From<vfs::Stat> for FileStat {
    fn from(stat: vfs::Stat) -> Self {
        Self {
            ino: stat.ino.0,
            nlink: u64::from(stat.nlink),
            size: stat.size,
            blocks: stat.blocks,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            mode: type_bits(stat.kind) | stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            rdev: stat.rdev,
        }
    }
}

/// The `S_IFMT` bits of a kind of file.
pub(super) fn type_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => Stat::REGULAR,
        FileKind::Directory => Stat::DIRECTORY,
        FileKind::Symlink => Stat::SYMLINK,
        FileKind::CharDevice => Stat::CHARACTER_DEVICE,
        FileKind::Fifo => Stat::FIFO,
    }
}

/// Preview1's file type of a directory entry.
pub fn entry_type(kind: FileKind) -> Filetype {
    FileStat {
        mode: type_bits(kind),
        ..FileStat::default()
    }
    .filetype()
}
