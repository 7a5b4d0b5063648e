//! Makes an artifact of an installed image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};

use serde::{Deserialize, Serialize};
use wisp_kernel::Engines;

use super::oci::{self, BlobDigest, Descriptor, annotation};
use super::signature::{Signature, SigningKey};
use super::{target, wrong};
use crate::digest::{Digest, Hasher};
use crate::error::ImageError;
use crate::progress::{Progress, Step};
use crate::record::Record;
use crate::store::ImageStore;
use crate::{compile, layer};

/// How hard zstd tries. More takes minutes for a few per cent.
const COMPRESSION_LEVEL: i32 = 3;

/// The configuration of an artifact.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Configuration {
    /// The image and those below it, the lowest first.
    pub(super) images: Vec<Record>,
}

/// An image that is ready to be sent.
pub struct Artifact {
    pub(super) manifest: Vec<u8>,
    /// Of the manifest.
    pub(super) descriptor: Descriptor,
    blobs: Vec<Blob>,
    signature: Option<Signature>,
}

/// A blob of an artifact.
pub struct Blob {
    /// What the manifest says of it.
    pub descriptor: Descriptor,
    file: File,
}

impl Blob {
    /// Its bytes, from the start.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }
}

impl Artifact {
    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The digest of the manifest, which names the artifact.
    #[must_use]
    pub fn digest(&self) -> BlobDigest {
        self.descriptor.digest
    }

    /// What the manifest names.
    #[must_use]
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Adds a signature.
    pub fn sign(&mut self, key: &SigningKey) {
        self.signature = Some(key.sign(self.descriptor.digest.0));
    }

    /// The manifest of the signature. It names one blob: [`super::EMPTY_JSON`].
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn signature(&self) -> Result<Option<Vec<u8>>, ImageError> {
        let signature = self.signature.as_ref();
        signature
            .map(|signature| json(&signature.manifest(&self.descriptor)))
            .transpose()
    }
}

impl ImageStore {
    /// Makes an artifact of an installed image and those below it, with the code it was compiled to for `engines`. The
    /// same store gives the same bytes.
    ///
    /// # Errors
    /// When it is not installed, or the store is damaged.
    pub fn pack(&self, name: &str, engines: &Engines, progress: &dyn Progress) -> Result<Artifact, ImageError> {
        // Nobody removes anything meanwhile.
        let _lock = self.dir().lock()?;
        let chain: Vec<Record> = self.installed_chain(name)?.iter().map(Record::portable).collect();
        let image = chain
            .last()
            .ok_or_else(|| ImageError::NotInstalled(name.to_owned()))?
            .clone();
        let mut blobs: Vec<Blob> = Vec::new();
        let layers: BTreeSet<Digest> = chain.iter().flat_map(|record| &record.layers).copied().collect();
        for digest in layers {
            progress.step(&image.name, Step::Pack, &digest.to_string());
            let mapped = layer::map(self.dir(), digest)?;
            blobs.push(self.pack_blob(&mapped[..], oci::LAYER, digest, BTreeMap::new())?);
        }
        let programs = chain.iter().flat_map(|record| &record.programs);
        let modules: BTreeSet<Digest> = programs.map(|program| program.digest).collect();
        for &digest in &modules {
            progress.step(&image.name, Step::Pack, &digest.to_string());
            let name = compile::wasm_name(digest);
            let file = self.dir().open_file(&name)?;
            let file = file.ok_or_else(|| ImageError::Damaged(name.clone()))?;
            blobs.push(self.pack_blob(file, oci::MODULE, digest, BTreeMap::new())?);
        }
        for &module in &modules {
            for engine in engines.compiled_for() {
                let Some(mut code) = compile::verified(self.dir(), engine, module)? else {
                    continue;
                };
                progress.step(&image.name, Step::Pack, &format!("code of {module}"));
                let failed = || ImageError::io("compiled code");
                let (digest, _) = Digest::of_reader(&code).map_err(failed())?;
                code.rewind().map_err(failed())?;
                let about = [
                    (annotation::MODULE, BlobDigest(module).to_string()),
                    (annotation::ENGINE, compile::engine_key(engine)),
                    (annotation::TARGET, target()),
                ];
                let about = about.into_iter().map(|(name, value)| (name.to_owned(), value));
                blobs.push(self.pack_blob(code, oci::CODE, digest, about.collect())?);
            }
        }
        let config = json(&Configuration { images: chain })?;
        let config = self.blob(&config[..], oci::RECORDS, BTreeMap::new())?;
        let manifest = json(&oci::Manifest {
            schema_version: 2,
            media_type: oci::MANIFEST.to_owned(),
            artifact_type: oci::RECORDS.to_owned(),
            config: config.descriptor.clone(),
            layers: blobs.iter().map(|blob| blob.descriptor.clone()).collect(),
            subject: None,
            annotations: [(annotation::NAME.to_owned(), image.name.clone())].into(),
        })?;
        blobs.push(config);
        progress.done(&image.name);
        Ok(Artifact {
            descriptor: Descriptor {
                media_type: oci::MANIFEST.to_owned(),
                digest: BlobDigest(Digest::of(&manifest)),
                size: manifest.len() as u64,
                artifact_type: Some(oci::RECORDS.to_owned()),
                annotations: [(annotation::NAME.to_owned(), image.name)].into(),
            },
            manifest,
            blobs,
            signature: None,
        })
    }

    /// A compressed blob that must have this digest when it is unpacked.
    fn pack_blob(
        &self,
        content: impl Read,
        media_type: &str,
        digest: Digest,
        mut annotations: BTreeMap<String, String>,
    ) -> Result<Blob, ImageError> {
        let failed = || ImageError::io("a packed blob");
        let mut file = self.dir().unnamed_file()?;
        let mut encoder = zstd::Encoder::new(&mut file, COMPRESSION_LEVEL).map_err(failed())?;
        let mut content = Hashing::new(content);
        let size = io::copy(&mut content, &mut encoder).map_err(failed())?;
        encoder.finish().map_err(failed())?;
        if content.finish() != digest {
            return Err(ImageError::Damaged(digest.to_string()));
        }
        annotations.insert(annotation::CONTENT.to_owned(), BlobDigest(digest).to_string());
        annotations.insert(annotation::CONTENT_SIZE.to_owned(), size.to_string());
        describe(file, media_type, annotations)
    }

    /// A blob as it is.
    fn blob(
        &self,
        mut content: &[u8],
        media_type: &str,
        annotations: BTreeMap<String, String>,
    ) -> Result<Blob, ImageError> {
        let mut file = self.dir().unnamed_file()?;
        io::copy(&mut content, &mut file).map_err(ImageError::io("a blob"))?;
        describe(file, media_type, annotations)
    }
}

fn describe(mut file: File, media_type: &str, annotations: BTreeMap<String, String>) -> Result<Blob, ImageError> {
    let failed = || ImageError::io("a blob");
    file.flush().and_then(|()| file.rewind()).map_err(failed())?;
    let (digest, size) = Digest::of_reader(&file).map_err(failed())?;
    let descriptor = Descriptor {
        media_type: media_type.to_owned(),
        digest: BlobDigest(digest),
        size,
        artifact_type: None,
        annotations,
    };
    Ok(Blob { descriptor, file })
}

/// Compact JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(value).map_err(|error| wrong(error.to_string()))
}

/// Digests what is read through it.
pub(super) struct Hashing<R> {
    reader: R,
    hasher: Hasher,
}

impl<R> Hashing<R> {
    pub(super) fn new(reader: R) -> Self {
        let hasher = Hasher::default();
        Self { reader, hasher }
    }

    /// The digest of all that was read.
    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
