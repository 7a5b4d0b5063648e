//! Reading: a parser of tar that trusts nothing it reads.

use std::collections::HashSet;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use tar::Header;

use super::{ArchiveError, BLOCK, Entry, EntryKind, MAX_PATH};
use crate::provider::ByteStream;

/// Most bytes of one extended header. They hold a path, a link and some attributes that are not used.
const MAX_EXTENDED: u64 = 1 << 20;
/// Most bytes of paths of symbolic links that are remembered for one archive.
const MAX_REMEMBERED: usize = 16 << 20;
/// Permission bits that are kept.
const KEPT_BITS: u32 = 0o1777;

/// Reads an archive entry by entry.
pub struct Reader {
    source: ByteStream,
    /// What came and was not used yet.
    buffer: Bytes,
    /// Bytes left of the current entry's contents.
    contents: u64,
    /// Bytes after them that fill the last block.
    padding: u64,
    ended: bool,
    /// Whether devices and named pipes are left out instead of refused.
    without_devices: bool,
    /// Paths of the symbolic links so far: nothing may be named through them.
    symlinks: HashSet<Vec<u8>>,
    /// Bytes of those paths.
    remembered: usize,
}

/// What extended headers say of the entry that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<u64>,
}

impl Reader {
    /// A reader of these bytes.
    #[must_use]
    pub fn new(source: ByteStream) -> Self {
        Self {
            source,
            buffer: Bytes::new(),
            contents: 0,
            padding: 0,
            ended: false,
            without_devices: false,
            symlinks: HashSet::new(),
            remembered: 0,
        }
    }

    /// Leaves devices and named pipes out instead of refusing them.
    #[must_use]
    pub fn without_devices(mut self) -> Self {
        self.without_devices = true;
        self
    }

    /// The next entry; `None` at the end of the archive. What was not read of the last one's contents is skipped.
    ///
    /// # Errors
    /// When the archive is malformed, holds what is refused, or cannot be read on. Nothing can be read after that.
    pub async fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.skip_contents().await?;
        let mut extended = Extended::default();
        while !self.ended {
            let block = self.block().await?;
            if block.iter().all(|byte| *byte == 0) {
                self.drain().await?;
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            check_sum(header)?;
            let size = header
                .entry_size()
                .map_err(|_| ArchiveError::malformed("a header's size is no number"))?;
            match header.entry_type().as_byte() {
                b'x' => extended.read_pax(&self.small(size, MAX_EXTENDED).await?)?,
                b'g' => refuse_global(&self.small(size, MAX_EXTENDED).await?)?,
                b'L' => extended.path = Some(self.long_name(size).await?),
                b'K' => extended.link = Some(self.long_name(size).await?),
                // A volume label.
                b'V' => self.begin_contents(size),
                b'3' | b'4' | b'6' if self.without_devices => {
                    self.begin_contents(size);
                    extended = Extended::default();
                }
                _ => {
                    let entry = entry(header, size, extended)?;
                    let follows = match entry.kind {
                        EntryKind::File { size } => size,
                        // As GNU tar reads it: some writers give a hard link the size of its file.
                        EntryKind::HardLink { .. } => 0,
                        EntryKind::Directory | EntryKind::Symlink { .. } => size,
                    };
                    self.begin_contents(follows);
                    self.check_links(&entry)?;
                    return Ok(Some(entry));
                }
            }
            self.skip_contents().await?;
        }
        Ok(None)
    }

    /// The next piece of the current entry's contents; `None` at their end.
    ///
    /// # Errors
    /// When the archive ends too early or cannot be read on.
    pub async fn contents(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        if self.contents == 0 {
            return Ok(None);
        }
        self.fill().await?;
        let count = usize::try_from(self.contents).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
        self.contents -= count as u64;
        Ok(Some(self.buffer.split_to(count)))
    }

    fn begin_contents(&mut self, size: u64) {
        self.contents = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    async fn skip_contents(&mut self) -> Result<(), ArchiveError> {
        while self.contents().await?.is_some() {}
        while self.padding > 0 {
            self.fill().await?;
            let count = self.buffer.len().min(self.padding as usize);
            self.buffer.advance(count);
            self.padding -= count as u64;
        }
        Ok(())
    }

    /// Waits until there is at least one byte.
    async fn fill(&mut self) -> Result<(), ArchiveError> {
        while self.buffer.is_empty() {
            match self.source.next().await {
                Some(bytes) => self.buffer = bytes?,
                None => return Err(ArchiveError::malformed("it ends too early")),
            }
        }
        Ok(())
    }

    async fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            self.fill().await?;
            let count = self.buffer.len().min(BLOCK - filled);
            self.buffer.copy_to_slice(&mut block[filled..filled + count]);
            filled += count;
        }
        Ok(block)
    }

    /// All contents of a header that describes another.
    async fn small(&mut self, size: u64, max: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > max {
            return Err(ArchiveError::malformed(format!(
                "an extended header has {size} bytes; at most {max} are read"
            )));
        }
        self.begin_contents(size);
        let mut bytes = Vec::new();
        while let Some(piece) = self.contents().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// GNU's form of a long name: contents that end in NUL.
    async fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut name = self.small(size, MAX_PATH as u64 + 1).await?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// Reads on to the end of the bytes: they may still turn out to be broken, and their sender waits until they are
    /// taken.
    async fn drain(&mut self) -> Result<(), ArchiveError> {
        self.ended = true;
        self.buffer = Bytes::new();
        while let Some(bytes) = self.source.next().await {
            bytes?;
        }
        Ok(())
    }

    /// Refuses an entry that lies behind a symbolic link, and remembers it if it is one.
    fn check_links(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let behind = |path: &[u8]| {
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            ends.map(|(end, _)| end).any(|end| self.symlinks.contains(&path[..end]))
        };
        let through = match &entry.kind {
            EntryKind::HardLink { target } => behind(&entry.path) || behind(target),
            _ => behind(&entry.path),
        };
        if through {
            return Err(ArchiveError::refused(
                &entry.path,
                "leads through a symbolic link that the archive brought itself",
            ));
        }
        if matches!(entry.kind, EntryKind::Symlink { .. }) {
            self.remembered += entry.path.len();
            if self.remembered > MAX_REMEMBERED {
                return Err(ArchiveError::malformed("it holds too many symbolic links"));
            }
            self.symlinks.insert(entry.path.clone());
        } else {
            // It takes the link's place.
            self.symlinks.remove(&entry.path);
        }
        Ok(())
    }
}

/// A header's checksum is the sum of its bytes, the checksum's own as spaces. Some old writers summed them as signed.
fn check_sum(header: &Header) -> Result<(), ArchiveError> {
    let bytes = header.as_bytes();
    let counted = |index: usize, byte: u8| if (148..156).contains(&index) { b' ' } else { byte };
    let counted = || bytes.iter().enumerate().map(|(index, byte)| counted(index, *byte));
    let unsigned: u32 = counted().map(u32::from).sum();
    let signed: i32 = counted().map(|byte| i32::from(byte.cast_signed())).sum();
    match header.cksum() {
        Ok(sum) if sum == unsigned || i32::try_from(sum) == Ok(signed) => Ok(()),
        _ => Err(ArchiveError::malformed("a header's checksum is wrong")),
    }
}

fn entry(header: &Header, size: u64, extended: Extended) -> Result<Entry, ArchiveError> {
    let raw = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let path = clean(&raw)?;
    let link = || {
        let in_header = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
        extended.link.clone().or_else(in_header).unwrap_or_default()
    };
    let kind = match header.entry_type().as_byte() {
        // Before there was a type for them, directories were files with a slash at the end.
        b'0' | 0 | b'7' if raw.ends_with(b"/") => EntryKind::Directory,
        b'0' | 0 | b'7' => EntryKind::File {
            size: extended.size.unwrap_or(size),
        },
        b'1' => EntryKind::HardLink {
            target: clean(&link())?,
        },
        b'2' => {
            let target = link();
            if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
                return Err(ArchiveError::refused(&raw, "is a symbolic link with a bad target"));
            }
            EntryKind::Symlink { target }
        }
        b'3' | b'4' | b'6' => return Err(ArchiveError::refused(&raw, "is a device or a named pipe")),
        b'5' => EntryKind::Directory,
        b'S' => {
            return Err(ArchiveError::refused(
                &raw,
                "is stored as a sparse file; pack without --sparse",
            ));
        }
        other => {
            let shown = char::from(other).escape_default();
            return Err(ArchiveError::refused(
                &raw,
                format!("has the type '{shown}', which is not unpacked"),
            ));
        }
    };
    if path.is_empty() && kind != EntryKind::Directory {
        return Err(ArchiveError::refused(&raw, "has no name"));
    }
    let mtime = extended.mtime.or(header.mtime().ok()).unwrap_or(0);
    Ok(Entry {
        path,
        kind,
        mode: header.mode().unwrap_or(0o644) & KEPT_BITS,
        // A time before 1970 is negative, which looks like one far in the future.
        mtime: if i64::try_from(mtime).is_ok() { mtime } else { 0 },
    })
}

/// Brings a path of an archive into the form of [`Entry::path`].
fn clean(raw: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    if raw.contains(&0) {
        return Err(ArchiveError::refused(raw, "has a NUL byte in its name"));
    }
    let mut path = Vec::with_capacity(raw.len());
    for component in raw.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(ArchiveError::refused(raw, "has a \"..\" in its path")),
            name => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
            }
        }
    }
    if path.len() > MAX_PATH {
        return Err(ArchiveError::refused(raw, "has a path that is too long"));
    }
    Ok(path)
}

/// The records of a pax header: `LENGTH KEY=VALUE\n`, where the length counts the whole record.
fn pax_records(bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), ArchiveError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // Some writers fill up with NULs.
        if rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        let record = pax_record(rest);
        rest = match &record {
            Some((_, _, length)) => &rest[*length..],
            None => &[],
        };
        let broken = || ArchiveError::malformed("an extended header is broken");
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(broken))
    })
}

/// The first record: its key, its value, its length.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    /// Digits of a length that still fits into [`MAX_EXTENDED`].
    const DIGITS: usize = 8;
    let space = bytes.iter().take(DIGITS + 1).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], length))
}

impl Extended {
    fn read_pax(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        for record in pax_records(bytes) {
            let (key, value) = record?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    let bad = || ArchiveError::malformed("an extended header's size is no number");
                    self.size = Some(size.ok_or_else(bad)?);
                }
                // Whole seconds are kept. A time before 1970 becomes 1970.
                b"mtime" => {
                    let seconds = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                    let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse().ok());
                    self.mtime = Some(seconds.unwrap_or(0));
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    let path = self.path.as_deref().unwrap_or(b"?");
                    return Err(ArchiveError::refused(
                        path,
                        "is stored as a sparse file; pack without --sparse",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A global extended header holds for all that follows. Comments and the like are passed over; what would change
/// names or sizes is not supported.
fn refuse_global(bytes: &[u8]) -> Result<(), ArchiveError> {
    for record in pax_records(bytes) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") {
            return Err(ArchiveError::malformed("a global header sets a path or a size"));
        }
    }
    Ok(())
}
