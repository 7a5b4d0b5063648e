//! A program of the recipe that fills a directory at installation.

use std::sync::Arc;

use super::error::ImageError;
use super::layer;
use super::machine::{Machine, Task};
use super::private_dir::PrivateDir;
use wisp_kernel::Runtime;
use wisp_vfs::ROOT;

/// Runs the program and packs what it left in the directory `output`.
pub(super) fn run(
    task: Task<'_>,
    output: &str,
    store: &PrivateDir,
    runtime: &Arc<Runtime>,
) -> Result<Vec<u8>, ImageError> {
    let machine = Machine::new(task, store, runtime)?;
    let fs = machine.fs().clone();
    fs.create_dir_all(ROOT, output.as_bytes(), 0o755)
        .map_err(|error| ImageError::io(output)(std::io::Error::other(error.to_string())))?;
    machine.run()?;
    layer::pack_tree(&fs, output)
}
