//! What `stat` and `fstat` write.

/// The attributes of a file.
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
    /// Bytes of the layout: eight numbers of 64 bits, four of 32, and zeros.
    pub const SIZE: usize = 96;
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
    #[must_use]
    pub fn file_type(&self) -> u32 {
        self.mode & Self::TYPE_MASK
    }

    /// The permission bits, 0o7777.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// The layout of `docs/abi.md`.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let long = [
            self.dev,
            self.ino,
            self.nlink,
            self.size,
            self.blocks,
            self.atime,
            self.mtime,
            self.ctime,
        ];
        for (slot, value) in bytes.chunks_exact_mut(8).zip(long) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        let short = [self.mode, self.uid, self.gid, self.rdev];
        for (slot, value) in bytes[64..80].chunks_exact_mut(4).zip(short) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// Reads the layout of `docs/abi.md`.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let long = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let short = |index: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[64 + index * 4..64 + index * 4 + 4]);
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

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn stat_has_the_layout_of_the_abi() {
        let stat = Stat {
            dev: 1,
            ino: 2,
            nlink: 3,
            size: 4,
            blocks: 5,
            atime: 6,
            mtime: 7,
            ctime: 1 << 60,
            mode: Stat::REGULAR | 0o644,
            uid: 9,
            gid: 10,
            rdev: 11,
        };
        let bytes = stat.encode();
        for (index, number) in (1u64..8).enumerate() {
            assert_eq!(bytes[index * 8..][..8], number.to_le_bytes());
        }
        assert_eq!(bytes[56..64], (1u64 << 60).to_le_bytes());
        assert_eq!(bytes[64..68], 0o100_644u32.to_le_bytes());
        assert_eq!(bytes[68..80], [9, 0, 0, 0, 10, 0, 0, 0, 11, 0, 0, 0]);
        assert_eq!(bytes[80..], [0; 16]);
        assert_eq!(Stat::decode(&bytes), stat);
        assert_eq!((stat.file_type(), stat.permissions()), (Stat::REGULAR, 0o644));
    }
}
