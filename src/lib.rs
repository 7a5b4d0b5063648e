//! wisp: disposable sandboxes over REST, whose default provider is a small POSIX-like kernel on wasmtime.
//!
//! Modules depend downward only: [`api`] → [`sandbox`] → ([`store`] | [`worker`] → [`provider`] → [`image`] → [`kernel`] →
//! [`vfs`]). The last three are crates of their own.

pub mod api;
pub mod cli;
pub mod config;
pub mod duration;
pub mod provider;
pub mod sandbox;
pub mod store;
pub mod worker;

pub use wisp_image as image;
pub use wisp_kernel as kernel;
pub use wisp_registry as registry;
pub use wisp_vfs as vfs;

/// Where the fuzz targets find their corpora and leave what they find.
#[cfg(test)]
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
