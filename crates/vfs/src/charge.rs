//! What is charged to a filesystem's quota, and how much.
//!
//! The charges are chosen so that the memory a guest really causes stays within a small factor of what it is charged:
//! they cover the nodes of the persistent maps as well as the data.

use std::sync::Arc;

use super::error::{Error, Result};
use super::leaving::Leaving;

/// Bytes charged for an inode of any kind.
pub(super) const INODE: u64 = 1024;
/// Bytes charged for a directory beyond [`INODE`]: even a short one owns a leaf of a persistent map.
pub(super) const DIRECTORY: u64 = 3072;
/// Bytes charged for a directory entry beyond the length of its name.
pub(super) const ENTRY: u64 = 128;
/// File data is charged in blocks of this many bytes.
pub(super) const BLOCK: u64 = 4096;

/// The charge of a directory entry called `name`.
pub(super) fn entry(name: &[u8]) -> u64 {
    ENTRY + name.len() as u64
}

/// `len` rounded up to whole blocks.
pub(super) fn blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// How much a filesystem may hold beyond the image it started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of data, names and inodes.
    pub max_bytes: u64,
    /// Number of inodes.
    pub max_inodes: u64,
}

/// How much a filesystem holds beyond the image it started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes charged. Can exceed `max_bytes` a little, because removing and shortening are never refused for want of
    /// space although the first change of an image's inode needs some.
    pub bytes: u64,
    /// Inodes charged.
    pub inodes: u64,
    /// The limit of `bytes`.
    pub max_bytes: u64,
    /// The limit of `inodes`.
    pub max_inodes: u64,
}

/// Whether a charge is refused at the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quota {
    /// Refused: for whatever adds something.
    Enforced,
    /// Granted: for removing things, so that a full disk can be cleared. Bounded by the size of the image.
    Exempt,
}

/// The running account of one filesystem.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) limits: Limits,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Removed data that is not gone yet. Its bytes are charged, and not among `bytes`.
    pub(super) leaving: Arc<Leaving>,
}

impl Account {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes: 0,
            inodes: 0,
            leaving: Arc::default(),
        }
    }

    /// The same, for a second filesystem: what leaves this one is not the other's.
    pub(super) fn fork(&self) -> Self {
        Self {
            leaving: Arc::default(),
            ..self.clone()
        }
    }

    /// All bytes charged.
    fn charged(&self) -> u64 {
        self.bytes.saturating_add(self.leaving.bytes())
    }

    /// Bytes that can still be charged.
    pub(super) fn available(&self) -> u64 {
        self.limits.max_bytes.saturating_sub(self.charged())
    }

    /// Charges both or nothing.
    pub(super) fn charge(&mut self, bytes: u64, inodes: u64, quota: Quota) -> Result<()> {
        let total_bytes = self.bytes.checked_add(bytes).ok_or(Error::NoSpace)?;
        let total_inodes = self.inodes.checked_add(inodes).ok_or(Error::NoSpace)?;
        if quota == Quota::Enforced
            && ((bytes > 0 && bytes > self.available()) || (inodes > 0 && total_inodes > self.limits.max_inodes))
        {
            return Err(Error::NoSpace);
        }
        self.bytes = total_bytes;
        self.inodes = total_inodes;
        Ok(())
    }

    pub(super) fn refund(&mut self, bytes: u64, inodes: u64) {
        debug_assert!(
            self.bytes >= bytes && self.inodes >= inodes,
            "refund of something never charged"
        );
        self.bytes = self.bytes.saturating_sub(bytes);
        self.inodes = self.inodes.saturating_sub(inodes);
    }

    /// Replaces a charge of `before` bytes by one of `after`, which the caller has checked against [`Self::available`].
    pub(super) fn adjust(&mut self, before: u64, after: u64) {
        self.bytes = self.bytes.saturating_sub(before).saturating_add(after);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            bytes: self.charged(),
            inodes: self.inodes,
            max_bytes: self.limits.max_bytes,
            max_inodes: self.limits.max_inodes,
        }
    }
}
