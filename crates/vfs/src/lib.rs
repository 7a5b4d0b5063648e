//! A copy-on-write inode filesystem held in memory.
//!
//! [`Fs`] is a live filesystem with a quota. [`Fs::freeze`] takes an immutable [`Tree`] of it in constant time, and any
//! number of filesystems start from one tree in constant time ([`Fs::from_tree`]), sharing all they do not change.
//! An open file or directory is a [`Handle`].
//!
//! Behaviour follows POSIX.1 and, where that leaves a choice, Linux. There are no permission checks: every caller is
//! root inside its own sandbox.

mod charge;
mod chunk_file;
mod chunk_map;
mod durable;
mod error;
mod file_data;
mod fs;
mod handle;
mod leaving;
mod node;
mod path;
mod state;
mod walk;

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod linux_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use charge::{Limits, Usage};
pub use durable::{Durable, DurableError, Identity, Place, RecoverError, remove as remove_durable};
pub use error::{Error, MountId, PathError, PathResult, Result};
pub use file_data::{Blob, MAX_FILE_SIZE};
pub use fs::{Fs, NodeKind, OpenOptions, TimeChange};
pub use handle::{AllocateSlices, DirEntry, DirSnapshot, Handle};
pub use leaving::{discard, free_on_this_thread};
pub use node::{FileKind, Ino, ROOT, Stat, Tree};
pub use path::{MAX_NAME, MAX_PATH, MAX_SYMLINKS};
pub use walk::{WalkEntry, WalkLimits};

/// Where the fuzz targets find their corpora and leave what they find.
#[cfg(test)]
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
