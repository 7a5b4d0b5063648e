//! The journal: a file of records, each of which takes the filesystem from one state to the next.
//!
//! ```text
//! file   = magic (8 bytes), identity of the image (32), CRC-32 of these (4); then records
//! record = frames; all but the last say that more follow
//! frame  = length of the body (4), number of the record (4), 1 if it is the record's last (1), CRC-32 of the body (4),
//!          CRC-32 of these (4); then the body
//! ```
//! All numbers are little-endian. The first record, with number 0, is a *checkpoint*: it leads from the image to a whole
//! state. It is complete before the file gets its name, and a longer journal is replaced by a checkpoint of its last
//! state in the same way.
//!
//! When a process ends in the middle of an append, the file ends in the middle of a record. Nobody was told that this
//! record is kept, so it is cut off. Anything else that is not as it was written is damage.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{DurableError, RecoverError};

/// Also the number of the format.
const MAGIC: &[u8; 8] = b"wispfs01";
/// Bytes of the file before the first record.
const HEADER: usize = 8 + 32 + 4;
/// Bytes of a frame before its body.
const FRAME_HEADER: usize = 4 + 4 + 1 + 4 + 4;
/// A frame ends when its body has this many bytes, so that neither writing nor reading a record takes much memory.
const FRAME: usize = 256 << 10;
/// Largest body of a frame: [`FRAME`] and one more item.
const MAX_FRAME: usize = FRAME + (64 << 10);
/// A journal is replaced by a checkpoint when it is longer than its last checkpoint times two and this many bytes.
const SLACK: u64 = 256 << 10;

/// Identity of the image a sandbox was made from.
pub type Identity = [u8; 32];

/// A journal that can be appended to.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// Wait for the disk after each record.
    fsync: bool,
    /// Bytes up to the end of the last complete record.
    len: u64,
    /// Number of the next record.
    next: u32,
    /// When to replace it by a checkpoint.
    checkpoint_at: u64,
    /// Something may follow after `len` that has to go first.
    torn: bool,
}

/// Collects the items of a record.
pub(super) struct RecordWriter<'a> {
    file: &'a File,
    /// Where the next frame goes.
    at: u64,
    number: u32,
    /// The frame so far, with room for its header.
    frame: Vec<u8>,
}

impl RecordWriter<'_> {
    /// Adds one item, of at most 64 KiB.
    pub(super) fn item(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        write(&mut self.frame);
        if self.frame.len() >= FRAME_HEADER + FRAME {
            self.end_frame(false)?;
        }
        Ok(())
    }

    fn end_frame(&mut self, last: bool) -> io::Result<()> {
        let (header, body) = self.frame.split_at_mut(FRAME_HEADER);
        let len = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        header[0..4].copy_from_slice(&len.to_le_bytes());
        header[4..8].copy_from_slice(&self.number.to_le_bytes());
        header[8] = u8::from(last);
        header[9..13].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        let crc = crc32fast::hash(&header[..13]);
        header[13..].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&self.frame, self.at)?;
        self.at += self.frame.len() as u64;
        self.frame.truncate(FRAME_HEADER);
        Ok(())
    }
}

/// Writes the items of a record to `file` at `at`, and returns where it ends.
fn write_record(
    file: &File,
    at: u64,
    number: u32,
    fill: impl FnOnce(&mut RecordWriter<'_>) -> Result<(), DurableError>,
) -> Result<u64, DurableError> {
    let mut writer = RecordWriter {
        file,
        at,
        number,
        frame: vec![0; FRAME_HEADER],
    };
    fill(&mut writer)?;
    writer.end_frame(true)?;
    Ok(writer.at)
}

impl Journal {
    /// Makes a journal, or replaces the one there is, by one that consists of a checkpoint.
    pub(super) fn create(
        path: &Path,
        identity: &Identity,
        fsync: bool,
        checkpoint: impl FnOnce(&mut RecordWriter<'_>) -> Result<(), DurableError>,
    ) -> Result<Self, DurableError> {
        let unnamed = unfinished(path);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&unnamed)?;
        let mut header = [MAGIC.as_slice(), identity].concat();
        let crc = crc32fast::hash(&header);
        header.extend_from_slice(&crc.to_le_bytes());
        file.write_all_at(&header, 0)?;
        let len = write_record(&file, HEADER as u64, 0, checkpoint)?;
        if fsync {
            file.sync_all()?;
        }
        fs::rename(&unnamed, path)?;
        if fsync {
            flush_directory(path.parent())?;
        }
        Ok(Self {
            path: path.to_owned(),
            fsync,
            len,
            next: 1,
            checkpoint_at: 2 * len + SLACK,
            torn: false,
        })
    }

    /// Adds a record. When this fails the journal is as it was before.
    pub(super) fn append(
        &mut self,
        fill: impl FnOnce(&mut RecordWriter<'_>) -> Result<(), DurableError>,
    ) -> Result<(), DurableError> {
        let file = File::options().write(true).open(&self.path)?;
        if self.torn {
            file.set_len(self.len)?;
        }
        self.torn = true;
        let mut written = write_record(&file, self.len, self.next, fill);
        if self.fsync {
            written = written.and_then(|end| Ok(file.sync_data().map(|()| end)?));
        }
        match written {
            Ok(end) => {
                self.len = end;
                self.next += 1;
                self.torn = false;
                Ok(())
            }
            Err(error) => {
                self.torn = file.set_len(self.len).is_err();
                Err(error)
            }
        }
    }

    /// Whether it has become so long that a checkpoint should take its place.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.len > self.checkpoint_at || self.next == u32::MAX
    }

    /// Puts off the next checkpoint, after one that failed.
    pub(super) fn put_off_checkpoint(&mut self) {
        self.checkpoint_at = 2 * self.len;
    }

    /// Reads a journal, passes the bodies of its frames to `apply`, each with whether a record ends there, and cuts a
    /// torn tail off. `None` when there is no journal.
    pub(super) fn recover(
        path: &Path,
        identity: &Identity,
        fsync: bool,
        mut apply: impl FnMut(&[u8], bool) -> Result<(), RecoverError>,
    ) -> Result<Option<Self>, RecoverError> {
        let file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Begun by a process that did not finish it; at worst it stays and is overwritten by the next.
        let _ = fs::remove_file(unfinished(path));
        let file_len = file.metadata()?.len();
        let mut reader = Reader {
            rest: file_len,
            input: BufReader::with_capacity(64 << 10, &file),
        };
        reader.header(identity)?;
        let mut journal = Self {
            path: path.to_owned(),
            fsync,
            len: HEADER as u64,
            next: 0,
            checkpoint_at: 0,
            torn: false,
        };
        while let Some((body, last)) = reader.frame(journal.next)? {
            apply(&body, last)?;
            if last {
                journal.len = file_len - reader.rest;
                journal.next += 1;
                if journal.next == 1 {
                    journal.checkpoint_at = 2 * journal.len + SLACK;
                }
            }
        }
        if journal.next == 0 {
            // It was complete when the file got its name.
            return Err(RecoverError::Damaged("the journal's checkpoint is incomplete"));
        }
        if journal.len < file_len {
            tracing::info!(journal = %path.display(), bytes = file_len - journal.len, "cutting off a torn record");
            file.set_len(journal.len)?;
        }
        Ok(Some(journal))
    }
}

/// Where a journal is written before it gets its name.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Makes sure that a name in a directory survives the loss of power.
pub(super) fn flush_directory(directory: Option<&Path>) -> io::Result<()> {
    match directory {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

struct Reader<R> {
    input: R,
    /// Bytes that have not been read.
    rest: u64,
}

impl<R: io::Read> Reader<R> {
    fn header(&mut self, identity: &Identity) -> Result<(), RecoverError> {
        let damaged = RecoverError::Damaged("the journal's header is damaged");
        let mut header = [0; HEADER];
        if self.rest < HEADER as u64 {
            return Err(damaged);
        }
        self.read(&mut header)?;
        let (content, crc) = header.split_at(HEADER - 4);
        if crc != crc32fast::hash(content).to_le_bytes() {
            return Err(damaged);
        }
        if content[..8] != *MAGIC {
            return Err(RecoverError::OtherFormat);
        }
        if content[8..] != *identity {
            return Err(RecoverError::OtherImage);
        }
        Ok(())
    }

    /// The next frame of record `number`, and whether it is its last; `None` at the end or where it is torn.
    fn frame(&mut self, number: u32) -> Result<Option<(Vec<u8>, bool)>, RecoverError> {
        let damaged = || RecoverError::Damaged("a record of the journal is damaged");
        if self.rest < FRAME_HEADER as u64 {
            return Ok(None);
        }
        let mut header = [0; FRAME_HEADER];
        self.read(&mut header)?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if crc32fast::hash(&header[..13]) != word(13) {
            // The file may have been lengthened before the record was written to it.
            let zeros = header.iter().all(|byte| *byte == 0) && self.only_zeros()?;
            return if zeros { Ok(None) } else { Err(damaged()) };
        }
        let len = word(0) as usize;
        if word(4) != number || len > MAX_FRAME || header[8] > 1 {
            return Err(damaged());
        }
        if len as u64 > self.rest {
            return Ok(None);
        }
        let mut body = vec![0; len];
        self.read(&mut body)?;
        if crc32fast::hash(&body) != word(9) {
            return Err(damaged());
        }
        Ok(Some((body, header[8] == 1)))
    }

    fn only_zeros(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while self.rest > 0 {
            let count = usize::try_from(self.rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
            self.read(&mut buffer[..count])?;
            if buffer[..count].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(out)?;
        self.rest -= out.len() as u64;
        Ok(())
    }
}
