//! The REST API: parses requests, calls the [`sandbox`](crate::sandbox) layer, and writes answers.
//!
//! One file per resource; `docs/openapi.json`, which is generated from this code, is the contract.

mod admission;
mod api_keys;
mod archive;
mod audit;
mod auth;
mod client_stream;
mod connections;
mod cors;
mod diagnostics;
mod docs;
mod error;
mod events;
mod exec;
mod exec_answer;
mod exec_ws;
mod extract;
mod files;
mod health;
mod image_import;
mod images;
mod keys;
mod list;
mod logs;
mod metrics;
mod openapi;
mod origin;
mod periodic;
mod pool;
mod providers;
mod quotas;
mod rate_limit;
mod request_id;
mod router;
mod sandboxes;
mod schemas;
mod server;
mod snapshots;
mod stats;
mod templates;
mod text;
mod transcript;
mod unread_body;
mod upload;

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;

pub use api_keys::{ApiKeys, ApiKeysError, KeyRequest, KeyRequestError};
pub use keys::{Key, NewKey};
pub use router::{AppState, router};
pub use server::run;
