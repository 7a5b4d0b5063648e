//! Names of images in registries.

use std::fmt;
use std::str::FromStr;

use wisp_image::BlobDigest;

/// Longest name of a repository, bytes.
const MAX_REPOSITORY_BYTES: usize = 255;
/// Longest tag, bytes.
const MAX_TAG_BYTES: usize = 128;

/// An image in a registry: `HOST[:PORT]/REPOSITORY[:TAG]`, or `@sha256:DIGEST` instead of the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) version: Version,
}

/// Which of the images of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    Tag(String),
    Digest(BlobDigest),
}

/// Said of a text that names no image in a registry.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` names no image in a registry: it must be HOST[:PORT]/NAME[:TAG], such as registry.example/wisp/python:3.13"
)]
pub struct NotAReference(String);

impl Reference {
    /// Whether a text means an image in a registry, and not one here: its first part is a host, as with Docker.
    #[must_use]
    pub fn has_registry(text: &str) -> bool {
        let first = text.split_once('/').map(|(first, _)| first);
        first.is_some_and(|host| host.contains(['.', ':']) || host == "localhost")
    }

    /// The image `name` (`NAME[:TAG]`) below an address of a registry: a host, or a host and a path.
    ///
    /// # Errors
    /// When that makes no reference.
    pub fn below(address: &str, name: &str) -> Result<Self, NotAReference> {
        format!("{}/{name}", address.trim_end_matches('/')).parse()
    }

    /// The host, with the port if one is named.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.registry
    }

    /// The same repository in another version.
    pub(crate) fn with_tag(&self, tag: String) -> Self {
        Self {
            version: Version::Tag(tag),
            ..self.clone()
        }
    }
}

impl FromStr for Reference {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, NotAReference> {
        let parsed = || {
            let (registry, rest) = text.split_once('/')?;
            let (rest, digest) = match rest.split_once('@') {
                Some((rest, digest)) => (rest, Some(BlobDigest::try_from(digest.to_owned()).ok()?)),
                None => (rest, None),
            };
            let (repository, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
            let version = digest.map_or_else(|| Version::Tag(tag.to_owned()), Version::Digest);
            let good = Self::has_registry(text) && is_host(registry) && is_repository(repository) && is_tag(tag);
            good.then(|| Self {
                registry: registry.to_owned(),
                repository: repository.to_owned(),
                version,
            })
        };
        parsed().ok_or_else(|| NotAReference(text.chars().filter(|c| !c.is_control()).take(300).collect()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(out, "{}/{}:{tag}", self.registry, self.repository),
            Version::Digest(digest) => write!(out, "{}/{}@{digest}", self.registry, self.repository),
        }
    }
}

impl Version {
    /// As the last part of a path.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::Tag(tag) => tag.clone(),
            Self::Digest(digest) => digest.to_string(),
        }
    }
}

fn is_host(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(good)
}

fn is_repository(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let is_part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.bytes().all(good);
    text.len() <= MAX_REPOSITORY_BYTES && text.split('/').all(is_part)
}

fn is_tag(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= MAX_TAG_BYTES
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_host_a_repository_and_a_version() {
        let reference: Reference = "127.0.0.1:5000/wisp/python:3.13".parse().unwrap();
        assert_eq!(
            (
                reference.registry.as_str(),
                reference.repository.as_str(),
                reference.version.path().as_str()
            ),
            ("127.0.0.1:5000", "wisp/python", "3.13")
        );
        assert_eq!(reference.to_string(), "127.0.0.1:5000/wisp/python:3.13");
        assert_eq!("localhost/base".parse::<Reference>().unwrap().version.path(), "latest");
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned: Reference = format!("r.example/base:1@{digest}").parse().unwrap();
        assert_eq!(pinned.version.path(), digest);
        let below = Reference::below("r.example/wisp/", "python:3.13").unwrap();
        assert_eq!(below.to_string(), "r.example/wisp/python:3.13");
    }

    #[test]
    fn invalid_image_references_are_refused() {
        for text in [
            "",
            "base",
            "python:3.13",
            "wisp/python",
            "r.example",
            "r.example/",
            "r.example/A",
            "r.example/a/../b",
            "r.example/a:",
            "r.example/a:b:c",
            "r.example/a@sha256:12",
            "http://r.example/a",
            "r.example/a?b",
            "r ./a",
            "user@r.example/a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
