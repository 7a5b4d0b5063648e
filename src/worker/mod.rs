//! Worker processes: the second wall around guests.
//!
//! The server runs no guests itself. It starts workers, `wisp worker`, and gives each to one compartment: the sandboxes of
//! one tenant, or one sandbox. A worker has the kernel, the file systems and the engine; the server keeps HTTP, the
//! database, keys and quotas, and believes nothing a worker says. Decision 0180 has the reasons and the measurements.
//!
//! - [`protocol`]: what the two say to each other.
//! - [`WorkerPool`], [`WorkerProvider`]: the server's side.
//! - [`run`]: a worker's life; it gives up all rights it does not need before it serves.

mod cgroup;
mod child;
mod confine;
mod connection;
mod dirs;
#[cfg(test)]
mod fuzz_tests;
mod memory_bound;
mod outbox;
mod pool;
pub mod protocol;
mod provider;
mod serve;
mod system_calls;

pub use child::{WorkerArgs, WorkerError, run};
pub use confine::{ConfineError, Wall, available, can_change_users, confine};
pub use dirs::{Compartment, SandboxDirs};
pub use memory_bound::limit_data;
pub use pool::{WorkerPool, WorkerSettings};
pub use provider::{Sharing, WorkerProvider};
