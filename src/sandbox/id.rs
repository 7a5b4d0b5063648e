//! Identifiers of sandboxes.

use std::fmt;

/// `sb_` and 128 random bits in lower-case hexadecimal digits: nobody guesses another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId(String);

/// The most characters after `sb_` that can belong to an id.
const MAX_SUFFIX: usize = 64;

impl SandboxId {
    /// What [`parse`](Self::parse) accepts, as a regular expression.
    pub const PATTERN: &'static str = "^sb[_-][a-z0-9]{1,64}$";

    /// A new, random id.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("sb_{}", hex::encode(bytes))))
    }

    /// Reads an id. `sb-…` means the same sandbox as `sb_…`, because a host name cannot carry `_`.
    /// `None` for a text that was never an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let suffix = text.strip_prefix("sb_").or_else(|| text.strip_prefix("sb-"))?;
        let well_formed = (1..=MAX_SUFFIX).contains(&suffix.len())
            && suffix
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        well_formed.then(|| Self(format!("sb_{suffix}")))
    }

    /// The id as text, with `sb_`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ_and_read_back() {
        let id = SandboxId::random().unwrap();
        assert_eq!(id.as_str().len(), 3 + 32);
        assert_ne!(id, SandboxId::random().unwrap());
        assert_eq!(SandboxId::parse(id.as_str()), Some(id));
    }

    #[test]
    fn a_dash_means_the_same_sandbox() {
        assert_eq!(SandboxId::parse("sb-a1b2c3d4"), SandboxId::parse("sb_a1b2c3d4"));
        assert_eq!(SandboxId::parse("sb-a1b2c3d4").unwrap().as_str(), "sb_a1b2c3d4");
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "sb_",
            "a1b2c3d4",
            "sb_A1",
            "sb_a/b",
            "sb_é",
            "sb__a",
            &format!("sb_{}", "a".repeat(65)),
        ] {
            assert_eq!(SandboxId::parse(text), None, "{text:?}");
        }
    }
}
