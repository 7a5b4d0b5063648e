//! wisp: disposable sandboxes over REST, whose default provider is a small POSIX-like kernel on wasmtime.
//!
//! Modules depend downward only: [`api`] → [`sandbox`] → ([`store`] | [`worker`] → [`provider`] → [`image`] → [`kernel`] →
//! [`vfs`]). The file system is a crate of its own, `wisp-vfs`.

pub mod api;
pub mod cli;
pub mod config;
pub mod duration;
pub mod image;
pub mod kernel;
pub mod provider;
pub mod sandbox;
pub mod store;
pub mod worker;

pub use wisp_vfs as vfs;

/// Where the fuzz targets find their corpora and leave what they find.
#[cfg(test)]
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
