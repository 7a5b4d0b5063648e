//! The caller of a request: tenant, user, and what it may see.

use std::fmt;

/// The longest user id, characters.
const MAX_CHARS: usize = 128;

/// Who a sandbox is attributed to: an opaque name the deployer's application chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserId(String);

/// A text that is no user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user id has 1 to 128 characters, without white space, control characters or path separators")]
pub struct InvalidUserId;

impl UserId {
    /// Reads a user id; white space around it does not count.
    ///
    /// # Errors
    /// [`InvalidUserId`] when it breaks the rule in that error's text.
    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        let text = text.trim();
        let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != '\\';
        if text.is_empty() || text.chars().count() > MAX_CHARS || !text.chars().all(allowed) {
            return Err(InvalidUserId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose sandboxes, templates and quotas are kept apart from all others'. The holders of one tenant's keys see the same
/// things; nobody else sees any of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(String);

impl TenantId {
    /// The one tenant of a server without keys, and of keys that name none.
    pub const DEFAULT: &'static str = "default";

    /// Reads a tenant's name; the rule is that of [`UserId::parse`].
    ///
    /// # Errors
    /// [`InvalidUserId`].
    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        UserId::parse(text).map(|id| Self(id.0))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A tenant that no key can name: of what is nobody's any more.
    pub(super) fn nobody() -> Self {
        Self(String::new())
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose something is, and to whom of theirs it is attributed. Quotas are counted by this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    /// Whose it is.
    pub(super) tenant: TenantId,
    /// To whom it is attributed, if to anybody.
    pub(super) owner: Option<UserId>,
}

/// Decides what a request can see. What it cannot see does not exist for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Whose things it sees, and to whom what it makes belongs.
    pub tenant: TenantId,
    /// Within the tenant only this user's; those of all users when `None`.
    pub user: Option<UserId>,
    /// Sees all tenants: the key has the scope `admin`.
    pub all_tenants: bool,
    /// Name of the API key, for the log and the audit trail.
    pub key: Option<String>,
}

impl Caller {
    /// Whether something of this holder exists for the caller.
    pub(super) fn sees(&self, holder: &Holder) -> bool {
        self.sees_of(&holder.tenant, holder.owner.as_ref())
    }

    /// Whether something of this tenant exists for the caller, attributed to this owner.
    pub(super) fn sees_of(&self, tenant: &TenantId, owner: Option<&UserId>) -> bool {
        (self.all_tenants || self.tenant == *tenant) && (self.user.is_none() || self.user.as_ref() == owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_trimmed_and_checked() {
        assert_eq!(UserId::parse(" user_123 ").unwrap().as_str(), "user_123");
        assert!(UserId::parse(&"é".repeat(128)).is_ok());
        for text in [
            "",
            "  ",
            "a b",
            "a/b",
            "a\\b",
            "a\u{0}b",
            "a\u{2003}b",
            &"x".repeat(129),
        ] {
            assert!(UserId::parse(text).is_err(), "{text:?}");
        }
    }
}
