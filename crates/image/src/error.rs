//! What can go wrong with an image.

use std::path::{Path, PathBuf};

/// Why an image cannot be installed, loaded or removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is not installed.
    #[error(
        "image `{0}` is not installed: `wisp images pull` gets it from a registry, `wisp images import` from a file, and \
         `cargo run --release -p wisp-image-build -- {0}` builds it in a checkout of wisp"
    )]
    NotInstalled(String),
    /// Machine code is missing, and this build cannot make it.
    #[error(
        "nothing is compiled here, and the image has no machine code that fits and is signed with a key of \
         registry.trusted_keys: make it where there is a compiler, on the same kind of processor"
    )]
    NoCompiler,
    /// A module is not WebAssembly, or cannot be compiled or loaded.
    #[error("{what}: {reason}")]
    Module {
        /// The module.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What the store holds is not what it wrote.
    #[error("{0} is damaged; install the image again")]
    Damaged(String),
    /// Others than its owner can get at the store's directory.
    #[error("{0} must belong to the user wisp runs as, without write access for others: it holds code wisp runs")]
    NotPrivate(PathBuf),
    /// Other images build on it.
    #[error("image `{image}` is the parent of `{child}`; remove that first")]
    IsParent {
        /// The image.
        image: String,
        /// An installed image on top of it.
        child: String,
    },
    /// What a user wants of an image of their own breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// A file is malformed WebAssembly, or no program for a sandbox.
    #[error("this file cannot become an image: {0}")]
    Refused(String),
    /// A file is good WebAssembly that sandboxes do not run.
    #[error("this file cannot become an image: {0}")]
    Unsupported(String),
    /// Compiling a file takes too much.
    #[error(
        "this file cannot become an image: compiling it takes more than {memory_mb} MiB of memory or {seconds} s, which \
         is the limit"
    )]
    TooExpensive {
        /// The limit on memory, MiB.
        memory_mb: u64,
        /// The limit on time, seconds.
        seconds: u64,
    },
    /// An artifact is damaged, or not one.
    #[error("this image cannot be installed: {0}")]
    Artifact(String),
    /// A registry has no such image.
    #[error("there is no image {0}")]
    NotInRegistry(String),
    /// A registry does not give or take an image.
    #[error("the registry of {image} failed: {reason}")]
    Registry {
        /// The image there.
        image: String,
        /// What it said, or did not.
        reason: String,
    },
    /// A signature or a key is wrong.
    #[error("{0}")]
    Signature(String),
    /// The name of a new image is another's.
    #[error("there is an image `{0}` already; remove it, replace it, or choose another name")]
    NameTaken(String),
    /// The name of a new image means one that wisp brings.
    #[error("`{wanted}` means the image `{image}`, which comes with wisp; choose another name")]
    NameReserved {
        /// The wanted name.
        wanted: String,
        /// The image that has it.
        image: String,
    },
    /// Parents form a ring or a chain of absurd length.
    #[error("the parents of image `{0}` never end")]
    ParentLoop(String),
    /// The operating system refused something.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

impl ImageError {
    /// Adds the path to an I/O error.
    pub(super) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, source }
    }
}
