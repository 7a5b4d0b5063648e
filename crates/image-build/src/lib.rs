//! Builds images from their recipes: a developer's library and command (`cargo run --release -p wisp-image-build -- NAME`).
//!
//! A *recipe* is a folder with an `image.toml` ([`Manifest`]). Installing it fetches or builds its inputs (each pinned by
//! digest), strips and compiles its modules, runs what is run once, packs its directory trees, and writes a record into the
//! store of [`wisp_image`]. From there `wisp images push` and `export` bring it to machines that build nothing.

mod build;
mod error;
#[cfg(test)]
mod fuzz_tests;
mod install;
mod machine;
mod manifest;
mod preinit;
mod recipe;
mod setup;
mod source;
#[cfg(test)]
mod tests;

pub use error::BuildError;
pub use install::Builder;
pub use manifest::{Manifest, ManifestError};
pub use recipe::default_folder;

/// Where the fuzz targets find their corpora and leave what they find.
#[cfg(test)]
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
