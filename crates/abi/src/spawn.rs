//! The request of `spawn` and `exec`.

use alloc::vec::Vec;
use core::fmt;

/// Bytes of arguments and environment together, as on Linux.
pub const MAX_ARGUMENT_BYTES: usize = 2 << 20;
/// Strings in arguments and environment together.
pub const MAX_STRINGS: u32 = 1 << 16;
/// Bytes of a path, without the NUL at its end that Linux counts.
pub const MAX_PATH: usize = 4095;

/// A program to start, as the calls `spawn` and `exec` take it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpawnRequest {
    /// Program file; empty to search `PATH`.
    pub path: Vec<u8>,
    /// Directory to start in, absolute.
    pub cwd: Vec<u8>,
    /// Arguments, the program's name first.
    pub argv: Vec<Vec<u8>>,
    /// `KEY=value`.
    pub environment: Vec<Vec<u8>>,
    /// Child's number, own descriptor.
    pub descriptors: Vec<(u32, u32)>,
    /// 0 or [`Self::NEW_GROUP`].
    pub flags: u32,
}

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// `2big`: more than [`MAX_ARGUMENT_BYTES`] or [`MAX_STRINGS`].
    TooBig,
    /// `nametoolong`: a path is longer than [`MAX_PATH`].
    NameTooLong,
    /// `inval`: it ends early, a string has a NUL, there are no arguments, the directory is not absolute, or a flag is
    /// unknown.
    Invalid,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooBig => "the request is too big",
            Self::NameTooLong => "a path is too long",
            Self::Invalid => "the request is not valid",
        })
    }
}

impl core::error::Error for RequestError {}

impl SpawnRequest {
    /// Flag: the child leads a process group of its own.
    pub const NEW_GROUP: u32 = 1;

    /// Whether the child leads a process group of its own.
    #[must_use]
    pub fn new_group(&self) -> bool {
        self.flags & Self::NEW_GROUP != 0
    }

    /// The value of an environment variable.
    #[must_use]
    pub fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.environment
            .iter()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }

    /// The wire form of `docs/abi.md`. Lengths are those of a 32-bit memory.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let strings = self.argv.iter().chain(&self.environment);
        let mut writer = Writer(Vec::with_capacity(
            32 + self.path.len()
                + self.cwd.len()
                + strings.map(|string| string.len() + 4).sum::<usize>()
                + 8 * self.descriptors.len(),
        ));
        writer.string(&self.path);
        writer.string(&self.cwd);
        writer.strings(&self.argv);
        writer.strings(&self.environment);
        writer.number(self.descriptors.len() as u32);
        for (child, own) in &self.descriptors {
            writer.number(*child);
            writer.number(*own);
        }
        writer.number(self.flags);
        writer.0
    }

    /// Reads the wire form.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > MAX_ARGUMENT_BYTES {
            return Err(RequestError::TooBig);
        }
        let mut reader = Reader {
            rest: bytes,
            strings: 0,
        };
        let path = reader.string()?;
        let cwd = reader.string()?;
        let argv = reader.strings()?;
        let environment = reader.strings()?;
        let pairs = reader.count()?;
        let descriptors = (0..pairs)
            .map(|_| Ok((reader.number()?, reader.number()?)))
            .collect::<Result<_, RequestError>>()?;
        let flags = reader.number()?;
        if path.len() > MAX_PATH || cwd.len() > MAX_PATH {
            return Err(RequestError::NameTooLong);
        }
        if argv.is_empty() || !cwd.starts_with(b"/") || flags & !Self::NEW_GROUP != 0 {
            return Err(RequestError::Invalid);
        }
        Ok(Self {
            path,
            cwd,
            argv,
            environment,
            descriptors,
            flags,
        })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn string(&mut self, string: &[u8]) {
        self.number(string.len() as u32);
        self.0.extend(string);
    }

    fn strings(&mut self, strings: &[Vec<u8>]) {
        self.number(strings.len() as u32);
        for string in strings {
            self.string(string);
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    strings: u32,
}

impl Reader<'_> {
    fn number(&mut self) -> Result<u32, RequestError> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(RequestError::Invalid)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*head))
    }

    fn count(&mut self) -> Result<u32, RequestError> {
        let count = self.number()?;
        self.strings = self.strings.saturating_add(count);
        if self.strings > MAX_STRINGS {
            Err(RequestError::TooBig)
        } else {
            Ok(count)
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, RequestError> {
        let len = self.number()? as usize;
        let (string, rest) = self.rest.split_at_checked(len).ok_or(RequestError::Invalid)?;
        self.rest = rest;
        if string.contains(&0) {
            Err(RequestError::Invalid)
        } else {
            Ok(string.to_vec())
        }
    }

    fn strings(&mut self) -> Result<Vec<Vec<u8>>, RequestError> {
        let count = self.count()?;
        (0..count).map(|_| self.string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn request_has_the_layout_of_the_abi() {
        let request = SpawnRequest {
            path: b"/bin/a".to_vec(),
            cwd: b"/d".to_vec(),
            argv: vec![b"/bin/a".to_vec(), b"b".to_vec()],
            environment: vec![b"K=v".to_vec()],
            descriptors: vec![(0, 0), (9, 4)],
            flags: SpawnRequest::NEW_GROUP,
        };
        let bytes: &[u8] = b"\x06\0\0\0/bin/a\x02\0\0\0/d\x02\0\0\0\x06\0\0\0/bin/a\x01\0\0\0b\x01\0\0\0\x03\0\0\0K=v\
            \x02\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\x04\0\0\0\x01\0\0\0";
        assert_eq!(request.encode(), bytes);
        assert_eq!(SpawnRequest::parse(bytes), Ok(request));
    }

    #[test]
    fn a_request_with_lengths_that_lie_is_refused() {
        assert_eq!(SpawnRequest::parse(&[]), Err(RequestError::Invalid));
        assert_eq!(SpawnRequest::parse(&[255; 64]), Err(RequestError::Invalid));
        let mut bytes = Vec::new();
        for string in ["/bin/sh", "/"] {
            bytes.extend((string.len() as u32).to_le_bytes());
            bytes.extend(string.as_bytes());
        }
        bytes.extend(u32::MAX.to_le_bytes());
        assert_eq!(SpawnRequest::parse(&bytes), Err(RequestError::TooBig));
    }
}
