//! Has a provider fetch an image, and reports progress.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::manager::guarded;
use super::{SandboxError, SandboxManager};
use crate::provider::{ProviderError, PullProgress};
use crate::store::AuditAction;

/// Steps that may wait to be told.
const WAITING_STEPS: usize = 64;

/// An image that is being pulled. The pull goes on when this is dropped.
pub struct RunningPull {
    /// The step that told that there is something to do.
    first: Option<PullProgress>,
    steps: mpsc::Receiver<PullProgress>,
    /// `None` once it is done.
    pull: Option<JoinHandle<Result<(), ProviderError>>>,
    closing: CancellationToken,
}

impl SandboxManager {
    /// Has a provider, the default one when none is named, fetch an image. Returns when work has begun, or when there was
    /// none to do. The attempt goes into the audit trail.
    ///
    /// # Errors
    /// A malformed name, an unknown provider, a server that is stopping; what the provider found before it began, above all
    /// [`ProviderError::ImageNotFound`].
    pub async fn pull_image(
        &self,
        provider: Option<&str>,
        image: &str,
        action: AuditAction,
    ) -> Result<RunningPull, SandboxError> {
        self.refuse_when_closing()?;
        super::request::check_name("image", image)?;
        let provider = Arc::clone(self.shared.providers.resolve(provider)?);
        self.shared.store.record_audit(action).await?;
        let image = image.to_owned();
        let (progress, steps) = mpsc::channel(WAITING_STEPS);
        let pull = tokio::spawn(async move { guarded(provider.pull_image(&image, progress)).await });
        let mut running = RunningPull {
            first: None,
            steps,
            pull: Some(pull),
            closing: self.shared.closing.clone(),
        };
        running.first = running.next().await?;
        Ok(running)
    }
}

impl RunningPull {
    /// The next step; `None` when the image is there.
    ///
    /// # Errors
    /// Why the image cannot be had; a server that is stopping.
    pub async fn next(&mut self) -> Result<Option<PullProgress>, SandboxError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        tokio::select! {
            step = self.steps.recv() => {
                if step.is_some() {
                    return Ok(step);
                }
            }
            () = self.closing.cancelled() => return Err(SandboxError::ShuttingDown),
        }
        let Some(pull) = &mut self.pull else {
            return Ok(None);
        };
        let lost = |_| Err(ProviderError::Internal("the pull was lost".to_owned()));
        let ended = pull.await.unwrap_or_else(lost);
        self.pull = None;
        ended.map(|()| None).map_err(SandboxError::Provider)
    }
}
