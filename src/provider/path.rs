//! Paths inside a sandbox.

use super::ProviderError;

/// Longest path or pattern, bytes: `PATH_MAX` of Linux.
const MAX_BYTES: usize = 4096;
/// Most characters of a path that an error repeats.
const MAX_SHOWN: usize = 200;

/// An absolute path of a sandbox, free of `..` and NUL and at most 4,096 bytes long.
///
/// Without `..`, a path leads where it seems to, but for links that the sandbox itself has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestPath<'a>(&'a str);

impl<'a> GuestPath<'a> {
    /// Checks a path.
    ///
    /// # Errors
    /// [`ProviderError::BadPath`] with the rule that it breaks.
    pub fn parse(path: &'a str) -> Result<Self, ProviderError> {
        match Self::fault(path) {
            None => Ok(Self(path)),
            Some(reason) => Err(ProviderError::BadPath {
                path: path.chars().take(MAX_SHOWN).collect(),
                reason: reason.to_owned(),
            }),
        }
    }

    /// The rule that a path breaks; `None` when it is good.
    #[must_use]
    pub fn fault(path: &str) -> Option<&'static str> {
        if path.is_empty() {
            Some("must not be empty")
        } else if path.len() > MAX_BYTES {
            Some("must not be longer than 4096 bytes")
        } else if path.contains('\0') {
            Some("must not contain a NUL byte")
        } else if !path.starts_with('/') {
            Some("must be absolute: start with \"/\"")
        } else if path.split('/').any(|component| component == "..") {
            Some("must not contain a \"..\" component")
        } else {
            None
        }
    }

    /// The path itself.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }
}
