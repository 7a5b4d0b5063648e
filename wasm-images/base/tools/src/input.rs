//! Input files of the tools: `-` is standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// Opens an operand.
pub fn open(name: &str) -> io::Result<Box<dyn BufRead>> {
    if name == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(name)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "Is a directory"));
    }
    Ok(Box::new(BufReader::new(file)))
}

/// Reads all of an operand.
pub fn read_all(name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(name)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines of a text, without their newlines.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n")
        .or((!text.is_empty()).then_some(text))
        .into_iter()
        .flat_map(|text| text.split(|b| *b == b'\n'))
}
