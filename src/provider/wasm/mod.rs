//! The provider `wasm`: sandboxes on our own kernel, in this process.

mod archive;
mod exec;
mod files;
mod images;
mod kept_files;
mod machine;
mod pull;
mod simple_command;

use parking_lot::RwLock;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{
    ByteStream, Capabilities, DirPage, ExecSpec, Execution, FileInfo, Network, Page, Provider, ProviderError,
    PullProgress, SandboxSpec, SandboxUsage,
};
use crate::image::ImageStore;
use crate::kernel::Runtime;
use crate::vfs::Fs;
use images::{Available, ReadyImage};
pub use images::{ImageSource, Images, PreloadedImages};
use kept_files::{Files, Keeper};
pub use machine::Machine;
use machine::disk_limits;
pub use pull::pull;

/// Sandboxes on our own kernel.
pub struct WasmProvider {
    runtime: Arc<Runtime>,
    images: Available,
    /// Where files are kept; without it they are gone with the process.
    keeper: Option<Keeper>,
    machines: RwLock<HashMap<String, Arc<Machine>>>,
}

impl WasmProvider {
    /// A provider of the images that are installed in `store`.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>, store: Arc<ImageStore>) -> Self {
        let images = Arc::new(Images::new(Arc::clone(&runtime), store));
        Self::with_images(runtime, images)
    }

    /// A provider of these images.
    #[must_use]
    pub fn with_images(runtime: Arc<Runtime>, images: Arc<Images>) -> Self {
        Self {
            runtime,
            images: Available::Installed(images),
            keeper: None,
            machines: RwLock::default(),
        }
    }

    /// A provider of images that are loaded already, and of no others: for a process that can reach no image store.
    #[must_use]
    pub fn of_images(runtime: Arc<Runtime>, images: PreloadedImages) -> Self {
        Self {
            runtime,
            images: Available::Preloaded(images),
            keeper: None,
            machines: RwLock::default(),
        }
    }

    /// Keeps the files of sandboxes in a directory of their own each, below `root`, which this provider alone uses. With
    /// `fsync` they survive the loss of power, too, and each change waits for the disk.
    #[must_use]
    pub fn keeping_files_in(mut self, root: PathBuf, fsync: bool) -> Self {
        self.keeper = Some(Keeper { root, fsync });
        self
    }

    /// Loads an image ahead of its first use.
    ///
    /// # Errors
    /// When it is not installed or cannot be loaded.
    pub async fn prepare_image(&self, name: &str) -> Result<(), ProviderError> {
        self.images.installed()?.get(name).await.map(|_| ())
    }

    /// Opens a sandbox of an image that is [loaded](Self::of_images): with the files that are kept under this id, or as a
    /// new one if there are none, and with the processor time it has used before. Not an error when it is open already.
    ///
    /// # Errors
    /// When there is no such image, or what is kept cannot be brought back.
    pub async fn open(
        &self,
        id: &str,
        spec: &SandboxSpec,
        image: [u8; 32],
        cpu_time: Duration,
    ) -> Result<(), ProviderError> {
        if self.machine(id).is_ok() {
            return Ok(());
        }
        let image = self.images.preloaded(&image)?;
        let files = self.kept_files(id, spec, &image).await?;
        self.add(id, spec, &image, files)?;
        self.machine(id)?.kernel.count_earlier_cpu_time(cpu_time);
        Ok(())
    }

    /// The processor time of sandboxes whose processes have used some since this was called last; of at most `limit`.
    #[must_use]
    pub fn changed_cpu_times(&self, limit: usize) -> Vec<(String, Duration)> {
        let machines = self.machines.read();
        let changed = machines.iter().filter_map(|(id, machine)| {
            let now = machine.kernel.cpu_ns();
            let before = machine.told_cpu_ns.load(Ordering::Relaxed);
            (now != before).then(|| {
                machine.told_cpu_ns.store(now, Ordering::Relaxed);
                (id.clone(), Duration::from_nanos(now))
            })
        });
        changed.take(limit).collect()
    }

    /// Whether a process that was killed does not end: see [`Kernel::has_unstoppable`](crate::kernel::Kernel::has_unstoppable).
    #[must_use]
    pub fn has_unstoppable(&self, limit: Duration) -> bool {
        let machines = self.machines.read();
        machines.values().any(|machine| machine.kernel.has_unstoppable(limit))
    }

    /// Whether any process of any sandbox lives.
    #[must_use]
    pub fn has_processes(&self) -> bool {
        let machines = self.machines.read();
        machines
            .values()
            .any(|machine| machine.kernel.budget().processes_used() > 0)
    }

    /// What an earlier process kept of a sandbox.
    async fn kept_files(&self, id: &str, spec: &SandboxSpec, image: &ReadyImage) -> Result<Files, ProviderError> {
        let keeper = self.keeper.as_ref().ok_or(ProviderError::SandboxNotFound)?;
        let (tree, identity) = (image.tree.clone(), image.identity.bytes());
        keeper.recover(id, tree, identity, disk_limits(spec)).await
    }

    /// Makes the machine of a sandbox with these files.
    fn add(&self, id: &str, spec: &SandboxSpec, image: &ReadyImage, files: Files) -> Result<(), ProviderError> {
        let machine = Arc::new(Machine::new(&self.runtime, id, spec, image, files)?);
        self.machines.write().insert(id.to_owned(), machine);
        Ok(())
    }

    fn machine(&self, id: &str) -> Result<Arc<Machine>, ProviderError> {
        let machines = self.machines.read();
        machines.get(id).cloned().ok_or(ProviderError::SandboxNotFound)
    }
}

#[async_trait]
impl Provider for WasmProvider {
    fn name(&self) -> &'static str {
        "wasm"
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn health(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn create(&self, _tenant: &str, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
        check_spec(spec)?;
        let image = self.images.installed()?.get(&spec.image).await?;
        let files = match &self.keeper {
            Some(keeper) => keeper.create(id, &image.tree, image.identity.bytes(), disk_limits(spec))?,
            None => Files::in_memory(Fs::from_tree(&image.tree, disk_limits(spec))),
        };
        self.add(id, spec, &image, files)
    }

    async fn destroy(&self, id: &str) -> Result<(), ProviderError> {
        let machine = self.machines.write().remove(id);
        match (machine, &self.keeper) {
            (Some(machine), _) => {
                machine.kernel.shut_down();
                machine.remove_files().await
            }
            // It may be one that could not be brought back, or not be removed before.
            (None, Some(keeper)) => keeper.remove(id).await,
            (None, None) => Ok(()),
        }
    }

    async fn recover(&self, _tenant: &str, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
        if self.keeper.is_none() {
            return Err(ProviderError::SandboxNotFound);
        }
        if self.machine(id).is_ok() {
            return Ok(());
        }
        let image = self.images.installed()?.get(&spec.image).await?;
        let files = self.kept_files(id, spec, &image).await?;
        self.add(id, spec, &image, files)
    }

    async fn remove_orphans(&self, known: &BTreeSet<String>) -> Result<usize, ProviderError> {
        let Some(keeper) = &self.keeper else { return Ok(0) };
        let mut known = known.clone();
        known.extend(self.machines.read().keys().cloned());
        keeper.remove_unknown(known).await
    }

    async fn exec(&self, id: &str, exec: ExecSpec) -> Result<Execution, ProviderError> {
        self.machine(id)?.exec(exec).await
    }

    async fn read_file(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        self.machine(id)?.read_file(path)
    }

    async fn write_file(
        &self,
        id: &str,
        path: &str,
        mode: Option<u32>,
        body: ByteStream,
    ) -> Result<u64, ProviderError> {
        self.machine(id)?.write_file(path, mode, body).await
    }

    async fn list_dir(&self, id: &str, path: &str, page: Page) -> Result<DirPage, ProviderError> {
        self.machine(id)?.list_dir(path, &page).await
    }

    async fn stat(&self, id: &str, path: &str) -> Result<FileInfo, ProviderError> {
        self.machine(id)?.stat(path)
    }

    async fn delete(&self, id: &str, path: &str, recursive: bool) -> Result<(), ProviderError> {
        self.machine(id)?.delete(path, recursive).await
    }

    async fn rename(&self, id: &str, from: &str, to: &str) -> Result<(), ProviderError> {
        self.machine(id)?.rename(from, to).await
    }

    async fn chmod(&self, id: &str, path: &str, mode: u32) -> Result<(), ProviderError> {
        self.machine(id)?.chmod(path, mode).await
    }

    async fn glob(&self, id: &str, pattern: &str) -> Result<Vec<String>, ProviderError> {
        self.machine(id)?.glob(pattern).await
    }

    async fn usage(&self, id: &str) -> Result<SandboxUsage, ProviderError> {
        Ok(self.machine(id)?.usage())
    }

    async fn read_archive(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        self.machine(id)?.read_archive(path)
    }

    async fn write_archive(&self, id: &str, path: &str, tar: ByteStream) -> Result<(), ProviderError> {
        self.machine(id)?.write_archive(path, tar).await
    }

    async fn pull_image(&self, image: &str, progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError> {
        pull(self.images.installed()?, image, progress).await
    }

    async fn remove_image(&self, image: &str) -> Result<(), ProviderError> {
        self.images.installed()?.remove(image).await
    }
}

/// What sandboxes on our own kernel can do.
#[must_use]
pub fn capabilities() -> Capabilities {
    Capabilities {
        names: vec!["exec", "exec_stream", "files"],
        differences: vec![
            "There is no network: network must be \"none\".",
            "Programs are WebAssembly modules of the image: native binaries do not run, and nothing installs packages \
             of a distribution.",
            "Every process is user 0 of its own sandbox, and file modes restrict nobody.",
        ],
    }
}

/// Refuses what no sandbox on our own kernel can have.
///
/// # Errors
/// [`ProviderError::Unsupported`].
pub fn check_spec(spec: &SandboxSpec) -> Result<(), ProviderError> {
    if spec.network != Network::None {
        return Err(ProviderError::Unsupported(
            "sandboxes of the provider wasm have no network; use \"network\": \"none\", or the provider docker"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Runs work that may take long on a thread for such work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> Result<T, ProviderError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(ProviderError::Internal("a worker thread failed".to_owned())),
    }
}
