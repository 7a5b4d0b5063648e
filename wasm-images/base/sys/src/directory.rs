//! The working directory.

use std::io;

/// Changes to the directory named by `PWD`. A program calls this first: wasi-libc starts every program at "/", and the
/// kernel tells the working directory through `PWD`.
///
/// # Errors
/// When the directory cannot be entered, as when it was removed. The program is at "/" then: it must not take a relative
/// path for one of the directory it was started in.
pub fn enter_working_directory() -> io::Result<()> {
    match std::env::var_os("PWD") {
        Some(directory) => std::env::set_current_dir(directory),
        None => Ok(()),
    }
}
