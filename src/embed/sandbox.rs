//! Sandboxes: making them, and their files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use super::{Command, Engine, Error, FileInfo, Usage};
use crate::provider::wasm::Machine;
use crate::provider::{GuestPath, Network, Page, SandboxSpec};

/// Limits of a sandbox that its maker says nothing about: those of the server.
const DEFAULT_MEMORY_MB: u64 = 512;
const DEFAULT_DISK_MB: u64 = 1024;
const DEFAULT_VCPUS: u32 = 1;
const DEFAULT_HOSTNAME: &str = "sandbox";

/// What a guest makes is read into memory of this process: no more than this without being asked.
const DEFAULT_MAX_READ: usize = 64 << 20;
/// Most entries of a list, and most bytes of their paths.
const MAX_LISTED: usize = 100_000;
const MAX_LISTED_BYTES: usize = 64 << 20;

/// A small machine with files, processes and limits of its own. Clones are the same; when the last is dropped, its
/// processes end and its files are gone.
///
/// Paths are absolute, at most 4,096 bytes long, and have no `..` and no NUL in them.
#[derive(Clone)]
pub struct Sandbox {
    pub(super) machine: Arc<Machine>,
}

/// What a [`Sandbox`] is made of.
#[derive(Debug, Clone)]
pub struct SandboxBuilder {
    engine: Engine,
    hostname: String,
    spec: SandboxSpec,
}

impl SandboxBuilder {
    pub(super) fn new(engine: Engine, image: &str) -> Self {
        Self {
            engine,
            hostname: DEFAULT_HOSTNAME.to_owned(),
            spec: SandboxSpec {
                image: image.to_owned(),
                memory_mb: DEFAULT_MEMORY_MB,
                vcpus: DEFAULT_VCPUS,
                disk_mb: DEFAULT_DISK_MB,
                cpu_time: None,
                env: BTreeMap::new(),
                network: Network::None,
            },
        }
    }

    /// Memory of all its processes together, MiB; 512 if not set.
    #[must_use]
    pub fn memory_mb(mut self, memory_mb: u64) -> Self {
        self.spec.memory_mb = memory_mb;
        self
    }

    /// What it may write beyond its image, MiB; 1,024 if not set. There are no more files than one for each 4 KiB.
    #[must_use]
    pub fn disk_mb(mut self, disk_mb: u64) -> Self {
        self.spec.disk_mb = disk_mb;
        self
    }

    /// How many of its processes may execute at the same instant; 1 if not set.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.spec.vcpus = vcpus;
        self
    }

    /// Processor time of all its processes until it is dropped. No limit if not set.
    #[must_use]
    pub fn cpu_time(mut self, cpu_time: Duration) -> Self {
        self.spec.cpu_time = Some(cpu_time);
        self
    }

    /// Adds a variable to the environment of its commands.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.env.insert(name.into(), value.into());
        self
    }

    /// What `hostname` prints in it; "sandbox" if not set.
    #[must_use]
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = hostname.into();
        self
    }

    /// Makes the sandbox. Takes microseconds once its image is loaded.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`] when the image is not installed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// let engine = wisp::Engine::new()?;
    /// let sandbox = engine.sandbox("python:3.13").disk_mb(16).env("LANG", "C").create().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create(self) -> Result<Sandbox, Error> {
        let image = self.engine.images.get(&self.spec.image).await?;
        let machine = Machine::in_memory(&self.engine.runtime, &self.hostname, &self.spec, &image)?;
        Ok(Sandbox {
            machine: Arc::new(machine),
        })
    }
}

impl Sandbox {
    /// A command that runs a program with arguments and without a shell.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// let output = sandbox.command("python3").args(["-c", "print(6 * 7)"]).output().await?;
    /// assert_eq!(output.stdout, b"42\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn command(&self, program: impl Into<String>) -> Command {
        Command::program(self.clone(), program.into())
    }

    /// A command that is a script for the image's shell.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// let output = sandbox.shell("seq 3 | wc -l").output().await?;
    /// assert_eq!(output.stdout, b"3\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn shell(&self, script: impl Into<String>) -> Command {
        Command::script(self.clone(), script.into())
    }

    /// Contents of a regular file of up to 64 MiB.
    ///
    /// # Errors
    /// [`Error::FileNotFound`], [`Error::BadPath`] when it is no regular file, or [`Error::LimitReached`] when it is larger.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// sandbox.shell("echo hello > /tmp/greeting").output().await?;
    /// assert_eq!(sandbox.read_file("/tmp/greeting").await?, b"hello\n");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.read_file_up_to(path, DEFAULT_MAX_READ).await
    }

    /// Contents of a regular file of up to `max_bytes`. A file with holes may be much larger than the sandbox's disk, and
    /// what is read is memory of this process.
    ///
    /// # Errors
    /// As [`Sandbox::read_file`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// sandbox.shell("truncate -s 1T /tmp/large").output().await?;
    /// assert!(sandbox.read_file_up_to("/tmp/large", 1024).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_file_up_to(&self, path: &str, max_bytes: usize) -> Result<Vec<u8>, Error> {
        let mut pieces = self.machine.read_file(GuestPath::parse(path)?.as_str())?;
        let mut contents = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if piece.len() > max_bytes - contents.len() {
                return Err(Error::LimitReached(format!("{path} has more than {max_bytes} bytes")));
            }
            contents.extend_from_slice(&piece);
        }
        Ok(contents)
    }

    /// Creates or replaces a file, with its parent directories. Others see either the old contents or all of the new ones.
    ///
    /// # Errors
    /// [`Error::LimitReached`] when the disk is full, [`Error::BadPath`] when the path is that of a directory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// sandbox.write_file("/data/input.csv", "a,b\n1,2\n").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn write_file(&self, path: &str, contents: impl Into<Bytes>) -> Result<(), Error> {
        let path = GuestPath::parse(path)?;
        let body = stream::iter([Ok(contents.into())]).boxed();
        self.machine.write_file(path.as_str(), None, body).await?;
        Ok(())
    }

    /// Sets the permission bits of a file, such as `0o755`.
    ///
    /// # Errors
    /// [`Error::FileNotFound`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// sandbox.write_file("/work/run", "#!/bin/sh\necho it runs\n").await?;
    /// sandbox.set_mode("/work/run", 0o755).await?;
    /// assert_eq!(sandbox.command("/work/run").output().await?.stdout, b"it runs\n");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_mode(&self, path: &str, mode: u32) -> Result<(), Error> {
        Ok(self.machine.chmod(GuestPath::parse(path)?.as_str(), mode).await?)
    }

    /// Size, kind, time and mode of a file or directory. Links are followed.
    ///
    /// # Errors
    /// [`Error::FileNotFound`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// assert!(sandbox.stat("/tmp")?.is_dir);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stat(&self, path: &str) -> Result<FileInfo, Error> {
        Ok(self.machine.stat(GuestPath::parse(path)?.as_str())?)
    }

    /// The entries of a directory of up to 100,000, in the order of their names.
    ///
    /// # Errors
    /// [`Error::FileNotFound`], [`Error::BadPath`] when it is no directory, or [`Error::LimitReached`] when it has more, or
    /// their paths take more than 64 MiB.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// sandbox.write_file("/work/a", "1").await?;
    /// sandbox.write_file("/work/b", "2").await?;
    /// let names: Vec<_> = sandbox.list_dir("/work").await?.into_iter().map(|entry| entry.name).collect();
    /// assert_eq!(names, ["a", "b"]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_dir(&self, path: &str) -> Result<Vec<FileInfo>, Error> {
        let path = GuestPath::parse(path)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut page = Page::default();
        loop {
            let found = self.machine.list_dir(path.as_str(), &page).await?;
            bytes += found.entries.iter().map(|entry| entry.path.len()).sum::<usize>();
            entries.extend(found.entries);
            if entries.len() > MAX_LISTED || bytes > MAX_LISTED_BYTES {
                let path = path.as_str();
                return Err(Error::LimitReached(format!(
                    "{path} has too many entries to list at once"
                )));
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(entries),
            }
        }
    }

    /// Removes a file or a directory with all that is in it.
    ///
    /// # Errors
    /// [`Error::FileNotFound`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// sandbox.write_file("/work/a", "1").await?;
    /// sandbox.remove("/work").await?;
    /// assert!(sandbox.stat("/work").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove(&self, path: &str) -> Result<(), Error> {
        Ok(self.machine.delete(GuestPath::parse(path)?.as_str(), true).await?)
    }

    /// Renames, as `rename(2)`.
    ///
    /// # Errors
    /// [`Error::FileNotFound`], or [`Error::BadPath`] when the new path cannot be replaced.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// sandbox.write_file("/work/new", "1").await?;
    /// sandbox.rename("/work/new", "/work/current").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (GuestPath::parse(from)?, GuestPath::parse(to)?);
        Ok(self.machine.rename(from.as_str(), to.as_str()).await?)
    }

    /// Memory, disk, processes and processor time that it uses now.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// assert_eq!(sandbox.usage().processes, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.machine.usage()
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sandbox").field("usage", &self.usage()).finish()
    }
}
