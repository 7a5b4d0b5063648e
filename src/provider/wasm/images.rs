//! Images in memory, loaded once and shared by all sandboxes made from them.

use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard, OwnedMutexGuard};

use super::blocking;
use crate::image::{Digest, ImageError, ImageStore, Loader, Progress, Record};
use crate::kernel::{Engines, Programs, Runtime};
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

/// Images that were loaded ahead, by identity. No others are available where these are used.
pub struct PreloadedImages(HashMap<[u8; 32], Arc<ReadyImage>>);

impl PreloadedImages {
    /// Loads installed images. One that cannot be loaded is left out, and logged.
    #[must_use]
    pub fn load(runtime: &Arc<Runtime>, store: &Arc<ImageStore>, names: &[String]) -> Self {
        let images = Images::new(Arc::clone(runtime), Arc::clone(store));
        let loaded = names.iter().filter_map(|name| match images.load_installed(name) {
            Ok(image) => Some((image.identity.bytes(), image)),
            Err(error) => {
                tracing::warn!(image = name, %error, "an image cannot be loaded");
                None
            }
        });
        Self(loaded.collect())
    }

    /// Which images there are.
    #[must_use]
    pub fn identities(&self) -> Vec<[u8; 32]> {
        self.0.keys().copied().collect()
    }
}

/// The images a provider has.
pub(super) enum Available {
    /// Those that are installed in a store.
    Installed(Arc<Images>),
    /// These alone.
    Preloaded(PreloadedImages),
}

impl Available {
    pub(super) fn installed(&self) -> Result<&Arc<Images>, ProviderError> {
        match self {
            Self::Installed(images) => Ok(images),
            Self::Preloaded(_) => Err(ProviderError::Unsupported("images are not managed here".to_owned())),
        }
    }

    pub(super) fn preloaded(&self, identity: &[u8; 32]) -> Result<Arc<ReadyImage>, ProviderError> {
        match self {
            Self::Preloaded(PreloadedImages(images)) => images.get(identity).cloned(),
            Self::Installed(_) => None,
        }
        .ok_or_else(|| ProviderError::Internal("an image is not loaded".to_owned()))
    }
}

/// Images in memory, as of one state of the store.
#[derive(Default)]
struct Ready {
    /// [`ImageStore::generation`] then.
    generation: u64,
    /// By the name clients use, aliases included.
    images: HashMap<String, Arc<ReadyImage>>,
}

/// Where images that are not installed can be had.
pub trait ImageSource: Send + Sync {
    /// Installs an image of this name, or a newer one if there is one. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`ImageError::NotInRegistry`] when there is none; why it cannot be installed.
    fn install(
        &self,
        store: &ImageStore,
        engines: &Engines,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<Record, ImageError>;
}

/// The images of one provider.
pub struct Images {
    runtime: Arc<Runtime>,
    store: Arc<ImageStore>,
    loader: Loader,
    source: Option<Arc<dyn ImageSource>>,
    ready: RwLock<Ready>,
    /// By the image's own name: held while it is loaded or removed, so that a burst of first requests does it once, and
    /// requests for other images do not wait.
    busy: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    /// Held while an image is pulled or removed.
    changing: AsyncMutex<()>,
}

impl Images {
    /// Nothing loaded yet.
    pub fn new(runtime: Arc<Runtime>, store: Arc<ImageStore>) -> Self {
        let loader = Loader::new(Arc::clone(&store), runtime.engines());
        Self {
            runtime,
            store,
            loader,
            source: None,
            ready: RwLock::default(),
            busy: Mutex::default(),
            changing: AsyncMutex::default(),
        }
    }

    /// The store they are installed in.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }

    /// The same, where [`Self::install`] may get images from a source.
    #[must_use]
    pub fn with_source(self, source: Option<Arc<dyn ImageSource>>) -> Self {
        Self { source, ..self }
    }

    /// Waits until nobody else pulls or removes an image.
    pub(super) async fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Installs an image from the source. Without one, an image that is installed is left as it is.
    pub fn install(&self, name: &str, progress: &dyn Progress) -> Result<(), ProviderError> {
        let installed = match &self.source {
            Some(source) => source
                .install(&self.store, &self.runtime.engines(), name, progress)
                .map(drop),
            None => self.store.inspect(name).map(drop),
        };
        installed.map_err(|error| self.provider_error(name, error))
    }

    /// Removes an installed image.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<(), ProviderError> {
        // A pull may take minutes.
        let _changing = self
            .changing
            .try_lock()
            .map_err(|_| ProviderError::Unavailable("an image is being pulled; try again later".to_owned()))?;
        let (image, _not_loading) = self.alone(name).await?;
        let this = Arc::clone(self);
        blocking(move || {
            let removed = this.store.remove(&image);
            removed.map(drop).map_err(|error| this.provider_error(&image, error))
        })
        .await
    }

    /// The installed image of this name or alias; loaded if need be.
    pub async fn get(self: &Arc<Self>, name: &str) -> Result<Arc<ReadyImage>, ProviderError> {
        if let Some(image) = self.loaded(name) {
            return Ok(image);
        }
        let (canonical, _once) = self.alone(name).await?;
        if let Some(image) = self.loaded(name) {
            return Ok(image);
        }
        let (this, wanted) = (Arc::clone(self), name.to_owned());
        blocking(move || this.load(&wanted, &canonical)).await
    }

    /// Waits until nobody else loads or removes the image of this name or alias; tells its own name.
    async fn alone(self: &Arc<Self>, name: &str) -> Result<(String, OwnedMutexGuard<()>), ProviderError> {
        let (this, wanted) = (Arc::clone(self), name.to_owned());
        let canonical = blocking(move || this.canonical(&wanted)).await?;
        let one = {
            let mut busy = self.busy.lock();
            busy.retain(|_, one| one.strong_count() > 0);
            let known = busy.get(&canonical).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::default();
                busy.insert(canonical.clone(), Arc::downgrade(&new));
                new
            })
        };
        Ok((canonical, one.lock_owned().await))
    }

    /// The own names of all images that are in memory.
    pub fn ready_names(&self) -> Vec<String> {
        let ready = self.ready.read();
        let mut names: Vec<String> = ready
            .images
            .values()
            .filter_map(|image| Some(image.chain.last()?.name.clone()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn loaded(&self, name: &str) -> Option<Arc<ReadyImage>> {
        let ready = self.ready.read();
        // After a change of the store the image may be another, or gone.
        (ready.generation == self.store.generation())
            .then(|| ready.images.get(name).cloned())
            .flatten()
    }

    /// Keeps an image that was loaded when the store was as of `generation`. If the store has changed since, the next
    /// request loads the image again.
    fn insert(&self, name: &str, image: &Arc<ReadyImage>, generation: u64) {
        let mut ready = self.ready.write();
        if ready.generation == generation {
            ready.images.insert(name.to_owned(), Arc::clone(image));
        }
    }

    /// Forgets images that the store has changed or lost. Sandboxes that were made from them keep them. Tells the generation
    /// of the store that the others are of.
    fn refresh(&self) -> u64 {
        let generation = self.store.generation();
        let images = {
            let ready = self.ready.read();
            if ready.generation == generation {
                return generation;
            }
            ready.images.clone()
        };
        let current: HashMap<_, _> = images
            .into_iter()
            .filter(|(name, image)| self.store.is_current(name, &image.chain))
            .collect();
        self.loader.retain(current.values().map(|image| image.chain.as_slice()));
        *self.ready.write() = Ready {
            generation,
            images: current,
        };
        generation
    }

    /// The image's own name.
    fn canonical(&self, name: &str) -> Result<String, ProviderError> {
        let found = self.store.inspect(name);
        found
            .map(|info| info.name)
            .map_err(|error| self.provider_error(name, error))
    }

    /// Loads the image unless that was done under another name.
    fn load(&self, name: &str, canonical: &str) -> Result<Arc<ReadyImage>, ProviderError> {
        let generation = self.refresh();
        let ready = match self.loaded(canonical) {
            Some(image) => image,
            None => self.load_installed(canonical)?,
        };
        self.insert(canonical, &ready, generation);
        self.insert(name, &ready, generation);
        Ok(ready)
    }

    fn load_installed(&self, canonical: &str) -> Result<Arc<ReadyImage>, ProviderError> {
        let image = self
            .loader
            .load(canonical)
            .map_err(|error| self.provider_error(canonical, error))?;
        let mut programs = Programs::default();
        for program in image.programs {
            let program = program
                .link(&self.runtime)
                .map_err(|error| ProviderError::Internal(format!("image {canonical}: {error:#}")))?;
            programs.insert(program);
        }
        Ok(Arc::new(ReadyImage {
            shell: shell(&image.chain),
            chain: image.chain,
            tree: image.tree,
            identity: image.identity,
            programs: Arc::new(programs),
            env: image.env,
            workdir: image.workdir,
        }))
    }

    fn provider_error(&self, name: &str, error: ImageError) -> ProviderError {
        match error {
            ImageError::IsParent { .. } => ProviderError::InUse(error.to_string()),
            ImageError::NotInstalled(_) | ImageError::NotInRegistry(_) => ProviderError::ImageNotFound {
                image: name.to_owned(),
                available: self.store.available().unwrap_or_default(),
            },
            ImageError::NameTaken(_) => ProviderError::InUse(error.to_string()),
            ImageError::Registry { .. } => ProviderError::Unavailable(error.to_string()),
            ImageError::Artifact(_)
            | ImageError::Signature(_)
            | ImageError::Invalid(_)
            | ImageError::Refused(_)
            | ImageError::Unsupported(_)
            | ImageError::TooExpensive { .. } => ProviderError::Unsupported(error.to_string()),
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
