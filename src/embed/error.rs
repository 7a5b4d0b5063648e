//! What can go wrong.

use crate::image::ImageError;
use crate::kernel::RuntimeError;
use crate::provider::ProviderError;

/// Why a call failed. A command that fails is no error: see [`Output::exit`](super::Output::exit).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such image is installed.
    #[error("image {image} is not installed; installed images: {}", available.join(", "))]
    ImageNotFound {
        /// What was asked for.
        image: String,
        /// Names that would have worked.
        available: Vec<String>,
    },
    /// The sandbox has no file at this path.
    #[error("{0}: no such file or directory")]
    FileNotFound(String),
    /// The path cannot be used for this.
    #[error("{path}: {reason}")]
    BadPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An argument makes no sense, such as a command with a NUL byte.
    #[error("{0}")]
    Invalid(String),
    /// The sandbox has used up its disk, its memory or its processes.
    #[error("{0}")]
    LimitReached(String),
    /// The image or the engine cannot do that.
    #[error("{0}")]
    Unsupported(String),
    /// The WebAssembly engine or its threads cannot be started.
    #[error("{0}")]
    Engine(String),
    /// The store of images cannot be used.
    #[error("{0}")]
    ImageStore(String),
    /// Something failed that should not.
    #[error("{0}")]
    Internal(String),
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::ImageNotFound { image, available } => Self::ImageNotFound { image, available },
            ProviderError::FileNotFound(path) => Self::FileNotFound(path),
            ProviderError::BadPath { path, reason } => Self::BadPath { path, reason },
            ProviderError::Invalid(reason) => Self::Invalid(reason),
            ProviderError::LimitReached(reason) => Self::LimitReached(reason),
            ProviderError::Unsupported(reason) => Self::Unsupported(reason),
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<RuntimeError> for Error {
    fn from(error: RuntimeError) -> Self {
        Self::Engine(error.to_string())
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        Self::ImageStore(error.to_string())
    }
}
