//! The provider `wasm` as the server sees it: each call goes to a worker of the sandbox's compartment.
//!
//! A sandbox is opened in a worker when it is first wanted, and again whenever that worker is gone: after a crash, after it
//! was killed, after it was let go because nothing ran. What a sandbox has acknowledged is on the disk by then.

use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::connection::{Call, CallInput, CallSignals, unexpected};
use super::dirs::{Compartment, SandboxDirs};
use super::memory_bound;
use super::pool::{Lease, Worker, WorkerPool};
use super::protocol::{ImageIdentity, Reply, Request, WireExec};
use crate::provider::wasm::{self, Images};
use crate::provider::{
    ByteStream, Capabilities, DirPage, ExecControl, ExecEvent, ExecSpec, Execution, FileInfo, Page, Provider,
    ProviderError, PullProgress, SandboxSpec, SandboxUsage, Signal, Stdin,
};

/// Who shares a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The sandboxes of a tenant.
    Tenant,
    /// Nobody: a worker for each sandbox.
    Sandbox,
}

/// Sandboxes in worker processes.
pub struct WorkerProvider {
    images: Arc<Images>,
    pool: Arc<WorkerPool>,
    dirs: Arc<SandboxDirs>,
    sharing: Sharing,
    sandboxes: RwLock<HashMap<String, Arc<Remote>>>,
}

/// One sandbox.
struct Remote {
    compartment: Compartment,
    /// Its spec, as JSON.
    spec: Vec<u8>,
    image: ImageIdentity,
    /// Bytes of memory that its worker may use for it.
    memory: u64,
    /// The worker that has it open.
    open_in: Mutex<Weak<Worker>>,
    /// Held while it is opened.
    opening: AsyncMutex<()>,
    /// Whether it was ever opened, or was left by an earlier server: then there may be something on the disk.
    used: AtomicBool,
}

impl WorkerProvider {
    /// A provider of these images whose sandboxes live in `dirs`.
    #[must_use]
    pub fn new(images: Arc<Images>, pool: Arc<WorkerPool>, dirs: Arc<SandboxDirs>, sharing: Sharing) -> Self {
        Self {
            images,
            pool,
            dirs,
            sharing,
            sandboxes: RwLock::default(),
        }
    }

    /// Installs and loads an image ahead of its first use, and has a worker ready that has it.
    ///
    /// # Errors
    /// When there is no such image or it cannot be installed.
    pub async fn prepare_image(&self, name: &str) -> Result<(), ProviderError> {
        self.images.get(name).await?;
        self.pool.prepare(self.images.ready_names());
        Ok(())
    }

    /// The workers.
    #[must_use]
    pub fn pool(&self) -> &Arc<WorkerPool> {
        &self.pool
    }

    fn compartment(&self, tenant: &str, id: &str) -> Compartment {
        match self.sharing {
            Sharing::Tenant => Compartment::of_tenant(tenant),
            Sharing::Sandbox => Compartment::of_sandbox(id),
        }
    }

    async fn add(&self, tenant: &str, id: &str, spec: &SandboxSpec, used: bool) -> Result<Arc<Remote>, ProviderError> {
        let image = self.images.get(&spec.image).await?;
        let remote = Arc::new(Remote {
            compartment: self.compartment(tenant, id),
            spec: serde_json::to_vec(spec).map_err(|error| ProviderError::Internal(error.to_string()))?,
            image: image.identity.bytes(),
            memory: memory_bound::share_of(spec.memory_mb, spec.disk_mb),
            open_in: Mutex::new(Weak::new()),
            opening: AsyncMutex::new(()),
            used: AtomicBool::new(used),
        });
        self.sandboxes.write().insert(id.to_owned(), Arc::clone(&remote));
        Ok(remote)
    }

    fn sandbox(&self, id: &str) -> Result<Arc<Remote>, ProviderError> {
        let sandboxes = self.sandboxes.read();
        sandboxes.get(id).cloned().ok_or(ProviderError::SandboxNotFound)
    }

    /// The worker that has a sandbox open; opens it if need be.
    async fn open(&self, id: &str, remote: &Remote) -> Result<Lease, ProviderError> {
        if let Some(lease) = remote.lease() {
            return Ok(lease);
        }
        let _one_at_a_time = remote.opening.lock().await;
        if let Some(lease) = remote.lease() {
            return Ok(lease);
        }
        let images = || self.images.ready_names();
        let lease = self.pool.worker_for(&remote.compartment, &remote.image, images).await?;
        remote.used.store(true, Ordering::Relaxed);
        let request = Request::Open {
            id: id.to_owned(),
            spec: remote.spec.clone(),
            image: remote.image,
            cpu_time: self.pool.cpu_time(id, &remote.compartment),
        };
        lease.worker().admit(id, remote.memory);
        let opened = match lease.connection().call(request).await {
            Ok(call) => done(call).await,
            Err(error) => Err(error),
        };
        if let Err(error) = opened {
            lease.worker().release(id);
            return Err(error);
        }
        *remote.open_in.lock() = Arc::downgrade(lease.worker());
        Ok(lease)
    }

    /// Makes a call for a sandbox.
    async fn call(&self, id: &str, request: Request) -> Result<(Call, Lease), ProviderError> {
        let remote = self.sandbox(id)?;
        let lease = self.open(id, &remote).await?;
        let call = lease.connection().call(request).await?;
        Ok((call, lease))
    }

    /// Makes a call for a sandbox that has one reply.
    async fn ask(&self, id: &str, request: Request) -> Result<Reply, ProviderError> {
        let (call, _lease) = self.call(id, request).await?;
        call.answer().await
    }

    async fn tell(&self, id: &str, request: Request) -> Result<(), ProviderError> {
        match self.ask(id, request).await? {
            Reply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Makes a call for a sandbox whose replies are pieces.
    async fn download(&self, id: &str, request: Request) -> Result<ByteStream, ProviderError> {
        let (mut call, lease) = self.call(id, request).await?;
        call.begun().await?;
        let pieces = stream::try_unfold(Some((call, lease)), |open| async {
            let Some((mut call, lease)) = open else { return Ok(None) };
            match call.next().await? {
                (Reply::Piece(piece), false) => Ok(Some((piece, Some((call, lease))))),
                (Reply::Done, true) => Ok(None),
                _ => Err(unexpected()),
            }
        });
        Ok(pieces.boxed())
    }

    /// Makes a call for a sandbox that reads `body`.
    async fn upload(&self, id: &str, request: Request, body: ByteStream) -> Result<Reply, ProviderError> {
        let (call, _lease) = self.call(id, request).await?;
        let input = call.input();
        let sending = input.send_all(body);
        tokio::pin!(sending);
        let answer = call.answer();
        tokio::pin!(answer);
        tokio::select! {
            biased;
            reply = &mut answer => return reply,
            () = &mut sending => {}
        }
        answer.await
    }

    /// Removes what is kept of a sandbox, which no worker has open.
    async fn remove_files(&self, id: &str, compartment: Compartment) -> Result<(), ProviderError> {
        let (dirs, id) = (Arc::clone(&self.dirs), id.to_owned());
        blocking(move || dirs.remove(&id, &compartment)).await
    }
}

impl Remote {
    fn lease(&self) -> Option<Lease> {
        let worker = self.open_in.lock().upgrade()?;
        worker.lease()
    }
}

async fn done(call: Call) -> Result<(), ProviderError> {
    match call.answer().await? {
        Reply::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

#[async_trait]
impl Provider for WorkerProvider {
    fn name(&self) -> &'static str {
        "wasm"
    }

    fn capabilities(&self) -> Capabilities {
        wasm::capabilities()
    }

    async fn health(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn create(&self, tenant: &str, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
        wasm::check_spec(spec)?;
        self.add(tenant, id, spec, false).await.map(drop)
    }

    async fn destroy(&self, id: &str) -> Result<(), ProviderError> {
        let remote = {
            let mut sandboxes = self.sandboxes.write();
            sandboxes.remove(id)
        };
        let Some(remote) = remote else {
            // It could not be brought back, or not be removed before.
            let (dirs, id) = (Arc::clone(&self.dirs), id.to_owned());
            return blocking(move || dirs.remove_anywhere(&id)).await;
        };
        self.pool.forget_cpu_time(id);
        // Whoever opens it now has asked for it before it was removed.
        let _not_opening = remote.opening.lock().await;
        if let Some(lease) = remote.lease() {
            let request = Request::Destroy { id: id.to_owned() };
            let destroyed = match lease.connection().call(request).await {
                Ok(call) => done(call).await,
                Err(error) => Err(error),
            };
            lease.worker().release(id);
            match destroyed {
                // Then nobody holds its files.
                Err(ProviderError::WorkerLost | ProviderError::SandboxNotFound) => {}
                other => return other,
            }
        }
        if remote.used.load(Ordering::Relaxed) {
            let removed = self.remove_files(id, remote.compartment.clone()).await;
            if removed.is_err() {
                // It is asked for again.
                let mut sandboxes = self.sandboxes.write();
                sandboxes.insert(id.to_owned(), Arc::clone(&remote));
            }
            return removed;
        }
        Ok(())
    }

    async fn recover(&self, tenant: &str, id: &str, spec: &SandboxSpec) -> Result<(), ProviderError> {
        if self.sandbox(id).is_ok() {
            return Ok(());
        }
        let (dirs, own, compartment) = (Arc::clone(&self.dirs), id.to_owned(), self.compartment(tenant, id));
        let kept = blocking(move || dirs.bring(&own, &compartment)).await?;
        let remote = self.add(tenant, id, spec, kept).await?;
        if kept {
            // Whether it can be brought back shows now, not when somebody wants it.
            let opened = self.open(id, &remote).await;
            if opened.is_err() {
                let mut sandboxes = self.sandboxes.write();
                sandboxes.remove(id);
            }
            opened.map(drop)?;
        }
        Ok(())
    }

    async fn remove_orphans(&self, known: &BTreeSet<String>) -> Result<usize, ProviderError> {
        let (dirs, mut known) = (Arc::clone(&self.dirs), known.clone());
        known.extend(self.sandboxes.read().keys().cloned());
        blocking(move || dirs.take_over(&known)).await
    }

    async fn exec(&self, id: &str, exec: ExecSpec) -> Result<Execution, ProviderError> {
        let (stdin, feed) = match exec.stdin {
            Stdin::Bytes(bytes) => (Some(bytes), None),
            Stdin::Stream(pieces) => (None, Some(pieces)),
        };
        let request = Request::Exec {
            id: id.to_owned(),
            exec: Box::new(WireExec {
                command: exec.command,
                env: exec.env,
                workdir: exec.workdir,
                timeout: exec.timeout,
                cpu_time: exec.cpu_time,
                fuel: exec.fuel,
                stdin,
            }),
        };
        let (mut call, lease) = self.call(id, request).await?;
        call.begun().await?;
        if let Some(pieces) = feed {
            tokio::spawn(pass_on(pieces, call.input()));
        }
        let control = Arc::new(call.signals());
        let events = stream::unfold(Some((call, lease)), |open| async {
            let (mut call, lease) = open?;
            Some(match call.next().await {
                Ok((Reply::Output(stream, bytes), false)) => (ExecEvent::Output(stream, bytes), Some((call, lease))),
                Ok((Reply::Exit(outcome), true)) => (ExecEvent::Exit(outcome), None),
                Ok(_) => (ExecEvent::Failed(unexpected()), None),
                Err(error) => (ExecEvent::Failed(error), None),
            })
        });
        Ok(Execution {
            events: events.boxed().into(),
            control,
            // Dropping the events cancels the call.
            cancel: Box::new(()),
        })
    }

    async fn read_file(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        let (id, path) = (id.to_owned(), path.to_owned());
        self.download(&id.clone(), Request::ReadFile { id, path }).await
    }

    async fn write_file(
        &self,
        id: &str,
        path: &str,
        mode: Option<u32>,
        body: ByteStream,
    ) -> Result<u64, ProviderError> {
        let request = Request::WriteFile {
            id: id.to_owned(),
            path: path.to_owned(),
            mode,
        };
        match self.upload(id, request, body).await? {
            Reply::Written(bytes) => Ok(bytes),
            _ => Err(unexpected()),
        }
    }

    async fn list_dir(&self, id: &str, path: &str, page: Page) -> Result<DirPage, ProviderError> {
        let request = Request::ListDir {
            id: id.to_owned(),
            path: path.to_owned(),
            page,
        };
        match self.ask(id, request).await? {
            Reply::Entries(entries) => Ok(entries),
            _ => Err(unexpected()),
        }
    }

    async fn stat(&self, id: &str, path: &str) -> Result<FileInfo, ProviderError> {
        let request = Request::Stat {
            id: id.to_owned(),
            path: path.to_owned(),
        };
        match self.ask(id, request).await? {
            Reply::Info(info) => Ok(info),
            _ => Err(unexpected()),
        }
    }

    async fn delete(&self, id: &str, path: &str, recursive: bool) -> Result<(), ProviderError> {
        let (id, path) = (id.to_owned(), path.to_owned());
        self.tell(&id.clone(), Request::Delete { id, path, recursive }).await
    }

    async fn rename(&self, id: &str, from: &str, to: &str) -> Result<(), ProviderError> {
        let (id, from, to) = (id.to_owned(), from.to_owned(), to.to_owned());
        self.tell(&id.clone(), Request::Rename { id, from, to }).await
    }

    async fn chmod(&self, id: &str, path: &str, mode: u32) -> Result<(), ProviderError> {
        let (id, path) = (id.to_owned(), path.to_owned());
        self.tell(&id.clone(), Request::Chmod { id, path, mode }).await
    }

    async fn glob(&self, id: &str, pattern: &str) -> Result<Vec<String>, ProviderError> {
        let request = Request::Glob {
            id: id.to_owned(),
            pattern: pattern.to_owned(),
        };
        match self.ask(id, request).await? {
            Reply::Paths(paths) => Ok(paths),
            _ => Err(unexpected()),
        }
    }

    async fn usage(&self, id: &str) -> Result<SandboxUsage, ProviderError> {
        match self.ask(id, Request::Usage { id: id.to_owned() }).await? {
            Reply::Usage(usage) => Ok(usage),
            _ => Err(unexpected()),
        }
    }

    async fn read_archive(&self, id: &str, path: &str) -> Result<ByteStream, ProviderError> {
        let (id, path) = (id.to_owned(), path.to_owned());
        self.download(&id.clone(), Request::ReadArchive { id, path }).await
    }

    async fn write_archive(&self, id: &str, path: &str, tar: ByteStream) -> Result<(), ProviderError> {
        let request = Request::WriteArchive {
            id: id.to_owned(),
            path: path.to_owned(),
        };
        match self.upload(id, request, tar).await? {
            Reply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn pull_image(&self, image: &str, progress: mpsc::Sender<PullProgress>) -> Result<(), ProviderError> {
        wasm::pull(&self.images, image, progress).await
    }

    async fn remove_image(&self, image: &str) -> Result<(), ProviderError> {
        self.images.remove(image).await
    }
}

#[async_trait]
impl ExecControl for CallSignals {
    async fn signal(&self, signal: Signal) -> Result<(), ProviderError> {
        self.send(signal);
        Ok(())
    }
}

/// Passes input on to a command until it ends.
async fn pass_on(mut pieces: mpsc::Receiver<bytes::Bytes>, input: CallInput) {
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            () = input.closed() => return,
        };
        let Some(piece) = piece else { return input.end(None) };
        if input.send(piece).await.is_err() {
            return;
        }
    }
}

/// Runs work on files on a thread for such work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ProviderError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| ProviderError::Internal(format!("directories of sandboxes: {error}"))),
        Err(_) => Err(ProviderError::Internal("a worker thread failed".to_owned())),
    }
}
