//! Images as artifacts: what is installed leaves one store and gets into another.
//!
//! An artifact is an OCI image: a manifest that names blobs by digest. It holds an image and all images below it, so that
//! it is complete: the records as configuration; a layer for each directory tree; one for the WebAssembly of each program,
//! which has the snapshot of a pre-initialised one; and one for the machine code that each module was compiled to, for
//! each engine. It travels as an OCI layout in one tar archive ([`Archive`]), or through a registry.
//!
//! Whoever made it may mean harm. Every size, count and digest is checked before anything is installed; what is checked
//! lies in files without names until then, so that nothing is half installed whatever happens. Machine code cannot be
//! checked at all: it is used only if a key that the deployer trusts has signed the artifact, and made anew otherwise.

mod archive;
mod check;
mod install;
pub(crate) mod oci;
mod pack;
mod signature;
mod tar_headers;
#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use install::{ArtifactSource, InstallOptions};
pub use oci::{BlobDigest, Descriptor, EMPTY_JSON};
pub use pack::{Artifact, Blob};
pub use signature::{NotAKey, PublicKey, SigningKey};

use crate::error::ImageError;

/// Largest manifest, index or signature, bytes.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Largest configuration, bytes: the records of a chain, which may hold a program's start-up source.
const MAX_RECORDS_BYTES: u64 = 16 << 20;
/// Most blobs of one artifact.
const MAX_BLOBS: usize = 1024;
/// Most bytes of all blobs together, packed.
const MAX_PACKED_BYTES: u64 = 2 << 30;
/// Most bytes of all contents together, unpacked.
const MAX_CONTENT_BYTES: u64 = 4 << 30;

/// The form of machine code that the programs of this machine can run: architecture and operating system.
fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

fn wrong(what: impl Into<String>) -> ImageError {
    ImageError::Artifact(what.into())
}
