//! Writing: entries in GNU's form of tar, which every tar reads.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tar::{EntryType, Header};

use super::{ArchiveError, BLOCK, Entry, EntryKind, Reader};
use crate::provider::{ByteStream, ProviderError};

/// The end of an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// What fills up last blocks.
static ZEROS: [u8; BLOCK] = [0; BLOCK];
/// Longest name that a header holds itself.
const SHORT_NAME: usize = 100;

/// Appends an entry's header or headers. A file's contents and their [`padding`] must follow.
pub fn encode(entry: &Entry, out: &mut BytesMut) {
    let mut path = entry.path.clone();
    if path.is_empty() {
        path.push(b'.');
    }
    if entry.kind == EntryKind::Directory {
        path.push(b'/');
    }
    let (kind, size, link) = match &entry.kind {
        EntryKind::File { size } => (EntryType::Regular, *size, &[][..]),
        EntryKind::Directory => (EntryType::Directory, 0, &[][..]),
        EntryKind::Symlink { target } => (EntryType::Symlink, 0, target.as_slice()),
        EntryKind::HardLink { target } => (EntryType::Link, 0, target.as_slice()),
    };
    for (name, kind) in [(link, EntryType::GNULongLink), (&path, EntryType::GNULongName)] {
        if name.len() > SHORT_NAME {
            let size = name.len() as u64 + 1;
            out.put_slice(header(b"././@LongLink", kind, size, &[], 0o644, 0).as_bytes());
            out.put_slice(name);
            out.put_u8(0);
            out.put_slice(padding(size));
        }
    }
    out.put_slice(header(&path, kind, size, link, entry.mode, entry.mtime).as_bytes());
}

fn header(path: &[u8], kind: EntryType, size: u64, link: &[u8], mode: u32, mtime: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(mtime);
    header.set_uid(0);
    header.set_gid(0);
    let old = header.as_old_mut();
    let cut = |name: &mut [u8], value: &[u8]| {
        let count = value.len().min(name.len());
        name[..count].copy_from_slice(&value[..count]);
    };
    cut(&mut old.name, path);
    cut(&mut old.linkname, link);
    header.set_cksum();
    header
}

/// Changes the owner that the header at the end of `out` tells; [`encode`] writes root.
pub fn set_owner(out: &mut BytesMut, (uid, gid): (u64, u64)) {
    let Some(start) = out.len().checked_sub(BLOCK) else {
        return;
    };
    let mut header = Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&out[start..]);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_cksum();
    out[start..].copy_from_slice(header.as_bytes());
}

/// What fills the last block of so many bytes.
#[must_use]
pub fn padding(size: u64) -> &'static [u8] {
    &ZEROS[..(size.wrapping_neg() % BLOCK as u64) as usize]
}

/// An archive with each entry changed: into several, of which the last has the contents, or left out where `change`
/// gives none. All belong to `owner`, user and group. The result is as strict as what the reader hands out; a file's
/// size cannot be changed.
pub fn rewritten(
    reader: Reader,
    owner: (u64, u64),
    change: impl FnMut(Entry) -> Result<Vec<Entry>, ArchiveError> + Send + 'static,
) -> ByteStream {
    let state = Rewriting {
        reader,
        owner,
        change,
        left: None,
        done: false,
    };
    stream::try_unfold(state, |mut state| async move {
        let piece = state.next().await.map_err(ProviderError::from)?;
        Ok(piece.map(|piece| (piece, state)))
    })
    .boxed()
}

struct Rewriting<F> {
    reader: Reader,
    owner: (u64, u64),
    change: F,
    /// Size of the file whose contents are being passed on.
    left: Option<u64>,
    done: bool,
}

impl<F: FnMut(Entry) -> Result<Vec<Entry>, ArchiveError>> Rewriting<F> {
    async fn next(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        if let Some(size) = self.left {
            if let Some(piece) = self.reader.contents().await? {
                return Ok(Some(piece));
            }
            self.left = None;
            let padding = padding(size);
            if !padding.is_empty() {
                return Ok(Some(Bytes::from_static(padding)));
            }
        }
        if self.done {
            return Ok(None);
        }
        while let Some(entry) = self.reader.next().await? {
            let entries = (self.change)(entry)?;
            let Some(last) = entries.last() else { continue };
            if let EntryKind::File { size } = last.kind {
                self.left = Some(size);
            }
            let mut out = BytesMut::new();
            for entry in &entries {
                encode(entry, &mut out);
                set_owner(&mut out, self.owner);
            }
            return Ok(Some(out.freeze()));
        }
        self.done = true;
        Ok(Some(Bytes::from_static(&END)))
    }
}
