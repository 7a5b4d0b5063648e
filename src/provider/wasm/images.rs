//! Images in memory, loaded once and shared by all sandboxes made from them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::blocking;
use crate::image::{Digest, ImageError, ImageStore, Loader, LogProgress};
use crate::kernel::{Program, Programs, Runtime};
use crate::provider::ProviderError;
use crate::vfs::Tree;

/// An image that sandboxes can be made from at once.
pub struct ReadyImage {
    /// All its files.
    pub tree: Tree,
    /// Says which files these are.
    pub identity: Digest,
    /// All its programs.
    pub programs: Arc<Programs>,
    /// Environment of its processes.
    pub env: BTreeMap<String, String>,
    /// Where processes start.
    pub workdir: String,
}

/// The images of one provider.
pub struct Images {
    runtime: Arc<Runtime>,
    store: Arc<ImageStore>,
    loader: Loader,
    /// By the name clients use, aliases included.
    ready: RwLock<HashMap<String, Arc<ReadyImage>>>,
    /// Held while an image is installed or loaded, so that a burst of first requests does it once.
    loading: tokio::sync::Mutex<()>,
}

impl Images {
    /// Nothing loaded yet.
    pub fn new(runtime: Arc<Runtime>, store: Arc<ImageStore>) -> Self {
        let loader = Loader::new(Arc::clone(&store), runtime.engine().clone());
        Self {
            runtime,
            store,
            loader,
            ready: RwLock::default(),
            loading: tokio::sync::Mutex::default(),
        }
    }

    /// The image of this name or alias; installed and loaded if need be.
    pub async fn get(self: &Arc<Self>, name: &str) -> Result<Arc<ReadyImage>, ProviderError> {
        if let Some(image) = self.loaded(name) {
            return Ok(image);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(image) = self.loaded(name) {
            return Ok(image);
        }
        let (this, wanted) = (Arc::clone(self), name.to_owned());
        let image = blocking(move || this.load(&wanted)).await?;
        self.ready
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), Arc::clone(&image));
        Ok(image)
    }

    fn loaded(&self, name: &str) -> Option<Arc<ReadyImage>> {
        self.ready
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn load(&self, name: &str) -> Result<Arc<ReadyImage>, ProviderError> {
        let failed = |error: ImageError| self.provider_error(name, error);
        let canonical = match self.store.resolve(name).map_err(failed)? {
            Some(record) => record.name,
            None => {
                let info = self.store.inspect(name).map_err(failed)?;
                tracing::info!(image = info.name, "image is not installed yet; installing it now");
                self.store
                    .install(&info.name, &self.runtime, &LogProgress)
                    .map_err(failed)?
                    .name
            }
        };
        if let Some(image) = self.loaded(&canonical) {
            return Ok(image);
        }
        let image = self.loader.load(&canonical).map_err(failed)?;
        let mut programs = Programs::default();
        for program in image.programs {
            let program = Program::new(&self.runtime, program.spec, &program.module)
                .map_err(|error| ProviderError::Internal(format!("image {canonical}: {error:#}")))?;
            programs.insert(program);
        }
        let ready = Arc::new(ReadyImage {
            tree: image.tree,
            identity: image.identity,
            programs: Arc::new(programs),
            env: image.env,
            workdir: image.workdir,
        });
        self.ready
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(canonical, Arc::clone(&ready));
        Ok(ready)
    }

    fn provider_error(&self, name: &str, error: ImageError) -> ProviderError {
        match error {
            ImageError::Unknown(_) => {
                let infos = self.store.list().unwrap_or_default();
                let available = infos
                    .into_iter()
                    .flat_map(|info| std::iter::once(info.name).chain(info.aliases));
                ProviderError::ImageNotFound {
                    image: name.to_owned(),
                    available: available.collect(),
                }
            }
            error => ProviderError::Internal(format!("image {name}: {error}")),
        }
    }
}
