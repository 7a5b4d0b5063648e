//! The state behind a filesystem's lock, and the steps that operations are made of.

use std::collections::{HashMap, VecDeque};
use std::mem::take;
use std::sync::Arc;

use super::charge::{self, Account, Limits, Quota};
use super::error::{Error, PathResult, Result};
use super::file_data::FileData;
use super::handle::following;
use super::leaving::discard;
use super::node::{Content, Directory, Entries, Entry, FileKind, Ino, Name, Node, ROOT, Tree};
use super::path::{Follow, Found, Last, Mounts};

/// The largest number of hard links to one file, and of subdirectories in one directory.
const MAX_LINKS: u32 = u32::MAX - 1;

/// The most levels that renaming a directory walks up, about a millisecond. No path is that deep: `PATH_MAX` holds 2048.
const MAX_DEPTH: usize = 8192;

/// Entries of removed directories that are freed under the lock in one go, about a quarter of a millisecond.
const REAPED_AT_ONCE: usize = 512;

/// Up to this many charged bytes a filesystem is dropped at once, not by another thread.
const SMALL: u64 = 1 << 20;

/// What is left of a directory that was removed with all that is in it.
struct Doomed {
    entries: Entries,
    /// The name of the entry freed last.
    last: Option<Name>,
    /// Bytes charged for the entries.
    charge: u64,
}

impl Drop for State {
    fn drop(&mut self) {
        if self.account.bytes > SMALL {
            let (nodes, unnamed) = (&mut self.tree.nodes, &mut self.tree.unnamed);
            discard((take(nodes), take(unnamed), take(&mut self.doomed)));
        }
    }
}

pub(super) struct State {
    pub(super) tree: Tree,
    /// Inodes and chunks with this layer number are charged here; all others belong to an image.
    pub(super) layer: u64,
    pub(super) account: Account,
    /// How many handles are open on each inode. Not part of the tree: a snapshot has no open files.
    open: HashMap<Ino, u64>,
    /// What is left of directories that were removed with all that is in them. No path leads there.
    doomed: Vec<Doomed>,
    pub(super) mounts: Mounts,
    pub(super) clock: fn() -> u64,
    /// Chunks that are in memory and should not stay there, those first that were written first. Some may have been removed
    /// or kept since. Empty unless `unsaved_limit` is set.
    pub(super) unsaved: VecDeque<(Ino, u32)>,
    /// How many there may be before a writer moves them to the disk.
    pub(super) unsaved_limit: Option<usize>,
}

impl State {
    pub(super) fn new(tree: Tree, layer: u64, limits: Limits, clock: fn() -> u64) -> Self {
        Self {
            tree,
            layer,
            account: Account::new(limits),
            open: HashMap::new(),
            doomed: Vec::new(),
            mounts: Mounts::new(),
            clock,
            unsaved: VecDeque::new(),
            unsaved_limit: None,
        }
    }

    /// A copy with the same charge, but without what only open handles keep alive. Nothing is doomed.
    pub(super) fn fork(&self) -> Self {
        let mut account = self.account.fork();
        for node in self.tree.unnamed.values().filter(|node| node.layer == self.layer) {
            account.refund(node.fixed_charge() + node.data_charge(), 1);
        }
        Self {
            tree: self.tree.named(),
            layer: self.layer,
            account,
            open: HashMap::new(),
            doomed: Vec::new(),
            mounts: self.mounts.clone(),
            clock: self.clock,
            unsaved: VecDeque::new(),
            unsaved_limit: None,
        }
    }

    pub(super) fn now(&self) -> u64 {
        (self.clock)()
    }

    pub(super) fn opened(&mut self, ino: Ino) {
        *self.open.entry(ino).or_insert(0) += 1;
    }

    pub(super) fn closed(&mut self, ino: Ino) {
        let Some(count) = self.open.get_mut(&ino) else { return };
        *count -= 1;
        if *count == 0 {
            self.open.remove(&ino);
            if self.tree.unnamed.contains_key(&ino.0) {
                self.free(ino);
            }
        }
    }

    /// The inode for changing. One of the image becomes private first, and is charged.
    pub(super) fn node_mut(&mut self, ino: Ino, quota: Quota) -> Result<&mut Node> {
        let node = self.tree.existing(ino)?;
        let layer = self.layer;
        if node.layer != layer {
            let bytes = node.fixed_charge();
            self.account.charge(bytes, 1, quota)?;
        }
        let node = Arc::make_mut(self.tree.get_mut(ino).ok_or(Error::NotFound)?);
        node.layer = layer;
        Ok(node)
    }

    fn directory_mut(&mut self, ino: Ino, quota: Quota) -> Result<(&mut Directory, &mut u32, [&mut u64; 2])> {
        let node = self.node_mut(ino, quota)?;
        match &mut node.content {
            Content::Directory(directory) => Ok((directory, &mut node.nlink, [&mut node.mtime, &mut node.ctime])),
            _ => Err(Error::NotDir),
        }
    }

    /// Removes an inode from the tree and refunds its charge.
    fn free(&mut self, ino: Ino) {
        let nodes = &mut self.tree.nodes;
        let Some(node) = nodes.remove(&ino.0).or_else(|| self.tree.unnamed.remove(&ino.0)) else {
            return;
        };
        if node.layer != self.layer {
            return;
        }
        self.account.refund(node.fixed_charge() + node.data_charge(), 1);
        // What another version shares is freed with that.
        if let Some(Content::File(data)) = Arc::into_inner(node).map(|node| node.content) {
            self.account.leaving.add(data.into_chunks(), self.layer);
        }
    }

    /// Frees an inode that has lost its last name, as soon as it is not open.
    fn abandon(&mut self, ino: Ino) -> Result<()> {
        if self.open.contains_key(&ino) {
            let now = self.now();
            let node = self.node_mut(ino, Quota::Exempt)?;
            node.nlink = 0;
            node.ctime = now;
            self.tree.unnamed.extend(self.tree.nodes.remove_with_key(&ino.0));
        } else {
            self.free(ino);
        }
        Ok(())
    }

    /// Takes one name from a file, which goes with the last.
    fn drop_link(&mut self, ino: Ino) -> Result<()> {
        if self.tree.existing(ino)?.nlink <= 1 {
            return self.abandon(ino);
        }
        let now = self.now();
        let node = self.node_mut(ino, Quota::Exempt)?;
        node.nlink -= 1;
        node.ctime = now;
        Ok(())
    }

    /// Refuses a directory that was removed, or has as many links as fit.
    fn check_accepts(&self, parent: Ino, kind: FileKind) -> Result<()> {
        let node = self.tree.existing(parent)?;
        if node.nlink == 0 {
            return Err(Error::NotFound);
        }
        if kind == FileKind::Directory && node.nlink >= MAX_LINKS {
            return Err(Error::TooManyLinks);
        }
        Ok(())
    }

    fn insert_entry(&mut self, parent: Ino, name: Name, entry: Entry, quota: Quota) -> Result<()> {
        self.node_mut(parent, quota)?;
        self.account.charge(charge::entry(&name), 0, quota)?;
        let now = self.now();
        let (directory, nlink, times) = self.directory_mut(parent, Quota::Exempt)?;
        directory.entries_charge += charge::entry(&name);
        directory.entries.insert(name, entry);
        if entry.kind == FileKind::Directory {
            *nlink += 1;
        }
        times.into_iter().for_each(|time| *time = now);
        Ok(())
    }

    fn remove_entry(&mut self, parent: Ino, name: &[u8]) -> Result<()> {
        let now = self.now();
        let (directory, nlink, times) = self.directory_mut(parent, Quota::Exempt)?;
        let (_, entry) = directory.entries.remove_with_key(name).ok_or(Error::NotFound)?;
        directory.entries_charge -= charge::entry(name);
        if entry.kind == FileKind::Directory {
            *nlink -= 1;
        }
        times.into_iter().for_each(|time| *time = now);
        self.account.refund(charge::entry(name), 0);
        Ok(())
    }

    /// Makes an inode called `name` in `parent`, where there is none yet. `content` is built from the name.
    pub(super) fn create(
        &mut self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        content: impl FnOnce(Name) -> Content,
    ) -> Result<Ino> {
        let name: Name = name.into();
        let content = content(name.clone());
        let kind = content.kind();
        self.check_accepts(parent, kind)?;
        let now = self.now();
        let above = self.tree.existing(parent)?;
        // In a set-group-ID directory everything new has its group, and new directories its bit.
        let inherits_group = above.mode & 0o2000;
        let node = Node {
            layer: self.layer,
            mode: (mode & 0o7777) | if kind == FileKind::Directory { inherits_group } else { 0 },
            uid: 0,
            gid: if inherits_group == 0 { 0 } else { above.gid },
            nlink: if kind == FileKind::Directory { 2 } else { 1 },
            atime: now,
            mtime: now,
            ctime: now,
            content,
        };
        let bytes = node.fixed_charge();
        self.account.charge(bytes, 1, Quota::Enforced)?;
        let ino = Ino(self.tree.next);
        if let Err(error) = self.insert_entry(parent, name, Entry { ino, kind }, Quota::Enforced) {
            self.account.refund(bytes, 1);
            return Err(error);
        }
        self.tree.next += 1;
        self.tree.nodes.insert(ino.0, Arc::new(node));
        Ok(ino)
    }

    /// Makes a regular file without a name. The caller opens it.
    pub(super) fn create_unnamed(&mut self, mode: u32) -> Result<Ino> {
        let now = self.now();
        let node = Node {
            layer: self.layer,
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            nlink: 0,
            atime: now,
            mtime: now,
            ctime: now,
            content: Content::File(FileData::default()),
        };
        self.account.charge(node.fixed_charge(), 1, Quota::Enforced)?;
        let ino = Ino(self.tree.next);
        self.tree.next += 1;
        self.tree.unnamed.insert(ino.0, Arc::new(node));
        Ok(ino)
    }

    /// Gives an open file without a name one, in place of what has it.
    pub(super) fn give_name(&mut self, ino: Ino, dir: Ino, path: &[u8]) -> PathResult<()> {
        if !self.tree.unnamed.contains_key(&ino.0) {
            return Err(Error::Exists.into());
        }
        let found = self.tree.resolve(&self.mounts, dir, path, Follow::Never)?;
        let kind = self.tree.existing(ino)?.content.kind();
        if found.last != Last::Name || found.slash || matches!(found.ino, Some((_, FileKind::Directory))) {
            return Err(Error::IsDir.into());
        }
        self.check_accepts(found.parent, kind)?;
        self.node_mut(found.parent, Quota::Enforced)?;
        let quota = match found.ino {
            Some((victim, _)) => {
                self.remove_entry(found.parent, &found.name)?;
                self.drop_link(victim)?;
                Quota::Exempt
            }
            None => Quota::Enforced,
        };
        let name: Name = (*found.name).into();
        self.insert_entry(found.parent, name, Entry { ino, kind }, quota)?;
        let above = self.tree.existing(found.parent)?;
        let inherited_group = (above.mode & 0o2000 != 0).then_some(above.gid);
        let now = self.now();
        let node = self.node_mut(ino, Quota::Exempt)?;
        node.nlink = 1;
        node.ctime = now;
        node.gid = inherited_group.unwrap_or(node.gid);
        self.tree.nodes.extend(self.tree.unnamed.remove_with_key(&ino.0));
        Ok(())
    }

    /// Walks to where a new entry shall be made.
    pub(super) fn vacancy<'p>(&self, dir: Ino, path: &'p [u8], is_directory: bool) -> PathResult<Found<'p>> {
        let found = self.tree.resolve(&self.mounts, dir, path, Follow::Never)?;
        if found.ino.is_some() {
            return Err(Error::Exists.into());
        }
        if found.slash && !is_directory {
            return Err(Error::NotFound.into());
        }
        Ok(found)
    }

    pub(super) fn link(&mut self, ino: Ino, parent: Ino, name: &[u8]) -> Result<()> {
        let node = self.tree.existing(ino)?;
        let kind = node.content.kind();
        if kind == FileKind::Directory {
            return Err(Error::NotPermitted);
        }
        if node.nlink == 0 {
            return Err(Error::NotFound);
        }
        if node.nlink >= MAX_LINKS {
            return Err(Error::TooManyLinks);
        }
        self.check_accepts(parent, kind)?;
        self.node_mut(ino, Quota::Enforced)?;
        self.insert_entry(parent, name.into(), Entry { ino, kind }, Quota::Enforced)?;
        let now = self.now();
        let node = self.node_mut(ino, Quota::Exempt)?;
        node.nlink += 1;
        node.ctime = now;
        Ok(())
    }

    pub(super) fn unlink(&mut self, dir: Ino, path: &[u8]) -> PathResult<()> {
        let found = self.tree.resolve(&self.mounts, dir, path, Follow::Never)?;
        if found.last != Last::Name {
            return Err(Error::IsDir.into());
        }
        let (ino, kind) = found.ino.ok_or(Error::NotFound)?;
        if kind == FileKind::Directory {
            return Err(Error::IsDir.into());
        }
        if found.slash {
            return Err(Error::NotDir.into());
        }
        self.remove_entry(found.parent, &found.name)?;
        Ok(self.drop_link(ino)?)
    }

    pub(super) fn rmdir(&mut self, dir: Ino, path: &[u8]) -> PathResult<()> {
        let found = self.tree.resolve(&self.mounts, dir, path, Follow::Never)?;
        match found.last {
            Last::Name => {}
            Last::Dot => return Err(Error::Invalid.into()),
            Last::DotDot => return Err(Error::NotEmpty.into()),
            Last::Root => return Err(Error::Busy.into()),
        }
        let (ino, kind) = found.ino.ok_or(Error::NotFound)?;
        if kind != FileKind::Directory {
            return Err(Error::NotDir.into());
        }
        if self.mounts.contains_key(&ino) {
            return Err(Error::Busy.into());
        }
        if !self.tree.directory(ino)?.entries.is_empty() {
            return Err(Error::NotEmpty.into());
        }
        self.remove_entry(found.parent, &found.name)?;
        Ok(self.abandon(ino)?)
    }

    pub(super) fn rename(&mut self, old_dir: Ino, old: &[u8], new_dir: Ino, new: &[u8]) -> PathResult<()> {
        let from = self.tree.resolve(&self.mounts, old_dir, old, Follow::Never)?;
        let to = self.tree.resolve(&self.mounts, new_dir, new, Follow::Never)?;
        if from.last != Last::Name || to.last != Last::Name {
            return Err(Error::Busy.into());
        }
        let (ino, kind) = from.ino.ok_or(Error::NotFound)?;
        let is_directory = kind == FileKind::Directory;
        if !is_directory && (from.slash || to.slash) {
            return Err(Error::NotDir.into());
        }
        // What lies in a directory is not above it, so that renaming there does not depend on the depth.
        let moves = from.parent != to.parent;
        if is_directory && (to.parent == ino || moves && self.is_within(to.parent, ino)?) {
            return Err(Error::Invalid.into());
        }
        if let Some((victim, victim_kind)) = to.ino {
            if victim == ino {
                return Ok(());
            }
            if victim_kind == FileKind::Directory && moves && self.is_within(from.parent, victim)? {
                return Err(Error::NotEmpty.into());
            }
            match (is_directory, victim_kind == FileKind::Directory) {
                (true, false) => return Err(Error::NotDir.into()),
                (false, true) => return Err(Error::IsDir.into()),
                _ => {}
            }
            if self.mounts.contains_key(&victim) {
                return Err(Error::Busy.into());
            }
            if victim_kind == FileKind::Directory && !self.tree.directory(victim)?.entries.is_empty() {
                return Err(Error::NotEmpty.into());
            }
        }
        if self.mounts.contains_key(&ino) {
            return Err(Error::Busy.into());
        }
        self.check_accepts(to.parent, kind)?;
        self.move_entry(
            ino,
            kind,
            (from.parent, &from.name),
            (to.parent, &to.name),
            to.ino.map(|(ino, _)| ino),
        )?;
        Ok(())
    }

    /// Does a rename that was found to be allowed. Whatever can be refused for want of space comes first.
    fn move_entry(
        &mut self,
        ino: Ino,
        kind: FileKind,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        victim: Option<Ino>,
    ) -> Result<()> {
        self.node_mut(ino, Quota::Enforced)?;
        self.node_mut(from.0, Quota::Enforced)?;
        self.node_mut(to.0, Quota::Enforced)?;
        let growth = if victim.is_some() {
            0
        } else {
            to.1.len().saturating_sub(from.1.len()) as u64
        };
        self.account.charge(growth, 0, Quota::Enforced)?;
        self.account.refund(growth, 0);
        if let Some(victim) = victim {
            self.remove_entry(to.0, to.1)?;
            if kind == FileKind::Directory {
                self.abandon(victim)?;
            } else {
                self.drop_link(victim)?;
            }
        }
        self.remove_entry(from.0, from.1)?;
        let name: Name = to.1.into();
        self.insert_entry(to.0, name.clone(), Entry { ino, kind }, Quota::Exempt)?;
        let now = self.now();
        let node = self.node_mut(ino, Quota::Exempt)?;
        node.ctime = now;
        if let Content::Directory(directory) = &mut node.content {
            directory.parent = to.0;
            directory.name = name;
        }
        Ok(())
    }

    /// Whether directory `inner` is `outer` or below it.
    ///
    /// # Errors
    /// [`Error::NameTooLong`] if `inner` is deeper than [`MAX_DEPTH`]: the way up is walked under the lock.
    fn is_within(&self, mut inner: Ino, outer: Ino) -> Result<bool> {
        for _ in 0..MAX_DEPTH {
            if inner == outer {
                return Ok(true);
            }
            match self.tree.directory(inner) {
                Ok(directory) if inner != ROOT => inner = directory.parent,
                _ => return Ok(false),
            }
        }
        Err(Error::NameTooLong)
    }

    /// Takes what `path` names with all it contains out of the tree. [`State::reap`] does the rest.
    pub(super) fn remove_all(&mut self, dir: Ino, path: &[u8]) -> PathResult<()> {
        let found = self.tree.resolve(&self.mounts, dir, path, Follow::Never)?;
        let (top, kind) = found.ino.ok_or(Error::NotFound)?;
        if kind != FileKind::Directory {
            return self.unlink(dir, path);
        }
        if found.last != Last::Name {
            return Err(if found.last == Last::Root {
                Error::Busy
            } else {
                Error::Invalid
            }
            .into());
        }
        for &mount in self.mounts.keys() {
            if self.is_within(mount, top)? {
                return Err(Error::Busy.into());
            }
        }
        self.remove_entry(found.parent, &found.name)?;
        self.doom(top)?;
        Ok(())
    }

    /// Removes a directory that has lost its name, whatever is in it; one that somebody has open is empty from now on.
    fn doom(&mut self, ino: Ino) -> Result<()> {
        let is_own = self.tree.existing(ino)?.layer == self.layer;
        let directory = self.tree.directory(ino)?;
        let entries = directory.entries.clone();
        let mut charge = if is_own { directory.entries_charge } else { 0 };
        if self.open.contains_key(&ino) {
            let (directory, ..) = self.directory_mut(ino, Quota::Exempt)?;
            directory.entries = Entries::new();
            charge = take(&mut directory.entries_charge);
            self.abandon(ino)?;
        } else {
            self.free(ino);
            // Theirs is the memory that stays a little longer.
            self.account.charge(charge, 0, Quota::Exempt)?;
        }
        self.doomed.push(Doomed {
            entries,
            last: None,
            charge,
        });
        Ok(())
    }

    /// Frees a bounded part of what is doomed. `false` when nothing is.
    pub(super) fn reap(&mut self) -> bool {
        for _ in 0..REAPED_AT_ONCE {
            let Some(doomed) = self.doomed.last_mut() else {
                return false;
            };
            let Some((name, &entry)) = following(&doomed.entries, doomed.last.as_deref()) else {
                self.account.refund(doomed.charge, 0);
                let entries = self.doomed.pop().map(|doomed| doomed.entries);
                if let Some(entries) = entries.filter(|entries| entries.len() > REAPED_AT_ONCE) {
                    discard(entries);
                }
                continue;
            };
            doomed.last = Some(name.clone());
            // What an entry names is there; were it not, there would be nothing to do.
            let _ = match entry.kind {
                FileKind::Directory => self.doom(entry.ino),
                _ => self.drop_link(entry.ino),
            };
        }
        true
    }
}
