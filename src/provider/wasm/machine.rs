//! One sandbox: its kernel, its files, and what its commands start with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::images::ReadyImage;
use super::kept_files::Files;
use super::{archive, exec, files};
use crate::kernel::{self, Kernel, Runtime};
use crate::provider::{
    ByteStream, DirPage, ExecSpec, Execution, FileInfo, Page, ProviderError, SandboxSpec, SandboxUsage,
};
use crate::vfs::{self, Fs};

/// Bytes of quota behind each inode a sandbox may have: what ext4 would give it at its densest.
const BYTES_PER_INODE: u64 = 4096;

/// One sandbox. Dropping it ends its processes; files that are not kept on the disk go with it.
///
/// Paths are absolute and free of `..` and NUL, as those of [`Provider`](crate::provider::Provider).
pub struct Machine {
    pub(super) kernel: Arc<Kernel>,
    pub(super) files: Files,
    /// Environment of every exec: the image's, then the sandbox's.
    pub(super) env: BTreeMap<String, String>,
    /// Where an exec starts.
    pub(super) workdir: String,
    /// What [`WasmProvider::changed_cpu_times`](super::WasmProvider::changed_cpu_times) has told last, nanoseconds.
    pub(super) told_cpu_ns: AtomicU64,
    /// The digest of the shell that the image came with, if it is ours.
    pub(super) shell: Option<String>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kernel.shut_down();
    }
}

impl Machine {
    /// A sandbox whose files begin as those of the image and are kept in memory.
    ///
    /// # Errors
    /// When the image has files where the kernel mounts its own.
    pub fn in_memory(
        runtime: &Arc<Runtime>,
        hostname: &str,
        spec: &SandboxSpec,
        image: &ReadyImage,
    ) -> Result<Self, ProviderError> {
        let files = Files::in_memory(Fs::from_tree(&image.tree, disk_limits(spec)));
        Self::new(runtime, hostname, spec, image, files)
    }

    /// A sandbox with these files.
    pub(super) fn new(
        runtime: &Arc<Runtime>,
        hostname: &str,
        spec: &SandboxSpec,
        image: &ReadyImage,
        files: Files,
    ) -> Result<Self, ProviderError> {
        let limits = kernel::Limits {
            memory_bytes: spec.memory_mb.saturating_mul(1 << 20),
            vcpus: spec.vcpus as usize,
            cpu_time: spec.cpu_time,
            ..kernel::Limits::default()
        };
        let programs = Arc::clone(&image.programs);
        let kernel = Kernel::new(runtime, files.fs().clone(), programs, limits, hostname)
            .map_err(|error| ProviderError::Internal(format!("image {}: {error}", spec.image)))?;
        let mut env = image.env.clone();
        env.extend(spec.env.clone());
        Ok(Self {
            kernel,
            files,
            told_cpu_ns: AtomicU64::new(0),
            env,
            workdir: image.workdir.clone(),
            shell: image.shell.clone(),
        })
    }

    /// Removes what is kept of its files.
    pub(super) async fn remove_files(&self) -> Result<(), ProviderError> {
        self.files.remove().await
    }

    /// Starts a command.
    ///
    /// # Errors
    /// As [`Provider::exec`](crate::provider::Provider::exec).
    pub async fn exec(&self, exec: ExecSpec) -> Result<Execution, ProviderError> {
        exec::start(self, exec).await
    }

    /// Contents of a regular file.
    ///
    /// # Errors
    /// When there is none, or it is no regular file.
    pub fn read_file(&self, path: &str) -> Result<ByteStream, ProviderError> {
        files::read(&self.files, path)
    }

    /// Creates or replaces a file, with its parents. Tells how many bytes it has.
    ///
    /// # Errors
    /// When the path cannot be a file, the disk quota is used up, or the body fails.
    pub async fn write_file(&self, path: &str, mode: Option<u32>, body: ByteStream) -> Result<u64, ProviderError> {
        let written = files::write(&self.files, path, mode, body).await?;
        self.files.sync().await?;
        Ok(written)
    }

    /// A page of the entries of a directory, in name order.
    ///
    /// # Errors
    /// When there is no such directory.
    pub async fn list_dir(&self, path: &str, page: &Page) -> Result<DirPage, ProviderError> {
        files::list(&self.files, path, page).await
    }

    /// One file or directory.
    ///
    /// # Errors
    /// When there is none.
    pub fn stat(&self, path: &str) -> Result<FileInfo, ProviderError> {
        files::stat(self.kernel.fs(), path)
    }

    /// Removes a file, an empty directory, or with `recursive` a whole tree.
    ///
    /// # Errors
    /// When there is nothing, or a directory is not empty.
    pub async fn delete(&self, path: &str, recursive: bool) -> Result<(), ProviderError> {
        let path = path.to_owned();
        // A large tree takes a while.
        let fs = self.files.fs().clone();
        self.files.work(move || files::delete(&fs, &path, recursive)).await?;
        self.files.sync().await
    }

    /// Renames, as `rename(2)`.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), ProviderError> {
        files::rename(self.files.fs(), from, to)?;
        self.files.sync().await
    }

    /// Sets permission bits.
    ///
    /// # Errors
    /// When there is no such file.
    pub async fn chmod(&self, path: &str, mode: u32) -> Result<(), ProviderError> {
        files::chmod(self.files.fs(), path, mode)?;
        self.files.sync().await
    }

    /// Paths that match a pattern, in order.
    ///
    /// # Errors
    /// When the pattern is none, or there is too much to look at.
    pub async fn glob(&self, pattern: &str) -> Result<Vec<String>, ProviderError> {
        files::glob(&self.files, pattern).await
    }

    /// What it uses now.
    #[must_use]
    pub fn usage(&self) -> SandboxUsage {
        let budget = self.kernel.budget();
        SandboxUsage {
            mem_bytes: budget.memory_used(),
            disk_bytes: self.kernel.fs().usage().bytes,
            processes: u32::try_from(budget.processes_used()).unwrap_or(u32::MAX),
            cpu_time: Some(Duration::from_nanos(self.kernel.cpu_ns())),
        }
    }

    /// A tar of the tree below a directory, or of one file.
    ///
    /// # Errors
    /// When there is nothing at this path.
    pub fn read_archive(&self, path: &str) -> Result<ByteStream, ProviderError> {
        archive::read(&self.files, path)
    }

    /// Unpacks a tar into a directory. What came before an error stays.
    ///
    /// # Errors
    /// When the archive is malformed or the disk quota is used up.
    pub async fn write_archive(&self, path: &str, tar: ByteStream) -> Result<(), ProviderError> {
        let result = archive::write(&self.files, path, tar).await;
        self.files.sync().await?;
        result
    }
}

/// What the files of a sandbox may hold.
pub(super) fn disk_limits(spec: &SandboxSpec) -> vfs::Limits {
    let max_bytes = spec.disk_mb.saturating_mul(1 << 20);
    vfs::Limits {
        max_bytes,
        max_inodes: max_bytes / BYTES_PER_INODE,
    }
}
