//! The filesystem and its operations on paths.

use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use imbl::OrdMap;

use super::charge::{Limits, Quota, Usage};
use super::error::{Error, MountId, PathError, PathResult, Result};
use super::file_data::{Blob, FileData};
use super::handle::Handle;
use super::leaving::discard;
use super::node::{Content, Directory, FileKind, Ino, Node, ROOT, Stat, Tree, next_layer};
use super::path::{Follow, Last, MAX_PATH, outside_mounts};
use super::state::State;
use super::walk::{WalkEntry, WalkLimits, walk};

/// Bytes that are more than any change but that of a file's data needs.
const ROOM: u64 = 64 << 10;

/// How long to wait for somebody else who frees what was removed, and is about to be done with it.
const OTHERS_STEP: Duration = Duration::from_micros(20);

/// How [`Fs::open`] opens.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// Make a regular file if there is nothing (`O_CREAT`).
    pub create: bool,
    /// With `create`: fail if there is something (`O_EXCL`).
    pub exclusive: bool,
    /// Cut a regular file to nothing (`O_TRUNC`).
    pub truncate: bool,
    /// Fail unless it is a directory (`O_DIRECTORY`).
    pub directory: bool,
    /// Fail if the last component is a symbolic link (`O_NOFOLLOW`).
    pub no_follow: bool,
    /// Permission bits of a new file. The caller has applied the umask.
    pub mode: u32,
}

/// What [`Fs::set_times`] does with one of the times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeChange {
    /// Nothing.
    Keep,
    /// Sets it to the filesystem's clock.
    Now,
    /// Sets it to these ns since 1970.
    At(u64),
}

/// What [`Fs::mknod`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A character device of this number.
    Device(u32),
    /// A named pipe.
    Fifo,
}

/// A live filesystem. Clones are handles of the same one.
///
/// Operations on paths take a directory and a path, which starts at the root if it begins with a slash. They answer
/// [`PathError::Mounted`](super::PathError::Mounted) if the path leads into a mounted directory.
#[derive(Clone)]
pub struct Fs {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Moves some of [`State::unsaved`] to the disk.
    spill: OnceLock<Spill>,
}

type Spill = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs").finish_non_exhaustive()
    }
}

fn system_time() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

impl Fs {
    /// An empty filesystem: a root directory, which is not charged.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let now = system_time();
        let root = Node {
            layer: 0,
            mode: 0o755,
            uid: 0,
            gid: 0,
            nlink: 2,
            atime: now,
            mtime: now,
            ctime: now,
            content: Content::Directory(Directory::new(ROOT, Arc::from(&b""[..]))),
        };
        let tree = Tree {
            nodes: OrdMap::unit(ROOT.0, Arc::new(root)),
            unnamed: OrdMap::new(),
            next: ROOT.0 + 1,
        };
        Self::from_tree(&tree, limits)
    }

    /// A filesystem that begins as a copy of `tree`, which is shared and not charged. Takes constant time.
    #[must_use]
    pub fn from_tree(tree: &Tree, limits: Limits) -> Self {
        Self::from_state(State::new(tree.clone(), next_layer(), limits, system_time))
    }

    /// A filesystem that an earlier process left; what has this `layer` is charged, `charge` bytes and inodes in all.
    pub(super) fn restored(tree: Tree, layer: u64, limits: Limits, charge: (u64, u64)) -> Self {
        let mut state = State::new(tree, layer, limits, system_time);
        (state.account.bytes, state.account.inodes) = charge;
        Self::from_state(state)
    }

    fn from_state(state: State) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                spill: OnceLock::new(),
            }),
        }
    }

    /// Has `spill` called by writers as soon as more than `limit` chunks are in [`State::unsaved`]. Only the first call of
    /// this counts.
    pub(super) fn bound_unsaved(&self, limit: usize, spill: impl Fn() + Send + Sync + 'static) {
        if self.shared.spill.set(Box::new(spill)).is_ok() {
            self.state().unsaved_limit = Some(limit);
        }
    }

    /// To be called without the lock when there is too much in [`State::unsaved`].
    pub(super) fn spill(&self) {
        if let Some(spill) = self.shared.spill.get() {
            spill();
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No operation leaves the state half changed by panicking, so a poisoned lock says nothing about it.
        self.shared.state.lock()
    }

    /// The state with room for `bytes` more, as far as what was removed takes it: the caller helps to free that.
    pub(super) fn roomy(&self, bytes: u64) -> MutexGuard<'_, State> {
        loop {
            let state = self.state();
            if state.account.leaving.bytes() == 0 || state.account.available() >= bytes {
                return state;
            }
            let leaving = Arc::clone(&state.account.leaving);
            drop(state);
            if !leaving.step() {
                std::thread::sleep(OTHERS_STEP);
            }
        }
    }

    /// The state once nothing is left of what [`Fs::remove_all`] has taken out of the tree.
    fn reaped(&self) -> MutexGuard<'_, State> {
        loop {
            let mut state = self.state();
            if !state.reap() {
                return state;
            }
        }
    }

    /// The tree as it is now, without files that are open but have no name. Takes constant time, unless a large directory
    /// has just been removed: then what is left of it is freed first, bit by bit.
    #[must_use]
    pub fn freeze(&self) -> Tree {
        self.reaped().tree.named()
    }

    /// A second filesystem with the same contents, charge, limits, mounts and clock. Takes time in the number of open files
    /// without a name, which only this filesystem has.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::from_state(self.reaped().fork())
    }

    /// What is charged, and the limits.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.state().account.usage()
    }

    /// As [`Fs::usage`], but what was removed is freed first, as far as that takes no longer than about `patience`: whoever
    /// removes a file and looks then finds its space free.
    #[must_use]
    pub fn settled_usage(&self, patience: Duration) -> Usage {
        let started = Instant::now();
        loop {
            let state = self.state();
            if state.account.leaving.bytes() == 0 || started.elapsed() >= patience {
                return state.account.usage();
            }
            let leaving = Arc::clone(&state.account.leaving);
            drop(state);
            if !leaving.step() {
                std::thread::sleep(OTHERS_STEP);
            }
        }
    }

    /// Replaces the limits. What is already stored stays, even if it is more.
    pub fn set_limits(&self, limits: Limits) {
        self.state().account.limits = limits;
    }

    /// Replaces the clock (ns since 1970), for images that shall be the same whenever they are built.
    pub fn set_clock(&self, clock: fn() -> u64) {
        self.state().clock = clock;
    }

    /// The inode `path` names.
    pub fn lookup(&self, dir: Ino, path: &[u8], follow: bool) -> PathResult<Ino> {
        let state = self.state();
        state.tree.find(&state.mounts, dir, path, follow)
    }

    /// What is known about an inode.
    pub fn stat(&self, ino: Ino) -> Result<Stat> {
        Ok(self.state().tree.existing(ino)?.stat(ino))
    }

    /// What is known about the inode `path` names.
    pub fn stat_at(&self, dir: Ino, path: &[u8], follow: bool) -> PathResult<Stat> {
        let state = self.state();
        let ino = state.tree.find(&state.mounts, dir, path, follow)?;
        Ok(state.tree.existing(ino)?.stat(ino))
    }

    /// Opens, and makes if asked to, what `path` names.
    ///
    /// # Errors
    /// As `open(2)`, but a directory is never refused for the sake of a later write.
    pub fn open(&self, dir: Ino, path: &[u8], options: &OpenOptions) -> PathResult<Handle> {
        if options.create && options.directory {
            return Err(Error::Invalid.into());
        }
        let mut state = if options.create { self.roomy(ROOM) } else { self.state() };
        let follow = match (options.create, options.no_follow || options.exclusive) {
            (true, true) => Follow::Never,
            (true, false) => Follow::NoSlash,
            (false, _) if options.no_follow => Follow::Slash,
            (false, _) => Follow::Always,
        };
        let found = state.tree.resolve(&state.mounts, dir, path, follow)?;
        if options.create && found.slash && found.last == Last::Name {
            return Err(Error::IsDir.into());
        }
        let Some((ino, kind)) = found.ino else {
            if !options.create {
                return Err(Error::NotFound.into());
            }
            let file = |_| Content::File(FileData::default());
            let ino = state.create(found.parent, &found.name, options.mode, file)?;
            return Ok(Handle::new(self, &mut state, ino));
        };
        if options.create && options.exclusive {
            return Err(Error::Exists.into());
        }
        outside_mounts(&state.mounts, ino)?;
        match kind {
            FileKind::Directory if options.create || options.truncate => return Err(Error::IsDir.into()),
            FileKind::Directory => {}
            _ if options.directory || found.slash => return Err(Error::NotDir.into()),
            FileKind::Symlink => return Err(Error::Loop.into()),
            FileKind::Regular if options.truncate => state.set_len(ino, 0)?,
            FileKind::Regular | FileKind::CharDevice | FileKind::Fifo => {}
        }
        Ok(Handle::new(self, &mut state, ino))
    }

    /// Opens an inode by its number.
    pub fn open_ino(&self, ino: Ino) -> Result<Handle> {
        let mut state = self.state();
        state.tree.existing(ino)?;
        Ok(Handle::new(self, &mut state, ino))
    }

    /// Makes a regular file without a name (`O_TMPFILE`): nobody sees it until [`Fs::give_name`], and without that it is
    /// gone when it is closed.
    pub fn open_unnamed(&self, mode: u32) -> Result<Handle> {
        let mut state = self.roomy(ROOM);
        let ino = state.create_unnamed(mode)?;
        Ok(Handle::new(self, &mut state, ino))
    }

    /// Gives a file that has none a name. What has that name now is replaced in the same instant.
    ///
    /// # Errors
    /// [`Error::IsDir`] when that is a directory, [`Error::Exists`] when the file has a name.
    pub fn give_name(&self, file: &Handle, dir: Ino, path: &[u8]) -> PathResult<()> {
        self.roomy(ROOM).give_name(file.ino(), dir, path)
    }

    /// Makes a directory.
    pub fn mkdir(&self, dir: Ino, path: &[u8], mode: u32) -> PathResult<Ino> {
        let mut state = self.roomy(ROOM);
        let place = state.vacancy(dir, path, true)?;
        let directory = |name| Content::Directory(Directory::new(place.parent, name));
        Ok(state.create(place.parent, &place.name, mode, directory)?)
    }

    /// Makes a symbolic link to `target`.
    pub fn symlink(&self, target: &[u8], dir: Ino, path: &[u8]) -> PathResult<Ino> {
        if target.is_empty() {
            return Err(Error::NotFound.into());
        }
        if target.len() > MAX_PATH {
            return Err(Error::NameTooLong.into());
        }
        if target.contains(&0) {
            return Err(Error::Invalid.into());
        }
        let mut state = self.roomy(ROOM);
        let place = state.vacancy(dir, path, false)?;
        Ok(state.create(place.parent, &place.name, 0o777, |_| Content::Symlink(target.into()))?)
    }

    /// Makes a device or a named pipe.
    pub fn mknod(&self, dir: Ino, path: &[u8], kind: NodeKind, mode: u32) -> PathResult<Ino> {
        let mut state = self.roomy(ROOM);
        let place = state.vacancy(dir, path, false)?;
        let content = |_| match kind {
            NodeKind::Device(rdev) => Content::Device(rdev),
            NodeKind::Fifo => Content::Fifo,
        };
        Ok(state.create(place.parent, &place.name, mode, content)?)
    }

    /// Makes a regular file that shows `range` of `blob`. Reading it costs no charge but that of the inode; what is
    /// written over it does.
    pub fn import_file(&self, dir: Ino, path: &[u8], mode: u32, blob: Blob, range: Range<usize>) -> PathResult<Ino> {
        let data = FileData::from_blob(blob, range)?;
        let mut state = self.state();
        let place = state.vacancy(dir, path, false)?;
        Ok(state.create(place.parent, &place.name, mode, |_| Content::File(data))?)
    }

    /// Gives the inode at `path` a second name.
    pub fn link(&self, dir: Ino, path: &[u8], follow: bool, new_dir: Ino, new_path: &[u8]) -> PathResult<()> {
        let mut state = self.roomy(ROOM);
        let ino = state.tree.find(&state.mounts, dir, path, follow)?;
        let place = state.vacancy(new_dir, new_path, false)?;
        Ok(state.link(ino, place.parent, &place.name)?)
    }

    /// Removes a name of anything but a directory.
    pub fn unlink(&self, dir: Ino, path: &[u8]) -> PathResult<()> {
        self.state().unlink(dir, path)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, dir: Ino, path: &[u8]) -> PathResult<()> {
        self.state().rmdir(dir, path)
    }

    /// Renames as `rename(2)`.
    pub fn rename(&self, old_dir: Ino, old: &[u8], new_dir: Ino, new: &[u8]) -> PathResult<()> {
        self.roomy(ROOM).rename(old_dir, old, new_dir, new)
    }

    /// Removes what `path` names with everything in it; a symbolic link is removed, not followed. No path leads to any of it
    /// from one instant on, and no frozen tree holds a part of it. The rest of the work is done bit by bit: a directory in
    /// it that somebody has open is empty at the end.
    ///
    /// # Errors
    /// [`Error::Busy`] for the root and when a mount is inside, [`Error::Invalid`] when the path ends in a dot component.
    pub fn remove_all(&self, dir: Ino, path: &[u8]) -> PathResult<()> {
        self.state().remove_all(dir, path)?;
        drop(self.reaped());
        Ok(())
    }

    /// Makes the directories of `path` that do not exist, and returns the last.
    pub fn create_dir_all(&self, dir: Ino, path: &[u8], mode: u32) -> PathResult<Ino> {
        /// Links that may turn up where there was nothing a moment ago.
        const MAX_LINKS: u32 = 8;
        let missing = PathError::from(Error::NotFound);
        match self.lookup(dir, path, true) {
            Err(error) if error == missing && !path.is_empty() => {}
            found => {
                let ino = found?;
                self.state().tree.directory(ino)?;
                return Ok(ino);
            }
        }
        // The longest part that exists: to walk a path takes up to 3 ms, so not every part is tried.
        let is_end = |&at: &usize| path[at - 1] != b'/' && path.get(at).is_none_or(|&byte| byte == b'/');
        let ends: Vec<usize> = (1..=path.len()).filter(is_end).collect();
        let exists = |&end: &usize| self.lookup(dir, &path[..end], true) != Err(missing.clone());
        let known = ends.partition_point(exists);
        let (mut here, mut start) = match known.checked_sub(1).and_then(|last| ends.get(last)) {
            Some(&end) => (self.lookup(dir, &path[..end], true)?, end),
            None if path[0] == b'/' => (ROOT, 0),
            None => (dir, 0),
        };
        // One component at a time, from where the last one led to.
        let mut links = 0;
        for &end in &ends[known..] {
            let name = &path[start..end];
            let name = &name[name.iter().take_while(|&&byte| byte == b'/').count()..];
            start = end;
            here = match self.mkdir(here, name, mode) {
                Err(error) if error == Error::Exists.into() => {
                    links += u32::from(self.stat_at(here, name, false)?.kind == FileKind::Symlink);
                    if links > MAX_LINKS {
                        return Err(Error::Loop.into());
                    }
                    self.lookup(here, name, true)?
                }
                made => made?,
            };
        }
        self.state().tree.directory(here)?;
        Ok(here)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is something else.
    pub fn read_link(&self, dir: Ino, path: &[u8]) -> PathResult<Vec<u8>> {
        let state = self.state();
        let ino = state.tree.find(&state.mounts, dir, path, false)?;
        match &state.tree.existing(ino)?.content {
            Content::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Error::Invalid.into()),
        }
    }

    /// Sets the permission bits (`0o7777`).
    pub fn chmod(&self, ino: Ino, mode: u32) -> Result<()> {
        let mut state = self.state();
        let now = state.now();
        let node = state.node_mut(ino, Quota::Enforced)?;
        node.mode = mode & 0o7777;
        node.ctime = now;
        Ok(())
    }

    /// Sets the owner and the group, where given. As on Linux this clears the set-user-ID bit of a file, and the
    /// set-group-ID bit if the group may execute it.
    pub fn chown(&self, ino: Ino, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let mut state = self.state();
        let now = state.now();
        let node = state.node_mut(ino, Quota::Enforced)?;
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        if !matches!(node.content, Content::Directory(_) | Content::Symlink(_)) {
            node.mode &= if node.mode & 0o010 == 0 { !0o4000 } else { !0o6000 };
        }
        node.ctime = now;
        Ok(())
    }

    /// Sets the time of the last access and of the last change.
    pub fn set_times(&self, ino: Ino, atime: TimeChange, mtime: TimeChange) -> Result<()> {
        let mut state = self.state();
        let now = state.now();
        let changed = |old, change| match change {
            TimeChange::Keep => old,
            TimeChange::Now => now,
            TimeChange::At(time) => time,
        };
        let node = state.node_mut(ino, Quota::Enforced)?;
        if (atime, mtime) != (TimeChange::Keep, TimeChange::Keep) {
            node.atime = changed(node.atime, atime);
            node.mtime = changed(node.mtime, mtime);
            node.ctime = now;
        }
        Ok(())
    }

    /// Hands a directory, which is made if there is none, over to whoever serves `mount`. It cannot be removed or renamed.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if there is something in it, [`Error::Busy`] for the root.
    pub fn mount(&self, dir: Ino, path: &[u8], mount: MountId) -> PathResult<()> {
        let ino = self.create_dir_all(dir, path, 0o755)?;
        let mut state = self.state();
        if ino == ROOT {
            return Err(Error::Busy.into());
        }
        if !state.tree.directory(ino)?.entries.is_empty() {
            return Err(Error::NotEmpty.into());
        }
        state.mounts.insert(ino, mount);
        Ok(())
    }

    /// The absolute path of a directory.
    ///
    /// # Errors
    /// [`Error::NotDir`]; [`Error::NotFound`] once it was removed; [`Error::NameTooLong`] beyond [`MAX_PATH`] bytes.
    pub fn path_of(&self, dir: Ino) -> Result<Vec<u8>> {
        let state = self.state();
        let mut names = Vec::new();
        let mut len = 0;
        let mut here = dir;
        loop {
            let directory = state.tree.directory(here)?;
            if state.tree.existing(here)?.nlink == 0 {
                return Err(Error::NotFound);
            }
            if here == ROOT {
                break;
            }
            len += 1 + directory.name.len();
            if len > MAX_PATH {
                return Err(Error::NameTooLong);
            }
            names.push(&directory.name);
            here = directory.parent;
        }
        if names.is_empty() {
            return Ok(b"/".to_vec());
        }
        let mut path = Vec::with_capacity(len);
        for name in names.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Ok(path)
    }

    /// Visits what `path` names and everything below, each directory before its entries and those in byte order.
    /// `visit` sees the tree as it was at the start and may change the filesystem; it ends the walk with `Break`.
    /// Mounted directories appear empty. Symbolic links are not followed.
    pub fn walk<B>(
        &self,
        dir: Ino,
        path: &[u8],
        visit: impl FnMut(&WalkEntry<'_>) -> ControlFlow<B>,
    ) -> PathResult<ControlFlow<B>> {
        self.walk_within(dir, path, WalkLimits::NONE, visit)
    }

    /// As [`Fs::walk`], but not everywhere. What `visit` sees of the tree stays in memory until the walk ends, even if it is
    /// removed.
    pub fn walk_within<B>(
        &self,
        dir: Ino,
        path: &[u8],
        limits: WalkLimits,
        visit: impl FnMut(&WalkEntry<'_>) -> ControlFlow<B>,
    ) -> PathResult<ControlFlow<B>> {
        let (tree, top) = {
            let state = self.state();
            (state.tree.clone(), state.tree.find(&state.mounts, dir, path, false)?)
        };
        let walked = walk(&tree, top, limits, visit);
        discard(tree);
        Ok(walked)
    }
}
