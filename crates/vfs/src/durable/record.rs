//! The items of a record: what differs between two versions of a tree.
//!
//! An item is a tag and its fields. Numbers are of variable length (seven bits a byte, the lowest first), byte strings
//! have their length in front. A [`NODE`] item holds all of an inode but entries and chunks, of which the items that
//! follow tell the changes.

use std::io;
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::journal::RecordWriter;
use super::{DurableError, RecoverError};
use crate::chunk_file::Recovery;
use crate::file_data::{CHUNK, Chunk, ChunkData, FileData, INLINE, MAX_FILE_SIZE, extend};
use crate::node::{Content, Directory, Entries, Entry, FileKind, Ino, Name, Node, Tree};
use crate::path::{MAX_NAME, MAX_PATH};

/// The next unused inode number.
const NEXT: u8 = 1;
/// An inode that is gone: its number.
const REMOVED: u8 = 2;
/// An inode that is new or has changed.
const NODE: u8 = 3;
/// An entry of the directory last told of: name, inode, type.
const ENTRY: u8 = 4;
/// An entry that directory has no longer: name.
const ENTRY_REMOVED: u8 = 5;
/// A chunk of the file last told of: number, slot, length, CRC-32.
const STORED: u8 = 6;
/// A small chunk: number, bytes.
const INLINED: u8 = 7;
/// A chunk that file has no longer: number.
const CHUNK_REMOVED: u8 = 8;
/// The chunk told of before is charged as if it were longer: number, length. Not known to versions before 0150: they
/// report the journal as damaged.
const RESERVED: u8 = 9;
/// Chunks of zeros without bytes, charged as whole ones, where the file has none: number of the first, how many. Not known
/// to versions before 0150 either.
const ZEROS: u8 = 10;

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn kind_number(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 0,
        FileKind::Directory => 1,
        FileKind::Symlink => 2,
        FileKind::CharDevice => 3,
        FileKind::Fifo => 4,
    }
}

fn kind_of(number: u64) -> Option<FileKind> {
    Some(match number {
        0 => FileKind::Regular,
        1 => FileKind::Directory,
        2 => FileKind::Symlink,
        3 => FileKind::CharDevice,
        4 => FileKind::Fifo,
        _ => return None,
    })
}

/// Whether a node needs a record: when only the time of the last access differs, it does not.
pub(super) fn differs(old: &Node, new: &Node) -> bool {
    // The layer: what became private is charged, changed or not.
    let attributes = |node: &Node| {
        (
            node.layer, node.mode, node.uid, node.gid, node.nlink, node.mtime, node.ctime,
        )
    };
    let same_content = match (&old.content, &new.content) {
        (Content::File(old), Content::File(new)) => old.is(new),
        (Content::Directory(old), Content::Directory(new)) => {
            old.entries.ptr_eq(&new.entries) && old.parent == new.parent && old.name == new.name
        }
        // What these hold never changes.
        _ => true,
    };
    attributes(old) != attributes(new) || !same_content
}

/// Writes what leads from `old` to `new`. Chunks of `new` are settled: small, or whole slots. `base` is the image,
/// whose blobs are not copied.
pub(super) fn encode(base: &Tree, old: &Tree, new: &Tree, out: &mut RecordWriter<'_>) -> Result<(), DurableError> {
    out.item(|out| {
        out.push(NEXT);
        put_number(out, new.next);
    })?;
    for change in old.nodes.diff(&new.nodes) {
        let (ino, old, new) = match change {
            DiffItem::Add(ino, new) => (*ino, None, new),
            DiffItem::Update { old, new } if differs(old.1, new.1) => (*new.0, Some(old.1), new.1),
            DiffItem::Update { .. } => continue,
            DiffItem::Remove(ino, _) => {
                out.item(|out| {
                    out.push(REMOVED);
                    put_number(out, *ino);
                })?;
                continue;
            }
        };
        encode_node(base, ino, new, out)?;
        match (&new.content, old.map(|node| &node.content)) {
            (Content::Directory(new), Some(Content::Directory(old))) => encode_entries(&old.entries, new, out)?,
            (Content::Directory(new), _) => encode_entries(&Entries::new(), new, out)?,
            (Content::File(new), Some(Content::File(old))) => encode_chunks(old, new, out)?,
            (Content::File(new), _) => encode_chunks(&FileData::default(), new, out)?,
            (Content::Symlink(_) | Content::Device(_) | Content::Fifo, _) => {}
        }
    }
    Ok(())
}

fn encode_node(base: &Tree, ino: u64, node: &Node, out: &mut RecordWriter<'_>) -> Result<(), DurableError> {
    if let Content::File(data) = &node.content
        && data.extent_len().is_some()
    {
        let original = base.node(Ino(ino)).map(|node| &node.content);
        if !matches!(original, Some(Content::File(original)) if data.extent_is_of(original)) {
            return Err(DurableError::ForeignBlob(ino));
        }
    }
    out.item(|out| {
        out.push(NODE);
        put_number(out, ino);
        for number in [node.mode, node.uid, node.gid, node.nlink] {
            put_number(out, number.into());
        }
        for time in [node.atime, node.mtime, node.ctime] {
            put_number(out, time);
        }
        out.push(kind_number(node.content.kind()));
        match &node.content {
            Content::File(data) => {
                put_number(out, data.size());
                put_number(out, data.extent_len().map_or(0, |len| len + 1));
            }
            Content::Directory(directory) => {
                put_number(out, directory.parent.0);
                put_bytes(out, &directory.name);
            }
            Content::Symlink(target) => put_bytes(out, target),
            Content::Device(rdev) => put_number(out, (*rdev).into()),
            Content::Fifo => {}
        }
    })?;
    Ok(())
}

fn encode_entries(old: &Entries, new: &Directory, out: &mut RecordWriter<'_>) -> Result<(), DurableError> {
    for change in old.diff(&new.entries) {
        out.item(|out| match change {
            DiffItem::Add(name, entry) | DiffItem::Update { new: (name, entry), .. } => {
                out.push(ENTRY);
                put_bytes(out, name);
                put_number(out, entry.ino.0);
                out.push(kind_number(entry.kind));
            }
            DiffItem::Remove(name, _) => {
                out.push(ENTRY_REMOVED);
                put_bytes(out, name);
            }
        })?;
    }
    Ok(())
}

fn encode_chunks(old: &FileData, new: &FileData, out: &mut RecordWriter<'_>) -> Result<(), DurableError> {
    let mut zeros = Zeros::default();
    old.chunks().diff(new.chunks(), &mut |index, old, new| {
        if let (None, Some(new)) = (old, new)
            && new.is_whole_of_zeros()
        {
            return zeros.add(index, out);
        }
        zeros.end(out)?;
        out.item(|out| encode_chunk(index, new, out))
    })?;
    Ok(zeros.end(out)?)
}

/// Neighbouring chunks of zeros that are still to be told of.
#[derive(Default)]
struct Zeros {
    first: u32,
    count: u32,
}

impl Zeros {
    fn add(&mut self, index: u32, out: &mut RecordWriter<'_>) -> io::Result<()> {
        if self.count > 0 && self.first + self.count != index {
            self.end(out)?;
        }
        if self.count == 0 {
            self.first = index;
        }
        self.count += 1;
        Ok(())
    }

    fn end(&mut self, out: &mut RecordWriter<'_>) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let count = std::mem::take(&mut self.count);
        out.item(|out| {
            out.push(ZEROS);
            put_number(out, self.first.into());
            put_number(out, count.into());
        })
    }
}

fn encode_chunk(index: u32, chunk: Option<&Chunk>, out: &mut Vec<u8>) {
    let Some(chunk) = chunk else {
        out.push(CHUNK_REMOVED);
        put_number(out, index.into());
        return;
    };
    match &chunk.data {
        ChunkData::Stored { slot, .. } => {
            out.push(STORED);
            for number in [index, slot.number(), slot.len(), slot.crc()] {
                put_number(out, number.into());
            }
        }
        ChunkData::Memory(bytes) => {
            out.push(INLINED);
            put_number(out, index.into());
            put_bytes(out, bytes);
        }
    }
    if chunk.reserved > 0 {
        out.push(RESERVED);
        put_number(out, index.into());
        put_number(out, chunk.reserved.into());
    }
}

/// The fields of items that have not been read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn short(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self, max: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        if len > max || len > self.0.len() {
            return None;
        }
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(bytes)
    }

    fn kind(&mut self) -> Option<FileKind> {
        kind_of(self.byte()?.into())
    }
}

/// Rebuilds a tree from records.
pub(super) struct Replay<'a> {
    slots: &'a Recovery,
    /// The layer of what differs from the image.
    layer: u64,
    /// The state at the end of the last complete record.
    tree: Tree,
    /// The state in the middle of a record.
    working: Tree,
    /// The inode the items are about.
    current: Option<(u64, Node)>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(base: &Tree, layer: u64, slots: &'a Recovery) -> Self {
        Self {
            slots,
            layer,
            tree: base.clone(),
            working: base.clone(),
            current: None,
        }
    }

    /// Applies items; the record is complete after them if they are its `last`.
    pub(super) fn apply(&mut self, items: &[u8], last: bool) -> Result<(), RecoverError> {
        let mut fields = Fields(items);
        while !fields.0.is_empty() {
            self.item(&mut fields)
                .ok_or(RecoverError::Damaged("a record of the journal makes no sense"))?;
        }
        if last {
            self.end_node();
            self.tree = self.working.clone();
        }
        Ok(())
    }

    /// The state at the end of the last complete record.
    pub(super) fn finish(self) -> Tree {
        self.tree
    }

    fn end_node(&mut self) {
        if let Some((ino, node)) = self.current.take() {
            self.working.nodes.insert(ino, Arc::new(node));
        }
    }

    fn item(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        match fields.byte()? {
            NEXT => self.working.next = fields.number()?,
            REMOVED => {
                self.end_node();
                self.working.nodes.remove(&fields.number()?)?;
            }
            NODE => {
                self.end_node();
                self.current = Some(self.node(fields)?);
            }
            ENTRY => {
                let name: Name = fields.bytes(MAX_NAME)?.into();
                let (ino, kind) = (Ino(fields.number()?), fields.kind()?);
                self.directory()?.restore_entry(name, Entry { ino, kind });
            }
            ENTRY_REMOVED => {
                let name = fields.bytes(MAX_NAME)?;
                self.directory()?.restore_removal(name)?;
            }
            STORED => {
                let index = fields.short()?;
                let slot = self.slots.slot(fields.short()?, fields.short()?, fields.short()?)?;
                self.put_chunk(index, ChunkData::whole(slot))?;
            }
            INLINED => {
                let index = fields.short()?;
                let mut bytes = Vec::new();
                let data = fields.bytes(INLINE)?;
                extend(&mut bytes, data.len());
                bytes.copy_from_slice(data);
                self.put_chunk(index, ChunkData::Memory(Arc::new(bytes)))?;
            }
            CHUNK_REMOVED => {
                let index = fields.short()?;
                self.file()?.restore_chunk(index, None)?;
            }
            RESERVED => {
                let (index, len) = (fields.short()?, fields.short()?);
                let layer = self.layer;
                if u64::from(len) > CHUNK {
                    return None;
                }
                self.file()?.restore_reservation(layer, index, len)?;
            }
            ZEROS => {
                let (index, count) = (fields.short()?, fields.short()?);
                let layer = self.layer;
                self.file()?.restore_zeros(layer, index, count)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn node(&self, fields: &mut Fields<'_>) -> Option<(u64, Node)> {
        let ino = fields.number()?;
        let mut numbers = [0; 4];
        for number in &mut numbers {
            *number = fields.short()?;
        }
        let mut times = [0; 3];
        for time in &mut times {
            *time = fields.number()?;
        }
        let kind = fields.kind()?;
        let present = self.working.node(Ino(ino));
        let content = match (kind, present.map(|node| &node.content)) {
            (FileKind::Regular, present) => {
                let mut data = match present {
                    Some(Content::File(data)) => data.clone(),
                    None => FileData::default(),
                    Some(_) => return None,
                };
                let size = fields.number().filter(|size| *size <= MAX_FILE_SIZE)?;
                data.restore(size, fields.number()?.checked_sub(1))?;
                Content::File(data)
            }
            (FileKind::Directory, present) => {
                let mut directory = match present {
                    Some(Content::Directory(directory)) => directory.clone(),
                    None => Directory::new(Ino(0), Name::from(&b""[..])),
                    Some(_) => return None,
                };
                directory.parent = Ino(fields.number()?);
                directory.name = fields.bytes(MAX_NAME)?.into();
                Content::Directory(directory)
            }
            (FileKind::Symlink, None | Some(Content::Symlink(_))) => Content::Symlink(fields.bytes(MAX_PATH)?.into()),
            (FileKind::CharDevice, None | Some(Content::Device(_))) => Content::Device(fields.short()?),
            (FileKind::Fifo, None | Some(Content::Fifo)) => Content::Fifo,
            _ => return None,
        };
        let [mode, uid, gid, nlink] = numbers;
        let [atime, mtime, ctime] = times;
        let node = Node {
            layer: self.layer,
            mode,
            uid,
            gid,
            nlink,
            atime,
            mtime,
            ctime,
            content,
        };
        Some((ino, node))
    }

    fn directory(&mut self) -> Option<&mut Directory> {
        match &mut self.current.as_mut()?.1.content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn file(&mut self) -> Option<&mut FileData> {
        match &mut self.current.as_mut()?.1.content {
            Content::File(data) => Some(data),
            _ => None,
        }
    }

    fn put_chunk(&mut self, index: u32, data: ChunkData) -> Option<()> {
        let layer = self.layer;
        let chunk = Chunk {
            layer,
            reserved: 0,
            data,
        };
        self.file()?.restore_chunk(index, Some(chunk))
    }
}
