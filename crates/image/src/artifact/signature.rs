//! Signatures of artifacts: Ed25519 over the digest of the manifest, which names all else by digest.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::oci::{self, BlobDigest, Descriptor, annotation};
use crate::digest::Digest;
use crate::error::ImageError;

/// How the text of a public key begins.
const PUBLIC: &str = "ed25519:";
/// How the text of a secret key begins.
const SECRET: &str = "ed25519-secret:";
/// What is signed begins with this, so that no signature made for something else is one of an image.
const DOMAIN: &str = "wisp image v1\n";

/// A key that signatures are checked with: `ed25519:` and 32 bytes in Base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// A key that artifacts are signed with.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// Said of a text that is not a key.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a public key: it must be ed25519: and 32 bytes in Base64, as `wisp images keygen` prints it")]
pub struct NotAKey(String);

impl FromStr for PublicKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = text.strip_prefix(PUBLIC).and_then(bytes_of);
        bytes.map(Self).ok_or_else(|| NotAKey(text.chars().take(100).collect()))
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{PUBLIC}{}", BASE64.encode(self.0))
    }
}

impl SigningKey {
    /// Makes a key from random bytes.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn generate() -> Result<Self, ImageError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| ImageError::io("random numbers")(std::io::Error::other(error)))?;
        Self::from_seed(seed)
    }

    fn from_seed(seed: [u8; 32]) -> Result<Self, ImageError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        let pair = pair.map_err(|error| ImageError::Signature(format!("this is not a secret key: {error}")))?;
        Ok(Self { seed, pair })
    }

    /// Reads a key that [`Self::write`] has written.
    ///
    /// # Errors
    /// When the file cannot be read or holds no key.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        let text = std::fs::read_to_string(path).map_err(ImageError::io(path))?;
        let seed = text.trim().strip_prefix(SECRET).and_then(bytes_of);
        let seed = seed.ok_or_else(|| {
            let path = path.display();
            ImageError::Signature(format!("{path} holds no secret key; `wisp images keygen` makes one"))
        })?;
        Self::from_seed(seed)
    }

    /// Writes the key to a new file that only its owner can read.
    ///
    /// # Errors
    /// When the file is there already or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ImageError> {
        let mut options = OpenOptions::new();
        let file = options.create_new(true).write(true).mode(0o600).open(path);
        let text = format!("{SECRET}{}\n", BASE64.encode(self.seed));
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(ImageError::io(path))
    }

    /// The key that checks its signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs the manifest with this digest.
    pub(super) fn sign(&self, manifest: Digest) -> Signature {
        Signature {
            key: self.public(),
            bytes: self.pair.sign(&signed_bytes(manifest)).as_ref().to_vec(),
        }
    }
}

/// A signature of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) key: PublicKey,
    bytes: Vec<u8>,
}

impl Signature {
    /// The manifest that carries it.
    pub(super) fn manifest(&self, of: &Descriptor) -> oci::Manifest {
        let empty = Descriptor {
            media_type: oci::EMPTY.to_owned(),
            digest: BlobDigest(Digest::of(oci::EMPTY_JSON)),
            size: oci::EMPTY_JSON.len() as u64,
            artifact_type: None,
            annotations: std::collections::BTreeMap::default(),
        };
        let subject = Descriptor {
            artifact_type: None,
            annotations: std::collections::BTreeMap::default(),
            ..of.clone()
        };
        oci::Manifest {
            schema_version: 2,
            media_type: oci::MANIFEST.to_owned(),
            artifact_type: oci::SIGNATURE.to_owned(),
            config: empty.clone(),
            layers: vec![empty],
            subject: Some(subject),
            annotations: [
                (annotation::KEY.to_owned(), self.key.to_string()),
                (annotation::SIGNATURE.to_owned(), BASE64.encode(&self.bytes)),
            ]
            .into(),
        }
    }

    /// Reads the manifest that carries it.
    pub(super) fn read(manifest: &oci::Manifest) -> Result<Self, ImageError> {
        let wrong = |what: &str| ImageError::Signature(format!("the signature of this image has {what}"));
        let text = |name: &str| manifest.annotations.get(name).map(String::as_str);
        let key = text(annotation::KEY).and_then(|text| text.parse().ok());
        let bytes = text(annotation::SIGNATURE).and_then(|text| BASE64.decode(text).ok());
        Ok(Self {
            key: key.ok_or_else(|| wrong("no public key"))?,
            bytes: bytes.ok_or_else(|| wrong("no bytes"))?,
        })
    }

    /// Checks that it is one of this manifest, and that what carries it says nothing else.
    pub(super) fn verify(&self, carrier: &oci::Manifest, manifest: &[u8]) -> Result<(), ImageError> {
        let of = Descriptor {
            media_type: oci::MANIFEST.to_owned(),
            digest: BlobDigest(Digest::of(manifest)),
            size: manifest.len() as u64,
            artifact_type: None,
            annotations: std::collections::BTreeMap::default(),
        };
        if *carrier == self.manifest(&of) && self.is_of(of.digest.0) {
            return Ok(());
        }
        Err(ImageError::Signature(format!(
            "the signature by {} is not one of this image: the image or the signature was changed",
            self.key
        )))
    }

    /// Whether it is one of the manifest with this digest.
    fn is_of(&self, manifest: Digest) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key.0)
            .verify(&signed_bytes(manifest), &self.bytes)
            .is_ok()
    }
}

fn signed_bytes(manifest: Digest) -> Vec<u8> {
    format!("{DOMAIN}sha256:{manifest}\n").into_bytes()
}

fn bytes_of(text: &str) -> Option<[u8; 32]> {
    BASE64.decode(text.trim()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_one_manifest_and_one_key() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signature = key.sign(Digest::of(b"a"));
        assert!(signature.is_of(Digest::of(b"a")));
        assert!(!signature.is_of(Digest::of(b"b")));
        let forged = Signature {
            key: other.public(),
            ..signature
        };
        assert!(!forged.is_of(Digest::of(b"a")));
    }

    #[test]
    fn keys_are_read_as_they_were_written_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = SigningKey::generate().unwrap();
        key.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::read(&path).unwrap().public(), key.public());
        assert!(key.write(&path).is_err());
        assert_eq!(key.public().to_string().parse::<PublicKey>().unwrap(), key.public());
        std::fs::write(&path, key.public().to_string()).unwrap();
        assert!(SigningKey::read(&path).is_err(), "a public key signs nothing");
    }

    #[test]
    fn what_is_not_a_public_key_is_refused() {
        for text in ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", "ed25519-secret:AAAA"] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }
}
