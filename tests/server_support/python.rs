//! Python with packages of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `bin` directory of a virtual environment with the packages of a `requirements.txt`, installed once. `name` is
/// the environment's.
pub fn bin(name: &str, requirements: &Path) -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-venv"));
    let bin = venv.join("bin");
    let lock = File::create(venv.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let stamp = venv.join("installed.txt");
    let wanted = fs::read(requirements).expect("requirements.txt");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return bin;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
    run(Command::new(bin.join("python"))
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(requirements));
    fs::write(&stamp, wanted).expect("the stamp is written");
    bin
}

/// Runs a program that must succeed, and returns what it prints.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup installs it"));
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout.into_owned()
}
