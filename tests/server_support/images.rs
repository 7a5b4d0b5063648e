//! The images that the tests run.

use std::process::{Command, Stdio};
use std::sync::Once;

/// The seed page's image; `base` comes along as its parent.
pub const PYTHON: &str = "python:3.12";

/// Installs the images into the default store, once per test program. It takes minutes on a new machine, and nothing
/// when they are there; several test programs take turns by the store's own lock.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let pulled = Command::new(env!("CARGO_BIN_EXE_wisp"))
            .args(["images", "pull", PYTHON])
            .stdin(Stdio::null())
            .output()
            .expect("the wisp program starts");
        assert!(
            pulled.status.success(),
            "wisp images pull {PYTHON} failed:\n{}",
            String::from_utf8_lossy(&pulled.stderr)
        );
    });
}
