//! All sandboxes of a server, and how each begins and ends.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::console_log::ConsoleLog;
use super::events::{Event, EventBus, EventKind};
use super::metrics::{CreateOutcome, Metrics, Rejection};
use super::usage::CpuMeter;
use super::{Caller, CreateRequest, Providers, SandboxError, SandboxId, TenantId, UserId};
use crate::config::Config;
use crate::provider::{Provider, ProviderError, SandboxSpec};
use crate::store::Store;

/// The sandboxes of a server. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct SandboxManager {
    pub(super) shared: Arc<Shared>,
}

/// What all clones of a manager have in common.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    providers: Providers,
    /// What survives a restart.
    pub(super) store: Store,
    /// What was done, in numbers.
    pub(super) metrics: Metrics,
    /// What happens, for those who listen.
    pub(super) events: EventBus,
    /// Every sandbox that still holds something at its provider. Never locked across an await.
    sandboxes: RwLock<HashMap<SandboxId, Arc<Sandbox>>>,
    /// Cancelled when new sandboxes and commands are refused.
    closing: CancellationToken,
    /// Parent of every sandbox's `ended`: cancelled when commands that still run are killed.
    pub(super) stopping: CancellationToken,
}

/// One sandbox.
pub(super) struct Sandbox {
    pub(super) id: SandboxId,
    provider: Arc<dyn Provider>,
    spec: SandboxSpec,
    tenant: TenantId,
    owner: Option<UserId>,
    metadata: BTreeMap<String, String>,
    created_at: SystemTime,
    life: Mutex<Life>,
    /// Cancelled when the sandbox ends, for the commands that run in it.
    pub(super) ended: CancellationToken,
    /// Commands that run now.
    pub(super) running_execs: AtomicUsize,
    /// Bytes of output held for commands that run now.
    pub(super) buffered_output: AtomicUsize,
    /// Its last output.
    pub(super) console: ConsoleLog,
    /// Commands started.
    execs: AtomicU64,
    /// Earlier measurements of its use of processors.
    pub(super) cpu_meter: CpuMeter,
}

impl Shared {
    /// Tells those who listen what happened to a sandbox.
    pub(super) fn tell(&self, sandbox: &Sandbox, kind: EventKind) {
        self.events.publish(Event {
            id: 0,
            at: SystemTime::now(),
            sandbox: sandbox.id.clone(),
            tenant: sandbox.tenant.clone(),
            owner: sandbox.owner.clone(),
            provider: sandbox.provider.name(),
            kind,
        });
    }
}

/// The part of a sandbox that changes.
struct Life {
    phase: Phase,
    expires_at: SystemTime,
}

/// Where a sandbox is in its life. It only moves downwards in this list, but for the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The provider is making it.
    Creating,
    /// It can be used until it expires.
    Running,
    /// Gone for every client; the provider is freeing it.
    Releasing,
    /// Gone for every client; the provider could not free it and is asked again.
    ReleaseFailed,
}

/// State of a sandbox in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Cannot be used yet.
    Creating,
    /// Can be used.
    Running,
}

impl SandboxState {
    /// Its name in the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
        }
    }
}

/// How many sandboxes of one state there are on one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxCount {
    /// Name of the provider.
    pub provider: &'static str,
    /// State in the API, or `releasing` for those that are gone for clients while the provider frees them.
    pub state: &'static str,
    /// How many.
    pub count: usize,
}

/// A sandbox as it was when asked for.
#[derive(Debug, Clone)]
pub struct SandboxView {
    /// Its name.
    pub id: SandboxId,
    /// Whether it can be used.
    pub state: SandboxState,
    /// Name of its provider.
    pub provider: &'static str,
    /// What it is made of.
    pub spec: SandboxSpec,
    /// Who it is attributed to.
    pub owner: Option<UserId>,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// When creation began.
    pub created_at: SystemTime,
    /// When it ceases to exist.
    pub expires_at: SystemTime,
}

/// A poisoned lock means that a thread panicked while it held it; every update under these locks is a single
/// assignment, so the data is whole.
fn locked(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sandbox {
    pub(super) fn provider(&self) -> &dyn Provider {
        self.provider.as_ref()
    }

    pub(super) fn spec(&self) -> &SandboxSpec {
        &self.spec
    }

    /// Counts a command that starts, and returns its number.
    pub(super) fn next_exec(&self) -> u64 {
        self.execs.fetch_add(1, Ordering::Relaxed)
    }

    /// Commands started.
    pub(super) fn exec_count(&self) -> u64 {
        self.execs.load(Ordering::Relaxed)
    }

    /// `None` when it is gone for every client.
    fn view(&self, now: SystemTime) -> Option<SandboxView> {
        let (phase, expires_at) = {
            let life = locked(&self.life);
            (life.phase, life.expires_at)
        };
        let state = match phase {
            Phase::Creating => SandboxState::Creating,
            Phase::Running if now < expires_at => SandboxState::Running,
            Phase::Running | Phase::Releasing | Phase::ReleaseFailed => return None,
        };
        Some(SandboxView {
            id: self.id.clone(),
            state,
            provider: self.provider.name(),
            spec: self.spec.clone(),
            owner: self.owner.clone(),
            metadata: self.metadata.clone(),
            created_at: self.created_at,
            expires_at,
        })
    }

    /// Whether it reached its time.
    pub(super) fn is_expired(&self, now: SystemTime) -> bool {
        let life = locked(&self.life);
        life.phase == Phase::Running && now >= life.expires_at
    }

    /// Ends it for every client and kills what runs in it. The first of several callers gets `true`, and must have
    /// the provider free it.
    fn end(&self) -> bool {
        let first = {
            let mut life = locked(&self.life);
            let first = matches!(life.phase, Phase::Creating | Phase::Running | Phase::ReleaseFailed);
            if first {
                life.phase = Phase::Releasing;
            }
            first
        };
        self.ended.cancel();
        first
    }
}

impl SandboxManager {
    /// A manager without sandboxes.
    #[must_use]
    pub fn new(config: Arc<Config>, providers: Providers, store: Store) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                providers,
                store,
                metrics: Metrics::default(),
                events: EventBus::default(),
                sandboxes: RwLock::new(HashMap::new()),
                closing: CancellationToken::new(),
                stopping: CancellationToken::new(),
            }),
        }
    }

    /// The providers sandboxes run on.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.shared.providers
    }

    /// What was done since the server started.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// What happens to sandboxes.
    #[must_use]
    pub fn events(&self) -> &EventBus {
        &self.shared.events
    }

    /// Resolves when new sandboxes and commands are refused.
    pub async fn closed(&self) {
        self.shared.closing.cancelled().await;
    }

    /// Makes a sandbox. When the returned future is dropped before it is done, nothing is left behind.
    ///
    /// # Errors
    /// A value out of range, an unknown provider or image, a server that is full or stopping, a failing provider.
    pub async fn create(&self, caller: &Caller, request: CreateRequest) -> Result<SandboxView, SandboxError> {
        self.refuse_when_closing()?;
        let request = self.with_template(caller, request).await?;
        let shared = &self.shared;
        let provider = Arc::clone(shared.providers.resolve(request.provider.as_deref())?);
        let spec = request.specify(&shared.config)?;
        let lifetime = request.lifetime(&shared.config.limits)?;
        let id = SandboxId::random()
            .map_err(|error| SandboxError::Provider(ProviderError::Internal(format!("no random bytes: {error}"))))?;
        let created_at = SystemTime::now();
        let sandbox = Arc::new(Sandbox {
            id: id.clone(),
            provider,
            spec,
            tenant: caller.tenant.clone(),
            owner: caller.user.clone().or(request.owner),
            metadata: request.metadata,
            created_at,
            life: Mutex::new(Life {
                phase: Phase::Creating,
                expires_at: created_at + lifetime,
            }),
            ended: shared.stopping.child_token(),
            running_execs: AtomicUsize::new(0),
            buffered_output: AtomicUsize::new(0),
            console: ConsoleLog::new(
                shared.config.limits.max_console_log_bytes,
                shared.config.limits.max_sandboxes,
            ),
            execs: AtomicU64::new(0),
            cpu_meter: CpuMeter::new(),
        });
        self.register(&sandbox)?;
        let started = Instant::now();
        let provider = sandbox.provider.name();

        let unfinished = Unfinished {
            manager: self,
            sandbox: &sandbox,
        };
        match sandbox.provider.create(id.as_str(), &sandbox.spec).await {
            Ok(()) => {
                let destroyed_meanwhile = {
                    let mut life = locked(&sandbox.life);
                    if life.phase == Phase::Creating {
                        life.phase = Phase::Running;
                    }
                    life.phase != Phase::Running
                };
                std::mem::forget(unfinished);
                if destroyed_meanwhile {
                    // Whoever ended it may have asked the provider before the provider had it: ask once more.
                    self.release(&sandbox).await?;
                    return Err(SandboxError::NotFound(id));
                }
                shared.metrics.created(provider, CreateOutcome::Ok, started.elapsed());
                let image = sandbox.spec.image.clone();
                shared.tell(&sandbox, EventKind::Created { image });
                sandbox.view(SystemTime::now()).ok_or(SandboxError::NotFound(id))
            }
            Err(error) => {
                if let ProviderError::Internal(_) | ProviderError::Unavailable(_) = error {
                    shared
                        .metrics
                        .created(provider, CreateOutcome::Error, started.elapsed());
                    shared.tell(&sandbox, EventKind::Error);
                }
                std::mem::forget(unfinished);
                sandbox.end();
                self.forget(&id);
                Err(SandboxError::of_provider(&id, error))
            }
        }
    }

    /// Counts a new sandbox in, if there is room for it.
    fn register(&self, sandbox: &Arc<Sandbox>) -> Result<(), SandboxError> {
        let max = self.shared.config.limits.max_sandboxes;
        let mut sandboxes = self.shared.sandboxes.write().unwrap_or_else(PoisonError::into_inner);
        if sandboxes.len() >= max {
            self.shared.metrics.rejected(Rejection::Capacity);
            return Err(SandboxError::LimitReached(format!(
                "this server runs at most {max} sandboxes at once; destroy one or try again later"
            )));
        }
        sandboxes.insert(sandbox.id.clone(), Arc::clone(sandbox));
        Ok(())
    }

    /// One sandbox.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`].
    pub fn get(&self, caller: &Caller, id: &SandboxId) -> Result<SandboxView, SandboxError> {
        self.find(caller, id)
            .and_then(|sandbox| sandbox.view(SystemTime::now()))
            .ok_or_else(|| SandboxError::NotFound(id.clone()))
    }

    /// All sandboxes the caller sees, oldest first.
    #[must_use]
    pub fn list(&self, caller: &Caller) -> Vec<SandboxView> {
        let now = SystemTime::now();
        let mut views: Vec<_> = self
            .select(|sandbox| caller.sees(&sandbox.tenant, sandbox.owner.as_ref()))
            .iter()
            .filter_map(|sandbox| sandbox.view(now))
            .collect();
        views.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        views
    }

    /// How many sandboxes there are, by provider and state.
    #[must_use]
    pub fn counts(&self) -> Vec<SandboxCount> {
        let now = SystemTime::now();
        let mut counts = BTreeMap::new();
        for sandbox in self.select(|_| true) {
            let state = sandbox.view(now).map_or("releasing", |view| view.state.label());
            *counts.entry((sandbox.provider.name(), state)).or_default() += 1;
        }
        let counts = counts.into_iter();
        counts
            .map(|((provider, state), count)| SandboxCount { provider, state, count })
            .collect()
    }

    /// How many sandboxes a provider holds.
    #[must_use]
    pub fn count_on(&self, provider: &str) -> usize {
        self.select(|sandbox| sandbox.provider.name() == provider).len()
    }

    /// Destroys a sandbox and kills what runs in it. Not an error when it is gone already, or was never there.
    ///
    /// # Errors
    /// What the provider reports. The sandbox is gone for clients all the same; freeing it is tried again.
    pub async fn destroy(&self, caller: &Caller, id: &SandboxId) -> Result<(), SandboxError> {
        match self.find(caller, id) {
            Some(sandbox) if sandbox.end() => {
                self.shared.tell(&sandbox, EventKind::Destroyed);
                self.release(&sandbox).await
            }
            _ => Ok(()),
        }
    }

    /// Lets a sandbox live this much longer, counted from now, up to the server's maximum.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`]; [`SandboxError::Invalid`] for no time at all.
    pub fn extend(&self, caller: &Caller, id: &SandboxId, ttl: Duration) -> Result<SandboxView, SandboxError> {
        if ttl.is_zero() {
            return Err(SandboxError::Invalid("ttl must be longer than 0s".to_owned()));
        }
        let ttl = ttl.min(self.shared.config.limits.max_ttl.0);
        let sandbox = self.running(caller, id)?;
        {
            let now = SystemTime::now();
            let mut life = locked(&sandbox.life);
            // It may have ended or expired since it was looked up; the dead are not raised.
            if life.phase == Phase::Running && now < life.expires_at {
                life.expires_at = now + ttl;
            }
        }
        sandbox
            .view(SystemTime::now())
            .ok_or_else(|| SandboxError::NotFound(id.clone()))
    }

    /// Destroys the expired sandboxes the caller sees, and says how many there were.
    #[must_use]
    pub fn prune(&self, caller: &Caller) -> usize {
        let now = SystemTime::now();
        let expired =
            self.select(|sandbox| caller.sees(&sandbox.tenant, sandbox.owner.as_ref()) && sandbox.is_expired(now));
        expired.into_iter().filter(|sandbox| self.expire(sandbox)).count()
    }

    /// Destroys all expired sandboxes, and tries again to free those the provider could not.
    pub(super) fn sweep(&self) {
        let now = SystemTime::now();
        let due = self.select(|sandbox| sandbox.is_expired(now) || locked(&sandbox.life).phase == Phase::ReleaseFailed);
        for sandbox in due {
            if sandbox.is_expired(now) {
                self.expire(&sandbox);
            } else {
                self.end_in_background(&sandbox);
            }
        }
    }

    /// Ends a sandbox whose time is over; `false` when someone else ended it.
    fn expire(&self, sandbox: &Arc<Sandbox>) -> bool {
        let first = self.end_in_background(sandbox);
        if first {
            self.shared.tell(sandbox, EventKind::Expired);
        }
        first
    }

    /// Refuses new sandboxes and commands from now on.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }

    /// Whether [`SandboxManager::close`] was called.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.shared.closing.is_cancelled()
    }

    /// Kills every command that still runs. The sandboxes stay.
    pub fn stop_commands(&self) {
        self.close();
        self.shared.stopping.cancel();
    }

    /// # Errors
    /// [`SandboxError::ShuttingDown`] after [`SandboxManager::close`].
    pub(super) fn refuse_when_closing(&self) -> Result<(), SandboxError> {
        if self.is_closing() {
            Err(SandboxError::ShuttingDown)
        } else {
            Ok(())
        }
    }

    /// A sandbox that can be used now.
    pub(super) fn running(&self, caller: &Caller, id: &SandboxId) -> Result<Arc<Sandbox>, SandboxError> {
        let not_found = || SandboxError::NotFound(id.clone());
        let sandbox = self.find(caller, id).ok_or_else(not_found)?;
        let (phase, expires_at) = {
            let life = locked(&sandbox.life);
            (life.phase, life.expires_at)
        };
        match phase {
            Phase::Running if SystemTime::now() < expires_at => Ok(sandbox),
            Phase::Creating => Err(SandboxError::NotReady(id.clone())),
            Phase::Running | Phase::Releasing | Phase::ReleaseFailed => Err(not_found()),
        }
    }

    fn find(&self, caller: &Caller, id: &SandboxId) -> Option<Arc<Sandbox>> {
        let sandboxes = self.shared.sandboxes.read().unwrap_or_else(PoisonError::into_inner);
        sandboxes
            .get(id)
            .filter(|sandbox| caller.sees(&sandbox.tenant, sandbox.owner.as_ref()))
            .cloned()
    }

    fn select(&self, wanted: impl Fn(&Sandbox) -> bool) -> Vec<Arc<Sandbox>> {
        let sandboxes = self.shared.sandboxes.read().unwrap_or_else(PoisonError::into_inner);
        sandboxes.values().filter(|sandbox| wanted(sandbox)).cloned().collect()
    }

    fn forget(&self, id: &SandboxId) {
        self.shared
            .sandboxes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    /// Ends a sandbox now and has it freed later; `false` when someone else did.
    fn end_in_background(&self, sandbox: &Arc<Sandbox>) -> bool {
        let first = sandbox.end();
        if first {
            tokio::spawn(release(self.clone(), Arc::clone(sandbox)));
        }
        first
    }

    /// Has the provider free a sandbox that ended. Runs to its end even when the caller does not wait for it.
    async fn release(&self, sandbox: &Arc<Sandbox>) -> Result<(), SandboxError> {
        let id = &sandbox.id;
        let freeing = tokio::spawn(release(self.clone(), Arc::clone(sandbox)));
        let result = freeing
            .await
            .unwrap_or_else(|error| Err(ProviderError::Internal(error.to_string())));
        result.map_err(|error| SandboxError::of_provider(id, error))
    }
}

/// Frees a sandbox at its provider and drops it from the manager, or leaves it to be tried again.
async fn release(manager: SandboxManager, sandbox: Arc<Sandbox>) -> Result<(), ProviderError> {
    let id = &sandbox.id;
    let freeing = AssertUnwindSafe(sandbox.provider.destroy(id.as_str())).catch_unwind();
    let result = freeing
        .await
        .unwrap_or_else(|_| Err(ProviderError::Internal("the provider panicked".to_owned())));
    match &result {
        Ok(()) | Err(ProviderError::SandboxNotFound) => {
            manager.forget(id);
            manager.shared.metrics.destroyed(sandbox.provider.name());
            Ok(())
        }
        Err(error) => {
            tracing::warn!(sandbox = %id, %error, "cannot free the sandbox; trying again");
            locked(&sandbox.life).phase = Phase::ReleaseFailed;
            result
        }
    }
}

/// A creation that is under way. Dropped only when the creation was cancelled or panicked: then what the provider
/// made so far is freed.
struct Unfinished<'a> {
    manager: &'a SandboxManager,
    sandbox: &'a Arc<Sandbox>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.manager.end_in_background(self.sandbox);
    }
}
