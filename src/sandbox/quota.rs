//! Quotas of owners. A sandbox without an owner is limited by the server's limits only.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::caller::Holder;
use super::recovery::{from_nanos, nanos};
use super::{Caller, SandboxError, SandboxManager, TenantId, UserId};
use crate::store::{AuditAction, QuotaRow};

/// Limits of one owner below the server's. What is `None` is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Sandboxes at once; `Some(0)` never occurs.
    pub max_sandboxes: Option<usize>,
    /// Longest time to live of a sandbox.
    pub max_ttl: Option<Duration>,
    /// Longest timeout of a command.
    pub max_exec_timeout: Option<Duration>,
}

/// The quota that was set for an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerQuota {
    /// The owner.
    pub owner: UserId,
    /// What holds for them.
    pub quota: Quota,
    /// When a quota was first set.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
}

/// What an owner uses, beside what they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerUsage {
    /// The owner.
    pub owner: UserId,
    /// Sandboxes that hold something now.
    pub active_sandboxes: usize,
    /// What holds for the owner, the server's limits included.
    pub effective: Quota,
    /// Whether a quota was set for the owner.
    pub configured: bool,
}

/// How many quotas there are, and how many limit what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaSummary {
    /// All.
    pub total: usize,
    /// Those that limit the number of sandboxes.
    pub with_max_sandboxes: usize,
    /// Those that limit the time to live.
    pub with_max_ttl: usize,
    /// Those that limit the timeout of commands.
    pub with_max_exec_timeout: usize,
}

/// All quotas, as the store has them.
pub(super) struct Quotas {
    /// Keys always have an owner.
    set: RwLock<HashMap<Holder, Recorded>>,
    /// Sandboxes at once of an owner without a quota that says otherwise.
    default_max_sandboxes: Option<usize>,
}

/// A quota and when it came about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recorded {
    quota: Quota,
    created_at: SystemTime,
    updated_at: SystemTime,
}

impl Quotas {
    /// No quotas. `default_max_sandboxes` holds for every owner; 0 is no limit.
    pub(super) fn new(default_max_sandboxes: usize) -> Self {
        Self {
            set: RwLock::default(),
            default_max_sandboxes: (default_max_sandboxes > 0).then_some(default_max_sandboxes),
        }
    }

    /// What holds for this holder. Locks nothing but the quotas.
    pub(super) fn of(&self, holder: &Holder) -> Quota {
        if holder.owner.is_none() {
            return Quota::default();
        }
        let set = self.set.read();
        let mut quota = set.get(holder).map(|recorded| recorded.quota).unwrap_or_default();
        quota.max_sandboxes = quota.max_sandboxes.or(self.default_max_sandboxes);
        quota
    }

    fn get(&self, holder: &Holder) -> Option<Recorded> {
        let set = self.set.read();
        set.get(holder).copied()
    }

    /// Those the caller sees, by owner.
    fn seen(&self, caller: &Caller) -> Vec<OwnerQuota> {
        let set = self.set.read();
        let mut seen: Vec<_> = set
            .iter()
            .filter(|(holder, _)| holder.tenant == caller.tenant)
            .filter_map(|(holder, recorded)| Some((holder.owner.clone()?, *recorded)))
            .filter(|(owner, _)| caller.user.as_ref().is_none_or(|user| user == owner))
            .map(|(owner, recorded)| recorded.for_owner(owner))
            .collect();
        seen.sort_by(|a, b| a.owner.as_str().cmp(b.owner.as_str()));
        seen
    }

    /// Puts a quota where the store has it.
    pub(super) fn put(&self, holder: Holder, recorded: Recorded) {
        let mut set = self.set.write();
        set.insert(holder, recorded);
    }

    fn remove(&self, holder: &Holder) {
        let mut set = self.set.write();
        set.remove(holder);
    }
}

impl Recorded {
    fn for_owner(self, owner: UserId) -> OwnerQuota {
        OwnerQuota {
            owner,
            quota: self.quota,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// Reads a row of the store; `None` when its names are none.
pub(super) fn read(row: &QuotaRow) -> Option<(Holder, Recorded)> {
    let holder = Holder {
        tenant: TenantId::parse(&row.tenant).ok()?,
        owner: Some(UserId::parse(&row.owner).ok()?),
    };
    let duration = |nanos: Option<i64>| Some(Duration::from_nanos(u64::try_from(nanos?).ok()?));
    let recorded = Recorded {
        quota: Quota {
            max_sandboxes: row.max_sandboxes.and_then(|max| usize::try_from(max).ok()),
            max_ttl: duration(row.max_ttl),
            max_exec_timeout: duration(row.max_exec_timeout),
        },
        created_at: from_nanos(row.created_at),
        updated_at: from_nanos(row.updated_at),
    };
    Some((holder, recorded))
}

/// Quotas are those of the caller's tenant, and only the caller's own when it is narrowed to a user.
impl SandboxManager {
    /// The quotas that were set, by owner.
    #[must_use]
    pub fn quotas(&self, caller: &Caller) -> Vec<OwnerQuota> {
        self.shared.quotas.seen(caller)
    }

    /// How many quotas there are.
    #[must_use]
    pub fn quota_summary(&self, caller: &Caller) -> QuotaSummary {
        let quotas = self.quotas(caller);
        let count = |limits: fn(&Quota) -> bool| quotas.iter().filter(|owner| limits(&owner.quota)).count();
        QuotaSummary {
            total: quotas.len(),
            with_max_sandboxes: count(|quota| quota.max_sandboxes.is_some()),
            with_max_ttl: count(|quota| quota.max_ttl.is_some()),
            with_max_exec_timeout: count(|quota| quota.max_exec_timeout.is_some()),
        }
    }

    /// The quota that was set for an owner.
    ///
    /// # Errors
    /// [`SandboxError::QuotaNotFound`].
    pub fn quota(&self, caller: &Caller, owner: &UserId) -> Result<OwnerQuota, SandboxError> {
        let holder = seen_holder(caller, owner)?;
        let recorded = self.shared.quotas.get(&holder);
        recorded
            .map(|recorded| recorded.for_owner(owner.clone()))
            .ok_or_else(|| SandboxError::QuotaNotFound(owner.clone()))
    }

    /// Sets an owner's quota, with `action` in the audit trail. Sandboxes that exist already stay as they are.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn set_quota(
        &self,
        caller: &Caller,
        owner: &UserId,
        quota: Quota,
        action: AuditAction,
    ) -> Result<OwnerQuota, SandboxError> {
        let holder = seen_holder(caller, owner)?;
        let now = SystemTime::now();
        let row = QuotaRow {
            tenant: holder.tenant.to_string(),
            owner: owner.to_string(),
            max_sandboxes: quota.max_sandboxes.and_then(|max| i64::try_from(max).ok()),
            max_ttl: quota.max_ttl.map(duration_nanos),
            max_exec_timeout: quota.max_exec_timeout.map(duration_nanos),
            created_at: nanos(now),
            updated_at: nanos(now),
        };
        let manager = self.clone();
        let committed = move |created_at| {
            let recorded = Recorded {
                quota,
                created_at: from_nanos(created_at),
                updated_at: now,
            };
            manager.shared.quotas.put(holder, recorded);
            // There may be room now for those who wait.
            manager.shared.admission.admit_waiting();
        };
        let created_at = self.shared.store.put_quota(row, action, committed).await?;
        Ok(OwnerQuota {
            owner: owner.clone(),
            quota,
            created_at: from_nanos(created_at),
            updated_at: now,
        })
    }

    /// Removes an owner's quota, with `action` in the audit trail.
    ///
    /// # Errors
    /// [`SandboxError::QuotaNotFound`], or when it cannot be recorded.
    pub async fn delete_quota(&self, caller: &Caller, owner: &UserId, action: AuditAction) -> Result<(), SandboxError> {
        let holder = seen_holder(caller, owner)?;
        let tenant = holder.tenant.to_string();
        let manager = self.clone();
        let committed = move || {
            manager.shared.quotas.remove(&holder);
            manager.shared.admission.admit_waiting();
        };
        let store = &self.shared.store;
        if store.delete_quota(tenant, owner.to_string(), action, committed).await? {
            Ok(())
        } else {
            Err(SandboxError::QuotaNotFound(owner.clone()))
        }
    }

    /// What an owner uses and may use, with or without a quota of their own.
    ///
    /// # Errors
    /// [`SandboxError::QuotaNotFound`] when the caller may not know.
    pub fn quota_usage(&self, caller: &Caller, owner: &UserId) -> Result<OwnerUsage, SandboxError> {
        let holder = seen_holder(caller, owner)?;
        let limits = &self.shared.config.limits;
        let quota = self.shared.quotas.of(&holder);
        let within = |own: Option<Duration>, server: Duration| Some(own.map_or(server, |own| own.min(server)));
        Ok(OwnerUsage {
            owner: owner.clone(),
            active_sandboxes: self.shared.admission.active(&holder).1,
            effective: Quota {
                max_sandboxes: quota.max_sandboxes,
                max_ttl: within(quota.max_ttl, limits.max_ttl.0),
                max_exec_timeout: within(quota.max_exec_timeout, limits.max_exec_timeout.0),
            },
            configured: self.shared.quotas.get(&holder).is_some(),
        })
    }
}

/// An owner of the caller's tenant, unless the caller is narrowed to another.
fn seen_holder(caller: &Caller, owner: &UserId) -> Result<Holder, SandboxError> {
    if caller.user.as_ref().is_some_and(|user| user != owner) {
        return Err(SandboxError::QuotaNotFound(owner.clone()));
    }
    Ok(Holder {
        tenant: caller.tenant.clone(),
        owner: Some(owner.clone()),
    })
}

/// Go's durations, which the API reads, hold no more.
fn duration_nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
