//! The images that the tests run.

use std::process::{Command, Stdio};
use std::sync::Once;

/// The seed page's image; `base` comes along as its parent.
pub const PYTHON: &str = "python:3.12";
/// The Python that is built from source.
pub const PYTHON_3_13: &str = "python:3.13";

/// Installs the images that all tests need into the default store, once per test program. It takes minutes on a new
/// machine, and nothing when they are there; several test programs take turns by the store's own lock.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| pull(PYTHON));
}

/// Installs [`PYTHON_3_13`] as well. Building it takes some minutes on a new machine.
pub fn install_python_3_13() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| pull(PYTHON_3_13));
}

fn pull(image: &str) {
    let pulled = Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(["images", "pull", image])
        .stdin(Stdio::null())
        .output()
        .expect("the wisp program starts");
    assert!(
        pulled.status.success(),
        "wisp images pull {image} failed:\n{}",
        String::from_utf8_lossy(&pulled.stderr)
    );
}
