//! Admission: decides which creations start, which wait and which are refused.
//!
//! Every sandbox has a [`Slot`] for as long as it holds anything. Whether there is room and taking the slot are one step
//! under one lock, so that no number of creations at the same instant passes a limit.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::budgets::NoRoom;
use super::caller::Holder;
use super::metrics::{Metrics, Rejection};
use super::quota::Quotas;
use super::spawn_queue::{SpawnQueue, Ticket};
use super::{Budget, Caller, CreateRequest, Permit, SandboxError, SandboxManager, TenantId};
use crate::config::{AdmissionMode, Limits};
use crate::duration::GoDuration;

/// The room of a server.
pub(super) struct Admission {
    max_sandboxes: usize,
    mode: AdmissionMode,
    max_queued: usize,
    /// Places in the queue.
    queue_places: Arc<Budget>,
    queue_timeout: GoDuration,
    quotas: Arc<Quotas>,
    metrics: Metrics,
    /// Never locked across an await. Whoever holds it may look into the quotas; not the other way round.
    occupancy: Mutex<Occupancy>,
}

/// Sandboxes by holder, and the creations that wait.
#[derive(Default)]
struct Occupancy {
    total: usize,
    /// No zero entries.
    holders: HashMap<Holder, usize>,
    queue: SpawnQueue<oneshot::Sender<Slot>>,
}

/// The room of one sandbox, given back when dropped.
pub(super) struct Slot {
    admission: Arc<Admission>,
    holder: Holder,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Server,
    Owner { max: usize },
}

/// Whether a creation would be admitted now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionDecision {
    /// It would.
    pub allowed: bool,
    /// It would not, but it could wait for room.
    pub queueable: bool,
    /// Which limit is in the way.
    pub reason: Option<DenialReason>,
    /// Sandboxes of the caller's tenant; of the server for who sees all tenants.
    pub active_sandboxes: usize,
    /// Most of the server's.
    pub max_sandboxes: usize,
    /// Sandboxes of the owner.
    pub active_owner_sandboxes: usize,
    /// Most of them, if that is limited.
    pub max_owner_sandboxes: Option<usize>,
    /// Longest time to live that may be asked for.
    pub max_ttl: GoDuration,
}

/// What a creation would be refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    /// The time to live is longer than the server or the owner's quota allows.
    MaxTtl,
    /// The server is full.
    MaxSandboxes,
    /// The owner has all they may have.
    MaxSandboxesPerOwner,
    /// All sandboxes of the tenant, or of the server, have the memory they may have together.
    MaxTotalMemory,
    /// All sandboxes of the tenant, or of the server, have the disk they may have together.
    MaxTotalDisk,
    /// All sandboxes of the tenant, or of the server, have the metadata and environments they may have together.
    MaxLabels,
    /// The machine has too little memory left.
    MemoryPressure,
    /// The provider cannot make any now.
    ProviderUnavailable,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.leave(&self.holder);
    }
}

impl Occupancy {
    fn add(&mut self, holder: &Holder) {
        self.total += 1;
        match self.holders.get_mut(holder) {
            Some(count) => *count += 1,
            None => {
                self.holders.insert(holder.clone(), 1);
            }
        }
    }

    fn remove(&mut self, holder: &Holder) {
        self.total -= 1;
        if let Some(count) = self.holders.get_mut(holder) {
            *count -= 1;
            if *count == 0 {
                self.holders.remove(holder);
            }
        }
    }

    fn held_by(&self, holder: &Holder) -> usize {
        self.holders.get(holder).copied().unwrap_or_default()
    }

    fn held_by_tenant(&self, tenant: &TenantId) -> usize {
        let of_tenant = self.holders.iter().filter(|(holder, _)| holder.tenant == *tenant);
        of_tenant.map(|(_, count)| count).sum()
    }
}

impl Admission {
    pub(super) fn new(limits: &Limits, quotas: Arc<Quotas>, metrics: Metrics) -> Self {
        Self {
            max_sandboxes: limits.max_sandboxes,
            mode: limits.admission,
            max_queued: limits.max_queued,
            queue_places: Budget::new(limits.max_queued as u64, limits.tenant_share_percent),
            queue_timeout: limits.queue_timeout,
            quotas,
            metrics,
            occupancy: Mutex::default(),
        }
    }

    /// A poisoned lock means that a thread panicked while it held it. Nothing that is done under it panics.
    fn occupancy(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy.lock()
    }

    /// Takes a slot, after waiting for one when the server is configured so. Whoever drops the future leaves the queue.
    ///
    /// # Errors
    /// [`SandboxError::LimitReached`] when there is no room, or not in time; [`SandboxError::ShuttingDown`] once `closing`.
    pub(super) async fn enter(
        self: &Arc<Self>,
        holder: &Holder,
        closing: &CancellationToken,
    ) -> Result<Slot, SandboxError> {
        let (full, ticket, admitted, queue_place) = {
            let mut occupancy = self.occupancy();
            let Some(full) = self.obstacle(&occupancy, holder) else {
                occupancy.add(holder);
                return Ok(self.slot(holder.clone()));
            };
            if self.mode == AdmissionMode::Reject {
                return Err(self.refusal(full, holder, "destroy one or try again later"));
            }
            if occupancy.queue.len() >= self.max_queued {
                let others = format!("{} others wait already; try again later", self.max_queued);
                return Err(self.refusal(full, holder, &others));
            }
            let Ok(queue_place) = self.queue_places.take(&holder.tenant, 1) else {
                let advice = "your tenant has its share of the creations that may wait; try again later";
                return Err(self.refusal(full, holder, advice));
            };
            let (admit, admitted) = oneshot::channel();
            (full, occupancy.queue.push(holder, admit), admitted, queue_place)
        };
        let _place = Place {
            admission: self,
            holder,
            ticket,
            _share: queue_place,
        };
        tokio::select! {
            biased;
            slot = admitted => slot.map_err(|_| SandboxError::ShuttingDown),
            () = closing.cancelled() => Err(SandboxError::ShuttingDown),
            () = tokio::time::sleep(self.queue_timeout.0) => {
                let waited = format!("waited {} for one to end; try again later", self.queue_timeout);
                Err(self.refusal(full, holder, &waited))
            }
        }
    }

    /// Takes a slot for a sandbox that exists already, whether there is room or not.
    pub(super) fn take_over(self: &Arc<Self>, holder: &Holder) -> Slot {
        self.occupancy().add(holder);
        self.slot(holder.clone())
    }

    /// How many sandboxes the server has, and how many this holder.
    pub(super) fn active(&self, holder: &Holder) -> (usize, usize) {
        let occupancy = self.occupancy();
        (occupancy.total, occupancy.held_by(holder))
    }

    /// How many creations wait.
    pub(super) fn queued(&self) -> usize {
        self.occupancy().queue.len()
    }

    /// Lets in whoever waits and has room now, after a limit was raised.
    pub(super) fn admit_waiting(self: &Arc<Self>) {
        let let_in = self.next_ones(&mut self.occupancy());
        hand_out(let_in);
    }

    fn leave(self: &Arc<Self>, holder: &Holder) {
        let let_in = {
            let mut occupancy = self.occupancy();
            occupancy.remove(holder);
            self.next_ones(&mut occupancy)
        };
        hand_out(let_in);
    }

    fn slot(self: &Arc<Self>, holder: Holder) -> Slot {
        Slot {
            admission: Arc::clone(self),
            holder,
        }
    }

    /// What keeps this holder from one more sandbox.
    fn obstacle(&self, occupancy: &Occupancy, holder: &Holder) -> Option<Full> {
        if occupancy.total >= self.max_sandboxes {
            return Some(Full::Server);
        }
        let max = self.quotas.of(holder).max_sandboxes?;
        (occupancy.held_by(holder) >= max).then_some(Full::Owner { max })
    }

    /// Takes those out of the queue that have room, with their slots.
    fn next_ones(self: &Arc<Self>, occupancy: &mut Occupancy) -> Vec<(oneshot::Sender<Slot>, Slot)> {
        let mut let_in = Vec::new();
        while occupancy.total < self.max_sandboxes && occupancy.queue.len() > 0 {
            let holders = &occupancy.holders;
            let has_room = |holder: &Holder| {
                let held = holders.get(holder).copied().unwrap_or_default();
                self.quotas.of(holder).max_sandboxes.is_none_or(|max| held < max)
            };
            let Some((holder, admit)) = occupancy.queue.pop(has_room) else {
                break;
            };
            occupancy.add(&holder);
            let_in.push((admit, self.slot(holder)));
        }
        let_in
    }

    fn refusal(&self, full: Full, holder: &Holder, advice: &str) -> SandboxError {
        self.metrics.rejected(match full {
            Full::Server => Rejection::Capacity,
            Full::Owner { .. } => Rejection::Quota,
        });
        SandboxError::LimitReached(match (full, &holder.owner) {
            (Full::Owner { max }, Some(owner)) => {
                format!("owner {owner} may have at most {max} sandboxes at once; {advice}")
            }
            (Full::Owner { max }, None) => format!("at most {max} sandboxes are allowed at once; {advice}"),
            (Full::Server, _) => {
                let max = self.max_sandboxes;
                format!("this server runs at most {max} sandboxes at once; {advice}")
            }
        })
    }
}

/// Gives slots to those who wait for them. Not under the lock: whoever is gone gives it back at once.
fn hand_out(let_in: Vec<(oneshot::Sender<Slot>, Slot)>) {
    for (admit, slot) in let_in {
        drop(admit.send(slot));
    }
}

/// A place in the queue, left when dropped.
struct Place<'a> {
    admission: &'a Admission,
    holder: &'a Holder,
    ticket: Ticket,
    /// Held for its `Drop`.
    _share: Permit,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admission.occupancy().queue.remove(self.holder, self.ticket);
    }
}

impl SandboxManager {
    /// Whether a creation would be admitted now. Creates nothing and keeps no room.
    ///
    /// # Errors
    /// What [`SandboxManager::create`] reports for a request that is malformed, an unknown provider or template, a stopping
    /// server.
    pub async fn admission(&self, caller: &Caller, request: CreateRequest) -> Result<AdmissionDecision, SandboxError> {
        self.refuse_when_closing()?;
        let request = self.with_template(caller, request).await?;
        let shared = &self.shared;
        let limits = &shared.config.limits;
        let provider = shared.providers.resolve(request.provider.as_deref())?;
        let spec = request.specify(&shared.config)?;
        let holder = request.holder(caller);
        let quota = shared.quotas.of(&holder);
        let max_ttl = quota.max_ttl.map_or(limits.max_ttl.0, |own| own.min(limits.max_ttl.0));
        let (obstacle, queue_has_room, active, active_owner) = {
            let occupancy = shared.admission.occupancy();
            (
                shared.admission.obstacle(&occupancy, &holder),
                occupancy.queue.len() < limits.max_queued,
                if caller.all_tenants {
                    occupancy.total
                } else {
                    occupancy.held_by_tenant(&caller.tenant)
                },
                holder.owner.as_ref().map_or(0, |_| occupancy.held_by(&holder)),
            )
        };
        let reason = if request.ttl.is_some_and(|ttl| ttl > max_ttl) {
            Some(DenialReason::MaxTtl)
        } else if self.refuse_before_reconciliation(provider.name()).is_err() {
            Some(DenialReason::ProviderUnavailable)
        } else if shared.pressure.check().is_err() {
            Some(DenialReason::MemoryPressure)
        } else if let Some(full) = obstacle {
            Some(match full {
                Full::Server => DenialReason::MaxSandboxes,
                Full::Owner { .. } => DenialReason::MaxSandboxesPerOwner,
            })
        } else {
            let room = shared.budgets.room(&holder.tenant, &spec, &request.metadata);
            room.err().map(|no_room| match no_room {
                NoRoom::Memory(_) => DenialReason::MaxTotalMemory,
                NoRoom::Disk(_) => DenialReason::MaxTotalDisk,
                NoRoom::Labels(_) => DenialReason::MaxLabels,
            })
        };
        // A time to live of nothing is malformed, whatever the limits.
        if reason != Some(DenialReason::MaxTtl) {
            request.lifetime(limits, &quota)?;
        }
        let waiting_helps = matches!(
            reason,
            Some(DenialReason::MaxSandboxes | DenialReason::MaxSandboxesPerOwner)
        );
        Ok(AdmissionDecision {
            allowed: reason.is_none(),
            queueable: waiting_helps && limits.admission == AdmissionMode::Queue && queue_has_room,
            reason,
            active_sandboxes: active,
            max_sandboxes: limits.max_sandboxes,
            active_owner_sandboxes: active_owner,
            max_owner_sandboxes: quota.max_sandboxes,
            max_ttl: GoDuration(max_ttl),
        })
    }

    /// How many creations wait for room.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.admission.queued()
    }
}
