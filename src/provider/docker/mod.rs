//! The provider `docker`: sandboxes as containers of a Docker Engine.
//!
//! The engine holds all state: a sandbox is the container of its name, so nothing is lost when this process dies. No
//! host path is ever mounted, and nothing of the API is put into a script: paths are arguments.

mod archive;
mod container;
mod engine;
mod errno;
mod exec;
mod files;
mod images;
mod launch;
mod owner;
mod script;
mod usage;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::mpsc;

use self::container::Maker;
use self::engine::Engine;
use super::{
    ByteStream, Capabilities, DirPage, DockerConfig, ExecSpec, Execution, FileInfo, Page, Provider, ProviderError,
    PullProgress, SandboxSpec, SandboxUsage,
};

/// Sandboxes as containers.
pub struct DockerProvider {
    engine: Arc<Engine>,
    /// Tells this server's containers from those of others on the same engine.
    maker: Maker,
}

impl DockerProvider {
    /// A provider that connects when it is first used. `server` names the server whose sandboxes these are; it must
    /// stay the same when the server starts again, and be no other server's.
    #[must_use]
    pub fn new(config: DockerConfig, server: String) -> Self {
        // No two processes of one server have both in common.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("{}-{}", since_1970.as_nanos(), std::process::id());
        Self {
            engine: Arc::new(Engine::new(config)),
            maker: Maker { server, run },
        }
    }
}

#[async_trait]
impl Provider for DockerProvider {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            names: vec![
                "exec",
                "exec_stream",
                "exec_stdin",
                "exec_signals",
                "files",
                "files_archive",
                "images_pull",
                "network_public",
            ],
            differences: vec![
                "programs run as the image's user, or as 1000:1000 where that would be root, without any capability; \
                 what belongs to root in the image, such as /etc, cannot be changed",
                "disk_mb limits all files together only where the engine's storage driver knows quotas (overlay2 on \
                 xfs with pquota, btrfs, zfs); elsewhere it limits the size of each file",
                "files calls see the container's disk, not what the kernel makes up in /proc, /sys and /dev",
                "vcpus above the number of processors of the engine's machine count as that number; memory_mb must \
                 be at least 6",
                "a command whose background processes keep its output open is answered after up to 2s, not 100ms",
                "network may be public; a sandbox's image must have a shell and the usual POSIX tools",
            ],
        }
    }

    async fn health(&self) -> Result<(), ProviderError> {
        self.engine.health().await
    }

    async fn create(&self, _tenant: &str, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
        refuse_cpu_time(spec.cpu_time)?;
        container::create(&self.engine, &self.maker, id, spec).await
    }

    async fn destroy(&self, id: &str) -> Result<(), ProviderError> {
        container::remove(&self.engine, &container::name(id)).await
    }

    async fn recover(&self, _tenant: &str, id: &str, _spec: &SandboxSpec) -> Result<(), ProviderError> {
        container::recover(&self.engine, &self.maker.server, id).await
    }

    async fn remove_orphans(&self, known: &BTreeSet<String>) -> Result<usize, ProviderError> {
        container::remove_orphans(&self.engine, &self.maker, known).await
    }

    async fn remove_late_orphans(&self, known: &BTreeSet<String>) -> Result<usize, ProviderError> {
        container::remove_orphans(&self.engine, &self.maker, known).await
    }

    async fn exec(&self, id: &str, exec: ExecSpec) -> Result<Execution, ProviderError> {
        refuse_cpu_time(exec.cpu_time)?;
        refuse_fuel(exec.fuel)?;
        exec::start(&self.engine, &container::name(id), exec).await
    }

    async fn read_file(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        files::read(&self.engine, &container::name(id), path).await
    }

    async fn write_file(
        &self,
        id: &str,
        path: &str,
        mode: Option<u32>,
        body: ByteStream,
    ) -> Result<u64, ProviderError> {
        files::write(&self.engine, &container::name(id), path, mode, body).await
    }

    async fn list_dir(&self, id: &str, path: &str, page: Page) -> Result<DirPage, ProviderError> {
        files::list(&self.engine, &container::name(id), path, &page).await
    }

    async fn stat(&self, id: &str, path: &str) -> Result<FileInfo, ProviderError> {
        files::stat(&self.engine, &container::name(id), path).await
    }

    async fn delete(&self, id: &str, path: &str, recursive: bool) -> Result<(), ProviderError> {
        files::delete(&self.engine, &container::name(id), path, recursive).await
    }

    async fn rename(&self, id: &str, from: &str, to: &str) -> Result<(), ProviderError> {
        files::rename(&self.engine, &container::name(id), from, to).await
    }

    async fn chmod(&self, id: &str, path: &str, mode: u32) -> Result<(), ProviderError> {
        files::chmod(&self.engine, &container::name(id), path, mode).await
    }

    async fn glob(&self, id: &str, pattern: &str) -> Result<Vec<String>, ProviderError> {
        files::glob(&self.engine, &container::name(id), pattern).await
    }

    async fn usage(&self, id: &str) -> Result<SandboxUsage, ProviderError> {
        usage::usage(&self.engine, &container::name(id)).await
    }

    async fn read_archive(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        archive::read(&self.engine, &container::name(id), path).await
    }

    async fn write_archive(&self, id: &str, path: &str, tar: ByteStream) -> Result<(), ProviderError> {
        archive::write(&self.engine, &container::name(id), path, tar).await
    }

    async fn pull_image(&self, image: &str, progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError> {
        images::pull(&self.engine, image, progress).await
    }
}

/// The engine has no budget of processor time.
fn refuse_cpu_time(cpu_time: Option<std::time::Duration>) -> Result<(), ProviderError> {
    match cpu_time {
        None => Ok(()),
        Some(_) => Err(ProviderError::Unsupported(
            "the provider docker does not limit cpu_time; leave it out, or use the provider wasm".to_owned(),
        )),
    }
}

/// What runs in containers is machine code, which counts nothing.
fn refuse_fuel(fuel: Option<u64>) -> Result<(), ProviderError> {
    match fuel {
        None => Ok(()),
        Some(_) => Err(ProviderError::Unsupported(
            "the provider docker does not count fuel; leave fuel out, or use the provider wasm".to_owned(),
        )),
    }
}
