//! Inodes and the immutable tree of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imbl::OrdMap;

use super::charge;
use super::file_data::FileData;

/// The number of an inode. Never used twice within a filesystem and those forked from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// The root directory.
pub const ROOT: Ino = Ino(1);

/// The type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A named pipe.
    Fifo,
}

/// What is known about an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The inode.
    pub ino: Ino,
    /// File, directory, symbolic link or pipe.
    pub kind: FileKind,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// Directory entries that name it; for a directory 2 and one per subdirectory, 0 once removed.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file, length of a symlink's target, 4096 for a directory.
    pub size: u64,
    /// Blocks of 512 bytes really stored.
    pub blocks: u64,
    /// Last access, ns since 1970. Not kept for an inode of the image until it is changed.
    pub atime: u64,
    /// Last change of the contents, ns since 1970.
    pub mtime: u64,
    /// Last change of the inode, ns since 1970.
    pub ctime: u64,
    /// Device number of a character device, else 0.
    pub rdev: u32,
}

/// A name, shared between the directory entry and the directory it names.
pub(super) type Name = Arc<[u8]>;

/// A directory entry. The kind is kept here so that listing and path walks need not touch the inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) ino: Ino,
    pub(super) kind: FileKind,
}

pub(super) type Entries = OrdMap<Name, Entry>;

#[derive(Clone)]
pub(super) struct Directory {
    /// The directory that names this one; the root names itself.
    pub(super) parent: Ino,
    pub(super) name: Name,
    pub(super) entries: Entries,
    /// Sum of [`charge::entry`] over the entries.
    pub(super) entries_charge: u64,
}

impl Directory {
    pub(super) fn new(parent: Ino, name: Name) -> Self {
        Self {
            parent,
            name,
            entries: Entries::new(),
            entries_charge: 0,
        }
    }

    /// Puts an entry that was kept back in its place.
    pub(super) fn restore_entry(&mut self, name: Name, entry: Entry) {
        let charge = charge::entry(&name);
        if self.entries.insert(name, entry).is_none() {
            self.entries_charge += charge;
        }
    }

    /// Removes an entry, as was kept; `None` if there is none.
    pub(super) fn restore_removal(&mut self, name: &[u8]) -> Option<()> {
        self.entries.remove_with_key(name)?;
        self.entries_charge -= charge::entry(name);
        Some(())
    }
}

#[derive(Clone)]
pub(super) enum Content {
    File(FileData),
    Directory(Directory),
    Symlink(Arc<[u8]>),
    Device(u32),
    Fifo,
}

impl Content {
    pub(super) fn kind(&self) -> FileKind {
        match self {
            Self::File(_) => FileKind::Regular,
            Self::Directory(_) => FileKind::Directory,
            Self::Symlink(_) => FileKind::Symlink,
            Self::Device(_) => FileKind::CharDevice,
            Self::Fifo => FileKind::Fifo,
        }
    }
}

/// An inode.
#[derive(Clone)]
pub(super) struct Node {
    /// The layer that is charged for it.
    pub(super) layer: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    pub(super) atime: u64,
    pub(super) mtime: u64,
    pub(super) ctime: u64,
    pub(super) content: Content,
}

/// Identity, for finding what two versions of a tree do not share.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Node {
    /// Bytes charged for the inode without the data of a file.
    pub(super) fn fixed_charge(&self) -> u64 {
        charge::INODE
            + match &self.content {
                Content::Directory(directory) => charge::DIRECTORY + directory.entries_charge,
                Content::Symlink(target) => target.len() as u64,
                Content::File(_) | Content::Device(_) | Content::Fifo => 0,
            }
    }

    /// Bytes charged for the data, to the layer of the inode.
    pub(super) fn data_charge(&self) -> u64 {
        if let Content::File(data) = &self.content {
            data.charged(self.layer)
        } else {
            0
        }
    }

    pub(super) fn stat(&self, ino: Ino) -> Stat {
        let (size, stored, rdev) = match &self.content {
            Content::File(data) => (data.size(), data.stored(), 0),
            Content::Directory(_) => (charge::BLOCK, charge::BLOCK, 0),
            Content::Symlink(target) => (target.len() as u64, 0, 0),
            Content::Device(rdev) => (0, 0, *rdev),
            Content::Fifo => (0, 0, 0),
        };
        Stat {
            ino,
            kind: self.content.kind(),
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            size,
            blocks: stored / 512,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            rdev,
        }
    }
}

/// An immutable filesystem tree. Cloning it takes constant time.
#[derive(Clone)]
pub struct Tree {
    pub(super) nodes: OrdMap<u64, Arc<Node>>,
    /// Inodes that are open and have no name. A frozen tree has none.
    pub(super) unnamed: OrdMap<u64, Arc<Node>>,
    /// The next unused inode number.
    pub(super) next: u64,
}

impl Tree {
    pub(super) fn node(&self, ino: Ino) -> Option<&Node> {
        let node = self.nodes.get(&ino.0).or_else(|| self.unnamed.get(&ino.0));
        node.map(|node| &**node)
    }

    pub(super) fn get_mut(&mut self, ino: Ino) -> Option<&mut Arc<Node>> {
        match self.nodes.get_mut(&ino.0) {
            Some(node) => Some(node),
            None => self.unnamed.get_mut(&ino.0),
        }
    }

    /// The tree without what has no name. Takes constant time.
    pub(super) fn named(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
            unnamed: OrdMap::new(),
            next: self.next,
        }
    }

    /// Whether both are the very same version.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.nodes.ptr_eq(&other.nodes)
    }

    /// Tells what another tree must have in common with this one for changes of the one to fit the other: numbers, types,
    /// attributes and names of all inodes, and which bytes of its blob each file shows. What the blobs hold is not told,
    /// and times are not.
    pub fn describe(&self, mut tell: impl FnMut(&[u8])) {
        for (ino, node) in &self.nodes {
            let attributes = [node.mode, node.uid, node.gid, node.nlink];
            tell(&ino.to_le_bytes());
            attributes.iter().for_each(|number| tell(&number.to_le_bytes()));
            match &node.content {
                Content::File(data) => data.describe(|number| tell(&number.to_le_bytes())),
                Content::Directory(directory) => {
                    for (name, entry) in &directory.entries {
                        tell(&entry.ino.0.to_le_bytes());
                        tell(name);
                        // No name has one, so that neighbouring names cannot run into each other.
                        tell(b"/");
                    }
                }
                Content::Symlink(target) => tell(target),
                Content::Device(rdev) => tell(&rdev.to_le_bytes()),
                Content::Fifo => {}
            }
            tell(format!("/{:?}", node.content.kind()).as_bytes());
        }
    }

    /// The number of inodes that have a name, the root included.
    #[must_use]
    pub fn inodes(&self) -> usize {
        self.nodes.len()
    }
}

/// A layer number no other filesystem has, counted from 1.
pub(super) fn next_layer() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
