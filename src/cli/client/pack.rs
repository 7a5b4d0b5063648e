//! A directory of this machine as a tar.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::provider::archive::{END, Entry, EntryKind, encode, padding};

/// Bytes of one piece, and a little more.
const PIECE: usize = 64 << 10;
/// Pieces that wait for the server.
const QUEUE: usize = 4;
/// Permission bits that are packed.
const PACKED_BITS: u32 = 0o1777;

/// What is in a directory, in pieces; the directory itself is not an entry. Links are packed as links. What is no file,
/// directory or link is left out, and said so.
pub(super) fn pack(directory: PathBuf) -> ReceiverStream<io::Result<Bytes>> {
    let (sender, pieces) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut packing = Packing {
            sender: sender.clone(),
            out: BytesMut::new(),
        };
        match packing.tree(directory) {
            Ok(()) | Err(Stopped::NobodyListens) => {}
            // Nobody may be listening any more.
            Err(Stopped::Failed(error)) => drop(sender.blocking_send(Err(error))),
        }
    });
    ReceiverStream::new(pieces)
}

/// Why packing ends early.
enum Stopped {
    /// The request is over.
    NobodyListens,
    Failed(io::Error),
}

struct Packing {
    sender: mpsc::Sender<io::Result<Bytes>>,
    /// What is not sent yet.
    out: BytesMut,
}

impl Packing {
    fn tree(&mut self, top: PathBuf) -> Result<(), Stopped> {
        // Each with its path in the archive.
        let mut directories = vec![(top, Vec::new())];
        while let Some((directory, inside)) = directories.pop() {
            for name in names(&directory).map_err(|error| failed(&directory, &error))? {
                let path = directory.join(std::ffi::OsStr::from_bytes(&name));
                let inside = [inside.as_slice(), &name].join(if inside.is_empty() { &b""[..] } else { b"/" });
                if self.file(&path, inside.clone())? {
                    directories.push((path, inside));
                }
            }
        }
        self.out.extend_from_slice(&END);
        self.flush()
    }

    /// Packs one file of whatever kind. Whether it is a directory.
    fn file(&mut self, path: &Path, inside: Vec<u8>) -> Result<bool, Stopped> {
        let unreadable = |error: io::Error| failed(path, &error);
        let metadata = path.symlink_metadata().map_err(unreadable)?;
        if metadata.is_file() {
            // Its size as it is when it is open.
            let file = File::open(path).map_err(unreadable)?;
            let metadata = file.metadata().map_err(unreadable)?;
            let size = metadata.len();
            encode(&entry(inside, EntryKind::File { size }, &metadata), &mut self.out);
            self.contents(path, file, size)?;
        } else if metadata.is_dir() {
            encode(&entry(inside, EntryKind::Directory, &metadata), &mut self.out);
        } else if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(unreadable)?.into_os_string().into_vec();
            encode(&entry(inside, EntryKind::Symlink { target }, &metadata), &mut self.out);
        } else {
            // That this cannot be said is no reason to stop.
            let _ = writeln!(io::stderr(), "wisp: left out {}: not a file", path.display());
        }
        if self.out.len() >= PIECE {
            self.flush()?;
        }
        Ok(metadata.is_dir())
    }

    /// As many bytes as the header says, whatever happens to the file meanwhile.
    fn contents(&mut self, path: &Path, mut file: File, size: u64) -> Result<(), Stopped> {
        let mut left = size;
        let mut buffer = vec![0; PIECE];
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut buffer[..wanted]).map_err(|error| failed(path, &error))?;
            if count == 0 {
                let shrunk = io::Error::other("it became shorter while it was read");
                return Err(failed(path, &shrunk));
            }
            left -= count as u64;
            self.out.extend_from_slice(&buffer[..count]);
            self.flush()?;
        }
        self.out.extend_from_slice(padding(size));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let piece = self.out.split().freeze();
        self.sender.blocking_send(Ok(piece)).map_err(|_| Stopped::NobodyListens)
    }
}

/// What is in a directory, in order.
fn names(directory: &Path) -> io::Result<Vec<Vec<u8>>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_vec()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

fn entry(path: Vec<u8>, kind: EntryKind, metadata: &Metadata) -> Entry {
    Entry {
        path,
        kind,
        mode: metadata.mode() & PACKED_BITS,
        // A time before 1970 becomes 1970.
        mtime: u64::try_from(metadata.mtime()).unwrap_or(0),
    }
}

fn failed(path: &Path, error: &io::Error) -> Stopped {
    Stopped::Failed(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
