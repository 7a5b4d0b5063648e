//! The resources that tenants share on this server, and their sizes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::machine::{self, Memory};
use super::metrics::Rejection;
use super::{Budget, Exhausted, Permit, SandboxError, TenantId};
use crate::config::Config;
use crate::provider::SandboxSpec;

/// Image imports that are received, or wait for the compiler, at the same time.
const IMPORTS: u64 = 8;

/// Bytes of bodies that are about no sandbox. What is large is about one: commands with their input, and files.
const OTHER_BODIES: u64 = 64 << 20;

/// Sandboxes of the usual size for which there is room on any machine.
const FEW: u64 = 8;

/// One budget for each thing that tenants share.
pub struct Budgets {
    /// Memory for what is on its way from and to clients, bytes.
    pub transfer: Arc<Budget>,
    /// Memory for bodies of requests that are about no sandbox, bytes.
    pub other_bodies: Arc<Budget>,
    /// Connections that listen to events.
    pub event_streams: Arc<Budget>,
    /// Requests that are not answered yet.
    pub requests: Arc<Budget>,
    /// Images that are being imported.
    pub imports: Arc<Budget>,
    /// Memory of sandboxes as they asked for it, MiB.
    pub(super) memory: Arc<Budget>,
    /// Disk of sandboxes as they asked for it, MiB.
    pub(super) disk: Arc<Budget>,
    /// Metadata and environments of sandboxes, bytes.
    pub(super) labels: Arc<Budget>,
}

/// What a sandbox takes of the budgets while it exists. Held for its `Drop`.
pub(super) struct Room {
    _memory: Permit,
    _disk: Permit,
    _labels: Permit,
}

/// Which budget has no room for a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    Memory(Exhausted),
    Disk(Exhausted),
    Labels(Exhausted),
}

impl Budgets {
    pub(super) fn new(config: &Config) -> Self {
        let limits = &config.limits;
        let budget = |total: u64| Budget::new(total, limits.tenant_share_percent);
        let promised = |given: Option<u64>, machine: Option<u64>, usual: u64| {
            // A machine that does not say what it has sets no limit, and the smallest has room for a few sandboxes.
            let of_machine = |bytes: u64| (bytes >> 20).saturating_mul(u64::from(limits.overcommit));
            let default = || machine.map_or(0, |bytes| of_machine(bytes).max(usual.saturating_mul(FEW)));
            budget(given.unwrap_or_else(default))
        };
        Self {
            transfer: budget(limits.max_transfer_bytes),
            other_bodies: budget(OTHER_BODIES.min(limits.max_transfer_bytes)),
            event_streams: budget(limits.max_event_streams as u64),
            requests: budget(limits.max_connections as u64),
            imports: budget(IMPORTS),
            memory: promised(
                limits.max_total_memory_mb,
                Memory::now().map(|memory| memory.total),
                limits.default_memory_mb,
            ),
            disk: promised(
                limits.max_total_disk_mb,
                machine::disk_size(Path::new(&config.data_dir)),
                limits.default_disk_mb,
            ),
            labels: budget(limits.max_label_bytes),
        }
    }

    /// Takes what a sandbox needs, or nothing.
    pub(super) fn room(
        &self,
        tenant: &TenantId,
        spec: &SandboxSpec,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Room, NoRoom> {
        Ok(Room {
            _memory: self.memory.take(tenant, spec.memory_mb).map_err(NoRoom::Memory)?,
            _disk: self.disk.take(tenant, spec.disk_mb).map_err(NoRoom::Disk)?,
            _labels: self
                .labels
                .take(tenant, label_bytes(spec, metadata))
                .map_err(NoRoom::Labels)?,
        })
    }

    /// Takes what a sandbox needs that exists already.
    pub(super) fn take_over(&self, tenant: &TenantId, spec: &SandboxSpec, metadata: &BTreeMap<String, String>) -> Room {
        Room {
            _memory: self.memory.take_over(tenant, spec.memory_mb),
            _disk: self.disk.take_over(tenant, spec.disk_mb),
            _labels: self.labels.take_over(tenant, label_bytes(spec, metadata)),
        }
    }
}

/// Bytes of text that are kept for a sandbox's whole life.
fn label_bytes(spec: &SandboxSpec, metadata: &BTreeMap<String, String>) -> u64 {
    let maps = [metadata, &spec.env];
    let bytes: usize = maps.into_iter().map(super::request::map_bytes).sum();
    (bytes + spec.image.len()) as u64
}

impl NoRoom {
    /// Under which refusals it is counted.
    pub(super) fn rejection(self) -> Rejection {
        let (Self::Memory(exhausted) | Self::Disk(exhausted) | Self::Labels(exhausted)) = self;
        match exhausted {
            Exhausted::Tenant | Exhausted::Sandbox => Rejection::Quota,
            Exhausted::Server => Rejection::Capacity,
        }
    }

    /// What the client is told.
    pub(super) fn refusal(self, budgets: &Budgets, spec: &SandboxSpec) -> SandboxError {
        let (exhausted, budget, unit, advice) = match self {
            Self::Memory(exhausted) => {
                let advice = format!("ask for less than memory_mb {}", spec.memory_mb);
                (exhausted, &budgets.memory, "MiB of memory", advice)
            }
            Self::Disk(exhausted) => {
                let advice = format!("ask for less than disk_mb {}", spec.disk_mb);
                (exhausted, &budgets.disk, "MiB of disk", advice)
            }
            Self::Labels(exhausted) => {
                let advice = "send less metadata and env".to_owned();
                (exhausted, &budgets.labels, "bytes of metadata and env", advice)
            }
        };
        let total = budget.total().unwrap_or_default();
        match exhausted {
            Exhausted::Tenant | Exhausted::Sandbox => SandboxError::LimitReached(format!(
                "your tenant has its share of the {total} {unit} that all sandboxes may have together; destroy a \
                 sandbox or {advice}"
            )),
            Exhausted::Server => SandboxError::Overloaded(format!(
                "all sandboxes may have {total} {unit} together, and {} are taken; try again later or {advice}",
                budget.used()
            )),
        }
    }
}
