//! All sandboxes of a server: creates, finds and destroys them.

use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Admission;
use super::budgets::Budgets;
use super::detached::Detached;
use super::events::{Event, EventBus, EventKind};
use super::image_removal::ImageRemovals;
use super::life::{Origin, Phase, Sandbox};
use super::metrics::{CreateOutcome, Metrics};
use super::pressure::Pressure;
use super::quota::Quotas;
use super::recovery::{self, nanos};
use super::registry::Registry;
use super::{Caller, CreateRequest, Permit, Providers, SandboxError, SandboxId, SandboxState, SandboxView};
use crate::config::Config;
use crate::provider::ProviderError;
use crate::store::Store;

/// Sandboxes that are freed at the same time after many expired at once.
const RELEASES_AT_ONCE: usize = 32;

/// The sandboxes of a server. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct SandboxManager {
    pub(super) shared: Arc<Shared>,
}

/// What all clones of a manager have in common.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) providers: Providers,
    /// What survives a restart.
    pub(super) store: Store,
    /// What was done, in numbers.
    pub(super) metrics: Metrics,
    /// What happens, for those who listen.
    pub(super) events: EventBus,
    /// What each owner may use.
    pub(super) quotas: Arc<Quotas>,
    /// Who may create a sandbox now.
    pub(super) admission: Arc<Admission>,
    /// Budgets of the resources that tenants share.
    pub(super) budgets: Budgets,
    /// Whether the machine has memory left.
    pub(super) pressure: Pressure,
    /// Images that no sandbox is made from now.
    pub(super) removals: ImageRemovals,
    /// Every sandbox that still holds something at its provider.
    pub(super) sandboxes: Registry,
    /// Providers that may still hold what an earlier process left. They make no sandboxes until that is known.
    unreconciled: RwLock<BTreeSet<&'static str>>,
    /// Cancelled when new sandboxes and commands are refused.
    pub(super) closing: CancellationToken,
    /// Parent of every sandbox's `ended`: cancelled when commands that still run are killed.
    pub(super) stopping: CancellationToken,
    /// Conversations that a stopping server waits for.
    sessions: TaskTracker,
}

/// How many sandboxes of one state there are on one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxCount {
    /// Name of the provider; `unknown` for those this server does not have.
    pub provider: &'static str,
    /// State in the API, or `releasing` for those that are gone for clients while the provider frees them.
    pub state: &'static str,
    /// Sandboxes of that owner.
    pub count: usize,
}

impl Shared {
    /// Tells those who listen what happened to a sandbox.
    pub(super) fn tell(&self, sandbox: &Sandbox, kind: EventKind) {
        self.events.publish(Event {
            id: 0,
            at: SystemTime::now(),
            sandbox: sandbox.id.clone(),
            tenant: sandbox.holder.tenant.clone(),
            owner: sandbox.holder.owner.clone(),
            provider: sandbox.provider_label(),
            kind,
        });
    }

    /// Has a provider make no sandboxes until it is [reconciled](Self::reconciled).
    pub(super) fn block_until_reconciled(&self, provider: &'static str) {
        let mut unreconciled = self.unreconciled.write();
        unreconciled.insert(provider);
    }

    /// Whether nothing of an earlier process is left at a provider but known sandboxes.
    pub(super) fn is_reconciled(&self, provider: &str) -> bool {
        let unreconciled = self.unreconciled.read();
        !unreconciled.contains(provider)
    }

    /// Notes that nothing of an earlier process is left at a provider but known sandboxes.
    pub(super) fn reconciled(&self, provider: &str) {
        let mut unreconciled = self.unreconciled.write();
        unreconciled.remove(provider);
    }
}

impl SandboxManager {
    /// A manager without sandboxes.
    #[must_use]
    pub fn new(config: Arc<Config>, providers: Providers, store: Store) -> Self {
        let quotas = Arc::new(Quotas::new(config.limits.max_sandboxes_per_owner));
        let metrics = Metrics::default();
        Self {
            shared: Arc::new(Shared {
                admission: Arc::new(Admission::new(&config.limits, Arc::clone(&quotas), metrics.clone())),
                budgets: Budgets::new(&config),
                pressure: Pressure::new(&config.limits),
                config,
                providers,
                store,
                metrics,
                events: EventBus::default(),
                quotas,
                removals: ImageRemovals::default(),
                sandboxes: Registry::default(),
                unreconciled: RwLock::default(),
                closing: CancellationToken::new(),
                stopping: CancellationToken::new(),
                sessions: TaskTracker::new(),
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

    /// What tenants share, and how much of it there is.
    #[must_use]
    pub fn budgets(&self) -> &Budgets {
        &self.shared.budgets
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
    /// A value out of range, an unknown provider or image, a server that is full or stopping, a failing provider or store.
    pub async fn create(&self, caller: &Caller, request: CreateRequest) -> Result<SandboxView, SandboxError> {
        self.refuse_when_closing()?;
        let request = self.with_template(caller, request).await?;
        let shared = &self.shared;
        let provider = Arc::clone(shared.providers.resolve(request.provider.as_deref())?);
        self.refuse_before_reconciliation(provider.name())?;
        let spec = request.specify(&shared.config)?;
        let holder = request.holder(caller);
        let lifetime = request.lifetime(&shared.config.limits, &shared.quotas.of(&holder))?;
        let id = SandboxId::random()
            .map_err(|error| SandboxError::Provider(ProviderError::Internal(format!("no random bytes: {error}"))))?;
        shared.pressure.check()?;
        let slot = shared.admission.enter(&holder, &shared.closing).await?;
        let budgets = &shared.budgets;
        let room = budgets
            .room(&holder.tenant, &spec, &request.metadata)
            .map_err(|no_room| {
                shared.metrics.rejected(no_room.rejection());
                no_room.refusal(budgets, &spec)
            })?;
        let created_at = SystemTime::now();
        let origin = Origin {
            id,
            provider_name: provider.name().to_owned(),
            provider: Some(provider),
            spec,
            holder,
            metadata: request.metadata,
            created_at,
            expires_at: created_at + lifetime,
        };
        let sandbox = Arc::new(Sandbox::new(
            origin,
            Phase::Creating,
            &shared.config.limits,
            &shared.stopping,
        ));
        shared.sandboxes.insert(&sandbox, slot, room);
        let abandoned = {
            let sandbox = Arc::clone(&sandbox);
            move || {
                // Only `make`, which goes on, releases it.
                sandbox.end();
            }
        };
        Detached::new(make(self.clone(), sandbox), abandoned).await
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
    #[cfg(test)]
    pub(super) async fn list(&self, caller: &Caller) -> Vec<SandboxView> {
        let mut listing = self.listing(caller);
        let mut views = Vec::new();
        while let Some(view) = listing.next().await {
            views.push(view);
        }
        views
    }

    /// How many sandboxes there are, by provider and state.
    pub async fn counts(&self) -> Vec<SandboxCount> {
        let now = SystemTime::now();
        let mut counts = BTreeMap::new();
        self.select(|sandbox| {
            let state = sandbox.state(now).map_or("releasing", SandboxState::label);
            *counts.entry((sandbox.provider_label(), state)).or_default() += 1;
            false
        })
        .await;
        let counts = counts.into_iter();
        counts
            .map(|((provider, state), count)| SandboxCount { provider, state, count })
            .collect()
    }

    /// How many sandboxes a provider holds that the caller sees.
    pub async fn count_on(&self, caller: &Caller, provider: &str) -> usize {
        let mut count = 0;
        self.select(|sandbox| {
            count += usize::from(sandbox.provider_name == provider && caller.sees(&sandbox.holder));
            false
        })
        .await;
        count
    }

    /// Destroys a sandbox and kills what runs in it. Not an error when it is gone already, or was never there.
    ///
    /// # Errors
    /// What the provider or the store reports. The sandbox is gone for clients all the same; freeing it is tried again.
    pub async fn destroy(&self, caller: &Caller, id: &SandboxId) -> Result<(), SandboxError> {
        match self.find(caller, id) {
            None => Ok(()),
            Some(sandbox) if sandbox.end() => {
                self.shared.tell(&sandbox, EventKind::Destroyed);
                Detached::new(release(self.clone(), sandbox), || {}).await
            }
            // Somebody else frees it. What this caller is told must be true after a crash, too.
            Some(_) => Ok(self.shared.store.delete_sandbox(id.to_string()).await?),
        }
    }

    /// Lets a sandbox live this much longer, counted from now, up to the maximum of the server and of its owner.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`]; [`SandboxError::Invalid`] for no time at all; a failing store.
    pub async fn extend(&self, caller: &Caller, id: &SandboxId, ttl: Duration) -> Result<SandboxView, SandboxError> {
        if ttl.is_zero() {
            return Err(SandboxError::Invalid("ttl must be longer than 0s".to_owned()));
        }
        let sandbox = self.running(caller, id)?;
        let quota = self.shared.quotas.of(&sandbox.holder);
        let ttl = ttl.min(self.shared.config.limits.max_ttl.0);
        let ttl = quota.max_ttl.map_or(ttl, |own| own.min(ttl));
        let expires_at = SystemTime::now() + ttl;
        let committed = {
            let sandbox = Arc::clone(&sandbox);
            move || sandbox.extend_to(expires_at, SystemTime::now())
        };
        let store = &self.shared.store;
        store.set_expiry(id.to_string(), nanos(expires_at), committed).await?;
        sandbox
            .view(SystemTime::now())
            .ok_or_else(|| SandboxError::NotFound(id.clone()))
    }

    /// Destroys the expired sandboxes the caller sees, and says how many there were.
    pub async fn prune(&self, caller: &Caller) -> usize {
        let now = SystemTime::now();
        let expired = self.select(|sandbox| caller.sees(&sandbox.holder) && sandbox.is_expired(now));
        self.expire(expired.await)
    }

    /// Destroys all expired sandboxes, and tries again to free those that could not be.
    pub(super) async fn sweep(&self) {
        let (now, instant) = (SystemTime::now(), Instant::now());
        let (expired, failed): (Vec<_>, Vec<_>) = self
            .select(|sandbox| sandbox.is_expired(now) || sandbox.is_release_due(instant))
            .await
            .into_iter()
            .partition(|sandbox| sandbox.is_expired(now));
        self.expire(expired);
        self.end_in_background(failed);
    }

    /// Ends sandboxes whose time is over. Says how many of them nobody else had ended.
    fn expire(&self, sandboxes: Vec<Arc<Sandbox>>) -> usize {
        let ended = self.end_in_background(sandboxes);
        for sandbox in &ended {
            self.shared.tell(sandbox, EventKind::Expired);
        }
        ended.len()
    }

    /// Counts a conversation that goes on after its request was answered, until the token is dropped.
    pub fn session(&self) -> TaskTrackerToken {
        self.shared.sessions.token()
    }

    /// Completes when no [`SandboxManager::session`] is left. To be called after [`SandboxManager::close`].
    pub async fn sessions_ended(&self) {
        self.shared.sessions.wait().await;
    }

    /// Refuses new sandboxes and commands from now on.
    pub fn close(&self) {
        self.shared.sessions.close();
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

    /// # Errors
    /// [`ProviderError::Unavailable`] while a provider may hold what an earlier process left.
    pub(super) fn refuse_before_reconciliation(&self, provider: &str) -> Result<(), SandboxError> {
        if self.shared.is_reconciled(provider) {
            return Ok(());
        }
        let message = format!("provider {provider} could not be reached since the server started; try again later");
        Err(SandboxError::Provider(ProviderError::Unavailable(message)))
    }

    /// A sandbox that can be used now.
    pub(super) fn running(&self, caller: &Caller, id: &SandboxId) -> Result<Arc<Sandbox>, SandboxError> {
        let sandbox = self
            .find(caller, id)
            .ok_or_else(|| SandboxError::NotFound(id.clone()))?;
        sandbox.usable(SystemTime::now())?;
        Ok(sandbox)
    }

    /// A permit for bytes of a request, which holds nothing yet. They are charged to the sandbox the request is for as well,
    /// if the caller sees that.
    #[must_use]
    pub fn transfer_permit(&self, caller: &Caller, id: &SandboxId) -> Permit {
        let permit = self.shared.budgets.transfer.empty(&caller.tenant);
        match self.find(caller, id) {
            Some(sandbox) => permit.of_sandbox(&sandbox.requests),
            None => permit,
        }
    }

    fn find(&self, caller: &Caller, id: &SandboxId) -> Option<Arc<Sandbox>> {
        let sandbox = self.shared.sandboxes.get(id)?;
        caller.sees(&sandbox.holder).then_some(sandbox)
    }

    /// All sandboxes that are wanted.
    pub(super) async fn select(&self, wanted: impl FnMut(&Sandbox) -> bool) -> Vec<Arc<Sandbox>> {
        self.shared.sandboxes.select(wanted).await
    }

    /// Ends sandboxes now and has them freed later. Returns those that nobody else had ended.
    fn end_in_background(&self, sandboxes: Vec<Arc<Sandbox>>) -> Vec<Arc<Sandbox>> {
        let ended: Vec<_> = sandboxes.into_iter().filter(|sandbox| sandbox.end()).collect();
        if !ended.is_empty() {
            let manager = self.clone();
            tokio::spawn(
                stream::iter(ended.clone()).for_each_concurrent(RELEASES_AT_ONCE, move |sandbox| {
                    // Failures are logged, and tried again.
                    release(manager.clone(), sandbox).map(drop)
                }),
            );
        }
        ended
    }
}

/// Has the provider make a sandbox, and records it: from then on it survives the server. When somebody ends the sandbox
/// meanwhile, all of it is undone.
async fn make(manager: SandboxManager, sandbox: Arc<Sandbox>) -> Result<SandboxView, SandboxError> {
    let id = &sandbox.id;
    let shared = &manager.shared;
    let provider = sandbox.provider()?;
    let started = Instant::now();
    let created = match shared.removals.refuse(provider.name(), &sandbox.spec.image) {
        Ok(()) => guarded(provider.create(sandbox.holder.tenant.as_str(), id.as_str(), &sandbox.spec)).await,
        refused => refused,
    };
    if let Err(error) = created {
        if let ProviderError::Internal(_) | ProviderError::Unavailable(_) = error {
            let outcome = CreateOutcome::Error;
            shared.metrics.created(provider.name(), outcome, started.elapsed());
            shared.tell(&sandbox, EventKind::Error);
        }
        sandbox.end();
        shared.sandboxes.remove(id);
        return Err(SandboxError::of_provider(id, error));
    }
    let recorded = match recovery::row(&sandbox) {
        Ok(row) => {
            let wanted = {
                let sandbox = Arc::clone(&sandbox);
                // Whoever ends a sandbox does so before deleting its row: no row is added after that.
                move || sandbox.is_creating()
            };
            shared
                .store
                .insert_sandbox(row, wanted)
                .await
                .map_err(SandboxError::Store)
        }
        Err(error) => Err(error),
    };
    if recorded.is_ok() && sandbox.created() {
        let outcome = CreateOutcome::Ok;
        shared.metrics.created(provider.name(), outcome, started.elapsed());
        let image = sandbox.spec.image.clone();
        shared.tell(&sandbox, EventKind::Created { image });
        // As of then: a client that asked for a very short life is answered all the same.
        return sandbox
            .view(sandbox.created_at)
            .ok_or_else(|| SandboxError::NotFound(id.clone()));
    }
    sandbox.end();
    let released = release(manager.clone(), Arc::clone(&sandbox)).await;
    Err(recorded
        .and(released)
        .err()
        .unwrap_or_else(|| SandboxError::NotFound(id.clone())))
}

/// Forgets a sandbox that ended and has its provider free it, or leaves it to be tried again. The row goes first: what a
/// client was told is destroyed never comes back, and what a provider holds without a row is freed at the next start.
async fn release(manager: SandboxManager, sandbox: Arc<Sandbox>) -> Result<(), SandboxError> {
    let id = &sandbox.id;
    let unrecorded = manager.shared.store.delete_sandbox(id.to_string()).await;
    // Also when the row is still there: it may be what this sandbox holds that leaves no room to write.
    let freed = match sandbox.provider() {
        Ok(provider) => match guarded(provider.destroy(id.as_str())).await {
            Err(ProviderError::SandboxNotFound) => Ok(()),
            other => other,
        },
        // Nothing of it can be reached from here.
        Err(_) => Ok(()),
    };
    let result = unrecorded
        .map_err(SandboxError::Store)
        .and(freed.map_err(SandboxError::Provider));
    match &result {
        Ok(()) => {
            manager.shared.sandboxes.remove(id);
            manager.shared.metrics.destroyed(sandbox.provider_label());
        }
        Err(error) => {
            tracing::warn!(sandbox = %id, %error, "cannot free the sandbox; trying again");
            sandbox.release_failed();
        }
    }
    result
}

/// A provider's answer; that it panicked is one as well.
pub(super) async fn guarded<T>(asked: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    AssertUnwindSafe(asked)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(ProviderError::Internal("the provider panicked".to_owned())))
}
