//! wisp: disposable sandboxes over REST, whose default provider is a small POSIX-like kernel on wasmtime.
//!
//! Modules depend downward only: [`api`] → [`sandbox`] → ([`store`] | [`worker`] → [`provider`] → [`image`] → [`kernel`] →
//! [`vfs`]).

pub mod api;
pub mod cli;
pub mod config;
pub mod duration;
#[cfg(test)]
mod fuzzing;
pub mod image;
pub mod kernel;
pub mod provider;
pub mod sandbox;
pub mod store;
pub mod vfs;
pub mod worker;
