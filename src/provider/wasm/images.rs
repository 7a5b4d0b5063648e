//! Images in memory, loaded once and shared by all sandboxes made from them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::MutexGuard;

use super::blocking;
use crate::image::{Digest, ImageError, ImageStore, Loader, LogProgress, Progress, Record};
use crate::kernel::{Program, Programs, Runtime};
use crate::provider::ProviderError;
use crate::vfs::Tree;

/// What an image with our shell says it can do.
const SHELL_CAPABILITY: &str = "shell";
/// Where it has that shell.
const SHELL_FILE: &str = "/usr/bin/sh";

/// An image that sandboxes can be made from at once.
pub struct ReadyImage {
    /// What it was made of: its record and its parents'.
    pub chain: Vec<Record>,
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
    /// The digest of its `/bin/sh`, if that is the shell of our own images.
    pub shell: Option<String>,
}

/// Images in memory, as of one state of the store.
#[derive(Default)]
struct Ready {
    /// [`ImageStore::generation`] then.
    generation: u64,
    /// By the name clients use, aliases included.
    images: HashMap<String, Arc<ReadyImage>>,
}

/// The images of one provider.
pub struct Images {
    runtime: Arc<Runtime>,
    store: Arc<ImageStore>,
    loader: Loader,
    ready: RwLock<Ready>,
    /// Held while an image is installed or loaded, so that a burst of first requests does it once.
    loading: tokio::sync::Mutex<()>,
    /// Held while an image is pulled or removed.
    changing: tokio::sync::Mutex<()>,
}

impl Images {
    /// Nothing loaded yet.
    pub fn new(runtime: Arc<Runtime>, store: Arc<ImageStore>) -> Self {
        let loader = Loader::new(Arc::clone(&store), runtime.engines());
        Self {
            runtime,
            store,
            loader,
            ready: RwLock::default(),
            loading: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Checks that there is such an image, installed or with a recipe.
    pub fn check_known(&self, name: &str) -> Result<(), ProviderError> {
        let found = self.store.inspect(name);
        found.map(drop).map_err(|error| self.provider_error(name, error))
    }

    /// Waits until nobody else pulls or removes an image.
    pub async fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Installs what is missing of an image. Blocks, for minutes when something has to be built.
    pub fn install(&self, name: &str, progress: &dyn Progress) -> Result<(), ProviderError> {
        match self.store.install(name, &self.runtime, progress) {
            // It is there, and there is nothing newer to install.
            Ok(_) | Err(ImageError::NoRecipe(..)) => Ok(()),
            Err(error) => Err(self.provider_error(name, error)),
        }
    }

    /// Removes an installed image.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), ProviderError> {
        // A pull may take minutes.
        let _changing = self
            .changing
            .try_lock()
            .map_err(|_| ProviderError::Unavailable("an image is being pulled; try again later".to_owned()))?;
        let _not_loading = self.loading.lock().await;
        let (this, image) = (Arc::clone(self), name.to_owned());
        blocking(move || {
            let removed = this.store.remove(&image);
            removed.map(drop).map_err(|error| this.provider_error(&image, error))
        })
        .await
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
        let image = blocking(move || {
            this.refresh();
            this.load(&wanted)
        });
        let image = image.await?;
        self.insert(name, &image);
        Ok(image)
    }

    fn loaded(&self, name: &str) -> Option<Arc<ReadyImage>> {
        let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
        // After a change of the store the image may be another, or gone.
        (ready.generation == self.store.generation())
            .then(|| ready.images.get(name).cloned())
            .flatten()
    }

    fn insert(&self, name: &str, image: &Arc<ReadyImage>) {
        let mut ready = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        ready.images.insert(name.to_owned(), Arc::clone(image));
    }

    /// Forgets images that the store has changed or lost. Sandboxes that were made from them keep them.
    fn refresh(&self) {
        let generation = self.store.generation();
        let images = {
            let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
            if ready.generation == generation {
                return;
            }
            ready.images.clone()
        };
        let current: HashMap<_, _> = images
            .into_iter()
            .filter(|(name, image)| self.store.is_current(name, &image.chain))
            .collect();
        self.loader.retain(current.values().map(|image| image.chain.as_slice()));
        *self.ready.write().unwrap_or_else(PoisonError::into_inner) = Ready {
            generation,
            images: current,
        };
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
            shell: shell(&image.chain),
            chain: image.chain,
            tree: image.tree,
            identity: image.identity,
            programs: Arc::new(programs),
            env: image.env,
            workdir: image.workdir,
        });
        self.insert(&canonical, &ready);
        Ok(ready)
    }

    fn provider_error(&self, name: &str, error: ImageError) -> ProviderError {
        match error {
            ImageError::IsParent { .. } => ProviderError::InUse(error.to_string()),
            ImageError::Unknown(_) | ImageError::NotInstalled(_) => {
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

/// The digest of the shell that an image has from one of ours.
fn shell(chain: &[Record]) -> Option<String> {
    let ours = |record: &&Record| !record.own && record.capabilities.iter().any(|name| name == SHELL_CAPABILITY);
    let mut programs = chain.iter().filter(ours).flat_map(|record| &record.programs);
    let shell = programs.find(|program| program.paths.iter().any(|path| path == SHELL_FILE))?;
    Some(shell.digest.to_string())
}
