//! Tar archives, as the providers and the command line read and write them.
//!
//! The bytes of an archive are hostile. [`Reader`] parses them in a stream, with bounded memory and without recursion,
//! and hands out entries whose paths stay inside the directory they are unpacked into, whatever the archive says:
//!
//! - a leading `/` is dropped, as `tar` does; a `..` component or a NUL is refused;
//! - nothing is named through a symbolic link that the archive itself brought;
//! - devices, named pipes, sparse files and vendors' own types are refused;
//! - the set-user-ID and set-group-ID bits are dropped, and owners are not told: what is unpacked belongs to whoever
//!   unpacks it.
//!
//! An archive that breaks off, or does not end with a block of zeros, is refused too.

mod read;
mod write;

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;

pub use read::Reader;
pub use write::{END, encode, padding, rewritten, set_owner};

use super::ProviderError;

/// Bytes of a block: headers are one, contents are padded to whole ones (POSIX pax, ustar Interchange Format).
const BLOCK: usize = 512;
/// Longest path and longest target of a link, bytes: `PATH_MAX` of Linux without its NUL.
pub const MAX_PATH: usize = 4095;

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it belongs, relative to the directory that the archive is unpacked into: components separated by single
    /// slashes, none of them `.` or `..`. Empty for that directory itself.
    pub path: Vec<u8>,
    /// File, directory or link.
    pub kind: EntryKind,
    /// Permission bits, `0o1777`.
    pub mode: u32,
    /// Last change of its contents, seconds since 1970.
    pub mtime: u64,
}

/// The kinds of files an archive may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; so many bytes of contents follow.
    File {
        /// Bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// As written in the link: may lead anywhere.
        target: Vec<u8>,
    },
    /// Another name of a file that came earlier.
    HardLink {
        /// That file's path, of the same form as [`Entry::path`].
        target: Vec<u8>,
    },
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not a tar, or a broken one.
    #[error("not a valid tar archive: {0}")]
    Malformed(String),
    /// It holds something that is not unpacked.
    #[error("the archive's entry \"{path}\" {reason}")]
    Refused {
        /// The entry's path as the archive gives it.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes of the archive could not be had.
    #[error(transparent)]
    Source(#[from] ProviderError),
}

impl ArchiveError {
    fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    /// The refusal of an entry.
    pub fn refused(path: &[u8], reason: impl Into<String>) -> Self {
        /// Characters of a path that are shown.
        const SHOWN: usize = 200;
        Self::Refused {
            path: String::from_utf8_lossy(path).chars().take(SHOWN).collect(),
            reason: reason.into(),
        }
    }
}

impl From<ArchiveError> for ProviderError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Source(error) => error,
            error => Self::Invalid(error.to_string()),
        }
    }
}
