//! Reads the headers of a tar archive that somebody else made, and nothing else.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

use tar::{EntryType, Header};

const BLOCK: u64 = 512;

/// An entry of the archive.
pub(super) struct Entry {
    pub(super) kind: EntryType,
    /// As the header has it; a long name that comes in an entry of its own is cut off here.
    pub(super) name: Vec<u8>,
    /// Where its contents begin in the file.
    pub(super) start: u64,
    /// Bytes of them.
    pub(super) size: u64,
}

/// Calls `each` with all entries, at most `limit`. An archive must be whole: up to its end mark.
pub(super) fn read(file: &File, limit: usize, mut each: impl FnMut(Entry) -> Result<(), String>) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let length = file.metadata().map_err(failed)?.len();
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0)).map_err(failed)?;
    let (mut position, mut count) = (0_u64, 0);
    loop {
        if length - position < BLOCK {
            return Err("the archive is cut off: it has no end mark".to_owned());
        }
        let mut block = [0; BLOCK as usize];
        reader.read_exact(&mut block).map_err(failed)?;
        position += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        count += 1;
        if count > limit {
            return Err(format!("the archive has more than {limit} entries"));
        }
        let header = Header::from_byte_slice(&block);
        if header.cksum().map_err(failed)? != checksum(&block) {
            return Err("the archive is damaged: the checksum of a header is wrong".to_owned());
        }
        let size = header.entry_size().map_err(failed)?;
        let padded = size.checked_next_multiple_of(BLOCK);
        let padded = padded.filter(|padded| *padded <= length - position);
        let padded = padded.ok_or("the archive is cut off within an entry")?;
        each(Entry {
            kind: header.entry_type(),
            name: header.path_bytes().into_owned(),
            start: position,
            size,
        })?;
        position += padded;
        reader
            .seek_relative(i64::try_from(padded).unwrap_or(i64::MAX))
            .map_err(failed)?;
    }
}

/// The sum of all bytes of a header, its own field taken as spaces.
fn checksum(block: &[u8]) -> u32 {
    let field = 148..156;
    let bytes = block.iter().enumerate();
    let counted = bytes.map(|(index, byte)| if field.contains(&index) { b' ' } else { *byte });
    counted.map(u32::from).sum()
}
