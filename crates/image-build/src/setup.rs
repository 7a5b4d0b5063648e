//! A program of the recipe that fills a directory at installation.

use std::sync::Arc;

use super::error::BuildError;
use super::machine::{Machine, Task};
use wisp_image::Installation;
use wisp_kernel::Runtime;
use wisp_vfs::ROOT;

/// Runs the program and packs what it left in the directory `output`.
pub(crate) fn run(
    task: Task<'_>,
    output: &str,
    store: &Installation<'_>,
    runtime: &Arc<Runtime>,
) -> Result<Vec<u8>, BuildError> {
    let machine = Machine::new(task, store, runtime)?;
    let fs = machine.fs().clone();
    fs.create_dir_all(ROOT, output.as_bytes(), 0o755)
        .map_err(|error| BuildError::io(output)(std::io::Error::other(error.to_string())))?;
    machine.run()?;
    Ok(wisp_image::pack_tree(&fs, output)?)
}
