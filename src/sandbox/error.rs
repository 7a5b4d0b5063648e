//! Why a request about a sandbox fails.

use super::{Exhausted, SandboxId, UserId};
use crate::provider::ProviderError;
use crate::store::StoreError;

/// What the lifecycle layer refuses or fails at. The API decides which status that is.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Never existed, is gone, has expired, or belongs to someone else.
    #[error("sandbox {0} not found")]
    NotFound(SandboxId),
    /// Exists, but cannot be used yet.
    #[error("sandbox {0} is still being created")]
    NotReady(SandboxId),
    /// Its provider has not brought it back since the server was restarted.
    #[error("sandbox {id} cannot be used yet: {reason}")]
    Waiting {
        /// The sandbox.
        id: SandboxId,
        /// What its provider lacks.
        reason: String,
    },
    /// It was not brought back when the server was restarted, and will not be.
    #[error("sandbox {id} cannot be used: {reason}; destroy it and create another")]
    Unusable {
        /// The sandbox.
        id: SandboxId,
        /// Why it failed, for the client.
        reason: String,
    },
    /// A value of the request is out of range or malformed; the message names it.
    #[error("{0}")]
    Invalid(String),
    /// The server has no provider of this name.
    #[error("provider {name} not found; available providers: {}", available.join(", "))]
    ProviderNotFound {
        /// What was asked for.
        name: String,
        /// Names that would have worked.
        available: Vec<String>,
    },
    /// There is no template of this name.
    #[error("template {0} not found")]
    TemplateNotFound(String),
    /// There is another template of this name.
    #[error("template {0} exists already, with other values; update or delete it")]
    TemplateExists(String),
    /// No quota was set for this owner.
    #[error("no quota is set for owner {0}")]
    QuotaNotFound(UserId),
    /// Nothing here can do that; the message says what to do instead.
    #[error("{0}")]
    Unsupported(String),
    /// A limit of the server or of the sandbox was reached; the message names it.
    #[error("{0}")]
    LimitReached(String),
    /// The server has too little of something now, whoever asks; the message names it.
    #[error("{0}")]
    Overloaded(String),
    /// The server is stopping.
    #[error("the server is shutting down; try again later")]
    ShuttingDown,
    /// What must survive a restart cannot be written or read. The cause is for the log.
    #[error("the server cannot record this now; try again later")]
    Store(#[from] StoreError),
    /// The provider refused or failed.
    #[error(transparent)]
    Provider(ProviderError),
}

impl SandboxError {
    /// The refusal of something of which its tenant, or the server, has no more; `what` names it.
    pub(crate) fn exhausted(exhausted: Exhausted, what: &str) -> Self {
        match exhausted {
            Exhausted::Sandbox => Self::LimitReached(format!("one sandbox may hold no more {what}; try again later")),
            Exhausted::Tenant => Self::LimitReached(format!("your tenant has its share of {what}; try again later")),
            Exhausted::Server => Self::Overloaded(format!("this server has no more {what} now; try again later")),
        }
    }

    /// A provider's error, with the id it does not know how to name.
    pub(super) fn of_provider(id: &SandboxId, error: ProviderError) -> Self {
        match error {
            ProviderError::SandboxNotFound => Self::NotFound(id.clone()),
            other => Self::Provider(other),
        }
    }
}
