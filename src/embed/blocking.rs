//! The same for code that is not asynchronous: each call blocks the thread that makes it.
//!
//! None of these may be called in an asynchronous task; use [`wisp::Engine`](super::Engine) there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;

use super::{Error, Event, Exit, FileInfo, Output, Signal, Usage};

/// As [`wisp::Engine`](super::Engine), with a thread of its own to wait on.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: super::Engine,
    runtime: Arc<Runtime>,
}

/// As [`wisp::EngineBuilder`](super::EngineBuilder).
#[derive(Debug, Clone, Default)]
pub struct EngineBuilder(super::EngineBuilder);

/// As [`wisp::SandboxBuilder`](super::SandboxBuilder).
#[derive(Debug, Clone)]
pub struct SandboxBuilder {
    inner: super::SandboxBuilder,
    runtime: Arc<Runtime>,
}

/// As [`wisp::Sandbox`](super::Sandbox).
#[derive(Debug, Clone)]
pub struct Sandbox {
    inner: super::Sandbox,
    runtime: Arc<Runtime>,
}

/// As [`wisp::Command`](super::Command).
#[derive(Debug, Clone)]
pub struct Command {
    inner: super::Command,
    runtime: Arc<Runtime>,
}

/// As [`wisp::Child`](super::Child). It is an iterator over what the command writes.
#[derive(Debug)]
pub struct Child {
    inner: super::Child,
    runtime: Arc<Runtime>,
}

impl Engine {
    /// As [`wisp::Engine::new`](super::Engine::new).
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// let engine = wisp::blocking::Engine::new()?;
    /// # Ok::<(), wisp::Error>(())
    /// ```
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// As [`wisp::Engine::builder`](super::Engine::builder).
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// As [`wisp::Engine::installed_images`](super::Engine::installed_images).
    ///
    /// # Errors
    /// As there.
    pub fn installed_images(&self) -> Result<Vec<String>, Error> {
        self.inner.installed_images()
    }

    /// As [`wisp::Engine::load_image`](super::Engine::load_image).
    ///
    /// # Errors
    /// As there.
    pub fn load_image(&self, name: &str) -> Result<(), Error> {
        self.runtime.block_on(self.inner.load_image(name))
    }

    /// As [`wisp::Engine::sandbox`](super::Engine::sandbox).
    #[must_use]
    pub fn sandbox(&self, image: &str) -> SandboxBuilder {
        SandboxBuilder {
            inner: self.inner.sandbox(image),
            runtime: Arc::clone(&self.runtime),
        }
    }
}

impl EngineBuilder {
    /// As [`wisp::EngineBuilder::threads`](super::EngineBuilder::threads).
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self(self.0.threads(threads))
    }

    /// As [`wisp::EngineBuilder::image_store`](super::EngineBuilder::image_store).
    #[must_use]
    pub fn image_store(self, directory: impl Into<PathBuf>) -> Self {
        Self(self.0.image_store(directory))
    }

    /// As [`wisp::EngineBuilder::fuel`](super::EngineBuilder::fuel).
    #[must_use]
    pub fn fuel(self, fuel: bool) -> Self {
        Self(self.0.fuel(fuel))
    }

    /// As [`wisp::EngineBuilder::build`](super::EngineBuilder::build).
    ///
    /// # Errors
    /// As there.
    pub fn build(self) -> Result<Engine, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("wisp-blocking")
            .enable_time()
            .build()
            .map_err(|error| Error::Engine(format!("cannot start a thread: {error}")))?;
        Ok(Engine {
            inner: self.0.build()?,
            runtime: Arc::new(runtime),
        })
    }
}

impl SandboxBuilder {
    fn map(self, change: impl FnOnce(super::SandboxBuilder) -> super::SandboxBuilder) -> Self {
        Self {
            inner: change(self.inner),
            runtime: self.runtime,
        }
    }

    /// As [`wisp::SandboxBuilder::memory_mb`](super::SandboxBuilder::memory_mb).
    #[must_use]
    pub fn memory_mb(self, memory_mb: u64) -> Self {
        self.map(|inner| inner.memory_mb(memory_mb))
    }

    /// As [`wisp::SandboxBuilder::disk_mb`](super::SandboxBuilder::disk_mb).
    #[must_use]
    pub fn disk_mb(self, disk_mb: u64) -> Self {
        self.map(|inner| inner.disk_mb(disk_mb))
    }

    /// As [`wisp::SandboxBuilder::vcpus`](super::SandboxBuilder::vcpus).
    #[must_use]
    pub fn vcpus(self, vcpus: u32) -> Self {
        self.map(|inner| inner.vcpus(vcpus))
    }

    /// As [`wisp::SandboxBuilder::cpu_time`](super::SandboxBuilder::cpu_time).
    #[must_use]
    pub fn cpu_time(self, cpu_time: Duration) -> Self {
        self.map(|inner| inner.cpu_time(cpu_time))
    }

    /// As [`wisp::SandboxBuilder::env`](super::SandboxBuilder::env).
    #[must_use]
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map(|inner| inner.env(name, value))
    }

    /// As [`wisp::SandboxBuilder::hostname`](super::SandboxBuilder::hostname).
    #[must_use]
    pub fn hostname(self, hostname: impl Into<String>) -> Self {
        self.map(|inner| inner.hostname(hostname))
    }

    /// As [`wisp::SandboxBuilder::create`](super::SandboxBuilder::create).
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// let engine = wisp::blocking::Engine::new()?;
    /// let sandbox = engine.sandbox("python:3.13").memory_mb(128).disk_mb(16).create()?;
    /// # Ok::<(), wisp::Error>(())
    /// ```
    pub fn create(self) -> Result<Sandbox, Error> {
        let inner = self.runtime.block_on(self.inner.create())?;
        Ok(Sandbox {
            inner,
            runtime: self.runtime,
        })
    }
}

impl Sandbox {
    fn with(&self, inner: super::Command) -> Command {
        Command {
            inner,
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// As [`wisp::Sandbox::command`](super::Sandbox::command).
    ///
    /// ```
    /// # let sandbox = wisp::blocking::Engine::new()?.sandbox("python:3.13").create()?;
    /// let output = sandbox.command("python3").args(["-c", "print(6 * 7)"]).output()?;
    /// assert_eq!(output.stdout, b"42\n");
    /// # Ok::<(), wisp::Error>(())
    /// ```
    #[must_use]
    pub fn command(&self, program: impl Into<String>) -> Command {
        self.with(self.inner.command(program))
    }

    /// As [`wisp::Sandbox::shell`](super::Sandbox::shell).
    #[must_use]
    pub fn shell(&self, script: impl Into<String>) -> Command {
        self.with(self.inner.shell(script))
    }

    /// As [`wisp::Sandbox::read_file`](super::Sandbox::read_file).
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// # let sandbox = wisp::blocking::Engine::new()?.sandbox("python:3.13").create()?;
    /// sandbox.write_file("/work/in", "contents")?;
    /// assert_eq!(sandbox.read_file("/work/in")?, b"contents");
    /// # Ok::<(), wisp::Error>(())
    /// ```
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(self.inner.read_file(path))
    }

    /// As [`wisp::Sandbox::read_file_up_to`](super::Sandbox::read_file_up_to).
    ///
    /// # Errors
    /// As there.
    pub fn read_file_up_to(&self, path: &str, max_bytes: usize) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(self.inner.read_file_up_to(path, max_bytes))
    }

    /// As [`wisp::Sandbox::write_file`](super::Sandbox::write_file).
    ///
    /// # Errors
    /// As there.
    pub fn write_file(&self, path: &str, contents: impl Into<Bytes>) -> Result<(), Error> {
        self.runtime.block_on(self.inner.write_file(path, contents))
    }

    /// As [`wisp::Sandbox::set_mode`](super::Sandbox::set_mode).
    ///
    /// # Errors
    /// As there.
    pub fn set_mode(&self, path: &str, mode: u32) -> Result<(), Error> {
        self.runtime.block_on(self.inner.set_mode(path, mode))
    }

    /// As [`wisp::Sandbox::stat`](super::Sandbox::stat).
    ///
    /// # Errors
    /// As there.
    pub fn stat(&self, path: &str) -> Result<FileInfo, Error> {
        self.inner.stat(path)
    }

    /// As [`wisp::Sandbox::list_dir`](super::Sandbox::list_dir).
    ///
    /// # Errors
    /// As there.
    pub fn list_dir(&self, path: &str) -> Result<Vec<FileInfo>, Error> {
        self.runtime.block_on(self.inner.list_dir(path))
    }

    /// As [`wisp::Sandbox::remove`](super::Sandbox::remove).
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        self.runtime.block_on(self.inner.remove(path))
    }

    /// As [`wisp::Sandbox::rename`](super::Sandbox::rename).
    ///
    /// # Errors
    /// As there.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.runtime.block_on(self.inner.rename(from, to))
    }

    /// As [`wisp::Sandbox::usage`](super::Sandbox::usage).
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

impl Command {
    fn map(self, change: impl FnOnce(super::Command) -> super::Command) -> Self {
        Self {
            inner: change(self.inner),
            runtime: self.runtime,
        }
    }

    /// As [`wisp::Command::arg`](super::Command::arg).
    #[must_use]
    pub fn arg(self, argument: impl Into<String>) -> Self {
        self.map(|inner| inner.arg(argument))
    }

    /// As [`wisp::Command::args`](super::Command::args).
    #[must_use]
    pub fn args(self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.map(|inner| inner.args(arguments))
    }

    /// As [`wisp::Command::env`](super::Command::env).
    #[must_use]
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map(|inner| inner.env(name, value))
    }

    /// As [`wisp::Command::current_dir`](super::Command::current_dir).
    #[must_use]
    pub fn current_dir(self, directory: impl Into<String>) -> Self {
        self.map(|inner| inner.current_dir(directory))
    }

    /// As [`wisp::Command::timeout`](super::Command::timeout).
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.map(|inner| inner.timeout(timeout))
    }

    /// As [`wisp::Command::cpu_time`](super::Command::cpu_time).
    #[must_use]
    pub fn cpu_time(self, cpu_time: Duration) -> Self {
        self.map(|inner| inner.cpu_time(cpu_time))
    }

    /// As [`wisp::Command::fuel`](super::Command::fuel).
    #[must_use]
    pub fn fuel(self, fuel: u64) -> Self {
        self.map(|inner| inner.fuel(fuel))
    }

    /// As [`wisp::Command::stdin`](super::Command::stdin).
    #[must_use]
    pub fn stdin(self, bytes: impl Into<Bytes>) -> Self {
        self.map(|inner| inner.stdin(bytes))
    }

    /// As [`wisp::Command::stdin_piped`](super::Command::stdin_piped).
    #[must_use]
    pub fn stdin_piped(self) -> Self {
        self.map(super::Command::stdin_piped)
    }

    /// As [`wisp::Command::max_output`](super::Command::max_output).
    #[must_use]
    pub fn max_output(self, bytes: usize) -> Self {
        self.map(|inner| inner.max_output(bytes))
    }

    /// As [`wisp::Command::spawn`](super::Command::spawn).
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use wisp::Event;
    ///
    /// # let sandbox = wisp::blocking::Engine::new()?.sandbox("python:3.13").create()?;
    /// let mut child = sandbox.shell("for i in 1 2 3; do echo $i; done").spawn()?;
    /// for event in &mut child {
    ///     if let Event::Stdout(bytes) = event {
    ///         print!("{}", String::from_utf8_lossy(&bytes));
    ///     }
    /// }
    /// assert!(child.wait()?.success());
    /// # Ok::<(), wisp::Error>(())
    /// ```
    pub fn spawn(self) -> Result<Child, Error> {
        let inner = self.runtime.block_on(self.inner.spawn())?;
        Ok(Child {
            inner,
            runtime: self.runtime,
        })
    }

    /// As [`wisp::Command::output`](super::Command::output).
    ///
    /// # Errors
    /// As there.
    pub fn output(self) -> Result<Output, Error> {
        self.runtime.block_on(self.inner.output())
    }
}

impl Child {
    /// As [`wisp::Child::write_stdin`](super::Child::write_stdin).
    ///
    /// # Errors
    /// As there.
    pub fn write_stdin(&mut self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.runtime.block_on(self.inner.write_stdin(bytes))
    }

    /// As [`wisp::Child::close_stdin`](super::Child::close_stdin).
    pub fn close_stdin(&mut self) {
        self.inner.close_stdin();
    }

    /// As [`wisp::Child::signal`](super::Child::signal).
    ///
    /// # Errors
    /// As there.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.runtime.block_on(self.inner.signal(signal))
    }

    /// As [`wisp::Child::wait`](super::Child::wait).
    ///
    /// # Errors
    /// As there.
    pub fn wait(self) -> Result<Exit, Error> {
        self.runtime.block_on(self.inner.wait())
    }
}

impl Iterator for Child {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.runtime.block_on(self.inner.next_event())
    }
}
