//! Images: what a sandbox of the built-in provider starts from.
//!
//! A *recipe* is a folder with an `image.toml` ([`Manifest`]). Installing it fetches or builds its inputs (each pinned
//! by digest), strips and compiles its modules, packs its directory trees, and writes a record into the
//! [`ImageStore`]. Loading an installed image ([`Loader`]) maps all that into memory; it needs neither the recipe nor
//! a network.

mod artifact;
mod build;
mod bulk_memory;
mod compile;
mod compile_child;
mod compiler;
#[cfg(feature = "component")]
mod component;
mod digest;
mod error;
#[cfg(test)]
mod fuzz_tests;
mod generation;
mod import;
mod layer;
mod load;
mod machine;
mod manifest;
mod module;
mod preinit;
mod private_dir;
mod progress;
mod recipe;
mod record;
mod setup;
mod soundness;
mod source;
mod store;

pub use artifact::{
    Archive, Artifact, ArtifactSource, Blob, BlobDigest, Descriptor, EMPTY_JSON, InstallOptions, MAX_MANIFEST_BYTES,
    NotAKey, PublicKey, SigningKey,
};
pub use bulk_memory::bound as bound_bulk_memory;
pub use compile_child::{ChildLimits, ModuleOrigin, run as compile_in_child};
pub use compiler::{CompileLimits, Compiler};
pub use digest::Digest;
pub use error::ImageError;
pub use import::NewImage;
pub use load::{Image, LoadedProgram, Loader, ProgramCode};
pub use manifest::{Licence, Manifest};
pub use module::ModuleError;
pub use progress::{LogProgress, Progress, Step};
pub use record::Record;
pub use store::{ImageInfo, ImageState, ImageStore, may_name};

/// Where the fuzz targets find their corpora and leave what they find.
#[cfg(test)]
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
