//! The REST API: parses a request, has the [`sandbox`](crate::sandbox) layer act, shapes the answer.
//!
//! One file per resource; `docs/api.md` is the contract.

mod auth;
mod diagnostics;
mod docs;
mod error;
mod events;
mod exec;
mod extract;
mod files;
mod health;
mod images;
mod logs;
mod metrics;
mod openapi;
mod pool;
mod providers;
mod request_id;
mod router;
mod sandboxes;
mod schemas;
mod server;
mod snapshots;
mod stats;
mod templates;
mod text;
mod unread_body;

#[cfg(test)]
mod tests;

pub use auth::{ApiKeys, InvalidApiKey};
pub use router::{AppState, router};
pub use server::run;
