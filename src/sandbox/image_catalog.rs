//! What the API shows of installed images. The image store implements it.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::image::{ImageError, ImageInfo, ImageStore};

/// One installed image, told honestly: what it is made of, what it can do and what it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDescription {
    /// Canonical name, such as `python:3.12`.
    pub name: String,
    /// Other names of the same image.
    pub aliases: Vec<String>,
    /// The image it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Exact version of what is inside, such as `CPython 3.12.0`.
    pub version: String,
    /// Provider that runs it.
    pub provider: String,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// `sha256:` and the digest of the image's contents.
    pub digest: String,
    /// Where its parts come from.
    pub provenance: String,
    /// SPDX licence expression.
    pub licence: String,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// What it cannot do, and what to use instead.
    pub known_limits: Vec<String>,
}

impl ImageDescription {
    /// Its name, and the others it has.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        std::iter::once(&self.name).chain(&self.aliases).cloned().collect()
    }
}

/// The list of images could not be read. The message is for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ImageCatalogError(pub String);

/// The images a server has.
#[async_trait]
pub trait ImageCatalog: Send + Sync + 'static {
    /// All installed images, by name.
    async fn list(&self) -> Result<Vec<ImageDescription>, ImageCatalogError>;

    /// The image of this name or alias.
    async fn get(&self, name: &str) -> Result<Option<ImageDescription>, ImageCatalogError>;
}

/// A server without an image store.
#[derive(Debug, Clone, Copy)]
pub struct NoImages;

#[async_trait]
impl ImageCatalog for NoImages {
    async fn list(&self) -> Result<Vec<ImageDescription>, ImageCatalogError> {
        Ok(Vec::new())
    }

    async fn get(&self, _name: &str) -> Result<Option<ImageDescription>, ImageCatalogError> {
        Ok(None)
    }
}

#[async_trait]
impl ImageCatalog for Arc<ImageStore> {
    async fn list(&self) -> Result<Vec<ImageDescription>, ImageCatalogError> {
        let store = Self::clone(self);
        reading(move || Ok(ImageStore::list(&store)?.into_iter().map(description).collect())).await
    }

    async fn get(&self, name: &str) -> Result<Option<ImageDescription>, ImageCatalogError> {
        let (store, name) = (Self::clone(self), name.to_owned());
        reading(move || match store.inspect(&name) {
            Ok(info) => Ok(Some(description(info))),
            Err(ImageError::NotInstalled(_)) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }
}

/// Reads the store on a thread where that may wait for the disk.
async fn reading<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageCatalogError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result.map_err(|error| ImageCatalogError(error.to_string())),
        Err(_) => Err(ImageCatalogError("a worker thread failed".to_owned())),
    }
}

pub(super) fn description(info: ImageInfo) -> ImageDescription {
    let licences: Vec<String> = info
        .licences
        .iter()
        .map(|part| format!("{}: {}", part.what, part.licence))
        .collect();
    ImageDescription {
        name: info.name,
        aliases: info.aliases,
        parent: info.parent,
        version: info.version,
        provider: "wasm".to_owned(),
        size_bytes: info.size,
        digest: format!("sha256:{}", info.recipe),
        provenance: info.provenance,
        licence: licences.join(", "),
        capabilities: info.capabilities,
        known_limits: info.known_limits,
    }
}
