//! Sandboxes in your own process, without a server.
//!
//! An [`Engine`] holds what all sandboxes share: the WebAssembly engine, the threads that guests run on, and the images
//! that are installed. A [`Sandbox`] is one small machine with its own files, processes and limits. A [`Command`] runs in
//! it as [`std::process::Command`] does on the host. Dropping a sandbox ends its processes and frees its files.
//!
//! ```
//! use std::time::Duration;
//! use wisp::blocking::Engine;
//!
//! # fn main() -> Result<(), wisp::Error> {
//! let engine = Engine::new()?;
//! let sandbox = engine.sandbox("python:3.13").memory_mb(256).disk_mb(64).create()?;
//! sandbox.write_file("/work/main.py", "print(6 * 7)")?;
//! let output = sandbox.command("python3").arg("/work/main.py").timeout(Duration::from_secs(10)).output()?;
//! assert_eq!(output.stdout, b"42\n");
//! # Ok(())
//! # }
//! ```
//!
//! The types in this module are asynchronous and need a Tokio runtime; [`blocking`] has the same for code that is not.
//!
//! Guests run in your process. A bug in wasmtime or in the kernel is then a bug in your process; the server puts each
//! tenant's guests into a worker process that the operating system confines, and this module does not.

pub mod blocking;
mod child;
mod command;
mod engine;
mod error;
mod sandbox;
#[cfg(test)]
mod tests;

pub use child::{Child, Event, Exit};
pub use command::{Command, Output};
pub use engine::{Engine, EngineBuilder};
pub use error::Error;
pub use sandbox::{Sandbox, SandboxBuilder};

pub use crate::provider::{FileInfo, LimitHit, SandboxUsage as Usage, Signal};
