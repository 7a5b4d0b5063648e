//! Visiting a whole tree without recursion.

use std::ops::ControlFlow;

use super::node::{Content, Entries, FileKind, Ino, Name, Stat, Tree};

/// One step of [`Fs::walk`](super::Fs::walk).
#[derive(Debug)]
pub struct WalkEntry<'a> {
    /// The path relative to where the walk started; empty there.
    pub path: &'a [u8],
    /// How many components `path` has.
    pub depth: usize,
    /// The inode.
    pub stat: Stat,
    /// The target, if it is a symbolic link.
    pub target: Option<&'a [u8]>,
}

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub struct WalkLimits {
    /// Levels below the start.
    pub depth: usize,
    /// Bytes of a directory's relative path beyond which nothing in it is visited.
    pub path_len: usize,
}

impl WalkLimits {
    /// No limits.
    pub const NONE: Self = Self {
        depth: usize::MAX,
        path_len: usize::MAX,
    };
}

/// A directory being visited.
struct Frame {
    entries: Entries,
    /// The entry visited last.
    last: Option<Name>,
    /// Length of the directory's own path.
    path_len: usize,
}

pub(super) fn walk<B>(
    tree: &Tree,
    top: Ino,
    limits: WalkLimits,
    mut visit: impl FnMut(&WalkEntry<'_>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut path = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    let mut next = Some(top);
    loop {
        if let Some(node) = next.and_then(|ino| tree.node(ino)) {
            let stat = node.stat(next.unwrap_or(top));
            let target = if let Content::Symlink(target) = &node.content {
                Some(&**target)
            } else {
                None
            };
            visit(&WalkEntry {
                path: &path,
                depth: frames.len(),
                stat,
                target,
            })?;
            if let Content::Directory(directory) = &node.content
                && frames.len() < limits.depth
                && path.len() <= limits.path_len
            {
                debug_assert_eq!(stat.kind, FileKind::Directory);
                frames.push(Frame {
                    entries: directory.entries.clone(),
                    last: None,
                    path_len: path.len(),
                });
            }
        }
        let Some(frame) = frames.last_mut() else {
            return ControlFlow::Continue(());
        };
        path.truncate(frame.path_len);
        let following = super::handle::following(&frame.entries, frame.last.as_deref());
        next = match following {
            Some((name, entry)) => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                let (name, ino) = (name.clone(), entry.ino);
                frame.last = Some(name);
                Some(ino)
            }
            None => {
                frames.pop();
                None
            }
        };
    }
}
