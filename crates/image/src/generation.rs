//! A number in a file that changes whenever the installed images do, whichever process changes them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::error::ImageError;
use super::private_dir::PrivateDir;

/// Name of the file.
const NAME: &str = "generation";

/// The file, open.
pub(super) struct Generation(File);

impl Generation {
    /// Opens the file of a store, or makes it.
    pub(super) fn open(store: &PrivateDir) -> Result<Self, ImageError> {
        store.open_counter(NAME).map(Self)
    }

    /// The number now. It is asked for each time an image is looked up: reading eight bytes of a file that is open is one
    /// system call that waits for nothing.
    pub(super) fn read(&self) -> u64 {
        let mut bytes = [0; 8];
        // A file that is still empty is as good as 0, and one that cannot be read never changes.
        match self.0.read_exact_at(&mut bytes, 0) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => 0,
        }
    }

    /// Changes the number. The caller holds the store's lock.
    pub(super) fn advance(&self) -> Result<(), ImageError> {
        let next = self.read().wrapping_add(1);
        self.0
            .write_all_at(&next.to_le_bytes(), 0)
            .map_err(ImageError::io(NAME))
    }
}
