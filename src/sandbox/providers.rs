//! The providers of a server, by name.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::SandboxError;
use crate::provider::{Capabilities, Provider, ProviderError};

/// A provider that does not answer a health check in this time is unhealthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// At least one provider, one of which is the default.
#[derive(Clone)]
pub struct Providers {
    all: Arc<[Arc<dyn Provider>]>,
    default: Arc<dyn Provider>,
}

/// Result of one health check.
#[derive(Debug)]
pub struct ProviderStatus {
    /// The provider's name.
    pub name: &'static str,
    /// Whether it serves sandboxes that name no provider.
    pub default: bool,
    /// Why it cannot create sandboxes, if so.
    pub health: Result<(), ProviderError>,
    /// How long the check took.
    pub latency: Duration,
    /// When the check ended.
    pub checked_at: SystemTime,
    /// What it can do, and what it does otherwise than the others.
    pub capabilities: Capabilities,
}

impl Providers {
    /// The providers of a server.
    ///
    /// # Errors
    /// [`SandboxError::ProviderNotFound`] when `default` names none of them.
    pub fn new(all: Vec<Arc<dyn Provider>>, default: &str) -> Result<Self, SandboxError> {
        let found = all.iter().find(|provider| provider.name() == default).cloned();
        let default = found.ok_or_else(|| not_found(&all, default))?;
        Ok(Self {
            all: all.into(),
            default,
        })
    }

    /// The provider of this name, or the default one.
    pub(super) fn resolve(&self, name: Option<&str>) -> Result<&Arc<dyn Provider>, SandboxError> {
        match name {
            None => Ok(&self.default),
            Some(name) => {
                super::request::check_name("provider", name)?;
                self.find(name).ok_or_else(|| not_found(&self.all, name))
            }
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Arc<dyn Provider>] {
        &self.all
    }

    /// The provider of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<dyn Provider>> {
        self.all.iter().find(|provider| provider.name() == name)
    }

    /// Asks one provider how it is.
    ///
    /// # Errors
    /// [`SandboxError::ProviderNotFound`].
    pub async fn status(&self, name: &str) -> Result<ProviderStatus, SandboxError> {
        Ok(self.check(self.resolve(Some(name))?).await)
    }

    /// Asks all providers at once how they are.
    pub async fn statuses(&self) -> Vec<ProviderStatus> {
        futures_util::future::join_all(self.all.iter().map(|provider| self.check(provider))).await
    }

    async fn check(&self, provider: &Arc<dyn Provider>) -> ProviderStatus {
        let started = Instant::now();
        let health = tokio::time::timeout(HEALTH_TIMEOUT, provider.health())
            .await
            .unwrap_or_else(|_| Err(ProviderError::Unavailable("no answer to the health check".to_owned())));
        ProviderStatus {
            name: provider.name(),
            default: Arc::ptr_eq(provider, &self.default),
            health,
            latency: started.elapsed(),
            checked_at: SystemTime::now(),
            capabilities: provider.capabilities(),
        }
    }
}

fn not_found(all: &[Arc<dyn Provider>], name: &str) -> SandboxError {
    SandboxError::ProviderNotFound {
        name: name.to_owned(),
        available: all.iter().map(|provider| provider.name().to_owned()).collect(),
    }
}
