//! The provider `wasm`: sandboxes on our own kernel, in this process.

mod exec;
mod files;
mod images;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{
    ByteStream, Capabilities, ExecSpec, Execution, FileInfo, Network, Provider, ProviderError, PullProgress,
    SandboxSpec, SandboxUsage,
};
use crate::image::ImageStore;
use crate::kernel::{self, Kernel, Runtime};
use crate::vfs::{self, Fs};
use images::Images;

/// Bytes of quota behind each inode a sandbox may have: what ext4 would give it at its densest.
const BYTES_PER_INODE: u64 = 4096;

/// Sandboxes on our own kernel.
pub struct WasmProvider {
    runtime: Arc<Runtime>,
    images: Arc<Images>,
    machines: RwLock<HashMap<String, Arc<Machine>>>,
}

/// One sandbox.
struct Machine {
    kernel: Arc<Kernel>,
    /// Environment of every exec: the image's, then the sandbox's.
    env: BTreeMap<String, String>,
    /// Where an exec starts.
    workdir: String,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The last user of a destroyed sandbox is gone: so are its processes.
        self.kernel.shut_down();
    }
}

impl WasmProvider {
    /// A provider of the images in `store`; known ones that are missing are installed when first asked for.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>, store: Arc<ImageStore>) -> Self {
        let images = Arc::new(Images::new(Arc::clone(&runtime), store));
        Self {
            runtime,
            images,
            machines: RwLock::default(),
        }
    }

    /// Installs and loads an image ahead of its first use.
    ///
    /// # Errors
    /// When there is no such image or it cannot be installed.
    pub async fn prepare_image(&self, name: &str) -> Result<(), ProviderError> {
        self.images.get(name).await.map(|_| ())
    }

    fn machine(&self, id: &str) -> Result<Arc<Machine>, ProviderError> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        machines.get(id).cloned().ok_or(ProviderError::SandboxNotFound)
    }
}

#[async_trait]
impl Provider for WasmProvider {
    fn name(&self) -> &'static str {
        "wasm"
    }

    fn capabilities(&self) -> Capabilities {
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

    async fn health(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn create(&self, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
        if spec.network != Network::None {
            return Err(ProviderError::Unsupported(
                "sandboxes of the provider wasm have no network; use \"network\": \"none\", or the provider docker"
                    .to_owned(),
            ));
        }
        let image = self.images.get(&spec.image).await?;
        let disk_bytes = spec.disk_mb.saturating_mul(1 << 20);
        let files = vfs::Limits {
            max_bytes: disk_bytes,
            max_inodes: disk_bytes / BYTES_PER_INODE,
        };
        let limits = kernel::Limits {
            memory_bytes: spec.memory_mb.saturating_mul(1 << 20),
            vcpus: spec.vcpus as usize,
            ..kernel::Limits::default()
        };
        let fs = Fs::from_tree(&image.tree, files);
        let kernel = Kernel::new(&self.runtime, fs, Arc::clone(&image.programs), limits, id)
            .map_err(|error| ProviderError::Internal(format!("image {}: {error}", spec.image)))?;
        let mut env = image.env.clone();
        env.extend(spec.env.clone());
        let machine = Arc::new(Machine {
            kernel,
            env,
            workdir: image.workdir.clone(),
        });
        self.machines
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned(), machine);
        Ok(())
    }

    async fn destroy(&self, id: &str) -> Result<(), ProviderError> {
        let machine = self.machines.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(machine) = machine {
            machine.kernel.shut_down();
        }
        Ok(())
    }

    async fn recover(&self, _id: &str, _spec: &SandboxSpec) -> Result<(), ProviderError> {
        Err(ProviderError::SandboxNotFound)
    }

    async fn remove_orphans(&self, _known: &BTreeSet<String>) -> Result<usize, ProviderError> {
        Ok(0)
    }

    async fn exec(&self, id: &str, exec: ExecSpec) -> Result<Execution, ProviderError> {
        let machine = self.machine(id)?;
        exec::start(&machine, exec)
    }

    async fn read_file(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        files::read(self.machine(id)?.kernel.fs(), path)
    }

    async fn write_file(
        &self,
        id: &str,
        path: &str,
        mode: Option<u32>,
        body: ByteStream,
    ) -> Result<u64, ProviderError> {
        let machine = self.machine(id)?;
        files::write(machine.kernel.fs(), path, mode, body).await
    }

    async fn list_dir(&self, id: &str, path: &str) -> Result<Vec<FileInfo>, ProviderError> {
        files::list(self.machine(id)?.kernel.fs(), path)
    }

    async fn stat(&self, id: &str, path: &str) -> Result<FileInfo, ProviderError> {
        files::stat(self.machine(id)?.kernel.fs(), path)
    }

    async fn delete(&self, id: &str, path: &str, recursive: bool) -> Result<(), ProviderError> {
        let machine = self.machine(id)?;
        let path = path.to_owned();
        // A large tree takes a while.
        blocking(move || files::delete(machine.kernel.fs(), &path, recursive)).await
    }

    async fn rename(&self, id: &str, from: &str, to: &str) -> Result<(), ProviderError> {
        files::rename(self.machine(id)?.kernel.fs(), from, to)
    }

    async fn chmod(&self, id: &str, path: &str, mode: u32) -> Result<(), ProviderError> {
        files::chmod(self.machine(id)?.kernel.fs(), path, mode)
    }

    async fn glob(&self, id: &str, pattern: &str) -> Result<Vec<String>, ProviderError> {
        let machine = self.machine(id)?;
        let pattern = pattern.to_owned();
        blocking(move || files::glob(machine.kernel.fs(), &pattern)).await
    }

    async fn usage(&self, id: &str) -> Result<SandboxUsage, ProviderError> {
        let machine = self.machine(id)?;
        let budget = machine.kernel.budget();
        Ok(SandboxUsage {
            mem_bytes: budget.memory_used(),
            disk_bytes: machine.kernel.fs().usage().bytes,
            processes: u32::try_from(budget.processes_used()).unwrap_or(u32::MAX),
            cpu_time: None,
        })
    }

    async fn read_archive(&self, id: &str, _path: &str) -> Result<ByteStream, ProviderError> {
        self.machine(id)?;
        Err(ProviderError::Unsupported("archives are not there yet".to_owned()))
    }

    async fn write_archive(&self, id: &str, _path: &str, _tar: ByteStream) -> Result<(), ProviderError> {
        self.machine(id)?;
        Err(ProviderError::Unsupported("archives are not there yet".to_owned()))
    }

    async fn pull_image(&self, image: &str, _progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError> {
        self.prepare_image(image).await
    }
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
