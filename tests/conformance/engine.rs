//! Whether this machine has a Docker Engine to test with.

use std::process::{Command, Stdio};

/// Whether an engine answers.
pub fn answers() -> bool {
    Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a missing engine is a failure: in CI it is.
pub fn is_required() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}
