//! Whether this machine has a Docker Engine to test with.

use std::process::{Command, Stdio};

/// Whether an engine answers. Says so when none does, and fails in CI, where there must be one.
#[track_caller]
#[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
pub fn available() -> bool {
    let answers = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !answers {
        let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(!in_ci, "no Docker Engine answers, and CI needs one: .ci/run starts it");
        eprintln!("no Docker Engine answers: what needs one is not tested");
    }
    answers
}
