//! The bytes of one regular file: private chunks over an optional slice of a shared, read-only blob.

use std::ops::Range;
use std::sync::Arc;

use imbl::OrdMap;

use super::charge;
use super::chunk_file::Slot;
use super::error::{Error, Result};

/// Read-only bytes that many files can share, for example a mapped image file.
pub type Blob = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The largest size of a file, in bytes (1 TiB). Bounds the chunk numbers; a sparse file may have it.
pub const MAX_FILE_SIZE: u64 = 1 << 40;

/// Bytes of a file that one chunk holds.
pub(super) const CHUNK: u64 = 64 * 1024;

/// Private data of one 64 KiB stretch of a file. It replaces the blob there entirely; past its end are zeros.
#[derive(Clone)]
pub(super) struct Chunk {
    /// The layer that is charged for it.
    pub(super) layer: u64,
    pub(super) data: ChunkData,
}

/// Where the bytes of a chunk are.
#[derive(Clone)]
pub(super) enum ChunkData {
    Memory(Arc<Vec<u8>>),
    /// The first `len` bytes of a slot on the host's disk.
    Stored {
        slot: Arc<Slot>,
        len: u32,
    },
}

impl ChunkData {
    /// All of a slot.
    pub(super) fn whole(slot: Arc<Slot>) -> Self {
        let len = slot.len();
        Self::Stored { slot, len }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Stored { len, .. } => *len as usize,
        }
    }

    /// Whether both are the very same bytes at the same place. Equal bytes elsewhere do not count.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Memory(a), Self::Memory(b)) => Arc::ptr_eq(a, b),
            (Self::Stored { slot: a, len }, Self::Stored { slot: b, len: other }) => Arc::ptr_eq(a, b) && len == other,
            _ => false,
        }
    }

    /// A copy of the bytes that can be changed; its memory is what is charged for.
    pub(super) fn load(&self) -> Result<Vec<u8>> {
        match self {
            Self::Memory(bytes) => Ok((**bytes).clone()),
            Self::Stored { slot, len } => {
                let mut bytes = Vec::new();
                extend(&mut bytes, *len as usize);
                slot.read_at(0, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// Copies from byte `from` on, at most to byte `to`, and returns how much there was.
    fn read(&self, from: usize, to: usize, out: &mut [u8]) -> Result<usize> {
        let (from, to) = (from.min(self.len()), to.min(self.len()));
        let out = &mut out[..to - from];
        match self {
            Self::Memory(bytes) => out.copy_from_slice(&bytes[from..to]),
            Self::Stored { slot, .. } if !out.is_empty() => slot.read_at(from as u64, out)?,
            Self::Stored { .. } => {}
        }
        Ok(to - from)
    }
}

impl Chunk {
    fn charge(&self) -> u64 {
        charge::blocks(self.data.len() as u64)
    }
}

/// Identity, for finding what two versions of a file do not share.
impl PartialEq for Chunk {
    fn eq(&self, other: &Self) -> bool {
        self.layer == other.layer && self.data.is(&other.data)
    }
}

/// The slice of a blob a file shows where it has no chunk.
#[derive(Clone)]
struct Extent {
    blob: Blob,
    start: usize,
    len: u64,
}

impl Extent {
    /// Whether both show the same blob from the same byte on.
    fn begins_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.blob, &other.blob) && self.start == other.start
    }

    /// The part of the file's bytes `range` that the extent covers.
    fn slice(&self, range: Range<u64>) -> &[u8] {
        let from = range.start.min(self.len);
        let to = range.end.min(self.len);
        let bytes = (*self.blob).as_ref();
        let at = |offset: u64| {
            usize::try_from(offset)
                .ok()
                .and_then(|offset| self.start.checked_add(offset))
        };
        at(from)
            .zip(at(to))
            .and_then(|(from, to)| bytes.get(from..to))
            .unwrap_or(&[])
    }
}

/// The contents of a regular file.
#[derive(Clone, Default)]
pub(super) struct FileData {
    size: u64,
    extent: Option<Extent>,
    chunks: OrdMap<u32, Chunk>,
    /// Bytes charged for the chunks whose layer is that of the inode.
    charged: u64,
}

impl FileData {
    /// A file that shows `range` of `blob`.
    pub(super) fn from_blob(blob: Blob, range: Range<usize>) -> Result<Self> {
        let len = range.end.checked_sub(range.start).ok_or(Error::Invalid)? as u64;
        if range.end > (*blob).as_ref().len() {
            return Err(Error::Invalid);
        }
        if len > MAX_FILE_SIZE {
            return Err(Error::TooBig);
        }
        let extent = Some(Extent {
            blob,
            start: range.start,
            len,
        });
        Ok(Self {
            size: len,
            extent,
            ..Self::default()
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes charged to the layer that owns the inode.
    pub(super) fn charged(&self) -> u64 {
        self.charged
    }

    /// Tells that another layer takes over the inode: none of the chunks so far is charged to it.
    pub(super) fn forget_charge(&mut self) {
        self.charged = 0;
    }

    /// Tells what is known of the contents without reading them.
    pub(super) fn describe(&self, mut tell: impl FnMut(u64)) {
        tell(self.size);
        if let Some(extent) = &self.extent {
            tell(extent.start as u64);
            tell(extent.len);
        }
        for (index, chunk) in &self.chunks {
            tell(u64::from(*index));
            tell(chunk.data.len() as u64);
        }
    }

    /// Whether both are the same version.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.size == other.size && self.extent_len() == other.extent_len() && self.chunks.ptr_eq(&other.chunks)
    }

    pub(super) fn chunks(&self) -> &OrdMap<u32, Chunk> {
        &self.chunks
    }

    /// How many bytes of its blob it shows at most.
    pub(super) fn extent_len(&self) -> Option<u64> {
        self.extent.as_ref().map(|extent| extent.len)
    }

    /// Whether it shows the beginning of what `original` shows of its blob.
    pub(super) fn extent_is_of(&self, original: &Self) -> bool {
        matches!((&self.extent, &original.extent), (Some(own), Some(other)) if own.begins_as(other) && own.len <= other.len)
    }

    /// Puts other bytes, equal to those of `old`, in the place of chunk `index`, if that is still `old`.
    pub(super) fn replace_chunk(&mut self, index: u32, old: &ChunkData, new: &ChunkData) {
        if let Some(chunk) = self.chunks.get_mut(&index)
            && chunk.data.is(old)
        {
            chunk.data = new.clone();
        }
    }

    /// Sets the size and the extent's length as they were kept. `None` if the extent was shorter already.
    pub(super) fn restore(&mut self, size: u64, extent_len: Option<u64>) -> Option<()> {
        match (&mut self.extent, extent_len) {
            (Some(extent), Some(len)) if len <= extent.len => extent.len = len,
            (extent, None) => *extent = None,
            _ => return None,
        }
        self.size = size;
        Some(())
    }

    /// Sets or removes a chunk as it was kept. `None` if there is none to be removed, or none can be there.
    pub(super) fn restore_chunk(&mut self, layer: u64, index: u32, chunk: Option<Chunk>) -> Option<()> {
        if u64::from(index) >= MAX_FILE_SIZE / CHUNK {
            return None;
        }
        let removes = chunk.is_none();
        let charge = |chunk: &Chunk| if chunk.layer == layer { chunk.charge() } else { 0 };
        self.charged += chunk.as_ref().map_or(0, charge);
        let before = match chunk {
            Some(chunk) => self.chunks.insert(index, chunk),
            None => self.chunks.remove(&index),
        };
        self.charged -= before.as_ref().map_or(0, charge);
        (before.is_some() || !removes).then_some(())
    }

    /// What [`Self::charged`] has to be, counted anew.
    #[cfg(test)]
    pub(super) fn recount(&self, layer: u64) -> u64 {
        self.chunks
            .values()
            .filter(|chunk| chunk.layer == layer)
            .map(Chunk::charge)
            .sum()
    }

    /// Bytes stored for the file, in its chunks or in the blob.
    pub(super) fn stored(&self) -> u64 {
        let chunks: u64 = self.chunks.values().map(Chunk::charge).sum();
        let Some(extent) = &self.extent else { return chunks };
        let end = u32::try_from(extent.len.div_ceil(CHUNK)).unwrap_or(u32::MAX);
        let hidden: u64 = self
            .chunks
            .range(..end)
            .map(|(&index, _)| charge::blocks((extent.len - u64::from(index) * CHUNK).min(CHUNK)))
            .sum();
        chunks + charge::blocks(extent.len).saturating_sub(hidden)
    }

    /// Copies from `offset` on; the number of bytes is short at the end of the file.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let len = self.size.saturating_sub(offset).min(out.len() as u64);
        let end = offset.saturating_add(len);
        let mut at = offset;
        let mut filled = 0;
        while at < end {
            let (index, start) = chunk_at(at);
            let stretch = at..(start + CHUNK).min(end);
            let count = index_of(stretch.end - stretch.start);
            let out = &mut out[filled..filled + count];
            let found = match (self.chunks.get(&index), &self.extent) {
                (Some(chunk), _) => chunk
                    .data
                    .read(index_of(at - start), index_of(stretch.end - start), out)?,
                (None, Some(extent)) => {
                    let found = extent.slice(stretch.clone());
                    out[..found.len()].copy_from_slice(found);
                    found.len()
                }
                (None, None) => 0,
            };
            out[found..].fill(0);
            filled += count;
            at = stretch.end;
        }
        Ok(filled)
    }

    /// Writes as much of `data` at `offset` as `available` further bytes of charge allow, and returns how much.
    /// The caller has checked that the end is within [`MAX_FILE_SIZE`].
    pub(super) fn write(&mut self, layer: u64, offset: u64, data: &[u8], available: u64) -> Result<usize> {
        let allowed = self.charged.saturating_add(available);
        let mut written = 0;
        while written < data.len() {
            let at = offset + written as u64;
            let (index, start) = chunk_at(at);
            let begin = index_of(at - start);
            let wanted = begin + (data.len() - written).min(index_of(CHUNK) - begin);
            let end = self.affordable(layer, index, wanted, allowed.saturating_sub(self.charged));
            if end <= begin {
                break;
            }
            let replaces = begin == 0 && end >= self.held(layer, index).0;
            let edited = self.edit(layer, index, replaces, |bytes| {
                extend(bytes, end);
                bytes[begin..end].copy_from_slice(&data[written..written + end - begin]);
            });
            match edited {
                Ok(()) => written += end - begin,
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
            if end < wanted {
                break;
            }
        }
        if written > 0 {
            self.size = self.size.max(offset + written as u64);
        }
        Ok(written)
    }

    /// Stores zeros wherever `offset..offset + len` holds nothing yet, so that writing there needs no further charge.
    /// All or nothing.
    pub(super) fn allocate(&mut self, layer: u64, offset: u64, len: u64, available: u64) -> Result<()> {
        let end = offset
            .checked_add(len)
            .filter(|&end| end <= MAX_FILE_SIZE)
            .ok_or(Error::TooBig)?;
        // Checked first for the whole stretch, so that a length of a TiB does not walk 16 million chunks.
        if charge::blocks(len) > available.saturating_add(self.charged) {
            return Err(Error::NoSpace);
        }
        let mut needed = 0u64;
        for (index, stop) in stretches(offset, end) {
            let (held, charged) = self.held(layer, index);
            needed += charge::blocks(held.max(stop) as u64).saturating_sub(charged);
        }
        if needed > available {
            return Err(Error::NoSpace);
        }
        for (index, stop) in stretches(offset, end) {
            let (held, charged) = self.held(layer, index);
            if held < stop || charged == 0 {
                self.edit(layer, index, false, |bytes| extend(bytes, stop))?;
            }
        }
        self.size = self.size.max(end);
        Ok(())
    }

    /// Cuts the file or extends it with a hole. The caller has checked `size` against [`MAX_FILE_SIZE`].
    pub(super) fn set_size(&mut self, layer: u64, size: u64) {
        if size < self.size {
            let (index, start) = chunk_at(size);
            let keep = index_of(size - start);
            let (below, at, above) = self.chunks.split_lookup(&index);
            self.charged -= above
                .values()
                .chain(at.iter())
                .filter(|c| c.layer == layer)
                .map(Chunk::charge)
                .sum::<u64>();
            self.chunks = below;
            if let Some(chunk) = at.filter(|_| keep > 0) {
                self.charged += if chunk.layer == layer { chunk.charge() } else { 0 };
                self.chunks.insert(index, chunk);
                self.shorten(layer, index, keep);
            }
            match &mut self.extent {
                Some(_) if size == 0 => self.extent = None,
                Some(extent) => extent.len = extent.len.min(size),
                None => {}
            }
        }
        self.size = size;
    }

    /// How many bytes chunk `index` holds (or would, once copied from the blob) and how many are charged for it.
    fn held(&self, layer: u64, index: u32) -> (usize, u64) {
        match self.chunks.get(&index) {
            Some(chunk) if chunk.layer == layer => (chunk.data.len(), chunk.charge()),
            Some(chunk) => (chunk.data.len(), 0),
            None => (self.original(index).len(), 0),
        }
    }

    /// The blob's bytes where chunk `index` would be.
    fn original(&self, index: u32) -> &[u8] {
        let start = u64::from(index) * CHUNK;
        self.extent
            .as_ref()
            .map_or(&[], |extent| extent.slice(start..start + CHUNK))
    }

    /// Up to which byte of chunk `index` a write that ends at `wanted` can go; 0 when it cannot even begin.
    fn affordable(&self, layer: u64, index: u32, wanted: usize, available: u64) -> usize {
        let (held, charged) = self.held(layer, index);
        let allowed = charged.saturating_add(available);
        if charge::blocks(held.max(wanted) as u64) <= allowed {
            return wanted;
        }
        // The allowance is below a chunk here, hence the lossless conversion.
        let whole_blocks = usize::try_from(allowed / charge::BLOCK * charge::BLOCK).unwrap_or(0);
        if whole_blocks < held { 0 } else { whole_blocks }
    }

    /// Lets `change` edit chunk `index`, which becomes private to `layer`, and keeps the charge right. With `replaces`
    /// the edit begins with no bytes instead of the present ones.
    fn edit(&mut self, layer: u64, index: u32, replaces: bool, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let present = self.chunks.get(&index);
        let before = present.filter(|chunk| chunk.layer == layer).map_or(0, Chunk::charge);
        let fresh = match present {
            Some(Chunk {
                data: ChunkData::Memory(_),
                ..
            }) => None,
            _ if replaces => Some(Vec::new()),
            Some(chunk) => Some(chunk.data.load()?),
            None => Some(self.original(index).to_vec()),
        };
        if let Some(bytes) = fresh {
            let data = ChunkData::Memory(Arc::new(bytes));
            self.chunks.insert(index, Chunk { layer, data });
        }
        let Some(chunk) = self.chunks.get_mut(&index) else {
            return Ok(());
        };
        chunk.layer = layer;
        if let ChunkData::Memory(bytes) = &mut chunk.data {
            change(Arc::make_mut(bytes));
        }
        self.charged = self.charged - before + chunk.charge();
        Ok(())
    }

    /// Cuts chunk `index`, which becomes private to `layer`, to at most `keep` bytes. Needs nothing from the disk, so
    /// that it cannot fail.
    fn shorten(&mut self, layer: u64, index: u32, keep: usize) {
        let Some(chunk) = self.chunks.get_mut(&index).filter(|chunk| chunk.data.len() > keep) else {
            return;
        };
        let before = if chunk.layer == layer { chunk.charge() } else { 0 };
        chunk.layer = layer;
        match &mut chunk.data {
            ChunkData::Memory(bytes) => shorten(Arc::make_mut(bytes), keep),
            ChunkData::Stored { len, .. } => *len = u32::try_from(keep).unwrap_or(*len),
        }
        self.charged = self.charged - before + chunk.charge();
    }
}

/// The number and the first byte of the chunk that holds byte `offset` (below or at [`MAX_FILE_SIZE`]).
fn chunk_at(offset: u64) -> (u32, u64) {
    let index = u32::try_from(offset / CHUNK).unwrap_or(u32::MAX);
    (index, u64::from(index) * CHUNK)
}

/// The chunks that `offset..end` touches, each with the end of the touched part inside it.
fn stretches(offset: u64, end: u64) -> impl Iterator<Item = (u32, usize)> {
    let first = chunk_at(offset).0;
    let last = if end > offset { chunk_at(end - 1).0 + 1 } else { first };
    (first..last).map(move |index| (index, index_of((end - u64::from(index) * CHUNK).min(CHUNK))))
}

/// A number known to be at most the length of a chunk or of a slice in memory.
fn index_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// Lengthens `bytes` with zeros to at least `len`, never holding more memory than is charged for the length.
pub(super) fn extend(bytes: &mut Vec<u8>, len: usize) {
    if len <= bytes.len() {
        return;
    }
    if len > bytes.capacity() {
        let capacity = if len < index_of(charge::BLOCK) {
            len.next_power_of_two()
        } else {
            index_of(charge::blocks(len as u64))
        };
        bytes.reserve_exact(capacity - bytes.len());
    }
    bytes.resize(len, 0);
}

/// Cuts `bytes` and gives the memory back.
fn shorten(bytes: &mut Vec<u8>, len: usize) {
    bytes.truncate(len);
    bytes.shrink_to_fit();
}
