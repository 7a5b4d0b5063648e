//! Errors of filesystem operations.

/// A filesystem error. Each variant names its POSIX errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// `ENOENT`
    #[error("no such file or directory")]
    NotFound,
    /// `ENOTDIR`
    #[error("not a directory")]
    NotDir,
    /// `EISDIR`
    #[error("is a directory")]
    IsDir,
    /// `EEXIST`
    #[error("file exists")]
    Exists,
    /// `ENOTEMPTY`
    #[error("directory not empty")]
    NotEmpty,
    /// `ELOOP`
    #[error("too many levels of symbolic links")]
    Loop,
    /// `ENAMETOOLONG`
    #[error("file name too long")]
    NameTooLong,
    /// `ENOSPC`: the quota of bytes or of inodes is used up
    #[error("no space left on device")]
    NoSpace,
    /// `EFBIG`
    #[error("file too large")]
    TooBig,
    /// `EINVAL`
    #[error("invalid argument")]
    Invalid,
    /// `EBUSY`
    #[error("device or resource busy")]
    Busy,
    /// `EPERM`
    #[error("operation not permitted")]
    NotPermitted,
    /// `EMLINK`
    #[error("too many links")]
    TooManyLinks,
    /// `ENOTSUP`
    #[error("operation not supported")]
    NotSupported,
    /// `EIO`: the host's file behind stored data cannot be read
    #[error("input/output error")]
    Io,
}

/// The result of an operation on an inode.
pub type Result<T> = std::result::Result<T, Error>;

/// Names a mounted directory to whoever serves its inside. The number means nothing to the filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountId(pub u32);

/// Why an operation on a path did not succeed here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The operation failed.
    #[error(transparent)]
    Fs(#[from] Error),
    /// The path leads into a mounted directory: whoever serves it has to carry out the operation.
    #[error("the path leads into mount {}", mount.0)]
    Mounted {
        /// The mount.
        mount: MountId,
        /// The rest of the path, relative to the mounted directory and without a leading slash. All symbolic links
        /// before it are resolved, those inside it are not. Empty when the path names the mounted directory itself.
        rest: Vec<u8>,
    },
}

impl PathError {
    /// The plain error; `inside_mount` if the path leads into a mount.
    #[must_use]
    pub fn or(self, inside_mount: Error) -> Error {
        match self {
            Self::Fs(error) => error,
            Self::Mounted { .. } => inside_mount,
        }
    }
}

/// The result of an operation on a path.
pub type PathResult<T> = std::result::Result<T, PathError>;
