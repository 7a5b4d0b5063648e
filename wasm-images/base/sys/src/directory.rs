//! The working directory.

/// Changes to the directory named by `PWD`. A program calls this first: wasi-libc starts every program at "/", and the
/// kernel tells the working directory through `PWD`.
///
/// A `PWD` that cannot be entered leaves the program at "/", as when a directory was removed under a process.
pub fn enter_working_directory() {
    if let Some(directory) = std::env::var_os("PWD") {
        // The directory may be gone; the program then finds that out by its first relative path.
        let _ = std::env::set_current_dir(directory);
    }
}
