//! Safe bindings of the `wisp` import module (`docs/abi.md`): what WASI preview1 leaves out and a Unix program needs.
//!
//! Errors are [`std::io::Error`] made from the preview1 errno, which is also wasi-libc's errno, so that
//! [`std::io::Error::kind`] and `raw_os_error` work as usual. On a target that is not WebAssembly every call fails with
//! "function not supported": programs can be compiled and their logic tested there.

mod descriptor;
mod directory;
mod file;
mod imports;
mod process;
mod signal;

pub use descriptor::{Inherited, dup, dup2, inherited, pipe};
pub use directory::enter_working_directory;
pub use file::{FileSystem, Owner, Stat, chmod, chown, fchmod, fstat, mkfifo, stat, statfs, umask};
pub use process::{Command, ExitStatus, Identity, Pid, fork, getpid, setpgid, try_wait, wait};
pub use signal::{Disposition, PendingSignals, Signal, kill, sigaction, sigpending};

use std::io;
use std::path::{Path, PathBuf};

/// Turns a preview1 errno into a result.
fn check(errno: i32) -> io::Result<()> {
    if errno == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(errno))
    }
}

/// The kernel takes absolute paths only: the working directory lives inside the guest's libc.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if path.is_absolute() {
        Ok(path.to_owned())
    } else {
        Ok(std::env::current_dir()?.join(path))
    }
}

/// The bytes of a path as the kernel takes them.
fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}
