//! What a server does at its start with what an earlier one left: takes its sandboxes over, and frees what belongs to
//! none of them.
//!
//! A sandbox exists as long as its row in the store does. So whatever instant a server died at, there are three cases: a
//! row whose provider still has the sandbox, which is taken over; a row whose provider lost it, which is shown as an error
//! until its client destroys it or it expires; and things of a provider without a row, which were being made or freed
//! and are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::caller::Holder;
use super::health::HEALTH_TIMEOUT;
use super::life::{Origin, Phase, Sandbox, no_such_provider};
use super::manager::{SandboxManager, guarded};
use super::{SandboxError, SandboxId, TenantId, UserId, quota};
use crate::provider::{Network, Provider, ProviderError, SandboxSpec};
use crate::store::SandboxRow;

/// Sandboxes a provider is asked to bring back at the same time.
const AT_ONCE: usize = 16;
/// How long the start waits for providers. What takes longer goes on while the server serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a provider may take for its health check while the start waits for it. One that takes longer is asked again.
const FIRST_HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long after which a provider that could not be reached is asked again.
const RETRY: Duration = Duration::from_secs(2);
/// When, after a provider was reconciled, it is asked for what it has finished since for a process that is dead. An
/// engine under load takes seconds to make a container.
const LATE_ORPHANS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(2),
];

/// What the start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sandboxes that can be used again.
    pub recovered: usize,
    /// Sandboxes that cannot be used, now or for good.
    pub in_error: usize,
    /// Sandboxes that had expired, and things that belonged to no sandbox.
    pub removed: usize,
}

impl SandboxManager {
    /// Takes over what an earlier process left. To be called once, before the first request.
    ///
    /// A provider that cannot be reached does not keep the server from starting: its sandboxes are in the state error
    /// and come back by themselves when it does; until then it makes no new ones.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recover(&self) -> Result<Recovered, SandboxError> {
        let shared = &self.shared;
        for row in shared.store.quotas().await? {
            match quota::read(&row) {
                Some((holder, recorded)) => shared.quotas.put(holder, recorded),
                None => tracing::error!(tenant = row.tenant, owner = row.owner, "a quota is malformed; ignored"),
            }
        }
        let now = SystemTime::now();
        let (expired, rows): (Vec<_>, Vec<_>) = shared
            .store
            .sandboxes()
            .await?
            .into_iter()
            .partition(|row| from_nanos(row.expires_at) <= now);
        let mut outcome = Recovered {
            removed: expired.len(),
            ..Recovered::default()
        };
        // Without a row the provider frees them with whatever else nobody knows.
        let expired = expired.into_iter().map(|row| row.id).collect();
        shared.store.delete_sandboxes(expired).await?;
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows {
            known.entry(row.provider.clone()).or_default().insert(row.id.clone());
            if !self.take_over(row) {
                outcome.in_error += 1;
            }
        }
        let reconciling: Vec<_> = shared
            .providers
            .all()
            .map(|provider| {
                shared.block_until_reconciled(provider.name());
                let known = known.remove(provider.name()).unwrap_or_default();
                tokio::spawn(reconcile(self.clone(), Arc::clone(provider), known))
            })
            .collect();
        // The tasks go on when they are no longer waited for.
        let removed = tokio::time::timeout(PATIENCE, future::join_all(reconciling)).await;
        outcome.removed += removed.unwrap_or_default().into_iter().flatten().sum::<usize>();
        for sandbox in self.select(|_| true).await {
            match sandbox.usable(now) {
                Ok(()) => outcome.recovered += 1,
                Err(_) => outcome.in_error += 1,
            }
        }
        Ok(outcome)
    }

    /// Counts a recorded sandbox in. `false` when it cannot even be named.
    fn take_over(&self, row: SandboxRow) -> bool {
        let Some(id) = SandboxId::parse(&row.id).filter(|id| id.as_str() == row.id) else {
            tracing::error!(id = row.id, "a recorded sandbox has no id of ours; left alone");
            return false;
        };
        let provider = self.shared.providers.find(&row.provider).cloned();
        let (origin, defect) = read(id, row, provider);
        let phase = match (defect, &origin.provider) {
            (Some(defect), _) => {
                tracing::error!(sandbox = %origin.id, defect, "a recorded sandbox cannot be taken over");
                Phase::Failed(Arc::from(defect))
            }
            (None, None) => {
                let reason = no_such_provider(&origin.provider_name);
                tracing::error!(sandbox = %origin.id, reason, "a recorded sandbox cannot be taken over");
                Phase::Failed(Arc::from(reason))
            }
            (None, Some(_)) => Phase::Waiting(Arc::from("it is still being brought back")),
        };
        let slot = self.shared.admission.take_over(&origin.holder);
        let tenant = &origin.holder.tenant;
        let room = self.shared.budgets.take_over(tenant, &origin.spec, &origin.metadata);
        let sandbox = Sandbox::new(origin, phase, &self.shared.config.limits, &self.shared.stopping);
        self.shared.sandboxes.insert(&Arc::new(sandbox), slot, room);
        true
    }
}

/// Has a provider free what belongs to no sandbox and bring back the others, as often as needed until it can be reached.
/// Returns after the first try; the others go on by themselves.
async fn reconcile(manager: SandboxManager, provider: Arc<dyn Provider>, known: BTreeSet<String>) -> usize {
    match try_reconcile(&manager, &provider, &known, FIRST_HEALTH_TIMEOUT).await {
        Ok(removed) => removed,
        Err(reason) => {
            let name = provider.name();
            tracing::warn!(provider = name, %reason, "the provider cannot be reached; trying again");
            set_waiting(&manager, name, &reason).await;
            tokio::spawn(keep_reconciling(manager, provider, known));
            0
        }
    }
}

async fn keep_reconciling(manager: SandboxManager, provider: Arc<dyn Provider>, known: BTreeSet<String>) {
    loop {
        tokio::select! {
            () = manager.shared.closing.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        if let Ok(removed) = try_reconcile(&manager, &provider, &known, HEALTH_TIMEOUT).await {
            tracing::info!(provider = provider.name(), removed, "the provider is back");
            return;
        }
    }
}

/// Tells the clients of sandboxes that are not back why.
async fn set_waiting(manager: &SandboxManager, provider: &str, reason: &ProviderError) {
    let reason: Arc<str> = Arc::from(format!(
        "provider {provider} cannot be reached ({}); the sandbox comes back with it",
        public(reason)
    ));
    for sandbox in manager.select(|sandbox| sandbox.provider_name == provider).await {
        sandbox.came_back(Phase::Waiting(Arc::clone(&reason)));
    }
}

/// One try. The error is that the provider cannot be reached; nothing else keeps others from starting.
async fn try_reconcile(
    manager: &SandboxManager,
    provider: &Arc<dyn Provider>,
    known: &BTreeSet<String>,
    health_timeout: Duration,
) -> Result<usize, ProviderError> {
    let no_answer = || Err(ProviderError::Unavailable("no answer to the health check".to_owned()));
    tokio::time::timeout(health_timeout, guarded(provider.health()))
        .await
        .unwrap_or_else(|_| no_answer())?;
    let name = provider.name();
    let mut removed = 0;
    // Once, and before new sandboxes are made: those would look like nobody's.
    if !manager.shared.is_reconciled(name) {
        removed = match guarded(provider.remove_orphans(known)).await {
            Ok(removed) => removed,
            Err(error @ ProviderError::Unavailable(_)) => return Err(error),
            Err(error) => {
                tracing::error!(provider = name, %error, "cannot remove what earlier processes left");
                0
            }
        };
        manager.shared.reconciled(name);
        tokio::spawn(remove_late_orphans(
            manager.clone(),
            Arc::clone(provider),
            known.clone(),
        ));
    }
    let waiting = manager
        .select(|sandbox| sandbox.provider_name == name && sandbox.is_waiting())
        .await;
    let unreachable = stream::iter(waiting)
        .map(|sandbox| bring_back(provider, sandbox))
        .buffer_unordered(AT_ONCE)
        .filter_map(|result| async { result.err() })
        .collect::<Vec<_>>()
        .await;
    unreachable.into_iter().next().map_or(Ok(removed), Err)
}

/// Asks a provider a few times for what has come into being for no sandbox since it was reconciled.
async fn remove_late_orphans(manager: SandboxManager, provider: Arc<dyn Provider>, known: BTreeSet<String>) {
    let started = Instant::now();
    for after in LATE_ORPHANS {
        tokio::select! {
            () = manager.shared.closing.cancelled() => return,
            () = tokio::time::sleep_until(started + after) => {}
        }
        match guarded(provider.remove_late_orphans(&known)).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(
                provider = provider.name(),
                removed,
                "removed what was finished for a server that has died"
            ),
            Err(error) => tracing::warn!(provider = provider.name(), %error, "cannot look for what was left"),
        }
    }
}

/// Has a provider bring back one sandbox. The error is that the provider cannot be reached.
async fn bring_back(provider: &Arc<dyn Provider>, sandbox: Arc<Sandbox>) -> Result<(), ProviderError> {
    let id = sandbox.id.as_str();
    let phase = match guarded(provider.recover(sandbox.holder.tenant.as_str(), id, &sandbox.spec)).await {
        Ok(()) => Phase::Running,
        Err(error @ ProviderError::Unavailable(_)) => return Err(error),
        Err(ProviderError::SandboxNotFound) => {
            tracing::error!(sandbox = id, "the provider has nothing of a recorded sandbox");
            Phase::Failed(Arc::from("its provider has lost it, with its files"))
        }
        Err(error) => {
            tracing::error!(sandbox = id, %error, "a recorded sandbox cannot be brought back");
            Phase::Failed(Arc::from(format!("it could not be brought back: {}", public(&error))))
        }
    };
    let running = phase == Phase::Running;
    if !sandbox.came_back(phase) && running {
        // It was destroyed meanwhile, perhaps before the provider had it back.
        if let Err(error) = guarded(provider.destroy(id)).await {
            tracing::warn!(sandbox = id, %error, "cannot free the sandbox; the next start does");
        }
    }
    Ok(())
}

/// An error in words for clients.
fn public(error: &ProviderError) -> String {
    match error {
        ProviderError::Internal(_) => "the runtime failed; the server's log has the details".to_owned(),
        other => other.to_string(),
    }
}

/// The row of a sandbox that was created.
pub(super) fn row(sandbox: &Sandbox) -> Result<SandboxRow, SandboxError> {
    let json = |error: serde_json::Error| {
        SandboxError::Provider(ProviderError::Internal(format!(
            "a sandbox cannot be recorded: {error}"
        )))
    };
    Ok(SandboxRow {
        id: sandbox.id.to_string(),
        tenant: sandbox.holder.tenant.to_string(),
        owner: sandbox.holder.owner.as_ref().map(ToString::to_string),
        provider: sandbox.provider_name.clone(),
        spec: serde_json::to_string(&sandbox.spec).map_err(json)?,
        metadata: serde_json::to_string(&sandbox.metadata).map_err(json)?,
        created_at: nanos(sandbox.created_at),
        expires_at: nanos(sandbox.expires_at()),
    })
}

/// What a row says, and what is wrong with it. A sandbox whose tenant or owner cannot be read belongs to nobody who asks:
/// it is under a tenant that no key can name.
fn read(id: SandboxId, row: SandboxRow, provider: Option<Arc<dyn Provider>>) -> (Origin, Option<String>) {
    let mut defect = None;
    let mut broken = |what: &str| defect = Some(format!("its record is damaged: {what} cannot be read"));
    let tenant = TenantId::parse(&row.tenant).unwrap_or_else(|_| {
        broken("its tenant");
        TenantId::nobody()
    });
    let owner = row.owner.as_deref().map(UserId::parse).transpose();
    let owner = owner.unwrap_or_else(|_| {
        broken("its owner");
        None
    });
    let metadata = serde_json::from_str(&row.metadata).unwrap_or_else(|_| {
        broken("its metadata");
        BTreeMap::new()
    });
    let spec = serde_json::from_str(&row.spec).unwrap_or_else(|_| {
        broken("its specification");
        SandboxSpec {
            image: "unknown".to_owned(),
            memory_mb: 0,
            vcpus: 0,
            disk_mb: 0,
            cpu_time: None,
            env: BTreeMap::new(),
            network: Network::None,
        }
    });
    let origin = Origin {
        id,
        provider_name: row.provider,
        provider,
        spec,
        holder: Holder { tenant, owner },
        metadata,
        created_at: from_nanos(row.created_at),
        expires_at: from_nanos(row.expires_at),
    };
    (origin, defect)
}

/// Nanoseconds since 1970. Times before it do not occur, nor after 2262.
pub(super) fn nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The time that [`nanos`] means.
pub(super) fn from_nanos(nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}
