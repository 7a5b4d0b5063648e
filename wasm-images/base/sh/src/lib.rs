//! The parts of the shell that do not need brush, which as patched builds for WebAssembly only. So their tests run on the
//! machine that builds.

pub mod format;
pub mod invocation;
pub mod mask;
