//! The import module `wisp` as both sides see it (`docs/abi.md`): the kernel, the guest programs and their tests use this
//! one definition. Numbers are little endian.

#![no_std]

extern crate alloc;

mod errno;
mod function;
mod spawn;
mod stat;

pub use function::{FUNCTIONS, Function, Kind};
pub use spawn::{MAX_ARGUMENT_BYTES, MAX_PATH, MAX_STRINGS, RequestError, SpawnRequest};
pub use stat::Stat;

/// Name of the import module.
pub const MODULE: &str = "wisp";
/// `wait` flag: do not block.
pub const NO_HANG: u32 = 1;
/// A number that leaves an owner or the umask as it is.
pub const UNCHANGED: u32 = u32::MAX;
/// A time that leaves the timer as it is.
pub const UNCHANGED_TIMER: u64 = u64::MAX;
/// `sigaction`: the signal's own default.
pub const DEFAULT: u32 = 0;
/// `sigaction`: nothing happens.
pub const IGNORE: u32 = 1;
/// `sigaction`: the signal is recorded for `sigpending`.
pub const CATCH: u32 = 2;
