//! Images: what a sandbox of the built-in provider starts from.
//!
//! The [`ImageStore`] has installed images: a record of each, its modules, the code these were compiled to, and its
//! directory trees. They come as artifacts that were built elsewhere ([`Archive`], or from a registry), as a user's program
//! ([`NewImage`]), or from the crate `wisp-image-build`, which builds them from recipes ([`Installation`]). Loading an
//! installed image ([`Loader`]) maps all that into memory.

mod artifact;
mod bulk_memory;
mod compile;
#[cfg(feature = "compiler")]
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
mod installation;
mod layer;
mod load;
pub mod module;
mod names;
mod private_dir;
mod progress;
mod record;
mod soundness;
mod store;

pub use artifact::{
    Archive, Artifact, ArtifactSource, Blob, BlobDigest, Descriptor, EMPTY_JSON, InstallOptions, MAX_MANIFEST_BYTES,
    NotAKey, PublicKey, SigningKey,
};
pub use bulk_memory::bound as bound_bulk_memory;
#[cfg(feature = "compiler")]
pub use compile_child::{ChildLimits, run as compile_in_child};
pub use compiler::{CompileLimits, Compiler, ModuleOrigin};
pub use digest::{Digest, Hasher};
pub use error::ImageError;
pub use import::NewImage;
pub use installation::Installation;
pub use layer::{file_time, make_room, pack_directory, pack_tree};
pub use load::{Image, LoadedProgram, Loader, ProgramCode};
pub use module::ModuleError;
pub use names::{is_absolute, is_image_name, is_relative};
pub use private_dir::{PrivateDir, Scratch};
pub use progress::{LogProgress, Progress, Step};
pub use record::{FORM, LaunchRecord, Licence, ModuleKind, ProgramRecord, Record};
pub use store::{ImageInfo, ImageStore, build_name, file_stem, find, may_name, source_name};

/// Where the fuzz targets find their corpora and leave what they find.
#[cfg(test)]
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
