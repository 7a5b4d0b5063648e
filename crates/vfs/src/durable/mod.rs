//! Filesystems that outlive the process: a directory of the host for each.
//!
//! The directory holds a journal of changes and a file of chunks. [`Durable::sync`] writes what differs between the
//! filesystem and its last version on the disk, which it finds by comparing the two persistent trees: what they share
//! is skipped, so the cost is that of the changes. Larger chunks go to the file of chunks first, are referred to from
//! the journal, and need no memory from then on. Until there is something to keep nothing is made on the disk.

#[cfg(test)]
mod fuzz_tests;
mod journal;
mod record;
#[cfg(test)]
mod tests;

use parking_lot::{Mutex, MutexGuard};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imbl::ordmap::DiffItem;

pub use self::journal::Identity;
use self::journal::Journal;
use self::record::Replay;
use super::charge::Limits;
use super::chunk_file::ChunkFile;
use super::file_data::{CHUNK, ChunkData, FileData, INLINE};
use super::fs::Fs;
use super::handle::Handle;
use super::leaving::{discard, drop_here};
use super::node::{Content, Ino, Node, Tree, next_layer};

/// Chunks that are replaced under the filesystem's lock in one go, about a quarter of a millisecond.
const BATCH: usize = 512;
/// Chunks a writer moves to the disk at a time: more than one write can make.
const SPILLED_AT_ONCE: usize = 32;
/// Most chunks that may be in memory only: 64 MiB.
const MAX_UNSAVED: u64 = 1024;
/// As many may be in any filesystem: 16 MiB.
const MIN_UNSAVED: u64 = 256;
/// The journal's name.
const JOURNAL: &str = "journal";
/// The name of the file of chunks.
const CHUNKS: &str = "chunks";

/// Why changes could not be kept. Those that were kept before still are.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The host refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A file shows bytes that are neither its own nor the image's.
    #[error("inode {0} shows a blob that is not the image's")]
    ForeignBlob(u64),
    /// The filesystem was removed.
    #[error("the filesystem was removed")]
    Removed,
}

impl DurableError {
    /// Whether the host has no space left.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io(error) if full.contains(&error.kind()))
    }
}

/// Why a filesystem cannot be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The host refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It was made from an image with other files, which its changes do not fit.
    #[error("its image has changed since it was made")]
    OtherImage,
    /// Another version of wisp wrote it.
    #[error("it was written in another format")]
    OtherFormat,
    /// Something is not as it was written.
    #[error("{0}")]
    Damaged(&'static str),
}

/// Where and how a filesystem is kept.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its directory, made when there is something to keep.
    pub directory: PathBuf,
    /// Identity of the image it begins as.
    pub identity: Identity,
    /// Whether what is kept has to survive the loss of power, not only the end of the process.
    pub fsync: bool,
}

/// A filesystem with its copy on the disk.
pub struct Durable {
    fs: Fs,
    /// The image.
    base: Tree,
    place: Place,
    chunks: Arc<ChunkFile>,
    disk: Mutex<Disk>,
    /// Whether there is a journal, so that chunks may be written.
    started: AtomicBool,
}

/// What is on the disk.
struct Disk {
    /// The version that is there.
    tree: Tree,
    /// `None` until something had to be kept.
    journal: Option<Journal>,
    removed: bool,
}

/// The last version on the disk may be the last to hold what was removed since.
impl Drop for Durable {
    fn drop(&mut self) {
        let disk = self.disk.get_mut();
        if !disk.tree.is(&self.base) {
            discard(std::mem::replace(&mut disk.tree, self.base.clone()));
        }
    }
}

/// A chunk that now is where it can stay.
struct Settled {
    ino: Ino,
    index: u32,
    old: ChunkData,
    new: ChunkData,
}

impl Durable {
    /// A new filesystem that begins as a copy of `base`. Nothing is done on the disk.
    #[must_use]
    pub fn new(base: &Tree, limits: Limits, place: Place) -> Self {
        Self {
            fs: Fs::from_tree(base, limits),
            base: base.clone(),
            chunks: ChunkFile::new(place.directory.join(CHUNKS)),
            place,
            disk: Mutex::new(Disk {
                tree: base.clone(),
                journal: None,
                removed: false,
            }),
            started: AtomicBool::new(false),
        }
    }

    /// The filesystem that an earlier process kept at this place, as of its last [`Durable::sync`]; a copy of `base` if
    /// there was none. Reads all of it.
    pub fn recover(base: &Tree, limits: Limits, place: Place) -> Result<Self, RecoverError> {
        let layer = next_layer();
        let slots = ChunkFile::recovering(place.directory.join(CHUNKS));
        let mut replay = Replay::new(base, layer, &slots);
        let journal = Journal::recover(
            &place.directory.join(JOURNAL),
            &place.identity,
            place.fsync,
            |items, last| replay.apply(items, last),
        )?;
        if journal.is_none() {
            if place.directory.join(CHUNKS).try_exists()? {
                return Err(RecoverError::Damaged("the journal is missing"));
            }
            return Ok(Self::new(base, limits, place));
        }
        // With this everything is dropped that is not part of the last state.
        let tree = replay.finish();
        let mut used = Vec::new();
        let (mut bytes, mut inodes) = (0, 0);
        for change in base.nodes.diff(&tree.nodes) {
            let (DiffItem::Add(_, node) | DiffItem::Update { new: (_, node), .. }) = change else {
                continue;
            };
            bytes += node.fixed_charge() + node.data_charge();
            inodes += 1;
            let Content::File(data) = &node.content else { continue };
            for (_, chunk) in data.chunks().iter() {
                if let ChunkData::Stored { slot, .. } = &chunk.data {
                    used.push(slot.number());
                    if !slot.is_intact() {
                        return Err(RecoverError::Damaged("file data is damaged"));
                    }
                }
            }
        }
        let chunks = slots
            .finish(used)
            .ok_or(RecoverError::Damaged("two files share a slot"))?;
        chunks.reclaim();
        Ok(Self {
            fs: Fs::restored(tree.clone(), layer, limits, (bytes, inodes)),
            base: base.clone(),
            place,
            chunks,
            disk: Mutex::new(Disk {
                tree,
                journal,
                removed: false,
            }),
            started: AtomicBool::new(true),
        })
    }

    /// The filesystem.
    #[must_use]
    pub fn fs(&self) -> &Fs {
        &self.fs
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // What is in there is only replaced once all is written, so a poisoned lock says nothing about it.
        self.disk.lock()
    }

    /// Whether the version on the disk is certainly that of now. Takes no time, and waits for nobody.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let disk = self.disk.try_lock();
        disk.is_some_and(|disk| !disk.removed && self.fs.is_version(&disk.tree))
    }

    /// Ends it if nothing is on the disk: then nothing ever will be. `false` when [`Durable::remove`] is needed. Waits for
    /// nobody.
    #[must_use]
    pub fn forget(&self) -> bool {
        match self.disk.try_lock() {
            Some(mut disk) if disk.journal.is_none() => {
                disk.removed = true;
                true
            }
            _ => false,
        }
    }

    /// Keeps all changes so far. Blocks for the disk, and for other calls of this.
    ///
    /// # Errors
    /// When the host refuses. The filesystem can still be used, and the next call tries again.
    pub fn sync(&self) -> Result<(), DurableError> {
        let mut disk = self.disk();
        if disk.removed {
            return Err(DurableError::Removed);
        }
        let tree = self.fs.freeze();
        if tree.is(&disk.tree) {
            return Ok(());
        }
        let changed = disk.tree.nodes.diff(&tree.nodes).any(|change| match change {
            DiffItem::Update { old, new } => record::differs(old.1, new.1),
            DiffItem::Add(..) | DiffItem::Remove(..) => true,
        });
        if !changed {
            disk.tree = tree;
            return Ok(());
        }
        self.start(&mut disk)?;
        let settled = self.settle_all(&disk.tree, &tree)?;
        let tree = self.fs.settle(tree, &settled);
        drop(settled);
        if self.place.fsync {
            self.chunks.flush()?;
        }
        let Disk { tree: old, journal, .. } = &mut *disk;
        if let Some(journal) = journal {
            journal.append(|out| record::encode(&self.base, old, &tree, out))?;
        }
        // Slots that only the old version needed become free.
        drop_here(std::mem::replace(&mut disk.tree, tree));
        self.chunks.reclaim();
        self.shorten_journal(&mut disk);
        Ok(())
    }

    /// Has data that is written to the filesystem go to the disk from now on, once much is in memory only (see
    /// `unsaved_limit`). A writer does it for itself, so that it is held back as the disk is. Nothing is acknowledged by
    /// that: after a crash the space is free again.
    pub fn spill_while_writing(self: &Arc<Self>) {
        let files = Arc::downgrade(self);
        let limit = unsaved_limit(self.fs.usage().max_bytes);
        self.fs.bound_unsaved(limit, move || {
            if let Some(files) = files.upgrade() {
                files.spill_oldest();
            }
        });
    }

    /// Moves some of the data out of memory that was written first. When that is not possible now, the next write tries
    /// again.
    fn spill_oldest(&self) {
        if !self.started.load(Ordering::Acquire) {
            // Whoever holds it is about to begin.
            let Some(mut disk) = self.disk.try_lock() else { return };
            if disk.removed || self.start(&mut disk).is_err() {
                return;
            }
        }
        let mut settled = self.fs.take_unsaved(SPILLED_AT_ONCE);
        let mut failed = None;
        for (at, chunk) in settled.iter_mut().enumerate() {
            let ChunkData::Memory(bytes) = &chunk.old else { continue };
            match self.chunks.store(bytes) {
                Ok(slot) => chunk.new = ChunkData::whole(slot),
                Err(error) => {
                    tracing::warn!(directory = %self.place.directory.display(), %error, "file data stays in memory");
                    failed = Some(at);
                    break;
                }
            }
        }
        if let Some(at) = failed {
            self.fs.put_back_unsaved(settled.split_off(at));
        }
        self.fs.settle_open(&settled);
    }

    /// Moves the data of an open file from byte `from` on out of memory, whether or not the file has a name yet. Chunks
    /// that are not full stay. Blocks for the disk.
    ///
    /// # Errors
    /// As [`Durable::sync`].
    pub fn spill(&self, file: &Handle, from: u64) -> Result<(), DurableError> {
        {
            let mut disk = self.disk();
            if disk.removed {
                return Err(DurableError::Removed);
            }
            self.start(&mut disk)?;
        }
        let Ok(data) = self.fs.file_data(file.ino()) else {
            return Ok(());
        };
        let mut settled = Vec::new();
        let first = u32::try_from(from / CHUNK).unwrap_or(u32::MAX);
        for (index, chunk) in data.chunks().iter_from(first) {
            if let ChunkData::Memory(bytes) = &chunk.data
                && bytes.len() as u64 == CHUNK
            {
                settled.push(Settled {
                    ino: file.ino(),
                    index,
                    old: chunk.data.clone(),
                    new: ChunkData::whole(self.chunks.store(bytes)?),
                });
            }
        }
        drop(data);
        self.fs.settle_open(&settled);
        self.chunks.reclaim();
        Ok(())
    }

    /// Removes everything from the disk. Nothing is kept from now on; what is in memory stays until it is dropped.
    ///
    /// # Errors
    /// When the host refuses; then it can be tried again.
    pub fn remove(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.removed = true;
        remove(&self.place.directory)
    }

    /// Makes the directory and an empty journal, before anything else is put there.
    fn start(&self, disk: &mut Disk) -> Result<(), DurableError> {
        if disk.journal.is_some() {
            return Ok(());
        }
        let directory = &self.place.directory;
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if self.place.fsync {
            journal::flush_directory(directory.parent())?;
        }
        disk.journal = Some(self.checkpoint(&disk.tree)?);
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes a journal that leads straight from the image to `tree`.
    fn checkpoint(&self, tree: &Tree) -> Result<Journal, DurableError> {
        let path = self.place.directory.join(JOURNAL);
        Journal::create(&path, &self.place.identity, self.place.fsync, |out| {
            record::encode(&self.base, &self.base, tree, out)
        })
    }

    /// Replaces a journal that has become long. When that fails, the long one stays in use.
    fn shorten_journal(&self, disk: &mut Disk) {
        let Some(journal) = disk.journal.as_mut().filter(|journal| journal.wants_checkpoint()) else {
            return;
        };
        match self.checkpoint(&disk.tree) {
            Ok(shorter) => disk.journal = Some(shorter),
            Err(error) => {
                journal.put_off_checkpoint();
                tracing::warn!(directory = %self.place.directory.display(), %error, "a journal cannot be shortened");
            }
        }
    }

    /// Writes the chunks that differ between two versions and are not yet where they can stay.
    fn settle_all(&self, old: &Tree, new: &Tree) -> Result<Vec<Settled>, DurableError> {
        let mut settled = Vec::new();
        let nothing = FileData::default();
        for change in old.nodes.diff(&new.nodes) {
            let (ino, old, new) = match change {
                DiffItem::Add(ino, new) => (*ino, None, new),
                DiffItem::Update { old, new } => (*new.0, Some(old.1), new.1),
                DiffItem::Remove(..) => continue,
            };
            let Content::File(new) = &new.content else { continue };
            let old = match old.map(|node| &node.content) {
                Some(Content::File(old)) => old,
                _ => &nothing,
            };
            old.chunks().diff(new.chunks(), &mut |index, _, chunk| {
                if let Some(chunk) = chunk
                    && let Some(new) = self.settle(&chunk.data)?
                {
                    settled.push(Settled {
                        ino: Ino(ino),
                        index,
                        old: chunk.data.clone(),
                        new,
                    });
                }
                Ok::<_, DurableError>(())
            })?;
        }
        Ok(settled)
    }

    /// The same bytes where they can stay: large ones in a slot that holds nothing else, small ones in memory. `None`
    /// when they are there already.
    fn settle(&self, data: &ChunkData) -> Result<Option<ChunkData>, DurableError> {
        let unreadable = |_| io::Error::other("stored file data cannot be read");
        Ok(match data {
            ChunkData::Memory(bytes) if bytes.len() <= INLINE => None,
            ChunkData::Memory(bytes) => Some(ChunkData::whole(self.chunks.store(bytes)?)),
            ChunkData::Stored { slot, len } if slot.len() == *len => None,
            // The rest of the slot would be occupied but not charged.
            ChunkData::Stored { .. } if data.len() <= INLINE => {
                Some(ChunkData::Memory(Arc::new(data.load().map_err(unreadable)?)))
            }
            ChunkData::Stored { .. } => {
                let bytes = data.load().map_err(unreadable)?;
                Some(ChunkData::whole(self.chunks.store(&bytes)?))
            }
        })
    }
}

/// How many chunks of a filesystem with this quota, in bytes, may be in memory only: at most half of it, because a sync
/// may hold as many that are written over meanwhile.
fn unsaved_limit(max_bytes: u64) -> usize {
    (max_bytes / 2 / CHUNK).clamp(MIN_UNSAVED, MAX_UNSAVED) as usize
}

/// Removes what is kept in a directory, for a filesystem that need not have been brought back. Not an error when there
/// is nothing.
///
/// # Errors
/// When the host refuses.
pub fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn replace_chunks(node: &mut Node, settled: &[Settled]) {
    if let Content::File(data) = &mut node.content {
        for chunk in settled {
            data.replace_chunk(chunk.index, &chunk.old, &chunk.new);
        }
    }
}

impl Fs {
    /// Whether nothing was changed since `tree` was frozen.
    fn is_version(&self, tree: &Tree) -> bool {
        self.state().tree.is(tree)
    }

    fn file_data(&self, ino: Ino) -> super::Result<FileData> {
        match &self.state().tree.existing(ino)?.content {
            Content::File(data) => Ok(data.clone()),
            _ => Err(super::Error::Invalid),
        }
    }

    /// Replaces chunks by equal ones, in `frozen`, which is returned, and in the filesystem where they still are the
    /// same. What the two shared before they share afterwards.
    fn settle(&self, mut frozen: Tree, settled: &[Settled]) -> Tree {
        for settled in settled.chunks(BATCH) {
            frozen = self.settle_batch(frozen, settled);
        }
        frozen
    }

    fn settle_batch(&self, mut frozen: Tree, settled: &[Settled]) -> Tree {
        let mut state = self.state();
        let same = state.tree.is(&frozen);
        for settled in settled.chunk_by(|a, b| a.ino == b.ino) {
            let ino = settled[0].ino.0;
            let Some(before) = frozen.nodes.get(&ino).cloned() else {
                continue;
            };
            let mut node = (*before).clone();
            replace_chunks(&mut node, settled);
            let node = Arc::new(node);
            if !same && let Some(live) = state.tree.get_mut(Ino(ino)) {
                if Arc::ptr_eq(live, &before) {
                    *live = Arc::clone(&node);
                } else {
                    replace_chunks(Arc::make_mut(live), settled);
                }
            }
            frozen.nodes.insert(ino, node);
        }
        if same {
            state.tree.nodes = frozen.nodes.clone();
        }
        frozen
    }

    /// Replaces chunks by equal ones in the filesystem, where they still are the same.
    fn settle_open(&self, settled: &[Settled]) {
        for settled in settled.chunks(BATCH) {
            let mut state = self.state();
            for settled in settled.chunk_by(|a, b| a.ino == b.ino) {
                if let Some(live) = state.tree.get_mut(settled[0].ino) {
                    replace_chunks(Arc::make_mut(live), settled);
                }
            }
        }
    }

    /// Takes up to `count` of the chunks that were written first, and are in memory only, off the list. Each has itself in
    /// the place of what it is to be replaced by.
    fn take_unsaved(&self, count: usize) -> Vec<Settled> {
        let mut state = self.state();
        let mut taken = Vec::new();
        for _ in 0..count {
            let Some((ino, index)) = state.unsaved.pop_front() else {
                break;
            };
            let data = match state.tree.node(ino).map(|node| &node.content) {
                Some(Content::File(data)) => data.chunks().get(index).map(|chunk| chunk.data.clone()),
                _ => None,
            };
            // It may have been removed, or kept, since.
            let Some(old) = data.filter(ChunkData::is_unsettled) else {
                continue;
            };
            let new = old.clone();
            taken.push(Settled { ino, index, old, new });
        }
        taken
    }

    /// Puts chunks that could not be written back on the list.
    fn put_back_unsaved(&self, chunks: Vec<Settled>) {
        let mut state = self.state();
        for chunk in chunks.into_iter().rev() {
            state.unsaved.push_front((chunk.ino, chunk.index));
        }
    }
}
