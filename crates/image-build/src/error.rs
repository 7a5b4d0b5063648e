//! What can go wrong when an image is built.

use std::path::{Path, PathBuf};

use wisp_image::{Digest, ImageError};

/// Why an image cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store, or what it was given.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No recipe has this name or alias.
    #[error("there is no recipe for image `{image}` in {folder}; there are: {}", known.join(", "))]
    NoRecipe {
        /// The image.
        image: String,
        /// The folder of recipes.
        folder: PathBuf,
        /// The images that have recipes there.
        known: Vec<String>,
    },
    /// A recipe breaks a rule of `image.toml`.
    #[error("{path}: {reason}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The rule.
        reason: String,
    },
    /// Bytes are not those the recipe names.
    #[error("{what} has digest {found}, the recipe wants {expected}; it is not used")]
    Digest {
        /// The file or package.
        what: String,
        /// The pinned digest.
        expected: Digest,
        /// Its digest.
        found: Digest,
    },
    /// A package could not be had.
    #[error("{what} could not be fetched: {reason}")]
    Fetch {
        /// The package.
        what: String,
        /// What the package manager said.
        reason: String,
    },
    /// A build command failed.
    #[error("building image `{image}` failed: {reason}")]
    Build {
        /// The image.
        image: String,
        /// How it ended, and its last lines.
        reason: String,
    },
}

impl BuildError {
    /// Adds the path to an I/O error.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Image(ImageError::Io { path, source })
    }
}
