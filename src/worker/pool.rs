//! The workers of a server: started ahead, given to compartments, watched, and let go when nothing runs in them.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

use super::cgroup::{Cgroup, Delegated};
use super::connection::Connection;
use super::dirs::{Compartment, SandboxDirs};
use super::memory_bound::MemoryBound;
use super::outbox::Outbox;
use super::protocol::{
    Assignment, FrameReader, FromWorker, ImageIdentity, MAX_REPLY_BYTES, ProtocolError, ToWorker, encode,
};
use crate::provider::ProviderError;

/// How long a new worker may take to load its images, and to confine itself.
const START_TIME: Duration = Duration::from_secs(60);
/// How often workers are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A worker that does not answer for this long is killed.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// A worker in which nothing runs, and of which nobody wants anything, for this long is let go. Its sandboxes are on the
/// disk, and come back when they are wanted.
const IDLE: Duration = Duration::from_secs(10);
/// Longest line of a worker's log that is passed on, bytes.
const MAX_LOG_LINE: u64 = 1024;
/// Lines of a worker's log that are passed on, in all.
const MAX_LOG_LINES: usize = 1000;
/// Set in [`Worker::leases`] once the worker is let go.
const RETIRED: usize = 1 << (usize::BITS - 1);

/// How workers are started.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The program, which understands `worker`.
    pub program: PathBuf,
    /// The directory of the image store.
    pub cache: PathBuf,
    /// Threads for guests in each worker.
    pub guest_threads: usize,
    /// Whether what sandboxes keep has to survive the loss of power.
    pub fsync: bool,
    /// Most workers at once, beside the one that waits; a further one takes the place of one in which nothing runs.
    pub max_workers: usize,
    /// Whether execs may have a budget of fuel.
    pub counts_fuel: bool,
}

/// All workers. Dropping it kills them.
pub struct WorkerPool {
    settings: WorkerSettings,
    dirs: Arc<SandboxDirs>,
    state: Mutex<State>,
    /// Processor time that sandboxes have used so far, as their workers have told.
    cpu_times: Mutex<HashMap<String, (Compartment, Duration)>>,
    /// Where workers get cgroups.
    cgroups: Option<Delegated>,
    /// Cancelled on drop.
    ended: CancellationToken,
}

#[derive(Default)]
struct State {
    compartments: HashMap<Compartment, Group>,
    /// The next worker, loaded and waiting for an assignment.
    spare: Option<Loaded>,
    spare_is_coming: bool,
    /// Workers that are being started for a compartment.
    starting: usize,
}

/// Room for a worker that is being started; given back when it is there, or could not be.
struct Room<'a>(&'a WorkerPool);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.state().starting -= 1;
    }
}

/// The workers of one compartment: several only when its sandboxes are made from images that came at different times.
#[derive(Default)]
struct Group {
    workers: Vec<Arc<Worker>>,
    /// Held while one is started for it, so that a burst of first requests starts one.
    starting: Arc<AsyncMutex<()>>,
}

/// A worker with an assignment.
pub struct Worker {
    connection: Arc<Connection>,
    images: HashSet<ImageIdentity>,
    compartment: Compartment,
    pid: u32,
    /// Requests that use it now, and [`RETIRED`].
    leases: AtomicUsize,
    last_used: Mutex<Instant>,
    /// When it was asked last whether something runs in it, if it said that nothing does.
    found_idle: Mutex<Option<Instant>>,
    memory: Mutex<MemoryBound>,
    /// Kills it.
    kill: CancellationToken,
}

/// The right to use a worker: it is not let go meanwhile.
pub struct Lease(Arc<Worker>);

/// A worker that has loaded its images.
struct Loaded {
    child: Child,
    frames: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    images: HashSet<ImageIdentity>,
    cgroup: Option<Cgroup>,
}

impl Worker {
    /// Uses it; `None` when it is gone, or let go.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        if self.connection.has_ended() {
            return None;
        }
        let leased = self.leases.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |leases| {
            (leases & RETIRED == 0).then_some(leases + 1)
        });
        leased.ok().map(|_| Lease(Arc::clone(self)))
    }

    /// Whether it has ended or was let go.
    fn has_gone(&self) -> bool {
        self.connection.has_ended() || self.leases.load(Ordering::SeqCst) & RETIRED != 0
    }

    /// Process number of the worker.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Allows the worker the memory that a sandbox may use.
    pub fn admit(&self, id: &str, share: u64) {
        self.memory().admit(id, share);
    }

    /// Takes back what [`Worker::admit`] allowed.
    pub fn release(&self, id: &str) {
        self.memory().release(id);
    }

    fn memory(&self) -> MutexGuard<'_, MemoryBound> {
        self.memory.lock()
    }

    /// Whether nothing has run in it, and nobody wanted it, since it was asked last. What runs after its requests have
    /// ended only the worker itself knows.
    fn is_free(&self) -> bool {
        let found = *self.found_idle.lock();
        self.leases.load(Ordering::SeqCst) == 0 && found.is_some_and(|found| found > *self.last_used())
    }

    fn is_idle(&self) -> bool {
        self.leases.load(Ordering::SeqCst) == 0 && self.last_used().elapsed() >= IDLE
    }

    /// Lets it go if nobody uses it.
    fn retire(&self) -> bool {
        self.leases
            .compare_exchange(0, RETIRED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn last_used(&self) -> MutexGuard<'_, Instant> {
        self.last_used.lock()
    }
}

impl Lease {
    /// The connection to it.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    /// The worker.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.0.last_used() = Instant::now();
        self.0.leases.fetch_sub(1, Ordering::SeqCst);
    }
}

impl WorkerPool {
    /// No workers yet. To be called where tokio runs.
    #[must_use]
    pub fn new(settings: WorkerSettings, dirs: Arc<SandboxDirs>) -> Arc<Self> {
        let pool = Arc::new(Self {
            settings,
            dirs,
            cgroups: Delegated::take_over(),
            state: Mutex::default(),
            cpu_times: Mutex::default(),
            ended: CancellationToken::new(),
        });
        tokio::spawn(watch(Arc::downgrade(&pool), pool.ended.clone()));
        pool
    }

    /// Starts a worker ahead with these images, if none is waiting or on its way.
    pub fn prepare(self: &Arc<Self>, images: Vec<String>) {
        {
            let mut state = self.state();
            if state.spare_is_coming {
                return;
            }
            state.spare_is_coming = true;
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let loaded = this.load(&images).await;
            let mut state = this.state();
            state.spare_is_coming = false;
            match loaded {
                Ok(loaded) => state.spare = Some(loaded),
                Err(error) => tracing::error!(%error, "a worker cannot be started ahead"),
            }
        });
    }

    /// A worker of a compartment that has loaded `image`; `images` are loaded by a new one.
    ///
    /// # Errors
    /// When there is none and none can be started.
    pub async fn worker_for(
        self: &Arc<Self>,
        compartment: &Compartment,
        image: &ImageIdentity,
        images: impl Fn() -> Vec<String>,
    ) -> Result<Lease, ProviderError> {
        if let Some(lease) = self.running(compartment, image) {
            return Ok(lease);
        }
        let starting = Arc::clone(
            &self
                .state()
                .compartments
                .entry(compartment.clone())
                .or_default()
                .starting,
        );
        let _one_at_a_time = starting.lock().await;
        if let Some(lease) = self.running(compartment, image) {
            return Ok(lease);
        }
        let _room = self.make_room()?;
        let worker = match self.assign_spare(compartment, image).await {
            Some(worker) => worker,
            None => match self.start(compartment, image, &images()).await {
                // Whatever ended the first may not end the second.
                Err(_) => self.start(compartment, image, &images()).await?,
                started => started?,
            },
        };
        let lease = worker.lease().ok_or(ProviderError::WorkerLost)?;
        self.state()
            .compartments
            .entry(compartment.clone())
            .or_default()
            .workers
            .push(worker);
        self.prepare(images());
        Ok(lease)
    }

    /// Lets the worker go that has been free for longest, if there are as many as there may be.
    fn make_room(&self) -> Result<Room<'_>, ProviderError> {
        let mut state = self.state();
        let workers = state.compartments.values().flat_map(|group| &group.workers);
        let there: Vec<_> = workers.filter(|worker| !worker.has_gone()).collect();
        if there.len() + state.starting < self.settings.max_workers {
            state.starting += 1;
            return Ok(Room(self));
        }
        let mut free: Vec<_> = there.into_iter().filter(|worker| worker.is_free()).collect();
        free.sort_by_key(|worker| *worker.last_used());
        match free.into_iter().find(|worker| worker.retire()) {
            Some(worker) => {
                tracing::debug!(pid = worker.pid, "a worker is let go: another takes its place");
                worker.kill.cancel();
                state.starting += 1;
                Ok(Room(self))
            }
            None => Err(ProviderError::Unavailable(
                "something runs in every worker that this server may have; try again later".to_owned(),
            )),
        }
    }

    /// The processor time a sandbox has used so far; from now on it is kept.
    pub fn cpu_time(&self, id: &str, compartment: &Compartment) -> Duration {
        let mut times = self.cpu_times();
        let (_, used) = times
            .entry(id.to_owned())
            .or_insert_with(|| (compartment.clone(), Duration::ZERO));
        *used
    }

    /// Forgets what a sandbox has used.
    pub fn forget_cpu_time(&self, id: &str) {
        self.cpu_times().remove(id);
    }

    /// Keeps what a worker tells of its own sandboxes.
    fn keep_cpu_times(&self, compartment: &Compartment, told: Vec<(String, Duration)>) {
        let mut times = self.cpu_times();
        for (id, now) in told {
            if let Some((own, used)) = times.get_mut(&id)
                && own == compartment
            {
                *used = now.max(*used);
            }
        }
    }

    fn cpu_times(&self) -> MutexGuard<'_, HashMap<String, (Compartment, Duration)>> {
        self.cpu_times.lock()
    }

    /// The processes of all workers that have an assignment.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let state = self.state();
        let workers = state.compartments.values().flat_map(|group| &group.workers);
        workers.map(|worker| worker.pid()).collect()
    }

    fn running(&self, compartment: &Compartment, image: &ImageIdentity) -> Option<Lease> {
        let state = self.state();
        let group = state.compartments.get(compartment)?;
        let mut able = group.workers.iter().filter(|worker| worker.images.contains(image));
        able.find_map(Worker::lease)
    }

    /// Starts a worker for a compartment.
    async fn start(
        self: &Arc<Self>,
        compartment: &Compartment,
        image: &ImageIdentity,
        images: &[String],
    ) -> Result<Arc<Worker>, ProviderError> {
        let loaded = self.load(images).await?;
        if !loaded.images.contains(image) {
            return Err(ProviderError::Unavailable(
                "the image was changed just now; try again".to_owned(),
            ));
        }
        self.assign(loaded, compartment).await
    }

    /// Gives the worker that waits to a compartment, if it has the image and still lives.
    async fn assign_spare(self: &Arc<Self>, compartment: &Compartment, image: &ImageIdentity) -> Option<Arc<Worker>> {
        let spare = self.state().spare.take()?;
        if !spare.images.contains(image) {
            return None;
        }
        let assigned = self.assign(spare, compartment).await;
        assigned
            .inspect_err(|error| tracing::warn!(%error, "a worker that waited is of no use; another is started"))
            .ok()
    }

    /// Starts a worker, and waits until it has loaded its images.
    async fn load(&self, images: &[String]) -> Result<Loaded, ProviderError> {
        let failed =
            |error: &dyn std::fmt::Display| ProviderError::Unavailable(format!("a worker cannot be started: {error}"));
        let (mut child, stream) = self.spawn(images).map_err(|error| failed(&error))?;
        let pid = child.id().unwrap_or_default();
        let cgroup = self.cgroups.as_ref().and_then(|cgroups| {
            cgroups
                .add(pid)
                .inspect_err(|error| tracing::warn!(%error, "a worker gets no cgroup"))
                .ok()
        });
        if let Some(log) = child.stderr.take() {
            tokio::spawn(pass_on_log(log, pid));
        }
        let (reader, writer) = stream.into_split();
        let mut frames = FrameReader::new(reader, MAX_REPLY_BYTES);
        match tokio::time::timeout(START_TIME, frames.next()).await {
            Ok(Ok(Some(FromWorker::Loaded { images }))) => Ok(Loaded {
                child,
                frames,
                writer,
                images: images.into_iter().collect(),
                cgroup,
            }),
            Ok(Ok(_)) => Err(failed(&"it ended at its start")),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"it takes too long")),
        }
    }

    fn spawn(&self, images: &[String]) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(&self.settings.program)
            .arg0("wisp")
            .arg("worker")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--cache")
            .arg(&self.settings.cache)
            .args(self.settings.counts_fuel.then_some("--fuel"))
            .args(images)
            .env_clear()
            .current_dir("/")
            // Not to be interrupted from the server's terminal.
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, UnixStream::from_std(ours)?))
    }

    /// Gives a worker to a compartment, and waits until it has confined itself.
    async fn assign(self: &Arc<Self>, loaded: Loaded, compartment: &Compartment) -> Result<Arc<Worker>, ProviderError> {
        let failed =
            |error: &dyn std::fmt::Display| ProviderError::Unavailable(format!("a worker cannot be assigned: {error}"));
        let (directory, uid) = self.dirs.open(compartment).map_err(|error| failed(&error))?;
        let Loaded {
            child,
            mut frames,
            mut writer,
            images,
            cgroup,
        } = loaded;
        let pid = child.id().unwrap_or_default();
        let assignment = ToWorker::Assign(Assignment {
            directory: directory
                .to_str()
                .ok_or_else(|| failed(&"data_dir is not UTF-8"))?
                .to_owned(),
            uid,
            fsync: self.settings.fsync,
            guest_threads: self.settings.guest_threads,
        });
        let frame = encode(&assignment).map_err(|error| failed(&error))?;
        tokio::io::AsyncWriteExt::write_all(&mut writer, &frame)
            .await
            .map_err(|error| failed(&error))?;
        match tokio::time::timeout(START_TIME, frames.next()).await {
            Ok(Ok(Some(FromWorker::Ready { confinement }))) => {
                tracing::debug!(
                    pid,
                    compartment = compartment.name(),
                    confinement = confinement.join(", "),
                    "a worker is ready"
                );
            }
            Ok(Ok(_)) => return Err(failed(&"it could not confine itself; the log says why")),
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) => return Err(failed(&"it takes too long")),
        }
        let (outbox, writing) = Outbox::new(writer);
        let connection = Connection::new(outbox);
        let worker = Arc::new(Worker {
            connection: Arc::clone(&connection),
            images,
            compartment: compartment.clone(),
            pid,
            leases: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
            found_idle: Mutex::default(),
            memory: Mutex::new(MemoryBound::new(pid, uid, cgroup)),
            kill: self.ended.child_token(),
        });
        tokio::spawn(writing);
        tokio::spawn(live(Arc::clone(&worker), child, frames));
        Ok(worker)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every update is complete before anything that could panic.
        self.state.lock()
    }

    /// Forgets workers that are gone, and returns those that are there.
    fn sweep(&self) -> Vec<Arc<Worker>> {
        let mut state = self.state();
        let mut there = Vec::new();
        state.compartments.retain(|_, group| {
            group.workers.retain(|worker| !worker.connection.has_ended());
            there.extend(group.workers.iter().cloned());
            // While one is being started for it somebody else holds it, too.
            !group.workers.is_empty() || Arc::strong_count(&group.starting) > 1
        });
        there
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// A worker's life: what it says is received until it ends or is to be killed.
async fn live(worker: Arc<Worker>, mut child: Child, frames: FrameReader<OwnedReadHalf>) {
    let pid = worker.pid;
    tokio::select! {
        result = worker.connection.receive_from(frames) => {
            match result {
                // It ended in the middle of a message.
                Err(error @ ProtocolError::Io(_)) => tracing::error!(pid, %error, "the connection to a worker broke"),
                Err(error) => tracing::error!(pid, %error, "a worker said what it must not; it is killed"),
                Ok(()) => {}
            }
        }
        () = worker.kill.cancelled() => {}
    }
    let _ = child.start_kill();
    // Before its requests fail: their sandboxes are opened again by another, which must be alone with the files.
    let status = child.wait().await;
    worker.connection.lose();
    tracing::debug!(pid, ?status, "a worker has ended");
}

/// Looks at all workers from time to time: kills those that do not answer, lets those go that nobody needs.
async fn watch(pool: Weak<WorkerPool>, ended: CancellationToken) {
    let mut asked: HashMap<u32, Arc<Asked>> = HashMap::new();
    loop {
        let before = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = ended.cancelled() => return,
        }
        let Some(pool) = pool.upgrade() else { return };
        // A server that does not get to its own turn cannot judge others.
        let is_late = before.elapsed() > LOOK * 2;
        let workers = pool.sweep();
        let pids: HashSet<u32> = workers.iter().map(|worker| worker.pid).collect();
        asked.retain(|pid, _| pids.contains(pid));
        for worker in workers {
            if let Some(excess) = worker.memory().excess() {
                let (used, allowed) = (excess.resident >> 20, excess.allowed >> 20);
                tracing::error!(
                    pid = worker.pid,
                    "a worker uses {used} MiB, over the {allowed} that its sandboxes may; it is killed"
                );
                worker.kill.cancel();
                continue;
            }
            match asked.get(&worker.pid) {
                Some(open) if !open.is_answered() => {
                    if is_late {
                        open.put_off();
                    } else if open.since() >= HEARTBEAT {
                        tracing::error!(pid = worker.pid, "a worker does not answer; it is killed");
                        worker.kill.cancel();
                    }
                    continue;
                }
                Some(open) if open.found_idle() && worker.is_idle() && worker.retire() => {
                    tracing::debug!(pid = worker.pid, "a worker is let go: nothing runs in it");
                    worker.kill.cancel();
                    continue;
                }
                _ => {}
            }
            let question = Arc::new(Asked::default());
            asked.insert(worker.pid, Arc::clone(&question));
            let pool = Arc::downgrade(&pool);
            tokio::spawn(async move {
                let asked_at = Instant::now();
                let Ok(pong) = worker.connection.ping().await else {
                    return;
                };
                if let Some(pool) = pool.upgrade() {
                    pool.keep_cpu_times(&worker.compartment, pong.cpu_times);
                }
                let found = (!pong.busy).then_some(asked_at);
                *worker.found_idle.lock() = found;
                question.answered(pong.busy);
            });
        }
    }
}

/// A question whether a worker is there and busy.
struct Asked(Mutex<(Instant, Option<bool>)>);

impl Default for Asked {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), None)))
    }
}

impl Asked {
    fn state(&self) -> MutexGuard<'_, (Instant, Option<bool>)> {
        self.0.lock()
    }

    fn answered(&self, busy: bool) {
        self.state().1 = Some(busy);
    }

    fn is_answered(&self) -> bool {
        self.state().1.is_some()
    }

    fn found_idle(&self) -> bool {
        self.state().1 == Some(false)
    }

    fn since(&self) -> Duration {
        self.state().0.elapsed()
    }

    fn put_off(&self) {
        self.state().0 = Instant::now();
    }
}

/// Passes a worker's log on, within limits: it is a worker that says it.
async fn pass_on_log(log: impl AsyncRead + Unpin, pid: u32) {
    let mut log = BufReader::new(log);
    for _ in 0..MAX_LOG_LINES {
        let mut line = Vec::new();
        match (&mut log).take(MAX_LOG_LINE).read_until(b'\n', &mut line).await {
            Ok(count) if count > 0 => {
                let line = String::from_utf8_lossy(&line).trim_end().escape_debug().to_string();
                tracing::warn!(pid, "worker: {line}");
            }
            _ => return,
        }
    }
    // What more it says is not kept, but it must not wait for somebody to read it.
    let _ = tokio::io::copy(&mut log, &mut tokio::io::sink()).await;
}

/// A connection that ends before it has begun.
impl From<ProtocolError> for ProviderError {
    fn from(error: ProtocolError) -> Self {
        Self::Unavailable(format!("a worker cannot be reached: {error}"))
    }
}
