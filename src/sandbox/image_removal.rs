//! Removes images that nothing uses.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::SystemTime;

use super::detached::Detached;
use super::life::Sandbox;
use super::manager::{Shared, guarded};
use super::{ImageCatalog, ImageCatalogError, ImageDescription, SandboxError, SandboxManager};
use crate::image::may_name;
use crate::provider::ProviderError;
use crate::store::AuditAction;

/// Why an image is not removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageRemovalError {
    /// No such image is installed.
    #[error("image {0} not found; GET /api/v1/images lists all")]
    NotFound(String),
    /// There are sandboxes that were made from it.
    #[error("image {image} is used by {sandboxes} sandboxes; destroy them first")]
    InUse {
        /// The image.
        image: String,
        /// How many, of all tenants.
        sandboxes: usize,
    },
    /// Another image builds on it.
    #[error("image {child} builds on {image}; remove that first")]
    IsParent {
        /// The image.
        image: String,
        /// An image on top of it.
        child: String,
    },
    /// The images cannot be listed.
    #[error(transparent)]
    Catalog(#[from] ImageCatalogError),
    /// The provider or the store failed or refused.
    #[error(transparent)]
    Failed(#[from] SandboxError),
}

/// Images that are being removed. No sandbox is made from one meanwhile.
#[derive(Default)]
pub(super) struct ImageRemovals(Mutex<Vec<Arc<ImageDescription>>>);

impl ImageRemovals {
    /// # Errors
    /// [`ProviderError::Unavailable`] while an image of this name is being removed.
    pub(super) fn refuse(&self, provider: &str, image: &str) -> Result<(), ProviderError> {
        let removals = self.0.lock();
        if removals.iter().any(|removed| is_made_from(removed, provider, image)) {
            let message = format!("image {image} is being removed; try again later");
            return Err(ProviderError::Unavailable(message));
        }
        Ok(())
    }
}

/// Keeps an image among those that are being removed.
struct Removal {
    shared: Arc<Shared>,
    image: Arc<ImageDescription>,
}

impl Removal {
    fn begin(shared: &Arc<Shared>, image: ImageDescription) -> Self {
        let image = Arc::new(image);
        let mut removals = shared.removals.0.lock();
        removals.push(Arc::clone(&image));
        drop(removals);
        Self {
            shared: Arc::clone(shared),
            image,
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let mut removals = self.shared.removals.0.lock();
        removals.retain(|other| !Arc::ptr_eq(other, &self.image));
    }
}

fn is_made_from(image: &ImageDescription, provider: &str, wanted: &str) -> bool {
    image.provider == provider && may_name(wanted, &image.names())
}

impl SandboxManager {
    /// Removes an image of this name or alias that no sandbox and no other image uses. `action` makes the entry of the audit
    /// trail from the image's name. It is done to its end even when the returned future is dropped.
    ///
    /// # Errors
    /// Why it is not removed.
    pub async fn remove_image(
        &self,
        catalog: &dyn ImageCatalog,
        name: &str,
        action: impl FnOnce(&str) -> AuditAction,
    ) -> Result<(), ImageRemovalError> {
        let found = catalog.get(name).await?;
        let image = found.ok_or_else(|| ImageRemovalError::NotFound(name.to_owned()))?;
        let names = image.names();
        let is_child = |other: &ImageDescription| other.parent.as_ref().is_some_and(|parent| may_name(parent, &names));
        if let Some(child) = catalog.list().await?.into_iter().find(is_child) {
            return Err(ImageRemovalError::IsParent {
                image: image.name,
                child: child.name,
            });
        }
        let action = action(&image.name);
        Detached::new(remove(self.clone(), image, action), || {}).await
    }
}

async fn remove(
    manager: SandboxManager,
    image: ImageDescription,
    action: AuditAction,
) -> Result<(), ImageRemovalError> {
    let shared = &manager.shared;
    let provider = Arc::clone(shared.providers.resolve(Some(&image.provider))?);
    // A sandbox counts before its creation asks for removals: either is seen by the other.
    let removal = Removal::begin(shared, image);
    let image = &removal.image;
    let now = SystemTime::now();
    let uses = |sandbox: &Sandbox| {
        is_made_from(image, &sandbox.provider_name, &sandbox.spec.image) && sandbox.state(now).is_some()
    };
    let using = manager.select(uses).await;
    if !using.is_empty() {
        return Err(ImageRemovalError::InUse {
            image: image.name.clone(),
            sandboxes: using.len(),
        });
    }
    shared.store.record_audit(action).await.map_err(SandboxError::Store)?;
    let removed = guarded(provider.remove_image(&image.name)).await;
    Ok(removed.map_err(SandboxError::Provider)?)
}
