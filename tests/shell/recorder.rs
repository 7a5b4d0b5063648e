//! Runs cases in the real bash of this machine. Recorded on Debian 12 as root: bash 5.2, coreutils 9.1, mawk 1.3.4.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::case_file::{Case, CaseFile, Outcome};
use super::sandbox::{DIRECTORY, ENVIRONMENT, HOME};

/// Records every case of a file anew.
pub fn record(file: &mut CaseFile) -> Result<()> {
    for case in &mut file.cases {
        case.recorded = Some(run(case).with_context(|| case.name.clone())?);
    }
    Ok(())
}

/// Runs a case in a directory of its own, and says of its paths what they would be in the sandbox.
fn run(case: &Case) -> Result<Outcome> {
    let root = tempfile::tempdir()?;
    let outside = |path: &str| format!("{}{path}", root.path().display());
    std::fs::create_dir_all(outside(DIRECTORY))?;
    let output = Command::new("sh")
        // A sandbox starts with this mask, whatever that of the person who records is.
        .args(["-c", "umask 022; exec bash -c \"$1\"", "sh", &case.script])
        .env_clear()
        .envs(ENVIRONMENT)
        .env("HOME", outside(HOME))
        .current_dir(outside(DIRECTORY))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let stdout = String::from_utf8(output.stdout).context("its output is not UTF-8")?;
    let status = output.status.code().context("a signal ended it")?;
    Ok(Outcome {
        stdout: stdout.replace(&outside(HOME), HOME),
        status,
    })
}
