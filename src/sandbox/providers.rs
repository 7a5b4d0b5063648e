//! The providers of a server, by name.

use std::sync::Arc;

use futures_util::future::join_all;

use super::SandboxError;
use super::health::{Checked, HealthChecks};
use crate::provider::{Capabilities, Provider};

/// At least one provider, one of which is the default.
#[derive(Clone)]
pub struct Providers {
    all: Arc<[Arc<HealthChecks>]>,
    default: Arc<dyn Provider>,
}

/// A provider and how it is.
#[derive(Debug)]
pub struct ProviderStatus {
    /// The provider's name.
    pub name: &'static str,
    /// Whether it serves sandboxes that name no provider.
    pub default: bool,
    /// What a health check found.
    pub checked: Arc<Checked>,
    /// What it can do, and what it does otherwise than the others.
    pub capabilities: Capabilities,
}

impl ProviderStatus {
    /// Whether it can create sandboxes.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.checked.health.is_ok()
    }
}

impl Providers {
    /// The providers of a server.
    ///
    /// # Errors
    /// [`SandboxError::ProviderNotFound`] when `default` names none of them.
    pub fn new(all: Vec<Arc<dyn Provider>>, default: &str) -> Result<Self, SandboxError> {
        let found = all.iter().find(|provider| provider.name() == default).cloned();
        let default = found.ok_or_else(|| not_found(all.iter(), default))?;
        Ok(Self {
            all: all.into_iter().map(HealthChecks::new).collect(),
            default,
        })
    }

    /// The provider of this name, or the default one.
    pub(super) fn resolve(&self, name: Option<&str>) -> Result<&Arc<dyn Provider>, SandboxError> {
        match name {
            None => Ok(&self.default),
            Some(name) => self.named(name).map(|checks| checks.provider()),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.all.iter().map(|checks| checks.provider())
    }

    /// The provider of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<dyn Provider>> {
        self.all().find(|provider| provider.name() == name)
    }

    /// How one provider is; see [`Providers::statuses`].
    ///
    /// # Errors
    /// [`SandboxError::ProviderNotFound`].
    pub async fn status(&self, name: &str) -> Result<ProviderStatus, SandboxError> {
        let checks = self.named(name)?;
        Ok(self.to_status(checks, checks.current().await))
    }

    /// How all providers are. One that does not answer holds nobody up: it is as it was when it last answered, and
    /// unhealthy from the moment its check times out.
    pub async fn statuses(&self) -> Vec<ProviderStatus> {
        join_all(
            self.all
                .iter()
                .map(async |checks| self.to_status(checks, checks.current().await)),
        )
        .await
    }

    /// As [`Providers::statuses`], but each answer is waited for, up to the timeout of a health check.
    pub async fn awaited_statuses(&self) -> Vec<ProviderStatus> {
        join_all(
            self.all
                .iter()
                .map(async |checks| self.to_status(checks, checks.awaited().await)),
        )
        .await
    }

    fn named(&self, name: &str) -> Result<&Arc<HealthChecks>, SandboxError> {
        super::request::check_name("provider", name)?;
        let found = self.all.iter().find(|checks| checks.provider().name() == name);
        found.ok_or_else(|| not_found(self.all(), name))
    }

    fn to_status(&self, checks: &HealthChecks, checked: Arc<Checked>) -> ProviderStatus {
        let provider = checks.provider();
        ProviderStatus {
            name: provider.name(),
            default: Arc::ptr_eq(provider, &self.default),
            checked,
            capabilities: provider.capabilities(),
        }
    }
}

fn not_found<'a>(all: impl Iterator<Item = &'a Arc<dyn Provider>>, name: &str) -> SandboxError {
    SandboxError::ProviderNotFound {
        name: name.to_owned(),
        available: all.map(|provider| provider.name().to_owned()).collect(),
    }
}
