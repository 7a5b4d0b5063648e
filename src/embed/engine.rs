//! What all sandboxes of a process share.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Error, SandboxBuilder};
use crate::image::ImageStore;
use crate::kernel::{Runtime, guest_threads};
use crate::provider::wasm::Images;

/// The WebAssembly engine, the threads that guests run on, and the images that are installed. A process needs one; clones
/// are the same.
///
/// Threads end when the last clone and the last sandbox are gone.
#[derive(Clone)]
pub struct Engine {
    pub(super) runtime: Arc<Runtime>,
    pub(super) images: Arc<Images>,
}

/// Settings of an [`Engine`].
#[derive(Debug, Clone, Default)]
pub struct EngineBuilder {
    threads: Option<usize>,
    image_store: Option<PathBuf>,
    fuel: bool,
}

impl Engine {
    /// An engine with one guest thread for each processor and the images that this user has installed.
    ///
    /// # Errors
    /// [`Error::Engine`] when threads or memory cannot be had, [`Error::ImageStore`] when the store cannot be opened.
    ///
    /// ```
    /// let engine = wisp::Engine::new()?;
    /// assert!(engine.installed_images()?.contains(&"python:3.13".to_owned()));
    /// # Ok::<(), wisp::Error>(())
    /// ```
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// An engine with other settings.
    ///
    /// ```
    /// let engine = wisp::Engine::builder().threads(1).build()?;
    /// # Ok::<(), wisp::Error>(())
    /// ```
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Names and aliases of the images that are installed, sorted.
    ///
    /// # Errors
    /// [`Error::ImageStore`] when the store cannot be read.
    pub fn installed_images(&self) -> Result<Vec<String>, Error> {
        Ok(self.images.store().available()?)
    }

    /// Loads an image ahead of the first sandbox that needs it: some milliseconds.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`] when it is not installed, [`Error::Internal`] when its files are damaged.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// let engine = wisp::Engine::new()?;
    /// engine.load_image("python:3.13").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn load_image(&self, name: &str) -> Result<(), Error> {
        self.images.get(name).await?;
        Ok(())
    }

    /// Describes a sandbox of an image: what [`SandboxBuilder::create`] will make.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// let engine = wisp::Engine::new()?;
    /// let sandbox = engine.sandbox("python:3.13").memory_mb(128).create().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn sandbox(&self, image: &str) -> SandboxBuilder {
        SandboxBuilder::new(self.clone(), image)
    }
}

impl EngineBuilder {
    /// How many threads guests run on: at most so many execute at the same instant. One for each processor if not set.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The directory of the image store, as `WISP_CACHE_DIR` names it for the server. If not set: what that variable says,
    /// else `$XDG_CACHE_HOME/wisp`, else `~/.cache/wisp`.
    #[must_use]
    pub fn image_store(mut self, directory: impl Into<PathBuf>) -> Self {
        self.image_store = Some(directory.into());
        self
    }

    /// Makes [`Command::fuel`](super::Command::fuel) available. Images are compiled a second time for it when they are
    /// loaded first.
    #[must_use]
    pub fn fuel(mut self, fuel: bool) -> Self {
        self.fuel = fuel;
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn build(self) -> Result<Engine, Error> {
        let store = match self.image_store {
            Some(directory) => ImageStore::open(&directory)?,
            None => ImageStore::open_default()?,
        };
        let runtime = Runtime::with_fuel(self.threads.unwrap_or_else(guest_threads), self.fuel)?;
        let images = Images::new(Arc::clone(&runtime), Arc::new(store.without_compiling_process()));
        Ok(Engine {
            runtime,
            images: Arc::new(images),
        })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").finish_non_exhaustive()
    }
}
