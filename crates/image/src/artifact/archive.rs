//! An artifact as one file: an OCI layout in a tar archive.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};

use super::install::ArtifactSource;
use super::oci::{self, BlobDigest, Descriptor};
use super::pack::{Artifact, json};
use super::{MAX_BLOBS, MAX_MANIFEST_BYTES, tar_headers, wrong};
use crate::digest::Digest;
use crate::error::ImageError;

/// Where blobs are.
const BLOBS: &str = "blobs/sha256/";
/// The file that names the manifests.
const INDEX: &str = "index.json";
/// The file that says that this is a layout.
const LAYOUT: &str = "oci-layout";

impl Artifact {
    /// Writes the artifact as a tar archive. The same artifact gives the same bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_archive(&self, out: impl Write) -> Result<(), ImageError> {
        let failed = || ImageError::io("the archive");
        let mut archive = tar::Builder::new(out);
        let mut manifests = vec![self.descriptor.clone()];
        let mut small: Vec<(Digest, Vec<u8>)> = vec![(self.descriptor.digest.0, self.manifest.clone())];
        if let Some(signature) = self.signature()? {
            manifests.push(Descriptor {
                media_type: oci::MANIFEST.to_owned(),
                digest: BlobDigest(Digest::of(&signature)),
                size: signature.len() as u64,
                artifact_type: Some(oci::SIGNATURE.to_owned()),
                annotations: std::collections::BTreeMap::default(),
            });
            small.push((Digest::of(&signature), signature));
            small.push((Digest::of(oci::EMPTY_JSON), oci::EMPTY_JSON.to_vec()));
        }
        let index = json(&oci::Index {
            schema_version: 2,
            media_type: oci::INDEX.to_owned(),
            manifests,
        })?;
        append(&mut archive, LAYOUT, oci::LAYOUT.len() as u64, oci::LAYOUT.as_bytes()).map_err(failed())?;
        append(&mut archive, INDEX, index.len() as u64, &index[..]).map_err(failed())?;
        for (digest, bytes) in small {
            append(
                &mut archive,
                &format!("{BLOBS}{digest}"),
                bytes.len() as u64,
                &bytes[..],
            )
            .map_err(failed())?;
        }
        // Two modules may have the same code.
        let mut written = HashSet::new();
        for blob in self
            .blobs()
            .iter()
            .filter(|blob| written.insert(blob.descriptor.digest))
        {
            let (name, size) = (format!("{BLOBS}{}", blob.descriptor.digest.0), blob.descriptor.size);
            let file = blob.open().map_err(failed())?;
            append(&mut archive, &name, size, file).map_err(failed())?;
        }
        archive.into_inner().and_then(|mut out| out.flush()).map_err(failed())
    }
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, size: u64, content: impl io::Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    archive.append_data(&mut header, name, content)
}

/// An archive that holds an artifact.
pub struct Archive {
    file: File,
    /// Where each blob is, and its size.
    blobs: HashMap<Digest, (u64, u64)>,
    manifest: Descriptor,
    signature: Option<Descriptor>,
}

impl Archive {
    /// Whether a file that begins with these bytes may be an archive, and not WebAssembly.
    #[must_use]
    pub fn may_be(head: &[u8]) -> bool {
        head.get(257..262).is_some_and(|magic| magic == b"ustar")
    }

    /// Reads what an archive says it holds.
    ///
    /// # Errors
    /// When it is no archive of one image, or is cut off.
    pub fn open(file: File) -> Result<Self, ImageError> {
        let (mut blobs, mut index, mut has_layout) = (HashMap::new(), None, false);
        // The manifests and the files about them besides the blobs; directories.
        let limit = MAX_BLOBS + 16;
        let read = tar_headers::read(&file, limit, |entry| {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            let place = (entry.start, entry.size);
            if entry.kind.is_dir() {
                return Ok(());
            }
            if !entry.kind.is_file() {
                return Err("it holds something that is not a file".to_owned());
            }
            let is_new = match name.strip_prefix(BLOBS).map(str::parse) {
                Some(Ok(digest)) => blobs.insert(digest, place).is_none(),
                None if name == INDEX => index.replace(place).is_none(),
                None if name == LAYOUT => !std::mem::replace(&mut has_layout, true),
                _ => return Err("it holds a file that no OCI layout has".to_owned()),
            };
            if is_new {
                Ok(())
            } else {
                Err(format!("it holds {name} twice"))
            }
        });
        read.map_err(wrong)?;
        let index = index.filter(|_| has_layout);
        let index = index.ok_or_else(|| wrong("it is not an OCI layout: oci-layout or index.json is missing"))?;
        let index: oci::Index = parse(&read_small(&file, index)?, "index.json")?;
        let is_manifest =
            |one: &Descriptor, kind| one.media_type == oci::MANIFEST && one.artifact_type.as_deref() == Some(kind);
        let mut manifests = index.manifests.iter().filter(|one| is_manifest(one, oci::RECORDS));
        let (Some(manifest), None) = (manifests.next(), manifests.next()) else {
            return Err(wrong("it does not hold one image of wisp"));
        };
        let signature = index.manifests.iter().find(|one| is_manifest(one, oci::SIGNATURE));
        let (manifest, signature) = (manifest.clone(), signature.cloned());
        Ok(Self {
            file,
            blobs,
            manifest,
            signature,
        })
    }

    /// Reads a manifest whose digest the index names.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let place = self.place(descriptor)?;
        let bytes = read_small(&self.file, place)?;
        if Digest::of(&bytes) != descriptor.digest.0 {
            return Err(wrong(format!(
                "blob {} has another digest: it was changed",
                descriptor.digest
            )));
        }
        Ok(bytes)
    }

    fn place(&self, descriptor: &Descriptor) -> Result<(u64, u64), ImageError> {
        let place = self.blobs.get(&descriptor.digest.0).copied();
        let place = place.filter(|(_, size)| *size == descriptor.size);
        place.ok_or_else(|| wrong(format!("blob {} is missing, or has another size", descriptor.digest)))
    }
}

impl ArtifactSource for Archive {
    fn manifest(&mut self) -> Result<Vec<u8>, ImageError> {
        Self::manifest(self, &self.manifest)
    }

    fn signature(&mut self, _: Digest) -> Result<Option<Vec<u8>>, ImageError> {
        self.signature.as_ref().map(|one| Self::manifest(self, one)).transpose()
    }

    fn blob(&mut self, descriptor: &Descriptor, into: &mut File) -> Result<(), ImageError> {
        let (start, size) = self.place(descriptor)?;
        let copied = self.file.seek(SeekFrom::Start(start));
        let copied = copied.and_then(|_| io::copy(&mut (&self.file).take(size), into));
        copied.map(drop).map_err(ImageError::io("the archive"))
    }
}

/// Reads a file of the archive that should be small.
fn read_small(mut file: &File, (start, size): (u64, u64)) -> Result<Vec<u8>, ImageError> {
    if size > MAX_MANIFEST_BYTES {
        return Err(wrong("a manifest in it is too large"));
    }
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(start));
    let read = read.and_then(|_| file.take(size).read_to_end(&mut bytes));
    read.map_err(ImageError::io("the archive"))?;
    Ok(bytes)
}

/// Reads JSON from somewhere else. It may be nested 128 levels deep at most.
pub(super) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // The message may repeat what the file says.
        let reason: String = error
            .to_string()
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        wrong(format!("{what} cannot be read: {reason}"))
    })
}
