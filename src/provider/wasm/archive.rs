//! Trees of a sandbox as tar archives, straight from its file system.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use super::files::{failure, must_be_regular};
use super::kept_files::Files;
use crate::provider::archive::{ArchiveError, END, Entry, EntryKind, MAX_PATH, Reader, encode, padding};
use crate::provider::{ByteStream, ProviderError};
use crate::vfs::{DirSnapshot, Error, FileKind, Fs, Handle, Ino, PathError, ROOT, Stat, TimeChange, discard};

/// Bytes of one piece of an archive, and a little more.
const PIECE: usize = 64 << 10;
/// Files that are looked at for one piece.
const VISITS_AT_ONCE: usize = 4096;
/// Most bytes of paths of files with several names that are remembered. Further names become files of their own.
const MAX_REMEMBERED: usize = 16 << 20;
/// Bytes of one file that may be in memory before they go to the disk.
const MAX_RESIDENT: u64 = 1 << 20;
/// Bytes of all files that may be in memory before they go to the disk.
const MAX_UNSYNCED: u64 = 16 << 20;
/// What each file costs in memory beside its contents, about.
const COST_OF_FILE: u64 = 512;
/// Permission bits that are packed.
const PACKED_BITS: u32 = 0o1777;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// A tar of the tree below a directory, or of one file. Devices and named pipes are left out, and what a mount shows.
pub fn read(files: &Files, path: &str) -> Result<ByteStream, ProviderError> {
    let packing = Packing::new(files.fs(), path)?;
    let files = files.clone();
    let pieces = stream::try_unfold(packing, move |mut packing| {
        let files = files.clone();
        async move {
            loop {
                let piece;
                (piece, packing) = files.work(move || Ok((packing.piece()?, packing))).await?;
                if !piece.is_empty() {
                    return Ok(Some((piece, packing)));
                }
                if packing.ended {
                    return Ok(None);
                }
            }
        }
    });
    Ok(pieces.boxed())
}

/// An archive on its way.
struct Packing {
    fs: Fs,
    /// Where it starts, for messages.
    start: String,
    /// What comes first.
    top: Option<Handle>,
    /// Path of the entry that was packed last, relative to the start.
    path: Vec<u8>,
    /// The directories on the way to it.
    frames: Vec<Frame>,
    /// The file whose contents are being packed.
    file: Option<Contents>,
    /// Paths of files that have more than one name.
    named: HashMap<Ino, Vec<u8>>,
    /// Bytes of those paths.
    remembered: usize,
    ended: bool,
}

/// When the client goes away, this is dropped where the connection is served.
impl Drop for Packing {
    fn drop(&mut self) {
        discard((std::mem::take(&mut self.named), std::mem::take(&mut self.frames)));
    }
}

/// A directory that is being packed.
struct Frame {
    directory: Ino,
    entries: DirSnapshot,
    /// The name that was looked at last.
    last: Vec<u8>,
    /// Length of the directory's own path.
    path_len: usize,
}

struct Contents {
    handle: Handle,
    offset: u64,
    /// As the header says. A file that shrinks meanwhile is filled up with zeros, one that grows is cut.
    size: u64,
}

impl Packing {
    fn new(fs: &Fs, path: &str) -> Result<Self, ProviderError> {
        let failed = |error| failure(path, error);
        let ino = fs.lookup(ROOT, path.as_bytes(), true).map_err(failed)?;
        let top = fs.open_ino(ino).map_err(|error| failed(error.into()))?;
        let stat = top.stat().map_err(|error| failed(error.into()))?;
        let name = if stat.kind == FileKind::Directory {
            Vec::new()
        } else {
            must_be_regular(path, &top)?;
            let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            name.as_bytes().to_vec()
        };
        Ok(Self {
            fs: fs.clone(),
            start: path.to_owned(),
            top: Some(top),
            path: name,
            frames: Vec::new(),
            file: None,
            named: HashMap::new(),
            remembered: 0,
            ended: false,
        })
    }

    /// The next piece of the archive. It may be empty: after the end, and when much was looked at that is left out.
    fn piece(&mut self) -> Result<Bytes, ProviderError> {
        let mut out = BytesMut::new();
        for _ in 0..VISITS_AT_ONCE {
            if out.len() >= PIECE || self.ended {
                break;
            }
            let packed = if let Some(file) = self.file.take() {
                self.pack_contents(file, &mut out)
            } else if let Some(top) = self.top.take() {
                self.pack(top, &mut out)
            } else {
                self.pack_next(&mut out)
            };
            packed.map_err(|error| {
                let path = String::from_utf8_lossy(&self.path);
                failure(&format!("{}/{path}", self.start.trim_end_matches('/')), error.into())
            })?;
        }
        Ok(out.freeze())
    }

    fn pack_contents(&mut self, mut file: Contents, out: &mut BytesMut) -> Result<(), Error> {
        let wanted = usize::try_from(file.size - file.offset).unwrap_or(PIECE).min(PIECE);
        let start = out.len();
        // What cannot be read stays zero.
        out.resize(start + wanted, 0);
        let mut filled = 0;
        while filled < wanted {
            let count = file
                .handle
                .read_at(file.offset + filled as u64, &mut out[start + filled..])?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        file.offset += wanted as u64;
        if file.offset < file.size {
            self.file = Some(file);
        } else {
            out.extend_from_slice(padding(file.size));
        }
        Ok(())
    }

    fn pack_next(&mut self, out: &mut BytesMut) -> Result<(), Error> {
        let Some(frame) = self.frames.last_mut() else {
            out.extend_from_slice(&END);
            self.ended = true;
            return Ok(());
        };
        self.path.truncate(frame.path_len);
        let Some(entry) = frame.entries.after(&frame.last).next() else {
            self.frames.pop();
            return Ok(());
        };
        let ino = entry.ino;
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(entry.name);
        frame.last = entry.name.to_vec();
        if self.path.len() > MAX_PATH {
            return Err(Error::NameTooLong);
        }
        match self.fs.open_ino(ino) {
            Ok(handle) => self.pack(handle, out),
            // It was removed meanwhile.
            Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Packs what has the current path.
    fn pack(&mut self, handle: Handle, out: &mut BytesMut) -> Result<(), Error> {
        let stat = handle.stat()?;
        let kind = match stat.kind {
            FileKind::Directory => {
                self.frames.push(Frame {
                    directory: stat.ino,
                    entries: handle.read_dir()?,
                    last: Vec::new(),
                    path_len: self.path.len(),
                });
                EntryKind::Directory
            }
            FileKind::Regular => match self.first_name(&stat) {
                Some(target) => EntryKind::HardLink { target },
                None => EntryKind::File { size: stat.size },
            },
            FileKind::Symlink => {
                let in_frame = |frame: &Frame| self.fs.read_link(frame.directory, &frame.last).ok();
                match self.frames.last().and_then(in_frame) {
                    Some(target) => EntryKind::Symlink { target },
                    // It was replaced meanwhile.
                    None => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        let is_file = matches!(kind, EntryKind::File { .. });
        let entry = Entry {
            path: self.path.clone(),
            kind,
            mode: stat.mode & PACKED_BITS,
            mtime: stat.mtime / NS_PER_SECOND,
        };
        encode(&entry, out);
        if is_file && stat.size > 0 {
            self.file = Some(Contents {
                handle,
                offset: 0,
                size: stat.size,
            });
        }
        Ok(())
    }

    /// The path under which a file was packed already.
    fn first_name(&mut self, stat: &Stat) -> Option<Vec<u8>> {
        if stat.nlink < 2 {
            return None;
        }
        if let Some(path) = self.named.get(&stat.ino) {
            return Some(path.clone());
        }
        if self.remembered + self.path.len() <= MAX_REMEMBERED {
            self.remembered += self.path.len();
            self.named.insert(stat.ino, self.path.clone());
        }
        None
    }
}

/// Unpacks a tar into a directory, which is made if there is none. What comes before an error stays; a file is there
/// with all its contents or not at all.
pub async fn write(files: &Files, path: &str, tar: ByteStream) -> Result<(), ProviderError> {
    let base = path.trim_end_matches('/');
    let root = if base.is_empty() {
        ROOT
    } else {
        let made = files.fs().create_dir_all(ROOT, base.as_bytes(), 0o755);
        made.map_err(|error| failure(path, error))?
    };
    let unpacking = Unpacking {
        files,
        base,
        root,
        times: HashMap::new(),
        unsynced: 0,
    };
    unpacking.run(Reader::new(tar)).await
}

/// An archive that is being unpacked.
struct Unpacking<'a> {
    files: &'a Files,
    /// Path of the directory it goes into, for messages.
    base: &'a str,
    root: Ino,
    /// When the directories were changed last, in seconds; to be set at the end, for what is put into them changes it.
    times: HashMap<Ino, u64>,
    /// About how many bytes of memory wait for being kept.
    unsynced: u64,
}

impl Unpacking<'_> {
    async fn run(mut self, mut reader: Reader) -> Result<(), ProviderError> {
        while let Some(entry) = reader.next().await.map_err(ProviderError::from)? {
            self.unpack(&entry, &mut reader).await?;
            self.unsynced += COST_OF_FILE + entry.path.len() as u64;
            if self.unsynced > MAX_UNSYNCED {
                self.files.sync().await?;
                self.unsynced = 0;
            }
        }
        for (directory, mtime) in self.times {
            // It may have been removed meanwhile.
            let _ = set_mtime(self.files.fs(), directory, mtime);
        }
        Ok(())
    }

    async fn unpack(&mut self, entry: &Entry, reader: &mut Reader) -> Result<(), ProviderError> {
        let (files, base) = (self.files, self.base);
        let fs = files.fs();
        let failed = |error: PathError| {
            let path = String::from_utf8_lossy(&entry.path);
            failure(&format!("{base}/{path}"), error)
        };
        let of_inode = |error: Error| failed(error.into());
        if entry.path.is_empty() {
            fs.chmod(self.root, entry.mode).map_err(of_inode)?;
            self.times.insert(self.root, entry.mtime);
            return Ok(());
        }
        let (parent, name) = self
            .parent(entry, &entry.path, true)
            .map_err(|error| error.at(&failed))?;
        let existing = look(fs, parent, name).map_err(failed)?;
        if existing.is_some_and(|stat| stat.kind == FileKind::Directory) && entry.kind != EntryKind::Directory {
            return Err(of_inode(Error::IsDir));
        }
        match &entry.kind {
            EntryKind::Directory => {
                let ino = match existing {
                    Some(stat) if stat.kind == FileKind::Directory => stat.ino,
                    Some(_) => return Err(of_inode(Error::NotDir)),
                    None => fs.mkdir(parent, name, entry.mode).map_err(failed)?,
                };
                fs.chmod(ino, entry.mode).map_err(of_inode)?;
                self.times.insert(ino, entry.mtime);
            }
            EntryKind::File { .. } => {
                let handle = Arc::new(fs.open_unnamed(entry.mode).map_err(of_inode)?);
                let (mut written, mut spilled) = (0, 0);
                while let Some(bytes) = reader.contents().await.map_err(ProviderError::from)? {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let count = handle.write_at(written, rest).map_err(of_inode)?;
                        written += count as u64;
                        rest = &rest[count..];
                    }
                    if written - spilled >= MAX_RESIDENT {
                        files.spill(&handle, spilled).await?;
                        spilled = written;
                    }
                }
                set_mtime(fs, handle.ino(), entry.mtime).map_err(of_inode)?;
                fs.give_name(&handle, parent, name).map_err(failed)?;
                self.unsynced += written - spilled;
            }
            EntryKind::Symlink { target } => {
                if existing.is_some() {
                    fs.unlink(parent, name).map_err(failed)?;
                }
                let ino = fs.symlink(target, parent, name).map_err(failed)?;
                set_mtime(fs, ino, entry.mtime).map_err(of_inode)?;
            }
            EntryKind::HardLink { target } => {
                let (there, first) = self.parent(entry, target, false).map_err(|error| error.at(&failed))?;
                let linked = match look(fs, there, first).map_err(failed)? {
                    Some(stat) if stat.kind != FileKind::Directory => stat,
                    _ => {
                        let reason = "is another name of a file that is not there";
                        return Err(ArchiveError::refused(&entry.path, reason).into());
                    }
                };
                if existing.is_some_and(|stat| stat.ino == linked.ino) {
                    return Ok(());
                }
                if existing.is_some() {
                    fs.unlink(parent, name).map_err(failed)?;
                }
                fs.link(there, first, false, parent, name).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The directory that `path` of an entry lies in, and its name there. No symbolic link is followed: what is in the
    /// sandbox already must not lead out of the directory either. Directories that are missing are made if `make`.
    fn parent<'p>(&self, entry: &Entry, path: &'p [u8], make: bool) -> Result<(Ino, &'p [u8]), Misplaced> {
        let fs = self.files.fs();
        let mut components = path.split(|byte| *byte == b'/');
        let name = components.next_back().unwrap_or_default();
        let mut here = self.root;
        for component in components {
            here = match look(fs, here, component)? {
                Some(stat) if stat.kind == FileKind::Directory => stat.ino,
                Some(stat) if stat.kind == FileKind::Symlink => {
                    let refused = ArchiveError::refused(&entry.path, "leads through a symbolic link");
                    return Err(Misplaced::Refused(refused));
                }
                Some(_) => return Err(PathError::from(Error::NotDir).into()),
                None if make => fs.mkdir(here, component, 0o755)?,
                None => {
                    let reason = "is another name of a file that is not there";
                    return Err(Misplaced::Refused(ArchiveError::refused(&entry.path, reason)));
                }
            };
        }
        Ok((here, name))
    }
}

/// Why an entry has no place.
enum Misplaced {
    Refused(ArchiveError),
    Failed(PathError),
}

impl From<PathError> for Misplaced {
    fn from(error: PathError) -> Self {
        Self::Failed(error)
    }
}

impl Misplaced {
    fn at(self, failed: &impl Fn(PathError) -> ProviderError) -> ProviderError {
        match self {
            Self::Refused(error) => error.into(),
            Self::Failed(error) => failed(error),
        }
    }
}

/// What has a name in a directory; a symbolic link is not followed.
fn look(fs: &Fs, directory: Ino, name: &[u8]) -> Result<Option<Stat>, PathError> {
    match fs.stat_at(directory, name, false) {
        Ok(stat) => Ok(Some(stat)),
        Err(PathError::Fs(Error::NotFound)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn set_mtime(fs: &Fs, ino: Ino, seconds: u64) -> Result<(), Error> {
    let mtime = TimeChange::At(seconds.saturating_mul(NS_PER_SECOND));
    fs.set_times(ino, TimeChange::Keep, mtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{Limits, NodeKind, OpenOptions};

    fn files() -> Files {
        let limits = Limits {
            max_bytes: 1 << 20,
            max_inodes: 200,
        };
        Files::in_memory(Fs::new(limits))
    }

    fn put(fs: &Fs, path: &str, contents: &[u8]) {
        let options = OpenOptions {
            create: true,
            mode: 0o640,
            ..OpenOptions::default()
        };
        let handle = fs.open(ROOT, path.as_bytes(), &options).unwrap();
        assert_eq!(handle.write_at(0, contents), Ok(contents.len()));
    }

    fn contents(fs: &Fs, path: &str) -> Vec<u8> {
        let handle = fs.open(ROOT, path.as_bytes(), &OpenOptions::default()).unwrap();
        let mut bytes = vec![0; usize::try_from(handle.size().unwrap()).unwrap()];
        let count = handle.read_at(0, &mut bytes).unwrap();
        assert_eq!(count, bytes.len());
        bytes
    }

    async fn packed(fs: &Fs, path: &str) -> Vec<u8> {
        let pieces: Vec<_> = read(&Files::in_memory(fs.clone()), path)
            .unwrap()
            .map(|piece| piece.unwrap().to_vec())
            .collect()
            .await;
        pieces.concat()
    }

    fn body(bytes: Vec<u8>) -> ByteStream {
        let pieces: Vec<_> = bytes
            .chunks(1000)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        stream::iter(pieces).boxed()
    }

    fn tar(entries: &[(&str, EntryKind, &[u8])]) -> ByteStream {
        let mut out = BytesMut::new();
        for (path, kind, contents) in entries {
            let entry = Entry {
                path: path.as_bytes().to_vec(),
                kind: kind.clone(),
                mode: 0o644,
                mtime: 1,
            };
            encode(&entry, &mut out);
            out.extend_from_slice(contents);
            out.extend_from_slice(padding(contents.len() as u64));
        }
        out.extend_from_slice(&END);
        body(out.to_vec())
    }

    fn file(size: usize) -> EntryKind {
        EntryKind::File { size: size as u64 }
    }

    #[tokio::test]
    async fn a_tree_goes_through_an_archive_and_back() {
        let from = files();
        let fs = from.fs();
        fs.create_dir_all(ROOT, b"/t/sub/empty", 0o755).unwrap();
        let large = vec![b'x'; 200_001];
        put(fs, "/t/large", &large);
        put(fs, "/t/sub/small", b"small");
        put(fs, "/t/none", b"");
        fs.link(ROOT, b"/t/large", false, ROOT, b"/t/sub/other").unwrap();
        fs.symlink(b"../large", ROOT, b"/t/sub/link").unwrap();
        fs.mknod(ROOT, b"/t/pipe", NodeKind::Fifo, 0o644).unwrap();
        let small = fs.lookup(ROOT, b"/t/sub/small", false).unwrap();
        fs.chmod(small, 0o4751).unwrap();
        set_mtime(fs, small, 1234).unwrap();
        let sub = fs.lookup(ROOT, b"/t/sub", false).unwrap();
        set_mtime(fs, sub, 99).unwrap();
        let archive = packed(fs, "/t").await;

        let to = files();
        write(&to, "/new/place", body(archive.clone())).await.unwrap();
        let fs = to.fs();
        assert_eq!(contents(fs, "/new/place/large"), large);
        assert_eq!(contents(fs, "/new/place/none"), b"");
        let stat = |path: &[u8]| fs.stat_at(ROOT, path, false).unwrap();
        let small = stat(b"/new/place/sub/small");
        // The set-user-ID bit is dropped.
        assert_eq!((small.mode, small.mtime), (0o751, 1234 * NS_PER_SECOND));
        assert_eq!(stat(b"/new/place/sub").mtime, 99 * NS_PER_SECOND);
        assert_eq!(stat(b"/new/place/sub/empty").kind, FileKind::Directory);
        assert_eq!(stat(b"/new/place/large").ino, stat(b"/new/place/sub/other").ino);
        assert_eq!(fs.read_link(ROOT, b"/new/place/sub/link").unwrap(), b"../large");
        assert!(fs.stat_at(ROOT, b"/new/place/pipe", false).is_err());
        assert_eq!(packed(fs, "/new/place").await, archive);
        // Again over itself: what is there is replaced.
        write(&to, "/new/place", body(archive.clone())).await.unwrap();
        assert_eq!(packed(fs, "/new/place").await, archive);
        let one = packed(fs, "/new/place/sub/small").await;
        write(&to, "/", body(one)).await.unwrap();
        assert_eq!(contents(fs, "/small"), b"small");
    }

    #[tokio::test]
    async fn nothing_is_unpacked_through_a_link_that_is_there() {
        let files = files();
        let fs = files.fs();
        fs.create_dir_all(ROOT, b"/out", 0o755).unwrap();
        fs.create_dir_all(ROOT, b"/t", 0o755).unwrap();
        put(fs, "/out/file", b"old");
        fs.symlink(b"/out", ROOT, b"/t/way").unwrap();
        fs.symlink(b"/out/file", ROOT, b"/t/link").unwrap();
        let hard = EntryKind::HardLink {
            target: b"way/file".to_vec(),
        };
        for (path, kind, bytes) in [
            ("way/file", file(3), &b"new"[..]),
            ("way/x/y", file(0), b""),
            ("hard", hard, b""),
        ] {
            let result = write(&files, "/t", tar(&[(path, kind, bytes)])).await;
            assert!(matches!(result, Err(ProviderError::Invalid(_))), "{path}: {result:?}");
        }
        // A link itself is replaced, not written through.
        write(&files, "/t", tar(&[("link", file(3), b"new")])).await.unwrap();
        assert_eq!(contents(fs, "/t/link"), b"new");
        assert_eq!(contents(fs, "/out/file"), b"old");
        assert_eq!(
            fs.open(ROOT, b"/out", &OpenOptions::default())
                .unwrap()
                .read_dir()
                .unwrap()
                .len(),
            1
        );
    }

    #[tokio::test]
    async fn a_path_of_another_kind_is_a_bad_path() {
        let files = files();
        files.fs().create_dir_all(ROOT, b"/t/dir", 0o755).unwrap();
        put(files.fs(), "/t/file", b"old");
        for (path, kind) in [
            ("dir", file(0)),
            ("file", EntryKind::Directory),
            ("file/below", file(0)),
        ] {
            let result = write(&files, "/t", tar(&[(path, kind, b"")])).await;
            assert!(
                matches!(result, Err(ProviderError::BadPath { .. })),
                "{path}: {result:?}"
            );
        }
        let onto_a_file = write(&files, "/t/file", tar(&[])).await;
        assert!(
            matches!(onto_a_file, Err(ProviderError::BadPath { .. })),
            "{onto_a_file:?}"
        );
    }

    #[tokio::test]
    async fn an_archive_is_charged_to_the_quota() {
        let large = vec![b'x'; 2 << 20];
        let names: Vec<String> = (0..300).map(|number| format!("f{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), file(0), &b""[..])).collect();
        for entries in [&[("large", file(large.len()), &large[..])][..], &many] {
            let files = files();
            let result = write(&files, "/t", tar(entries)).await;
            assert!(matches!(result, Err(ProviderError::LimitReached(_))), "{result:?}");
            assert!(files.fs().stat_at(ROOT, b"/t/large", false).is_err());
        }
    }

    #[tokio::test]
    async fn a_file_that_breaks_off_is_not_there() {
        let files = files();
        put(files.fs(), "/file", b"old");
        let mut out = BytesMut::new();
        let entry = Entry {
            path: b"file".to_vec(),
            kind: file(1000),
            mode: 0o644,
            mtime: 0,
        };
        encode(&entry, &mut out);
        out.extend_from_slice(&[b'x'; 500]);
        let result = write(&files, "/", body(out.to_vec())).await;
        assert!(matches!(result, Err(ProviderError::Invalid(_))), "{result:?}");
        assert_eq!(contents(files.fs(), "/file"), b"old");
    }
}
