//! The file of the host that holds file data of one filesystem which need not be in memory.
//!
//! It consists of slots, one for each chunk. A slot is written once, never changed, and free again when nobody refers
//! to it any more: no filesystem, no frozen tree, no version that is on the disk. So whoever holds a [`Slot`] can read
//! it without a lock.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::charge;
use super::error::Error;
use super::file_data::CHUNK;

/// Most bytes that free slots may still occupy on the disk before they are given back. Giving back takes a call for
/// each row of slots, so it is not done for every little change.
const MAX_STALE: u64 = 1 << 20;
/// Most slots of a file: as many as the largest file has chunks.
const MAX_SLOTS: u32 = 1 << 24;

/// The file, made when the first slot is written.
pub(super) struct ChunkFile {
    path: PathBuf,
    file: OnceLock<File>,
    /// Whether something was written that may not be on the disk yet. True at first: an earlier process may not have
    /// waited.
    unflushed: AtomicBool,
    space: Mutex<Space>,
}

/// Which slots are in use.
#[derive(Default)]
struct Space {
    /// The first slot never used.
    next: u32,
    /// Free slots, and how many bytes each still occupies.
    free: BTreeMap<u32, u32>,
    /// Sum of those bytes.
    stale: u64,
    /// While a filesystem is brought back, slots come and go in the order of its history; which are free is told at
    /// the end.
    recovering: bool,
}

/// The bytes of one chunk. Its place is free when this is dropped.
pub(super) struct Slot {
    file: Arc<ChunkFile>,
    number: u32,
    len: u32,
    /// CRC-32 of the bytes.
    crc: u32,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut space = self.file.space();
        if !space.recovering {
            space.release(self.number, self.len);
        }
    }
}

impl Slot {
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// Fills `out` with the slot's bytes from `offset` on. The caller stays within the slot.
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let read = self
            .file
            .open()
            .and_then(|file| file.read_exact_at(out, place(self.number) + offset));
        read.map_err(|error| {
            tracing::error!(file = %self.file.path.display(), %error, "stored file data cannot be read");
            Error::Io
        })
    }

    /// Whether the bytes on the disk are those that were written.
    pub(super) fn is_intact(&self) -> bool {
        let mut bytes = vec![0; self.len as usize];
        self.read_at(0, &mut bytes).is_ok() && crc32fast::hash(&bytes) == self.crc
    }
}

/// Where a slot begins in the file.
fn place(number: u32) -> u64 {
    u64::from(number) * CHUNK
}

impl Space {
    fn release(&mut self, number: u32, stale: u32) {
        self.free.insert(number, stale);
        self.stale += u64::from(stale);
    }

    /// A free slot, and how many bytes it still occupies.
    fn take(&mut self) -> io::Result<(u32, u32)> {
        if let Some((number, stale)) = self.free.pop_first() {
            self.stale -= u64::from(stale);
            return Ok((number, stale));
        }
        if self.next >= MAX_SLOTS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.next += 1;
        Ok((self.next - 1, 0))
    }

    /// Takes the free slots that still occupy space, as rows of neighbours. They are free no longer.
    fn take_stale(&mut self) -> Vec<Range<u32>> {
        let mut rows: Vec<Range<u32>> = Vec::new();
        self.free.retain(|&number, stale| {
            if *stale == 0 {
                return true;
            }
            match rows.last_mut() {
                Some(row) if row.end == number => row.end += 1,
                _ => rows.push(number..number + 1),
            }
            false
        });
        self.stale = 0;
        rows
    }
}

impl ChunkFile {
    /// Nothing is done on the disk.
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            path,
            file: OnceLock::new(),
            unflushed: AtomicBool::new(true),
            space: Mutex::default(),
        })
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        // Updates are single steps on numbers, so a poisoned lock says nothing about them.
        self.space.lock()
    }

    fn open(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&self.path)?;
        Ok(self.file.get_or_init(|| file))
    }

    /// Writes a chunk to a free slot.
    pub(super) fn store(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Arc<Slot>> {
        let file = self.open()?;
        let len = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let crc = crc32fast::hash(bytes);
        let (number, stale) = self.space().take()?;
        // Goes back if something fails from here on.
        let slot = Arc::new(self.slot(number, len, crc));
        let used = charge::blocks(u64::from(len));
        give_back(file, place(number) + used, u64::from(stale).saturating_sub(used));
        file.write_all_at(bytes, place(number))?;
        self.unflushed.store(true, Ordering::Release);
        Ok(slot)
    }

    fn slot(self: &Arc<Self>, number: u32, len: u32, crc: u32) -> Slot {
        Slot {
            file: Arc::clone(self),
            number,
            len,
            crc,
        }
    }

    /// Waits until all that was written is on the disk. Not to be called twice at the same time.
    pub(super) fn flush(&self) -> io::Result<()> {
        let Some(file) = self.file.get() else { return Ok(()) };
        // Before the disk is waited for: what is written meanwhile is for the next time.
        if !self.unflushed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        file.sync_data()
            .inspect_err(|_| self.unflushed.store(true, Ordering::Release))
    }

    /// Gives the space of free slots back to the host when it has become much.
    pub(super) fn reclaim(&self) {
        let rows = {
            let mut space = self.space();
            if space.stale <= MAX_STALE {
                return;
            }
            space.take_stale()
        };
        let Some(file) = self.file.get() else { return };
        for row in &rows {
            give_back(file, place(row.start), place(row.end) - place(row.start));
        }
        // Only now may they be written again.
        let mut space = self.space();
        for number in rows.into_iter().flatten() {
            space.release(number, 0);
        }
    }
}

/// How a filesystem is brought back: [`ChunkFile::recovering`], then [`Recovery::slot`] for each slot its history
/// tells of, then [`Recovery::finish`] with those that are in use at its end.
pub(super) struct Recovery(Arc<ChunkFile>);

impl ChunkFile {
    /// The file as an earlier process left it.
    pub(super) fn recovering(path: PathBuf) -> Recovery {
        let file = Self::new(path);
        file.space().recovering = true;
        Recovery(file)
    }
}

impl Recovery {
    /// A slot the history tells of; `None` when there can be no such slot.
    pub(super) fn slot(&self, number: u32, len: u32, crc: u32) -> Option<Arc<Slot>> {
        let fits = number < MAX_SLOTS && u64::from(len) <= CHUNK;
        fits.then(|| Arc::new(self.0.slot(number, len, crc)))
    }

    /// The file with exactly the slots `used` in use; `None` if one of them is there twice. All others must be dropped.
    pub(super) fn finish(self, mut used: Vec<u32>) -> Option<Arc<ChunkFile>> {
        used.sort_unstable();
        if used.windows(2).any(|pair| pair[0] == pair[1]) {
            return None;
        }
        let mut space = self.0.space();
        space.recovering = false;
        for number in used {
            for unused in space.next..number {
                // Nobody knows what the earlier process left there.
                space.release(unused, CHUNK as u32);
            }
            space.next = number + 1;
        }
        let end = place(space.next);
        drop(space);
        // What lies beyond was never acknowledged. A failure only wastes space.
        if let Ok(file) = File::options().write(true).open(&self.0.path)
            && file.metadata().is_ok_and(|metadata| metadata.len() > end)
            && let Err(error) = file.set_len(end)
        {
            tracing::warn!(file = %self.0.path.display(), %error, "unused file data cannot be given back");
        }
        Some(self.0)
    }
}

/// Makes a hole in the file. Where the host's file system has no holes, the space stays taken until it is used again.
fn give_back(file: &File, offset: u64, len: u64) {
    if len == 0 {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = fallocate(file, hole, offset, len) {
            tracing::debug!(%error, "no hole can be made in a file of chunks");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_on_disk_is_not_synced_again() {
        let place = tempfile::tempdir().unwrap();
        let chunks = ChunkFile::new(place.path().join("chunks"));
        let unflushed = || chunks.unflushed.load(Ordering::Acquire);
        for _ in 0..2 {
            let _slot = chunks.store(b"bytes").unwrap();
            assert!(unflushed());
            chunks.flush().unwrap();
            assert!(!unflushed());
        }
    }
}
