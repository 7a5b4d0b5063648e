//! Path resolution: an iterative walk with bounded work.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::error::{Error, MountId, PathError, PathResult, Result};
use super::node::{Content, Directory, FileKind, Ino, Node, ROOT, Tree};

/// The longest name of a directory entry, in bytes (`NAME_MAX`).
pub const MAX_NAME: usize = 255;
/// The longest path and symlink target, in bytes without a terminating NUL (`PATH_MAX` - 1).
pub const MAX_PATH: usize = 4095;
/// The most symbolic links followed in one path, as Linux.
pub const MAX_SYMLINKS: u32 = 40;
/// The most bytes still to be walked after a symbolic link was expanded. Forty links of 4 KiB each could otherwise cost
/// thousands of steps for one call.
const MAX_EXPANDED: usize = 4 * (MAX_PATH + 1);

/// What the last component of a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Name,
    Dot,
    DotDot,
    /// There is none: the path is `/`.
    Root,
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Found<'p> {
    /// The directory the last component is in. Meaningless unless `last` is a name.
    pub(super) parent: Ino,
    pub(super) last: Last,
    /// The last component, if it is a name.
    pub(super) name: Cow<'p, [u8]>,
    /// What the path names, if it exists.
    pub(super) ino: Option<(Ino, FileKind)>,
    /// A slash follows the last component, so it has to be a directory.
    pub(super) slash: bool,
}

/// Whether a symbolic link as the last component is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Never, not even before a trailing slash: for calls that make, remove or rename an entry.
    Never,
    /// Only before a trailing slash.
    Slash,
    /// Only without a trailing slash, which opening a file that may have to be made refuses before anything else.
    NoSlash,
    Always,
}

impl Follow {
    fn follows(self, slash: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Slash => slash,
            Self::NoSlash => !slash,
            Self::Always => true,
        }
    }
}

pub(super) type Mounts = HashMap<Ino, MountId>;

impl Tree {
    pub(super) fn existing(&self, ino: Ino) -> Result<&Node> {
        self.node(ino).ok_or(Error::NotFound)
    }

    pub(super) fn directory(&self, ino: Ino) -> Result<&Directory> {
        match &self.existing(ino)?.content {
            Content::Directory(directory) => Ok(directory),
            _ => Err(Error::NotDir),
        }
    }

    fn symlink_target(&self, ino: Ino) -> Result<&Arc<[u8]>> {
        match &self.existing(ino)?.content {
            Content::Symlink(target) => Ok(target),
            _ => Err(Error::Invalid),
        }
    }

    /// Walks `path` from `dir`, or from the root if it is absolute. Everything but the last component has to exist.
    pub(super) fn resolve<'p>(
        &self,
        mounts: &Mounts,
        dir: Ino,
        path: &'p [u8],
        follow: Follow,
    ) -> PathResult<Found<'p>> {
        if path.is_empty() {
            return Err(Error::NotFound.into());
        }
        if path.len() > MAX_PATH {
            return Err(Error::NameTooLong.into());
        }
        if path.contains(&0) {
            return Err(Error::Invalid.into());
        }
        let mut text = Cow::Borrowed(path);
        let mut at = 0;
        let mut here = if path[0] == b'/' { ROOT } else { dir };
        let mut links = 0;
        loop {
            at += leading_slashes(&text[at..]);
            if let Some(&mount) = mounts.get(&here) {
                return Err(PathError::Mounted {
                    mount,
                    rest: text[at..].to_vec(),
                });
            }
            let directory = self.directory(here)?;
            let end = at
                + text[at..]
                    .iter()
                    .position(|&byte| byte == b'/')
                    .unwrap_or(text.len() - at);
            let next = end + leading_slashes(&text[end..]);
            let is_last = next == text.len();
            let slash = end < text.len();
            let (ino, last) = match &text[at..end] {
                b"" => (here, Last::Root),
                b"." => (here, Last::Dot),
                b".." => (directory.parent, Last::DotDot),
                name if name.len() > MAX_NAME => return Err(Error::NameTooLong.into()),
                name => match directory.entries.get(name) {
                    None if !is_last => return Err(Error::NotFound.into()),
                    Some(entry) if entry.kind == FileKind::Symlink && (!is_last || follow.follows(slash)) => {
                        links += 1;
                        if links > MAX_SYMLINKS {
                            return Err(Error::Loop.into());
                        }
                        let target = self.symlink_target(entry.ino)?;
                        if target.first() == Some(&b'/') {
                            here = ROOT;
                        }
                        text = Cow::Owned([target, &text[end..]].concat());
                        at = 0;
                        if text.len() > MAX_EXPANDED {
                            return Err(Error::NameTooLong.into());
                        }
                        continue;
                    }
                    entry if is_last => {
                        let ino = entry.map(|entry| (entry.ino, entry.kind));
                        let name = match text {
                            Cow::Borrowed(text) => Cow::Borrowed(&text[at..end]),
                            Cow::Owned(text) => Cow::Owned(text[at..end].to_vec()),
                        };
                        return Ok(Found {
                            parent: here,
                            last: Last::Name,
                            name,
                            ino,
                            slash,
                        });
                    }
                    Some(entry) => (entry.ino, Last::Name),
                    None => return Err(Error::NotFound.into()),
                },
            };
            if is_last {
                self.existing(ino)?;
                let ino = Some((ino, FileKind::Directory));
                return Ok(Found {
                    parent: here,
                    last,
                    name: Cow::Borrowed(b""),
                    ino,
                    slash,
                });
            }
            here = ino;
            at = next;
        }
    }

    /// Walks `path` to something that exists and is not inside a mount.
    pub(super) fn find(&self, mounts: &Mounts, dir: Ino, path: &[u8], follow: bool) -> PathResult<Ino> {
        let follow = if follow { Follow::Always } else { Follow::Slash };
        let found = self.resolve(mounts, dir, path, follow)?;
        let (ino, kind) = found.ino.ok_or(Error::NotFound)?;
        if found.slash && kind != FileKind::Directory {
            return Err(Error::NotDir.into());
        }
        outside_mounts(mounts, ino)?;
        Ok(ino)
    }
}

/// Refuses the mounted directories themselves.
pub(super) fn outside_mounts(mounts: &Mounts, ino: Ino) -> PathResult<()> {
    match mounts.get(&ino) {
        Some(&mount) => Err(PathError::Mounted {
            mount,
            rest: Vec::new(),
        }),
        None => Ok(()),
    }
}

fn leading_slashes(text: &[u8]) -> usize {
    text.iter().take_while(|&&byte| byte == b'/').count()
}
