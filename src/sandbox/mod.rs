//! The life of sandboxes: who may see one, how long it lives, what it may ask for, what runs in it.
//!
//! Knows nothing of HTTP; drives a [`Provider`](crate::provider::Provider).

mod admission;
mod allocator;
mod budget;
mod budgets;
mod caller;
mod console_log;
mod detached;
mod error;
mod events;
mod exec_record;
mod execution;
mod files;
mod health;
mod id;
mod image_catalog;
mod image_import;
mod image_pull;
mod image_removal;
mod life;
mod machine;
mod manager;
mod metrics;
mod output;
mod pressure;
mod providers;
mod quota;
mod reaper;
mod recovery;
mod registry;
mod request;
mod spawn_queue;
mod templates;
#[cfg(test)]
mod tests;
mod usage;

pub use admission::{AdmissionDecision, DenialReason};
pub use budget::{Budget, Exhausted, Permit};
pub use budgets::Budgets;
pub use caller::{Caller, InvalidUserId, TenantId, UserId};
pub use error::SandboxError;
pub use events::{Event, EventBus, EventKind, EventStream, Heard};
pub use execution::{ExecExit, ExecItem, RunningExec};
pub use id::SandboxId;
pub use image_catalog::{ImageCatalog, ImageCatalogError, ImageDescription, NoImages};
pub use image_import::{ImageImporter, ImportError};
pub use image_pull::RunningPull;
pub use image_removal::ImageRemovalError;
pub use life::{SandboxState, SandboxView};
pub use manager::{SandboxCount, SandboxManager};
pub use metrics::{CommandOutcome, Metrics, OperationCount, Rejection};
pub use output::{CollectedExec, HeldOutput};
pub use providers::{ProviderStatus, Providers};
pub use quota::{OwnerQuota, OwnerUsage, Quota, QuotaSummary};
pub use reaper::Reaper;
pub use recovery::Recovered;
pub use registry::{Listing, SandboxPage};
pub use request::{CreateRequest, ExecRequest};
pub use templates::{Saved, Template, TemplateName, TemplateSpec};
pub use usage::SandboxStats;
