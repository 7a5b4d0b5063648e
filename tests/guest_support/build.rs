//! Builds the guest programs of `tests/guests` for wasm32-wasip1.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const TARGET: &str = "wasm32-wasip1";
/// Names a standard library for [`TARGET`] where rustup cannot fetch one: a directory, or a `.tar.zst` of one.
const SYSROOT_VARIABLE: &str = "WISP_WASI_SYSROOT";

/// Why the guests could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no standard library for the target.
    #[error(
        "no {TARGET} standard library: run `rustup target add {TARGET}`, or set {SYSROOT_VARIABLE} to a sysroot \
         (a directory or .tar.zst that holds lib/rustlib/{TARGET})"
    )]
    NoStandardLibrary,
    /// The named sysroot holds no standard library.
    #[error("{SYSROOT_VARIABLE}={0}: no lib/rustlib/{TARGET} inside")]
    BadSysroot(String),
    /// A command failed; what it printed says why.
    #[error("`{0}` failed")]
    Command(String),
    /// A file of the build could not be read or made.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where the sources of the guests are.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")
}

/// Builds what has changed, and returns the directory of the `.wasm` files.
pub fn build() -> Result<PathBuf, BuildError> {
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "build",
            "--quiet",
            "--release",
            "--workspace",
            "--jobs=2",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&target_dir)
        .current_dir(sources())
        // Flags meant for the host's programs do not fit the guests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    if let Some(sysroot) = sysroot()? {
        cargo.env(
            "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS",
            format!("--sysroot={}", sysroot.display()),
        );
    }
    run(&mut cargo)?;
    Ok(target_dir.join(TARGET).join("release"))
}

/// The sysroot to compile with; `None` if the toolchain has the target itself.
pub fn sysroot() -> Result<Option<PathBuf>, BuildError> {
    if Path::new(&rustc(&["--print", "target-libdir", "--target", TARGET])?).exists() {
        return Ok(None);
    }
    let given = env::var_os(SYSROOT_VARIABLE)
        .map(PathBuf::from)
        .ok_or(BuildError::NoStandardLibrary)?;
    let ours = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wasm32-wasip1-sysroot");
    let root = if given.is_dir() {
        given.clone()
    } else {
        unpack(&given, &ours)?
    };
    let library = ["lib/rustlib", "sysroot/lib/rustlib"]
        .iter()
        .map(|inside| root.join(inside).join(TARGET))
        .find(|library| library.is_dir())
        .ok_or_else(|| BuildError::BadSysroot(given.display().to_string()))?;
    // A sysroot of our own, which leaves the given one as it is: the target's library beside the host's tools.
    let rustlib = ours.join("lib/rustlib");
    fs::create_dir_all(&rustlib)?;
    let (host, toolchain) = (host()?, PathBuf::from(rustc(&["--print", "sysroot"])?));
    link(&toolchain.join("lib/rustlib").join(&host), &rustlib.join(&host))?;
    link(&fs::canonicalize(library)?, &rustlib.join(TARGET))?;
    Ok(Some(ours))
}

/// Unpacks an archive once.
fn unpack(archive: &Path, ours: &Path) -> Result<PathBuf, BuildError> {
    let unpacked = ours.join("unpacked");
    if !unpacked.exists() {
        let partial = ours.join(format!("unpacking-{}", std::process::id()));
        fs::create_dir_all(&partial)?;
        run(Command::new("tar")
            .arg("--zstd")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(&partial))?;
        if fs::rename(&partial, &unpacked).is_err() {
            // Another test binary was faster.
            fs::remove_dir_all(&partial)?;
        }
    }
    Ok(unpacked)
}

fn link(target: &Path, at: &Path) -> io::Result<()> {
    match symlink(target, at) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// The host's target triple.
fn host() -> Result<String, BuildError> {
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| BuildError::Command("rustc -vV".to_owned()))
}

fn rustc(arguments: &[&str]) -> Result<String, BuildError> {
    let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&program).args(arguments).output()?;
    if !output.status.success() {
        return Err(BuildError::Command(format!(
            "{} {}",
            program.display(),
            arguments.join(" ")
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn run(command: &mut Command) -> Result<(), BuildError> {
    if command.status()?.success() {
        Ok(())
    } else {
        Err(BuildError::Command(format!("{command:?}")))
    }
}
