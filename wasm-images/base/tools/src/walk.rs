//! Every file of a tree, for the tools with `-R`: explicit stack, symbolic links not followed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `root` and everything below it, a directory before its contents. Directories that cannot be read are reported.
pub fn tree(root: &Path, mut failed: impl FnMut(&Path, &io::Error)) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.flatten().map(|entry| path.join(entry.file_name()))),
                Err(error) => failed(&path, &error),
            }
        }
        found.push(path);
    }
    found
}
