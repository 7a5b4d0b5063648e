//! wisp: disposable sandboxes over REST, whose default provider is a small POSIX-like kernel on wasmtime.
//!
//! Modules depend downward only: [`api`] → [`sandbox`] → [`config`] → ([`store`] | [`worker`] → [`provider`] → [`image`] →
//! [`kernel`] → [`vfs`]). The last three are crates of their own; `tests/layers.rs` holds the order of the others.

#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod duration;
pub mod embed;
pub mod provider;
#[cfg(feature = "server")]
pub mod sandbox;
#[cfg(feature = "server")]
pub mod scope;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod worker;

pub use embed::{
    Child, Command, Engine, EngineBuilder, Error, Event, Exit, FileInfo, LimitHit, Output, Sandbox, SandboxBuilder,
    Signal, Usage, blocking,
};
pub use wisp_image as image;
pub use wisp_kernel as kernel;
#[cfg(feature = "registry")]
pub use wisp_registry as registry;
pub use wisp_vfs as vfs;

/// Where the fuzz targets find their corpora and leave what they find.
#[cfg(test)]
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
