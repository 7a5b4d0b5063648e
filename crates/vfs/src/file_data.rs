//! The bytes of one regular file: private chunks over an optional slice of a shared, read-only blob.

use std::ops::Range;
use std::sync::Arc;

use super::charge;
use super::chunk_file::Slot;
use super::chunk_map::{ChunkMap, MAX_CHUNKS, Removed};
use super::error::{Error, Result};

/// Read-only bytes that many files can share, for example a mapped image file.
pub type Blob = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The largest size of a file, in bytes (1 TiB). Bounds the chunk numbers; a sparse file may have it.
pub const MAX_FILE_SIZE: u64 = 1 << 40;

/// Bytes of a file that one chunk holds.
pub(super) const CHUNK: u64 = 64 * 1024;

/// Chunks of up to this many bytes are part of the journal and stay in memory.
pub(super) const INLINE: usize = 1024;

/// Private data of one 64 KiB stretch of a file. It replaces the blob there entirely; past its end are zeros.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// The layer that is charged for it.
    pub(super) layer: u64,
    /// It is charged as if it had at least this many bytes: so much can be written without a further charge. What has no
    /// bytes yet takes no memory.
    pub(super) reserved: u32,
    pub(super) data: ChunkData,
}

/// Where the bytes of a chunk are.
#[derive(Clone, Debug)]
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

    /// Whether it is in memory and should not stay there.
    pub(super) fn is_unsettled(&self) -> bool {
        matches!(self, Self::Memory(bytes) if bytes.len() > INLINE)
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
    /// A chunk without bytes that is charged for `len`.
    pub(super) fn zeros(layer: u64, len: u32) -> Self {
        Self {
            layer,
            reserved: len,
            data: ChunkData::Memory(Arc::default()),
        }
    }

    /// Bytes charged for it.
    pub(super) fn charge(&self) -> u64 {
        charge::blocks((self.data.len() as u64).max(self.reserved.into()))
    }

    /// Whether it has no bytes, and is charged for all it can have.
    pub(super) fn is_whole_of_zeros(&self) -> bool {
        self.data.len() == 0 && u64::from(self.reserved) == CHUNK
    }

    /// Charges it to `layer`.
    fn take_over(&mut self, layer: u64) {
        if self.layer != layer {
            self.layer = layer;
            self.reserved = 0;
        }
    }

    /// Charges it to `layer`, as if it had at least `len` bytes.
    pub(super) fn reserve(&mut self, layer: u64, len: u32) {
        self.take_over(layer);
        self.reserved = self.reserved.max(len);
    }
}

/// Identity, for finding what two versions of a file do not share.
impl PartialEq for Chunk {
    fn eq(&self, other: &Self) -> bool {
        self.layer == other.layer && self.reserved == other.reserved && self.data.is(&other.data)
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
    chunks: ChunkMap,
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

    /// Bytes charged to `layer`, the one that owns the inode.
    pub(super) fn charged(&self, layer: u64) -> u64 {
        self.chunks.sums().charged_to(layer)
    }

    /// The chunks, for letting go of them.
    pub(super) fn into_chunks(self) -> Removed {
        self.chunks.into()
    }

    /// Tells what is known of the contents without reading them.
    pub(super) fn describe(&self, mut tell: impl FnMut(u64)) {
        tell(self.size);
        if let Some(extent) = &self.extent {
            tell(extent.start as u64);
            tell(extent.len);
        }
        for (index, chunk) in self.chunks.iter() {
            tell(u64::from(index));
            tell(chunk.data.len() as u64);
        }
    }

    /// Whether both are the same version.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.size == other.size && self.extent_len() == other.extent_len() && self.chunks.ptr_eq(&other.chunks)
    }

    pub(super) fn chunks(&self) -> &ChunkMap {
        &self.chunks
    }

    /// Which of the chunks that `range` of the file touches are in memory and should not stay there.
    pub(super) fn unsettled(&self, range: Range<u64>) -> impl Iterator<Item = u32> {
        let end = u32::try_from(range.end.div_ceil(CHUNK)).unwrap_or(MAX_CHUNKS);
        let chunks = self.chunks.iter_from(chunk_at(range.start).0);
        let touched = chunks.take_while(move |(index, _)| *index < end);
        touched
            .filter(|(_, chunk)| chunk.data.is_unsettled())
            .map(|(index, _)| index)
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
        if self.chunks.get(index).is_some_and(|chunk| chunk.data.is(old)) {
            self.chunks.update(index, |chunk| chunk.data = new.clone());
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
    pub(super) fn restore_chunk(&mut self, index: u32, chunk: Option<Chunk>) -> Option<()> {
        if index >= MAX_CHUNKS {
            return None;
        }
        match chunk {
            Some(chunk) => drop(self.chunks.insert(index, chunk)),
            None => drop(self.chunks.remove(index)?),
        }
        Some(())
    }

    /// Changes a chunk as it was kept: `layer` is charged for `len` bytes at least. `None` if there is none.
    pub(super) fn restore_reservation(&mut self, layer: u64, index: u32, len: u32) -> Option<()> {
        self.chunks.update(index, |chunk| chunk.reserve(layer, len))
    }

    /// Puts `count` whole chunks of zeros where nothing is, as was kept. `None` if they cannot be there.
    pub(super) fn restore_zeros(&mut self, layer: u64, index: u32, count: u32) -> Option<()> {
        let end = index.checked_add(count).filter(|&end| end <= MAX_CHUNKS)?;
        self.chunks.reserve(layer, index, end, usize::MAX);
        Some(())
    }

    /// What [`Self::charged`] has to be, counted anew.
    #[cfg(test)]
    pub(super) fn recount(&self, layer: u64) -> u64 {
        let own = self.chunks.iter().filter(|(_, chunk)| chunk.layer == layer);
        own.map(|(_, chunk)| chunk.charge()).sum()
    }

    /// What [`Self::stored`] has to be, counted anew.
    #[cfg(test)]
    pub(super) fn recount_stored(&self) -> u64 {
        let chunks: u64 = self.chunks.iter().map(|(_, chunk)| chunk.charge()).sum();
        let shown = self.extent_len().unwrap_or(0);
        let visible = stretches(0, shown).filter(|(index, _)| self.chunks.get(*index).is_none());
        chunks + visible.map(|(_, len)| charge::blocks(len as u64)).sum::<u64>()
    }

    /// Bytes stored for the file, in its chunks or in the blob.
    pub(super) fn stored(&self) -> u64 {
        let chunks = self.chunks.sums().charge;
        let Some(extent) = &self.extent else { return chunks };
        let (last, start) = chunk_at(extent.len);
        let mut hidden = self.chunks.sums_before(last).chunks * CHUNK;
        if self.chunks.get(last).is_some() {
            hidden += charge::blocks(extent.len - start);
        }
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
            let found = match (self.chunks.get(index), &self.extent) {
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
        let allowed = self.charged(layer).saturating_add(available);
        let mut written = 0;
        while written < data.len() {
            let at = offset + written as u64;
            let (index, start) = chunk_at(at);
            let begin = index_of(at - start);
            let wanted = begin + (data.len() - written).min(index_of(CHUNK) - begin);
            let end = self.affordable(layer, index, wanted, allowed.saturating_sub(self.charged(layer)));
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

    /// Bytes that are still to be charged before nothing in the chunks from `first` on up to byte `end` needs a further
    /// charge to be written.
    pub(super) fn unallocated(&self, layer: u64, first: u32, end: u64) -> u64 {
        let Some((last, stop)) = last_stretch(first, end) else {
            return 0;
        };
        let charged_before = |index| self.chunks.sums_before(index).charged_to(layer);
        let whole = u64::from(last - first) * CHUNK - (charged_before(last) - charged_before(first));
        let (held, charged) = self.held(layer, last);
        whole + charge::blocks(held.max(stop) as u64).saturating_sub(charged)
    }

    /// Charges chunks from `first` on up to byte `end` so that nothing there needs a further charge to be written, and
    /// returns the number of the first chunk that was not reached; the work is bounded. Takes memory only where the blob
    /// shows through.
    pub(super) fn allocate(&mut self, layer: u64, first: u32, end: u64) -> u32 {
        /// Most chunks that are copied from the blob.
        const COPIES: usize = 4;
        /// Most chunks, and stretches without any, that are charged.
        const VISITS: usize = 512;
        let Some((last, stop)) = last_stretch(first, end) else {
            return first;
        };
        let shown = self.extent_len().unwrap_or(0).div_ceil(CHUNK);
        let shown = u32::try_from(shown).unwrap_or(MAX_CHUNKS).min(last);
        let mut index = first;
        let mut copies = 0;
        for _ in 0..VISITS {
            if index >= shown || copies == COPIES {
                break;
            }
            copies += self.allocate_chunk(layer, index, CHUNK as usize);
            index += 1;
        }
        if index < shown {
            return index;
        }
        index = self.chunks.reserve(layer, index, last, VISITS);
        if index == last {
            self.allocate_chunk(layer, last, stop);
            index += 1;
        }
        index
    }

    /// Charges chunk `index` for `len` bytes at least, and returns how many chunks were copied for that.
    fn allocate_chunk(&mut self, layer: u64, index: u32, len: usize) -> usize {
        let shown = self.original(index);
        let copies = usize::from(!shown.is_empty() && self.chunks.get(index).is_none());
        if copies > 0 {
            let chunk = Chunk {
                layer,
                reserved: 0,
                data: ChunkData::Memory(Arc::new(shown.to_vec())),
            };
            self.chunks.insert(index, chunk);
        }
        self.chunks
            .reserve_chunk(layer, index, u32::try_from(len).unwrap_or(CHUNK as u32));
        copies
    }

    /// Grows the file to at least `size`, with a hole.
    pub(super) fn grow(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// Cuts the file or extends it with a hole, and returns the chunks that go. The caller has checked `size` against
    /// [`MAX_FILE_SIZE`].
    pub(super) fn set_size(&mut self, layer: u64, size: u64) -> Removed {
        let mut removed = Removed::default();
        if size < self.size {
            let (index, start) = chunk_at(size);
            let keep = index_of(size - start);
            removed = self.chunks.cut(index + u32::from(keep > 0));
            if keep > 0 {
                self.shorten(layer, index, keep);
            }
            match &mut self.extent {
                Some(_) if size == 0 => self.extent = None,
                Some(extent) => extent.len = extent.len.min(size),
                None => {}
            }
        }
        self.size = size;
        removed
    }

    /// How many bytes chunk `index` holds (or would, once copied from the blob) and how many are charged for it.
    fn held(&self, layer: u64, index: u32) -> (usize, u64) {
        match self.chunks.get(index) {
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
        let present = self.chunks.get(index);
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
            let own = present.filter(|chunk| chunk.layer == layer);
            let chunk = Chunk {
                layer,
                reserved: own.map_or(0, |chunk| chunk.reserved),
                data: ChunkData::Memory(Arc::new(bytes)),
            };
            self.chunks.insert(index, chunk);
        }
        self.chunks.update(index, |chunk| {
            chunk.take_over(layer);
            if let ChunkData::Memory(bytes) = &mut chunk.data {
                change(Arc::make_mut(bytes));
            }
        });
        Ok(())
    }

    /// Cuts chunk `index`, which becomes private to `layer`, to at most `keep` bytes. Needs nothing from the disk, so
    /// that it cannot fail.
    fn shorten(&mut self, layer: u64, index: u32, keep: usize) {
        let is_longer = |chunk: &Chunk| chunk.data.len().max(chunk.reserved as usize) > keep;
        if !self.chunks.get(index).is_some_and(is_longer) {
            return;
        }
        let len = u32::try_from(keep).unwrap_or(CHUNK as u32);
        self.chunks.update(index, |chunk| {
            chunk.take_over(layer);
            chunk.reserved = chunk.reserved.min(len);
            match &mut chunk.data {
                ChunkData::Memory(bytes) if bytes.len() > keep => shorten(Arc::make_mut(bytes), keep),
                ChunkData::Memory(_) => {}
                ChunkData::Stored { len: present, .. } => *present = len.min(*present),
            }
        });
    }
}

/// The number and the first byte of the chunk that holds byte `offset` (below or at [`MAX_FILE_SIZE`]).
fn chunk_at(offset: u64) -> (u32, u64) {
    let index = u32::try_from(offset / CHUNK).unwrap_or(u32::MAX);
    (index, u64::from(index) * CHUNK)
}

/// The last chunk that lies before byte `end`, if that is not before `first`, and where `end` is inside it.
fn last_stretch(first: u32, end: u64) -> Option<(u32, usize)> {
    let (last, start) = chunk_at(end.checked_sub(1)?);
    (last >= first).then(|| (last, index_of(end - start)))
}

/// The chunks that `offset..end` touches, each with the end of the touched part inside it.
#[cfg(test)]
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
