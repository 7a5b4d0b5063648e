//! From a path a guest gave to the thing it names: an inode, or a file of `/proc` or `/dev/fd`.

use super::descriptor::{Kind, OpenFile};
use super::errno::Errno;
use super::process::Process;
use super::procfs::{self, Found, Node};
use super::stat::FileStat;
use wisp_vfs::{Ino, PathError, ROOT};

/// Links from `/proc` into the file system and back that one path may take.
const MAX_REDIRECTS: usize = 8;

/// What a path names.
pub enum Place {
    /// A file of the sandbox's file system.
    Inode(Ino),
    /// A file the kernel makes up.
    Proc(Node),
}

/// Where a relative path starts.
pub struct Base {
    dir: Ino,
    /// For a directory of `/proc`: its absolute path and a slash.
    prefix: Vec<u8>,
}

impl Base {
    /// The root.
    pub fn root() -> Self {
        Self {
            dir: ROOT,
            prefix: Vec::new(),
        }
    }

    /// An open directory.
    pub fn of(file: &OpenFile) -> Result<Self, Errno> {
        match &file.kind {
            Kind::Directory(directory) => Ok(Self {
                dir: directory.handle.ino(),
                prefix: Vec::new(),
            }),
            Kind::ProcDirectory(directory) => {
                let mount: &[u8] = if directory.mount == procfs::PROC {
                    b"/proc/"
                } else {
                    b"/dev/fd/"
                };
                let path = directory.path.as_slice();
                Ok(Self {
                    dir: ROOT,
                    prefix: [mount, path, b"/"].concat(),
                })
            }
            _ => Err(Errno::Notdir),
        }
    }

    /// The directory and path to look up for `path`.
    pub fn join<'a>(&self, path: &'a [u8]) -> (Ino, std::borrow::Cow<'a, [u8]>) {
        if self.prefix.is_empty() || path.starts_with(b"/") {
            (self.dir, path.into())
        } else {
            (self.dir, [&self.prefix, path].concat().into())
        }
    }
}

impl Process {
    /// Finds what `path` names.
    pub fn locate(&self, base: &Base, path: &[u8], follow: bool) -> Result<Place, Errno> {
        let (mut dir, mut path) = base.join(path);
        for _ in 0..MAX_REDIRECTS {
            match self.kernel.fs.lookup(dir, &path, follow) {
                Ok(ino) => return Ok(Place::Inode(ino)),
                Err(PathError::Fs(error)) => return Err(error.into()),
                Err(PathError::Mounted { mount, rest }) => match procfs::lookup(self, mount, &rest, follow)? {
                    Found::Node(node) => return Ok(Place::Proc(node)),
                    Found::Redirect(target) => (dir, path) = (ROOT, target.into()),
                },
            }
        }
        Err(Errno::Loop)
    }

    /// Attributes of what a path names.
    pub fn stat_at(&self, base: &Base, path: &[u8], follow: bool) -> Result<FileStat, Errno> {
        match self.locate(base, path, follow)? {
            Place::Inode(ino) => Ok(self.kernel.fs.stat(ino)?.into()),
            Place::Proc(Node::Directory(_)) => Ok(FileStat::synthetic_directory()),
            Place::Proc(Node::File(_)) => Ok(FileStat::synthetic_file()),
            Place::Proc(Node::Link(_)) => Ok(FileStat::synthetic_link()),
            Place::Proc(Node::Descriptor(fd)) if follow => self.stat_descriptor(fd),
            Place::Proc(Node::Descriptor(_)) => Ok(FileStat::synthetic_link()),
        }
    }

    /// Attributes of what an absolute path names, or one relative to the directory the process was started in.
    pub fn stat_path(&self, path: &[u8], follow: bool) -> Result<FileStat, Errno> {
        self.stat_at(&Base::root(), &self.absolute(path), follow)
    }

    /// Sets permission bits of what an absolute path names, or one relative to where the process was started.
    pub fn chmod_path(&self, path: &[u8], follow: bool, mode: u32) -> Result<(), Errno> {
        let ino = self.inode_of(path, follow)?;
        Ok(self.kernel.fs.chmod(ino, mode & 0o7777)?)
    }

    /// The inode of an absolute path, or one relative to where the process was started; files of `/proc` have none.
    pub fn inode_of(&self, path: &[u8], follow: bool) -> Result<Ino, Errno> {
        match self.locate(&Base::root(), &self.absolute(path), follow)? {
            Place::Inode(ino) => Ok(ino),
            Place::Proc(Node::Descriptor(fd)) => self
                .descriptors
                .get(fd)?
                .handle()
                .map(wisp_vfs::Handle::ino)
                .ok_or(Errno::Perm),
            Place::Proc(_) => Err(Errno::Perm),
        }
    }

    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        join(&self.control.image().cwd, path)
    }
}

/// `path` as seen from the directory `cwd`. The empty path names nothing, not the directory.
pub fn join(cwd: &[u8], path: &[u8]) -> Vec<u8> {
    if path.is_empty() || path.starts_with(b"/") {
        path.to_vec()
    } else {
        [cwd, b"/", path].concat()
    }
}
