//! Open files and directories.

use parking_lot::MutexGuard;
use std::fmt;
use std::ops::Bound;

use super::charge::{self, Quota};
use super::error::{Error, Result};
use super::file_data::{CHUNK, FileData, MAX_FILE_SIZE};
use super::fs::Fs;
use super::leaving::discard;
use super::node::{Content, Entries, Entry, FileKind, Ino, Name, Stat};
use super::state::State;

/// An open file or directory. It keeps its inode alive, and charged, even when its last name is removed.
pub struct Handle {
    fs: Fs,
    ino: Ino,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("ino", &self.ino).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.fs.state().closed(self.ino);
    }
}

impl Handle {
    pub(super) fn new(fs: &Fs, state: &mut State, ino: Ino) -> Self {
        state.opened(ino);
        Self { fs: fs.clone(), ino }
    }

    /// The inode.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// The filesystem it belongs to.
    #[must_use]
    pub fn fs(&self) -> &Fs {
        &self.fs
    }

    /// What is known about the inode.
    pub fn stat(&self) -> Result<Stat> {
        self.fs.stat(self.ino)
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// [`Error::IsDir`]; [`Error::Invalid`] if it is no regular file.
    pub fn size(&self) -> Result<u64> {
        Ok(file(&self.fs.state(), self.ino)?.size())
    }

    /// Reads from byte `offset` on, and returns the number of bytes, 0 at the end.
    ///
    /// # Errors
    /// [`Error::IsDir`]; [`Error::Invalid`] if it is no regular file.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        // The bytes are copied without the lock: they may have to come from the disk.
        let file = self.fs.state().file_to_read(self.ino, !out.is_empty())?;
        file.read(offset, out)
    }

    /// Writes at byte `offset`, and returns how many bytes the quota had room for.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if not even one fits, [`Error::TooBig`] at [`MAX_FILE_SIZE`], and as [`Self::read_at`].
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<usize> {
        let mut state = self.begin_write(data);
        let written = state.write(self.ino, offset, data);
        self.end_write(state);
        written
    }

    /// Writes at the end of the file, wherever that is by now. Returns the number of bytes written and the new end.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    pub fn append(&self, data: &[u8]) -> Result<(usize, u64)> {
        let mut state = self.begin_write(data);
        let end = file(&state, self.ino)?.size();
        let written = state.write(self.ino, end, data);
        self.end_write(state);
        written.map(|written| (written, end + written as u64))
    }

    /// The state with room for what was removed, and for what the disk had no room for before.
    fn begin_write(&self, data: &[u8]) -> MutexGuard<'_, State> {
        let room = room_for(data);
        let state = self.fs.roomy(room);
        if !state.has_too_many_unsaved(UNSAVED_AT_MOST) {
            return state;
        }
        drop(state);
        self.fs.spill();
        self.fs.roomy(room)
    }

    /// Unlocks, and moves data to the disk if much has come together in memory.
    fn end_write(&self, state: MutexGuard<'_, State>) {
        let has_too_many = state.has_too_many_unsaved(1);
        drop(state);
        if has_too_many {
            self.fs.spill();
        }
    }

    /// Cuts the file, or extends it with zeros, which are not stored.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.fs.state().set_len(self.ino, len)
    }

    /// Makes room, so that writing to these bytes cannot fail for want of space (`posix_fallocate`). All or nothing. Takes
    /// memory only where the image's bytes show through.
    ///
    /// # Errors
    /// As [`Self::allocate_slices`].
    pub fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let mut slices = self.allocate_slices(offset, len)?;
        while !slices.step()? {}
        Ok(())
    }

    /// Begins what [`Self::allocate`] does, for a caller that has to be interruptible: all of the room is charged at once,
    /// and the file has its new size. [`AllocateSlices::step`] does the rest.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the quota has no room for all of it, [`Error::TooBig`] beyond [`MAX_FILE_SIZE`],
    /// [`Error::Invalid`] if `len` is 0 or it is no regular file, [`Error::IsDir`].
    pub fn allocate_slices(&self, offset: u64, len: u64) -> Result<AllocateSlices> {
        let room = charge::blocks(len.min(MAX_FILE_SIZE));
        let Unallocated { first, end, reserved } = self.fs.roomy(room).begin_allocating(self.ino, offset, len)?;
        Ok(AllocateSlices {
            fs: self.fs.clone(),
            ino: self.ino,
            next: first,
            end,
            reserved,
        })
    }

    /// The entries of the directory as they are now, without `.` and `..`. Takes constant time.
    ///
    /// # Errors
    /// [`Error::NotDir`]
    pub fn read_dir(&self) -> Result<DirSnapshot> {
        let state = self.fs.state();
        let directory = state.tree.directory(self.ino)?;
        Ok(DirSnapshot {
            parent: directory.parent,
            entries: directory.entries.clone(),
        })
    }
}

/// How many times their limit of chunks there may be in memory only when the disk takes none.
const UNSAVED_AT_MOST: usize = 4;

/// The most that writing so much may have to be charged.
fn room_for(data: &[u8]) -> u64 {
    charge::blocks(data.len() as u64) + 2 * CHUNK + charge::INODE
}

/// Room in a file that is being made. Dropped early, it gives back what is left of the charge; what was done stays, as on
/// Linux when the call is interrupted.
#[derive(Debug)]
pub struct AllocateSlices {
    fs: Fs,
    ino: Ino,
    /// The first chunk that is not done.
    next: u32,
    end: u64,
    /// Bytes charged for what is not done.
    reserved: u64,
}

impl AllocateSlices {
    /// Does a bounded part, some tens of microseconds without and 100 with copying from the image. `true` when all is done.
    ///
    /// # Errors
    /// [`Error::NotFound`] once the file is gone.
    pub fn step(&mut self) -> Result<bool> {
        let mut state = self.fs.state();
        let next = state.allocate_some(self.ino, self.next, self.end, &mut self.reserved)?;
        let has_too_many = state.has_too_many_unsaved(1);
        drop(state);
        if has_too_many {
            self.fs.spill();
        }
        self.next = next.unwrap_or(self.next);
        Ok(next.is_none())
    }
}

impl Drop for AllocateSlices {
    fn drop(&mut self) {
        if self.reserved > 0 {
            self.fs.state().account.refund(self.reserved, 0);
        }
    }
}

/// An entry of a [`DirSnapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode it names.
    pub ino: Ino,
    /// The type of the inode.
    pub kind: FileKind,
}

/// The entries of a directory at one moment, in byte order.
#[derive(Clone)]
pub struct DirSnapshot {
    parent: Ino,
    entries: Entries,
}

impl Drop for DirSnapshot {
    fn drop(&mut self) {
        /// Up to this many entries are freed at once.
        const SMALL: usize = 1000;
        if self.entries.len() > SMALL {
            // The directory may be gone, and this the last to hold them.
            discard(std::mem::take(&mut self.entries));
        }
    }
}

impl DirSnapshot {
    /// The parent directory, for `..`.
    #[must_use]
    pub fn parent(&self) -> Ino {
        self.parent
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = DirEntry<'_>> {
        self.entries.iter().map(dir_entry)
    }

    /// The entries after `name`, whether or not it is one itself. Finding the first takes logarithmic time.
    pub fn after(&self, name: &[u8]) -> impl Iterator<Item = DirEntry<'_>> {
        self.entries
            .range::<_, [u8]>((Bound::Excluded(name), Bound::Unbounded))
            .map(dir_entry)
    }
}

fn dir_entry<'a>((name, entry): (&'a Name, &'a Entry)) -> DirEntry<'a> {
    DirEntry {
        name,
        ino: entry.ino,
        kind: entry.kind,
    }
}

/// The entry after `name`, or the first.
pub(super) fn following<'a>(entries: &'a Entries, name: Option<&[u8]>) -> Option<(&'a Name, &'a Entry)> {
    match name {
        None => entries.get_min().map(|(name, entry)| (name, entry)),
        Some(name) => entries
            .range::<_, [u8]>((Bound::Excluded(name), Bound::Unbounded))
            .next(),
    }
}

/// Room that is charged but not made yet.
struct Unallocated {
    /// Index of the first chunk of the piece.
    first: u32,
    /// The byte after it.
    end: u64,
    /// The bytes charged.
    reserved: u64,
}

fn file(state: &State, ino: Ino) -> Result<&FileData> {
    match &state.tree.existing(ino)?.content {
        Content::File(data) => Ok(data),
        Content::Directory(_) => Err(Error::IsDir),
        _ => Err(Error::Invalid),
    }
}

impl State {
    /// The contents of a file as they are now; with `accessed` the time of the last access is set.
    fn file_to_read(&mut self, ino: Ino, accessed: bool) -> Result<FileData> {
        let data = file(self, ino)?.clone();
        let node = self.tree.existing(ino)?;
        // As mount option relatime. An inode of the image is not made private, and charged, for having been read.
        if node.layer == self.layer && (node.atime <= node.mtime || node.atime <= node.ctime) && accessed {
            let now = self.now();
            self.node_mut(ino, Quota::Exempt)?.atime = now;
        }
        Ok(data)
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        file(self, ino)?;
        if data.is_empty() {
            return Ok(0);
        }
        let room = MAX_FILE_SIZE
            .checked_sub(offset)
            .filter(|&room| room > 0)
            .ok_or(Error::TooBig)?;
        let len = usize::try_from(room).map_or(data.len(), |room| room.min(data.len()));
        let is_bounded = self.unsaved_limit.is_some();
        if self.has_too_many_unsaved(UNSAVED_AT_MOST) {
            // The disk takes nothing, and memory is not the place for all of it.
            return Err(Error::NoSpace);
        }
        let range = offset..offset + len as u64;
        let (written, unsaved) = self.change_data(ino, Quota::Enforced, |file, layer, available| {
            let before: Vec<u32> = file.unsettled(range.clone()).filter(|_| is_bounded).collect();
            let written = match file.write(layer, offset, &data[..len], available)? {
                0 => return Err(Error::NoSpace),
                written => written,
            };
            let after = file.unsettled(range).filter(|_| is_bounded);
            let unsaved: Vec<u32> = after.filter(|index| !before.contains(index)).collect();
            Ok((written, unsaved))
        })?;
        self.unsaved.extend(unsaved.into_iter().map(|index| (ino, index)));
        Ok(written)
    }

    /// Whether more than so many times the limit of chunks may be in memory only.
    fn has_too_many_unsaved(&self, times: usize) -> bool {
        self.unsaved_limit
            .is_some_and(|limit| self.unsaved.len() > times * limit)
    }

    /// Charges all the room and grows the file.
    fn begin_allocating(&mut self, ino: Ino, offset: u64, len: u64) -> Result<Unallocated> {
        file(self, ino)?;
        if len == 0 {
            return Err(Error::Invalid);
        }
        let end = offset
            .checked_add(len)
            .filter(|&end| end <= MAX_FILE_SIZE)
            .ok_or(Error::TooBig)?;
        let first = u32::try_from(offset / CHUNK).map_err(|_| Error::TooBig)?;
        let (layer, now) = (self.layer, self.now());
        self.node_mut(ino, Quota::Enforced)?;
        let reserved = file(self, ino)?.unallocated(layer, first, end);
        self.account.charge(reserved, 0, Quota::Enforced)?;
        let node = self.node_mut(ino, Quota::Exempt)?;
        if let Content::File(data) = &mut node.content {
            data.grow(end);
        }
        node.mtime = now;
        node.ctime = now;
        Ok(Unallocated { first, end, reserved })
    }

    /// Makes a bounded part of the room from chunk `next` on up to byte `end`, whose charge is taken from `reserved`, and
    /// returns the chunk to go on with; `None` when there is nothing left to be done. That is so, too, once somebody has cut
    /// the file: as if all had been done before that.
    fn allocate_some(&mut self, ino: Ino, next: u32, end: u64, reserved: &mut u64) -> Result<Option<u32>> {
        let (layer, limit) = (self.layer, self.unsaved_limit);
        let node = self.node_mut(ino, Quota::Exempt)?;
        let Content::File(data) = &mut node.content else {
            return Err(Error::Invalid);
        };
        if data.size() < end || data.unallocated(layer, next, end) > *reserved {
            return Ok(None);
        }
        let before = data.charged(layer);
        let first = next;
        let next = data.allocate(layer, next, end);
        *reserved -= data.charged(layer) - before;
        // Copies of what the image shows are in memory.
        let shown = data.extent_len().unwrap_or(0).min(u64::from(next) * CHUNK);
        let copied: Vec<u32> = match limit {
            Some(_) => data.unsettled(u64::from(first) * CHUNK..shown).collect(),
            None => Vec::new(),
        };
        self.unsaved.extend(copied.into_iter().map(|index| (ino, index)));
        Ok((u64::from(next) * CHUNK < end).then_some(next))
    }

    pub(super) fn set_len(&mut self, ino: Ino, len: u64) -> Result<()> {
        file(self, ino)?;
        if len > MAX_FILE_SIZE {
            return Err(Error::TooBig);
        }
        let removed = self.change_data(ino, Quota::Exempt, |file, layer, _| Ok(file.set_size(layer, len)))?;
        self.account.leaving.add(removed, self.layer);
        Ok(())
    }

    /// Changes the data of a file. `change` gets the layer and the bytes that may still be charged.
    fn change_data<T>(
        &mut self,
        ino: Ino,
        quota: Quota,
        change: impl FnOnce(&mut FileData, u64, u64) -> Result<T>,
    ) -> Result<T> {
        let (layer, now) = (self.layer, self.now());
        self.node_mut(ino, quota)?;
        let available = self.account.available();
        let node = self.node_mut(ino, quota)?;
        let Content::File(data) = &mut node.content else {
            return Err(Error::Invalid);
        };
        let before = data.charged(layer);
        let result = change(data, layer, available);
        let after = data.charged(layer);
        if result.is_ok() {
            node.mtime = now;
            node.ctime = now;
        }
        self.account.adjust(before, after);
        result
    }
}
