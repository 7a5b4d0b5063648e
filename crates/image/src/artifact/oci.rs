//! The parts of the OCI image specification that an artifact uses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// An image manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index of manifests.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of a manifest that needs none: `{}`.
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The bytes of that configuration.
pub const EMPTY_JSON: &[u8] = b"{}";
/// The records of a chain of images.
pub(crate) const RECORDS: &str = "application/vnd.wisp.image.v1+json";
/// A directory tree of an image.
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// WebAssembly of a program; of a pre-initialised one, with its snapshot.
pub(crate) const MODULE: &str = "application/vnd.wisp.module.v1.wasm+zstd";
/// Machine code compiled from a module.
pub(crate) const CODE: &str = "application/vnd.wisp.code.v1+zstd";
/// A signature of an artifact; the annotations hold it.
pub(crate) const SIGNATURE: &str = "application/vnd.wisp.signature.v1";

/// Annotations.
pub(crate) mod annotation {
    /// Name of the image.
    pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";
    /// Digest of what a layer holds when it is unpacked.
    pub(crate) const CONTENT: &str = "dev.wisp.content";
    /// Bytes of it.
    pub(crate) const CONTENT_SIZE: &str = "dev.wisp.content-size";
    /// Digest of the module that code was compiled from.
    pub(crate) const MODULE: &str = "dev.wisp.module";
    /// Configuration of the engine that code was compiled for.
    pub(crate) const ENGINE: &str = "dev.wisp.engine";
    /// Architecture and operating system that code runs on.
    pub(crate) const TARGET: &str = "dev.wisp.target";
    /// Public key of a signature.
    pub(crate) const KEY: &str = "dev.wisp.key";
    /// The signature.
    pub(crate) const SIGNATURE: &str = "dev.wisp.signature";
}

/// The file `oci-layout`.
pub(crate) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What a manifest says of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of blob it is.
    pub media_type: String,
    /// Its digest, `sha256:` and 64 digits.
    pub digest: BlobDigest,
    /// Its size, bytes.
    pub size: u64,
    /// What kind of artifact a manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What is known about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A digest as OCI writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobDigest(pub Digest);

impl std::fmt::Display for BlobDigest {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "sha256:{}", self.0)
    }
}

impl From<BlobDigest> for String {
    fn from(digest: BlobDigest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for BlobDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digest = text.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
        digest
            .map(Self)
            .ok_or_else(|| "a digest is not sha256: and 64 hexadecimal digits".to_owned())
    }
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    pub(crate) media_type: String,
    pub(crate) artifact_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An index, which in a layout names what there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}
